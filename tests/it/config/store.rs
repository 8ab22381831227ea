//! `[store]`: required keys, keys without effect, and URLs that cannot be used.

use super::{Folder, errors::ACCOUNT};

/// Keys of `[store]`, each with the error, if there is one.
const CASES: [(&str, Option<&str>); 15] = [
    ("", None),
    ("kind = \"local\"", None),
    ("kind = \"postgres\"\nurl_file = \"local.url\"", None),
    (
        "kind = \"postgres\"\nurl_file = \"remote.url\"\nca_file = \"corporate-ca.pem\"",
        None,
    ),
    (
        "kind = \"redis\"",
        Some("2:8: `kind` must be one of local, postgres"),
    ),
    ("kind = \"postgres\"", Some("1:2: missing key `url_file`")),
    (
        "url_file = \"local.url\"",
        Some("2:1: `url_file` does not go with kind `local`"),
    ),
    (
        "kind = \"local\"\nlease_seconds = 15",
        Some("3:1: `lease_seconds` does not go with kind `local`"),
    ),
    (
        "kind = \"postgres\"\nurl_file = \"remote.url\"",
        Some("3:12: a database on another host needs TLS: `ca_file` is missing"),
    ),
    (
        "kind = \"postgres\"\nurl_file = \"mixed.url\"",
        Some("3:12: a database on another host needs TLS: `ca_file` is missing"),
    ),
    (
        "kind = \"postgres\"\nurl_file = \"other.url\"",
        Some("3:12: `url_file` holds a URL that does not start with `postgres://`"),
    ),
    (
        "kind = \"postgres\"\nurl_file = \"broken.url\"",
        Some(
            "3:12: `url_file` holds a URL that is not `postgres://USER:PASSWORD@HOST:PORT/DATABASE`",
        ),
    ),
    (
        "kind = \"postgres\"\nurl_file = \"nobody.url\"",
        Some("3:12: `url_file` holds a URL that names no user"),
    ),
    (
        "kind = \"postgres\"\nurl_file = \"local.url\"\nmax_connections = 1",
        Some("4:19: `max_connections` must be a whole number from 2 to 100"),
    ),
    (
        "kind = \"postgres\"\nurl_file = \"local.url\"\nca_file = \"not-pem\"",
        Some("4:11: `ca_file` holds no certificate in PEM"),
    ),
];

#[test]
fn store_errors_have_positions() {
    let folder = Folder::new();
    for (name, url) in [
        ("local.url", "postgres://u:p@127.0.0.1/d"),
        ("remote.url", "postgres://u:p@db.example/d?sslmode=require"),
        ("mixed.url", "postgresql://u:p@localhost,db.example/d"),
        ("other.url", "mysql://u:p@localhost/d"),
        ("broken.url", "postgres://u:p@localhost:port/d"),
        ("nobody.url", "postgres://localhost/d"),
    ] {
        folder.write(name, url.as_bytes());
    }
    for (keys, expected) in CASES {
        let text = format!("[store]\n{keys}\n{ACCOUNT}");
        let errors = folder.errors(&text);
        match expected {
            None => assert_eq!(errors, [""; 0], "{text}"),
            Some(expected) => {
                assert_eq!(errors.len(), 1, "{errors:?}");
                assert!(errors[0].contains(expected), "{errors:?}");
                assert!(!errors[0].contains("u:p@"), "{errors:?}");
            }
        }
    }
    let text = format!(
        "[store]\nkind = \"postgres\"\nurl_file = \"local.url\"\n[audit]\nsync = true\n{ACCOUNT}"
    );
    let warnings = folder.warnings(&text);
    assert!(
        warnings.len() == 1 && warnings[0].contains("[audit] has no effect"),
        "{warnings:?}"
    );
}
