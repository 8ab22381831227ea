//! Invalid files and all messages about each of them.

use std::fmt::Write as _;

use super::Folder;

/// A valid account and a valid HMC. Each test case replaces one of the lines.
pub const ACCOUNT: &str = r#"[batch_accounts.a]
url = "https://a.example"
[batch_accounts.a.credential]
kind = "client_secret"
tenant_id = "t"
client_id = "c"
secret_file = "batch.secret"
"#;
pub const KEY: &str = r#"[batch_accounts.a]
url = "https://a.example"
[batch_accounts.a.credential]
kind = "shared_key"
account_name = "a"
key_file = "batch.key"
"#;
pub const HMC: &str = r#"[hmcs.h]
url = "https://hmc.example:6794"
userid = "u"
password_file = "hmc.password"
"#;

/// A file and the messages about it.
type Case<'a> = (String, &'a [&'a str]);

/// Returns `base` with the line `number` replaced.
pub fn replace_line(base: &str, number: usize, line: &str) -> String {
    let mut text = String::new();
    for (old, at) in base.lines().zip(1..) {
        let _ = writeln!(text, "{}", if at == number { line } else { old });
    }
    text
}

#[track_caller]
pub fn check(cases: &[Case]) {
    let folder = Folder::new();
    for (text, expected) in cases {
        assert_eq!(folder.errors(text), *expected, "{text}");
    }
}

#[test]
fn valid_files_have_no_errors() {
    check(&[
        (ACCOUNT.into(), &[]),
        (KEY.into(), &[]),
        (HMC.into(), &[]),
        (ACCOUNT.replace('\n', "\r\n"), &[]),
        (replace_line(HMC, 2, r#"url = "http://localhost:1/""#), &[]),
        (replace_line(HMC, 2, r#"url = "http://[::1]:1""#), &[]),
        (
            format!("{HMC}max_in_flight = 1_000\nmax_queued = 0x10"),
            &[],
        ),
    ]);
}

#[test]
fn invalid_keys_are_reported() {
    check(&[
        (
            format!("[server]\nlissten = \"127.0.0.1:1\"\n{HMC}"),
            &["2:1: unknown key `lissten`; did you mean `listen`?"],
        ),
        (
            format!("[server]\nxyz = 1\n{HMC}"),
            &["2:1: unknown key `xyz`"],
        ),
        (
            format!("[sever]\n{HMC}"),
            &["1:2: unknown key `sever`; did you mean `server`?"],
        ),
        (
            replace_line(HMC, 4, "password = \"secret\""),
            &[
                "1:7: missing key `password_file`",
                "4:1: unknown key `password`; did you mean `password_file`?",
            ],
        ),
        // No other fault shows the line of a misplaced secret.
        (
            "[hmcs]\nh = { password = \"secret\", url = 5 }\n".into(),
            &[
                "2:1: missing key `userid`",
                "2:1: missing key `password_file`",
                "2:7: unknown key `password`; did you mean `password_file`?",
                "2:34: `url` must be a string, not integer",
            ],
        ),
        (replace_line(HMC, 3, ""), &["1:7: missing key `userid`"]),
        (
            replace_line(HMC, 3, "userid = \"\""),
            &["3:10: `userid` must not be empty"],
        ),
        (
            replace_line(HMC, 3, "userid = 7"),
            &["3:10: `userid` must be a string, not integer"],
        ),
        (
            format!("{HMC}max_queued = 65537"),
            &["5:14: `max_queued` must be a whole number from 0 to 65536"],
        ),
        ("[hmcs]\nh = 1\n".into(), &["2:5: `hmcs` holds tables only"]),
        (
            replace_line(HMC, 1, "[hmcs.\"a b\"]"),
            &["1:7: an alias is 1-64 letters, digits, `.`, `_` or `-`"],
        ),
        (
            "[server]\ninsecure = true\n".into(),
            &["1:1: no [batch_accounts.ALIAS] and no [hmcs.ALIAS]"],
        ),
        (
            String::new(),
            &["1:1: no [batch_accounts.ALIAS] and no [hmcs.ALIAS]"],
        ),
    ]);
}

#[test]
fn invalid_urls_are_reported() {
    let case = |url: &str| replace_line(HMC, 2, &format!("url = \"{url}\""));
    let not_bare: &[&str] = &["2:7: `url` must have no path, query or fragment"];
    check(&[
        (
            case("http://hmc.example"),
            &["2:7: `url` must be https; http is for loopback hosts only"],
        ),
        (
            case("http://127.0.0.1.example"),
            &["2:7: `url` must be https; http is for loopback hosts only"],
        ),
        (
            case("ftp://hmc.example"),
            &["2:7: `url` must be an https URL"],
        ),
        (
            case("hmc.example"),
            &["2:7: `url` is not a URL: relative URL without a base"],
        ),
        (case("https://hmc.example/api"), not_bare),
        (case("https://hmc.example?a=b"), not_bare),
        (case("https://hmc.example/#a"), not_bare),
        (
            case("https://u:p@hmc.example"),
            &["2:7: `url` must not hold a user or a password"],
        ),
        (
            format!("{ACCOUNT}authority = \"http://login.example\""),
            &["8:13: `authority` must be https; http is for loopback hosts only"],
        ),
    ]);
}

#[test]
fn invalid_listeners_are_reported() {
    let case = |line: &str| format!("[server]\n{line}\n{HMC}");
    check(&[
        (
            case("listen = \"localhost:50051\""),
            &["2:10: `listen` must be an IP address and a port, such as 127.0.0.1:50051"],
        ),
        (
            case("listen = \"0.0.0.0:50051\""),
            &[
                "2:10: an address other than loopback needs [server.tls]; it is served in plaintext only with `insecure = true`",
            ],
        ),
        (case("listen = \"[::]:1\"\ninsecure = true"), &[]),
        (case("admin_listen = \"\""), &[]),
        (
            case("admin_listen = \"9464\""),
            &["2:16: `admin_listen` must be an IP address and a port, such as 127.0.0.1:50051"],
        ),
        (
            format!("[audit]\nfile = \"\"\n{HMC}"),
            &["2:8: `file` must not be empty"],
        ),
    ]);
}

#[test]
fn invalid_callers_are_reported() {
    let case =
        |allow: &str| format!("{HMC}[[callers]]\nidentity = \"x\"\nallow = [{{ {allow} }}]\n");
    check(&[
        (case("rpc = \"DeleteHmcUser\", targets = [\"*\"]"), &[]),
        (
            case("rpc = \"*\", targets = [\"*\"]"),
            &["7:18: `rpc` must be one of DeleteBatchNodeUser, DeleteHmcUser"],
        ),
        (
            case("rpc = \"DeleteHmcUser\", targets = []"),
            &["7:45: `targets` must not be empty"],
        ),
        (
            case("rpc = \"DeleteHmcUser\""),
            &["7:10: missing key `targets`"],
        ),
        (
            case("rpc = \"DeleteHmcUser\", targets = [\"*\"], pools = [\"*\"]"),
            &["7:52: an HMC has no pools"],
        ),
        (
            case("rpc = \"DeleteHmcUser\", targets = [1]"),
            &["7:46: `targets` holds strings only"],
        ),
        (
            format!("{HMC}[[callers]]\nidentity = \"x\"\nallow = []\n").repeat(1)
                + "[[callers]]\nidentity = \"x\"\nallow = []\ndeletes_per_minute = 0\n",
            &[
                "9:12: this caller is listed twice; put all that it may do into one `allow`",
                "11:22: `deletes_per_minute` must be a whole number from 1 to 1000000",
            ],
        ),
        (
            format!("{HMC}[[callers]]\n"),
            &["5:1: missing key `identity`", "5:1: missing key `allow`"],
        ),
    ]);
}

#[test]
fn invalid_credentials_are_reported() {
    check(&[
        (
            replace_line(ACCOUNT, 4, "kind = \"password\""),
            &[
                "4:8: `kind` must be one of client_secret, workload_identity, managed_identity, azure_cli, shared_key, on_behalf_of",
            ],
        ),
        (replace_line(ACCOUNT, 4, ""), &["3:19: missing key `kind`"]),
        (
            "[batch_accounts.a]\nurl = \"https://a.example\"\n".into(),
            &["1:17: missing table `credential`"],
        ),
        (
            format!("{ACCOUNT}key_file = \"batch.key\""),
            &["8:1: `key_file` does not go with kind `client_secret`"],
        ),
        (
            replace_line(ACCOUNT, 5, "tenant_id = \"../t\""),
            &["5:13: `tenant_id` holds letters, digits, `.` and `-` only"],
        ),
        (
            replace_line(KEY, 5, "account_name = \"a\\nb\""),
            &["5:16: `account_name` holds letters and digits only"],
        ),
        (
            replace_line(
                ACCOUNT,
                7,
                "secret_file = \"\"\nauthority = \"ftp://x\"\nscope = 3",
            ),
            &[
                "7:15: `secret_file` must not be empty",
                "8:13: `authority` must be an https URL",
                "9:9: `scope` must be a string, not integer",
            ],
        ),
        (
            replace_line(KEY, 6, "key_file = \"not-base64\""),
            &["6:12: `key_file` cannot be used: the file does not hold base64 (not-base64)"],
        ),
    ]);
}

#[test]
fn unreadable_files_are_reported() {
    let password = |name: &str| replace_line(HMC, 4, &format!("password_file = \"{name}\""));
    let ca = |name: &str| format!("{HMC}ca_file = \"{name}\"");
    check(&[
        (
            password("gone"),
            &[
                "4:17: `password_file` cannot be used: No such file or directory (os error 2) (relative paths start at FOLDER)",
            ],
        ),
        (
            password("/gone"),
            &["4:17: `password_file` cannot be used: No such file or directory (os error 2)"],
        ),
        (
            password("empty"),
            &["4:17: `password_file` cannot be used: the file is empty (empty)"],
        ),
        (
            password("not-text"),
            &[
                "4:17: `password_file` cannot be used: the file is UTF-16 text; save it as UTF-8 (not-text)",
            ],
        ),
        (
            replace_line(ACCOUNT, 7, "secret_file = \"gone\""),
            &[
                "7:15: `secret_file` cannot be used: No such file or directory (os error 2) (relative paths start at FOLDER)",
            ],
        ),
        (
            replace_line(KEY, 6, "key_file = \"gone\""),
            &[
                "6:12: `key_file` cannot be used: No such file or directory (os error 2) (relative paths start at FOLDER)",
            ],
        ),
        (
            ca("gone"),
            &[
                "5:11: `ca_file` cannot be read: No such file or directory (os error 2) (relative paths start at FOLDER)",
            ],
        ),
        (
            ca("not-pem"),
            &["5:11: `ca_file` holds no certificate in PEM (not-pem)"],
        ),
        (
            ca("not-x509.pem"),
            &[
                "5:11: `ca_file` holds something that is not a usable X.509 certificate: number 1: its encoding is not that of X.509 (not-x509.pem)",
            ],
        ),
        (ca("hmc.pem"), &[]),
    ]);
}

#[test]
fn errors_have_line_and_column() {
    check(&[
        // All faults are reported in the order of the file.
        (
            "[server]\nlisten = 1\ninsecure = 1\n[hmcs.h]\nurl = 1\n".into(),
            &[
                "2:10: `listen` must be a string, not integer",
                "3:12: `insecure` must be true or false, not integer",
                "4:7: missing key `userid`",
                "4:7: missing key `password_file`",
                "5:7: `url` must be a string, not integer",
            ],
        ),
        (
            format!("{HMC}\t\tmax_queued\t=\t-1"),
            &["5:16: `max_queued` must be a whole number from 0 to 65536"],
        ),
        (
            replace_line(HMC, 3, "userid = 7").replace('\n', "\r\n"),
            &["3:10: `userid` must be a string, not integer"],
        ),
        (
            format!("{HMC}protected_users = [\"é\", \"日本\", 7]"),
            &["5:31: `protected_users` holds strings only"],
        ),
        // Control characters are escaped, so that they affect neither a terminal nor a parser of lines.
        (
            format!("\"x\\u001b[2J\\ny\" = 1\n{HMC}"),
            &["1:1: unknown key"],
        ),
        ("[server\n".into(), &["1:8: unclosed table, expected `]`"]),
        (
            "a = 1\na = 2\nb = = 3\n".into(),
            &[
                "2:1: duplicate key",
                "3:5: extra `=`, expected nothing",
                "3:7: unexpected key or value, expected newline, `#`",
            ],
        ),
    ]);
}
