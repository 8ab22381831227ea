//! The keys of `on_behalf_of`, and how `check-config` shows the account.

use std::fs;

use useradmin::config;
use useradmin_testkit::{App, Signer, run, write_secret};

use crate::callers::issuer_section;

const ACCOUNT: &str = r#"[batch_accounts.a]
url = "https://a.example"
[batch_accounts.a.credential]
kind = "on_behalf_of"
tenant_id = "t"
client_id = "c"
secret_file = "client.secret"
"#;

#[test]
fn invalid_keys_are_reported() {
    let folder = App::folder();
    let issuer = issuer_section(&folder, &Signer::es256("key-1"));
    for name in ["client.secret", "federated.jwt"] {
        write_secret(&folder.join(name), "kanari-secret");
    }
    let without = |key: &str| {
        let lines = ACCOUNT.split_inclusive('\n');
        let lines: String = lines.filter(|line| !line.starts_with(key)).collect();
        lines + &issuer
    };
    let with = |line: &str| format!("{ACCOUNT}{line}\n{issuer}");
    let no_issuer = "4:8: kind `on_behalf_of` needs [[jwt_issuers]]: it exchanges the tokens of callers, and without an \
                     issuer no caller can show one";
    #[rustfmt::skip]
    let rows: [(String, &[&str]); 14] = [
        (with(""), &[]),
        (with("authority = \"https://login.example\"\nscope = \"s\"\ntoken_timeout_seconds = 3"), &[]),
        (without("secret_file") .replace("client_id", "token_file = \"federated.jwt\"\nclient_id"), &[]),
        (ACCOUNT.to_owned(), &[no_issuer]),
        (format!("jwt_issuers = []\n{ACCOUNT}"), &[&no_issuer.replacen('4', "5", 1)]),
        (without("tenant_id"), &["3:19: missing key `tenant_id`"]),
        (without("client_id"), &["3:19: missing key `client_id`"]),
        (without("secret_file"), &["3:19: kind `on_behalf_of` needs either `secret_file` or `token_file`"]),
        (with("token_file = \"federated.jwt\""), &["8:1: kind `on_behalf_of` needs either `secret_file` or `token_file`, not both"]),
        (with("account_name = \"a\""), &["8:1: `account_name` does not go with kind `on_behalf_of`"]),
        (with("key_file = \"client.secret\""), &[
            "8:1: `key_file` does not go with kind `on_behalf_of`",
            "8:12: `key_file` cannot be used: the file does not hold base64",
        ]),
        (with("token_timeout_seconds = 61"), &["8:25: `token_timeout_seconds` must be a whole number from 1 to 60"]),
        (with("authority = \"http://login.example\""), &["8:13: `authority` must be https; http is for loopback hosts only"]),
        (with("").replace("\"t\"", "\"../t\""), &["5:13: `tenant_id` holds letters, digits, `.` and `-` only"]),
    ];
    for (text, expected) in rows {
        let parsed = config::parse(&folder.join("useradmin.toml"), &text);
        let errors = parsed
            .err()
            .map(|errors| errors.to_string())
            .unwrap_or_default();
        let errors: Vec<_> = errors
            .lines()
            .filter(|line| line.contains("useradmin.toml:"))
            .collect();
        let found = errors.len() == expected.len()
            && errors
                .iter()
                .zip(expected)
                .all(|(error, expected)| error.contains(expected));
        assert!(found, "{text}\n{errors:#?}\n{expected:#?}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn check_config_shows_the_kind_and_checks_no_token() {
    let folder = App::folder();
    let issuer = issuer_section(&folder, &Signer::es256("key-1"));
    write_secret(&folder.join("client.secret"), "kanari-secret");
    let file = folder.join("useradmin.toml");
    fs::write(&file, format!("{ACCOUNT}{issuer}")).unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["check-config", "--config", file, "--verbose", "--connect"];
    let (code, out, errors) = run(&arguments);
    assert_eq!(code, 0, "{errors}");
    let target = ", on_behalf_of, protected_users: 0";
    assert!(out.lines().any(|line| line.ends_with(target)), "{out}");
    let checked =
        "batch_accounts.a: not checked: a token is only obtained with the token of a caller";
    assert_eq!(out.lines().last(), Some(checked));
    fs::remove_dir_all(folder).unwrap();
}
