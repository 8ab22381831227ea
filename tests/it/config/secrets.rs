//! A secret that is in the configuration by mistake is not shown, regardless of other faults in the file.

use std::fs;

use useradmin::config;
use useradmin_testkit::{App, Process, run, wait_until};

use super::{
    Folder, caret_column,
    errors::{ACCOUNT, HMC},
};

const CANARY: &str = "hunter2-Zx9Qk7";

/// Returns files with invalid TOML whose errors are at or near the secret.
fn malformed_files() -> Vec<String> {
    let lines = [
        "password = \"@",
        "password = '@",
        "password = @",
        "password = @\"",
        "password \"@\"",
        "password @",
        "password: \"@\"",
        "password: @",
        "\"@\"",
        "@",
        "@=",
        "@==",
        "= \"@\"",
        "password = = \"@\"",
        "password = \"@\" \"@\"",
        "password = \"@\" x",
        "password = \"\\q@\"",
        "password = \"\\u12@\"",
        "password = \"\"\"\n@",
        "password = \"\"\"\nurl = @\n",
        "password = \"\"\"\n@\n\"\"\" x",
        "password = '''\n@",
        "password = [\"@\"",
        "password = [\n\"@\",\n",
        "password = [\n\"x\"\n\"@\"\n]",
        "password = { a = \"@\"",
        "password = { a = \"@\" b = 1 }",
        "password_file = @",
        "password_file = \"@",
        "password_file = \"@\"x",
        "userid = \"@\nurl = 5",
        "userid = \"x\"\nuserid = \"@\"",
        "url = \"https://u:@@hmc.example",
        "ca_file = \"x\" # @ \nurl = ",
        "url = # @",
        "x = 1 = 2 # @",
        "[@",
        "[[@",
        "[hmcs.x] @",
        "[hmcs.x\"@\"",
        "credential = { secret = \"@\" ",
        "a.b = \"@\"\na = \"@\"",
        "\u{7}@",
        "key = \"@\u{7}\"",
    ];
    lines.iter().map(|line| line.replace('@', CANARY)).collect()
}

/// Returns faults in valid TOML with the secret as a value.
fn misplaced_secrets() -> Vec<String> {
    let lines = [
        "password = \"@\"",
        "password = '@'",
        "password = \"\"\"@\"\"\"",
        "password = \"\"\"\n@\n\"\"\"",
        "password = [\"@\"]",
        "password = [1, [\"@\"], { x = \"@\" }]",
        "password = { value = \"@\" }",
        "password.value = \"@\"",
        "x = 1 # @",
        "url = 5 # @",
        "password_file = \"@\"",
        "password_file = \"\"\"@\"\"\"",
        "password_file = [\"@\"]",
        "password_file = { x = \"@\" }",
        "password_file = \"@\" # @",
        "password_file = \"@/@\"",
        "password_file = \"/@\"",
        "password_file = \"/dev/null/@\"",
        "password_file = \"@\\u0000\"",
        "ca_file = \"@\"",
        "ca_file = \"-----BEGIN PRIVATE KEY-----\\n@\"",
        "url = \"@\"",
        "url = \"https://u:@@hmc.example\"",
        "url = \"https://@@hmc.example\"",
        "url = \"https://u:@\"",
        "url = \"https://hmc.example/@\"",
        "url = \"https://hmc.example?sig=@\"",
        "url = \"https://hmc.example/#@\"",
        "url = \"@://hmc.example\"",
        "url = \"mailto:@\"",
        "url = \"https:@\"",
        "userid = [\"@\"]",
        "userid = \"\"\npassword = \"@\"",
        "max_queued = \"@\"",
        "max_in_flight = \"@\"",
        "protected_users = \"@\"",
        "protected_users = [\"@\", 7]",
        "logon_timeout_seconds = \"@\"",
    ];
    lines.iter().map(|line| line.replace('@', CANARY)).collect()
}

/// Returns files with the secret as a key, an alias or a host.
fn misplaced_names() -> Vec<String> {
    let lines = [
        "\"@\" = 1",
        "@ = 1",
        "'@' = 1",
        "x.@ = 1",
        "x.\"@\".y = 1",
        "x = { y = 1, @ = 1 }",
        "userid.@ = 1",
        "max_queued = { @ = 1 }",
        "password_file = { @ = 1 }",
        "password_file = [{ \"@\" = 1 }]",
        "password_@ = 1",
        "url = \"https://@!!\"",
        "url = \"https://@!!:443/\"",
        "url = \"https://[@]\"",
        "[@]",
        "[[@]]",
        "[\"@\"]\nx = 1",
        "[server.@]",
        "[server]\n@ = 1",
        "[hmcs.h.@]",
        "[hmcs.\"@ !\"]",
        "[hmcs.\"@ !\"]\nurl = 1\n[hmcs.\"@ !\".x]",
        "[hmcs]\n\"@ !\".url = 1\n\"@ !\".userid = 1",
        "[callers.@]",
        "[[callers]]\n@ = 1",
    ];
    lines.iter().map(|line| line.replace('@', CANARY)).collect()
}

/// Returns complete files for tables other than that of an HMC.
fn secrets_in_other_tables() -> Vec<String> {
    let tables = [
        "[server]\nlisten = \"@\"",
        "[server]\nadmin_listen = \"@\"",
        "[server]\ninsecure = \"@\"",
        "[server]\ntls = \"@\"",
        "[server.limits]\ndrain_seconds = \"@\"",
        "[server.tls]\ncert_file = \"@\"\nkey_file = \"@\"\nclient_ca_file = \"@\"",
        "[server.tls]\ncert_file = \"server.pem\"\nkey_file = \"@\"",
        "[audit]\nsync = \"@\"",
        "[audit]\nfile = [\"@\"]",
        "[audit]\nfile = \"@\"\nx = 1",
        "[tracing]\notlp_endpoint = \"https://u:@@c.example\"",
        "[tracing]\notlp_endpoint = \"@\"\nsample_ratio = \"@\"",
        "[[callers]]\nidentity = [\"@\"]\nallow = \"@\"",
        "[[callers]]\nidentity = \"@\"\nallow = []\n[[callers]]\nidentity = \"@\"\nallow = []",
        "[[callers]]\nidentity = \"@\\u0007\"\nallow = [{ rpc = \"@\", targets = [\"@\"], pools = \"@\" }]",
        "[[callers]]\nidentity = \"spiffe://{@}\"\nallow = [{ rpc = \"DeleteHmcUser\", targets = [\"@\"], pools = [\"@\"] }]",
        "[[jwt_issuers]]\nissuer = \"https://{@}\"\naudience = [\"@\"]\nalgorithms = [\"@\"]\njwks_file = \"@\"",
        "[[jwt_issuers]]\nissuer = \"#@\"\naudience = \"@\"\njwks_url = \"https://i.example/{@}\"",
        "[[jwt_issuers]]\nissuer = \"@\"\naudience = \"@\"\njwks_url = \"https://i.example/?k=@#f\"\n\
         [[jwt_issuers]]\nissuer = \"@\"\naudience = \"@\"\njwks_url = \"https://i.example\"",
        "[batch_accounts.b]\nurl = \"https://a.example/?sig=@\"\ncredential = \"@\"",
        "[batch_accounts.b]\nurl = \"https://a.example\"\ncredential = { kind = \"@\", secret = \"@\" }",
        "[batch_accounts.b]\nurl = 1\ncredential = { kind = \"shared_key\", account_name = \"@\", key_file = \"@\" }",
        "[batch_accounts.b]\nurl = 1\ncredential = { kind = \"client_secret\", tenant_id = \"@_\", client_id = \"@\", secret_file = \"@\" }",
        "[batch_accounts.b]\nurl = 1\ncredential = { kind = \"workload_identity\", tenant_id = \"@!\", token_file = \"@\" }",
        "[batch_accounts.b]\nurl = 1\ncredential = { kind = \"azure_cli\", client_id = \"@\", authority = \"@\", scope = \"api://{@}\" }",
    ];
    let tables = tables.iter().map(|table| table.replace('@', CANARY));
    tables.map(|table| format!("{table}\n{HMC}")).collect()
}

fn files_with_secrets() -> Vec<String> {
    let hmc = |line: &String| {
        // The line replaces a line with the same key.
        let key = line.split([' ', '.']).next().unwrap_or_default();
        let other_lines = HMC
            .lines()
            .filter(|hmc_line| !hmc_line.starts_with(&format!("{key} =")));
        other_lines
            .chain([line.as_str()])
            .collect::<Vec<_>>()
            .join("\n")
    };
    let lines = malformed_files()
        .into_iter()
        .chain(misplaced_secrets())
        .chain(misplaced_names());
    let files = lines.flat_map(|line| {
        [
            hmc(&line),
            format!("{line}\n{HMC}"),
            format!("{ACCOUNT}{line}"),
        ]
    });
    files.chain(secrets_in_other_tables()).collect()
}

#[test]
fn errors_do_not_show_secrets() {
    let folder = Folder::new();
    let file = folder.0.join("useradmin.toml");
    let mut count = 0;
    for text in files_with_secrets() {
        fs::write(&file, &text).unwrap();
        let Err(errors) = config::load(&file) else {
            continue;
        };
        count += 1;
        for message in [errors.to_string(), errors.brief()] {
            assert!(!message.contains(CANARY), "{text}\n---\n{message}");
        }
        // The caret is at the column that the first line names.
        for chunk in errors.to_string().lines().collect::<Vec<_>>().chunks(3) {
            let position = chunk[0]
                .strip_prefix(&format!("{}:", file.display()))
                .unwrap();
            let column = position
                .split(':')
                .nth(1)
                .unwrap()
                .parse::<usize>()
                .unwrap();
            let caret = caret_column(chunk[1], column);
            assert_eq!(chunk[2].chars().count(), caret, "{chunk:?}");
        }
    }
    assert!(count > 250, "{count}");
}

/// Harmless values are shown, so that the caret points at something.
#[test]
fn non_secret_value_is_shown() {
    let folder = Folder::new();
    for (text, line) in [
        (
            format!("[server]\nlisten = \"0.0.0.0:1\"\n{HMC}"),
            "listen = \"0.0.0.0:1\"",
        ),
        (format!("{HMC}max_queued = 65537"), "max_queued = 65537"),
        (
            HMC.replace("hmc.example:6794", "hmc..example"),
            "url = \"https://hmc..example\"",
        ),
        (
            HMC.replace("hmc.password", "empty"),
            "password_file = \"empty\"",
        ),
    ] {
        let message = folder.parse(&text).err().unwrap();
        assert!(message.lines().any(|message| message == line), "{message}");
    }
}

/// The position of an unclosed string is the start of its value, regardless of its length.
#[test]
fn error_position_does_not_reveal_secret_length() {
    let folder = Folder::new();
    for line in [
        "ca_file = \"@",
        "ca_file = '@",
        "ca_file = \"\"\"@",
        "ca_file = '''@\n@",
        "ca_file = \"\"\"\n@\n@",
        "ca_file = [\"x\", \"@",
        "ca_file = { x = \"\\\"@",
        "\"@",
        "[\"@",
    ] {
        let reported_position = |secret: &str| {
            let text = format!("{HMC}{}", line.replace('@', secret));
            let message = folder.parse(&text).err().unwrap();
            let first: Vec<_> = message.lines().take(3).map(str::to_owned).collect();
            first.join("\n")
        };
        let message = reported_position(CANARY);
        assert_eq!(message, reported_position("x"), "{line}");
        let column = if line.contains('=') { 11 } else { 1 };
        assert!(message.starts_with(&format!("@5:{column}: ")), "{message}");
    }
}

/// The caret must not be beyond the visible part of a line.
#[test]
fn caret_is_below_truncated_line() {
    let folder = Folder::new();
    let text = format!(
        "{HMC}[[callers]]\nidentity = \"x\"\nallow = [{{ targets = [\"*\"], rpc = \"x\", targets2 = 1 }}]\n"
    );
    let message = folder.parse(&text).err().unwrap();
    assert!(
        message.contains("\nallow = [{ targets = [ ...\n                       ^\n"),
        "{message}"
    );
}

#[test]
fn unknown_key_is_shown_unless_it_may_be_a_secret() {
    let folder = Folder::new();
    for (key, text) in [
        ("xyz", "unknown key `xyz`"),
        ("some_thing", "unknown key `some_thing`"),
        ("Userid", "unknown key `Userid`; did you mean `userid`?"),
        ("userid2", "unknown key `userid2`; did you mean `userid`?"),
        (
            "max-queued",
            "unknown key `max-queued`; did you mean `max_queued`?",
        ),
        (
            "maxInFlight",
            "unknown key `maxInFlight`; did you mean `max_in_flight`?",
        ),
        ("PASSWORD_FILE", "unknown key `PASSWORD_FILE`"),
        ("hunter2SECRET", "unknown key"),
        (
            "password_hunter2",
            "unknown key; did you mean `password_file`?",
        ),
    ] {
        let message = folder.parse(&format!("{HMC}{key} = 1")).err().unwrap();
        let line = if text.contains(key) {
            format!("{key} = ...")
        } else {
            " ...".to_owned()
        };
        assert_eq!(message, format!("@5:1: {text}\n{line}\n^\n"));
    }
}

/// Neither `check-config` nor `serve` shows the secret.
#[test]
fn program_output_does_not_show_secrets() {
    let folder = App::folder();
    let file = folder.join("useradmin.toml");
    for line in [
        "password = \"@",
        "password_file = \"@\"",
        "password: @",
        "url = \"https://u:@@h\"",
    ] {
        let line = line.replace('@', CANARY);
        fs::write(&file, format!("[hmcs.h]\n{line}\n")).unwrap();
        for command in ["check-config", "serve"] {
            let (code, out, err) = run(&[command, "--config", file.to_str().unwrap()]);
            assert_eq!((code, out.as_str()), (2, ""), "{err}");
            assert!(!err.contains(CANARY) && err.contains('^'), "{err}");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}

/// A running server applies the same rules and keeps the last valid content.
#[tokio::test]
async fn invalid_reloaded_file_is_logged_without_content() {
    let folder = App::folder();
    let (file, password) = (folder.join("useradmin.toml"), folder.join("hmc.password"));
    let server_section = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n";
    fs::write(&file, format!("{server_section}{HMC}")).unwrap();
    fs::write(&password, "right\n").unwrap();
    let server = Process::start(&folder);
    let logged_errors =
        || Process::log_records(&folder, "file reload failed; previous content stays in use");
    let invalid_configuration = format!("{server_section}{HMC}password = \"{CANARY}");
    let (two_lines, utf16) = (format!("{CANARY}\n{CANARY}"), b"\xFF\xFEr\0i\0");
    let contents: [(&_, &[u8], _); 4] = [
        (&password, two_lines.as_bytes(), "several lines"),
        (&password, utf16, "UTF-16"),
        (&password, b" \n", "is empty"),
        (&file, invalid_configuration.as_bytes(), "useradmin.toml:"),
    ];
    for (path, content, part) in contents {
        fs::write(path, content).unwrap();
        wait_until(part, async || {
            let lines = logged_errors();
            let mut errors = lines.iter().map(|line| line["error"].as_str().unwrap());
            errors.any(|error| error.contains(part))
        })
        .await;
    }
    server.stop();
    let log = fs::read_to_string(folder.join("log")).unwrap();
    assert!(!log.contains(CANARY), "{log}");
    fs::remove_dir_all(folder).unwrap();
}
