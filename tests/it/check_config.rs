//! `check-config`: warnings, the summary, and the check of credentials.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use time::OffsetDateTime;
use useradmin_testkit::{App, Process, pki::Authority, run};

const HMC: &str = "[hmcs.dallas1]\nurl = \"https://hmc.example:6794\"\nuserid = \"svc\"\n\
                   password_file = \"hmc.password\"\n";
const BATCH: &str = "[batch_accounts.prod]\nurl = \"https://b.example\"\n\
                     [batch_accounts.prod.credential]\nkind = \"shared_key\"\n\
                     account_name = \"b\"\nkey_file = \"batch.key\"\n";
const TLS: &str = "[server.tls]\ncert_file = \"server.pem\"\nkey_file = \"server.key\"\n";
const CLIENTS: &str = "client_ca_file = \"clients.pem\"\n";
const ISSUER: &str = "[[jwt_issuers]]\nissuer = \"https://i.example\"\naudience = \"useradmin\"\n\
                      jwks_url = \"https://i.example/keys\"\n";

/// Returns a caller with permission for these targets.
fn caller(identity: &str, rpc: &str, targets: &str) -> String {
    format!(
        "[[callers]]\nidentity = \"{identity}\"\nallow = [{{ rpc = \"{rpc}\", targets = {targets} }}]\n"
    )
}

/// Returns a caller without a certificate or a token.
fn anonymous() -> String {
    caller("anonymous", "DeleteHmcUser", "[\"dallas*\"]")
}

/// Writes a file with this mode.
fn write(folder: &Path, name: &str, text: &str, mode: u32) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Writes the certificate of a server that expires after this number of days, and its key.
fn write_certificate(folder: &Path, days: i64) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(days);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    write(folder, "server.pem", &certificate.pem(), 0o644);
    write(folder, "server.key", &key.serialize_pem(), 0o600);
}

/// Creates a folder with the files that configurations name.
fn folder() -> PathBuf {
    let folder = App::folder();
    write(&folder, "hmc.password", "secret\n", 0o640);
    write(&folder, "batch.key", "c2VjcmV0\n", 0o600);
    write(&folder, "clients.pem", Authority::new().pem(), 0o644);
    write_certificate(&folder, 15);
    folder
}

/// Runs `check-config` with these arguments, and returns the exit code, standard output and standard error, without
/// the path of the folder.
fn check(folder: &Path, text: &str, arguments: &[&str]) -> (i32, String, String) {
    write(folder, "useradmin.toml", text, 0o644);
    let file = folder.join("useradmin.toml");
    let command = ["check-config", "--config", file.to_str().unwrap()];
    let (code, out, err) = run(&[&command, arguments].concat());
    let path = format!("{}/", folder.display());
    (code, out.replace(&path, ""), err.replace(&path, ""))
}

#[test]
fn valid_configuration_has_no_warnings() {
    let folder = folder();
    for text in [
        format!("{HMC}{}", anonymous()),
        format!("{TLS}{HMC}{}", anonymous()),
        format!(
            "{TLS}{CLIENTS}{HMC}{}",
            caller("spiffe://corp/a", "DeleteHmcUser", "[\"dallas1\"]")
        ),
        format!(
            "{ISSUER}{HMC}{}",
            caller("https://i.example#a", "DeleteHmcUser", "[\"*\"]")
        ),
        format!(
            "{BATCH}{HMC}{}",
            caller("anonymous", "DeleteBatchNodeUser", "[\"pr*\", \"prod\"]")
        ),
    ] {
        let result = check(&folder, &text, &[]);
        assert_eq!(result, (0, String::new(), String::new()), "{text}");
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Each mistake is reported with its line and a caret, on standard error; the exit code is 0.
#[test]
fn likely_mistakes_are_warned_of() {
    let folder = folder();
    write(&folder, "open.password", "secret\n", 0o604);
    let with_readable_secret = HMC.replace("hmc.password", "open.password");
    let with_caller = |tables: &str, identity: &str| {
        let caller = caller(identity, "DeleteHmcUser", "[\"*\"]");
        format!("{tables}{HMC}{caller}")
    };
    let certificates = format!("{TLS}{CLIENTS}");
    let listening_on_all_addresses = "[server]\nlisten = \"0.0.0.0:50051\"\ninsecure = true\n";
    let patterns = caller(
        "anonymous",
        "DeleteHmcUser",
        "[\"dallas?\", \"*1\", \"prod\"]",
    );
    let texts = [
        ("no callers", HMC.to_owned()),
        (
            "a secret that everybody can read",
            format!("{with_readable_secret}{}", anonymous()),
        ),
        (
            "patterns without a target, one of them with a target of the other platform",
            format!("{BATCH}{HMC}{patterns}"),
        ),
        (
            "a certificate without client_ca_file",
            with_caller(TLS, "spiffe://corp/a"),
        ),
        (
            "a token without its issuer",
            with_caller(&certificates, "https://other.example#a"),
        ),
        (
            "a pattern as an identity",
            with_caller(&certificates, "spiffe://corp/*"),
        ),
        (
            "anonymous on an address that others reach",
            format!("{listening_on_all_addresses}{HMC}{}", anonymous()),
        ),
        (
            "anonymous with certificates",
            format!("{certificates}{HMC}{}", anonymous()),
        ),
        (
            "anonymous with tokens",
            format!("{ISSUER}{HMC}{}", anonymous()),
        ),
    ];
    insta::assert_snapshot!("warnings", warnings(&folder, &texts));
    fs::remove_dir_all(folder).unwrap();
}

/// Returns the warnings about each of these configurations, which are described by their mistakes.
fn warnings(folder: &Path, texts: &[(&str, String)]) -> String {
    let mut outputs = Vec::new();
    for (mistake, text) in texts {
        let (code, out, err) = check(folder, text, &[]);
        assert_eq!((code, out.as_str()), (0, ""), "{mistake}: {err}");
        outputs.push(format!("# {mistake}\n{err}"));
    }
    outputs.join("\n")
}

#[test]
fn settings_without_effect_are_warned_of() {
    let folder = folder();
    let pools = "[\"*\"], pools = [\"render-*\", \"render.*\", \"\", \" a\", \"*?\", \"_-9\"]";
    let pools = caller("anonymous", "DeleteBatchNodeUser", pools);
    let texts = [
        ("patterns that match no pool", format!("{BATCH}{pools}")),
        (
            "patterns that protect no user",
            format!(
                "{HMC}protected_users = [\"ADMIN*\", \"\", \" ACS*\", \"a b\", \"*\\t\"]\n{}",
                anonymous()
            ),
        ),
        (
            "an audit log in a folder that does not exist",
            format!("[audit]\nfile = \"log/audit.jsonl\"\n{HMC}{}", anonymous()),
        ),
        (
            "an audit log in a folder that is a file",
            format!(
                "[audit]\nfile = \"hmc.password/audit.jsonl\"\n{HMC}{}",
                anonymous()
            ),
        ),
    ];
    insta::assert_snapshot!("settings_without_effect", warnings(&folder, &texts));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn read_only_folder_of_audit_log_is_warned_of() {
    let folder = folder();
    let log = folder.join("log");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, Permissions::from_mode(0o555)).unwrap();
    // The superuser can write to every folder.
    let is_writable = fs::write(log.join("probe"), "").is_ok();
    let text = format!("[audit]\nfile = \"log/audit.jsonl\"\n{HMC}{}", anonymous());
    let (code, out, err) = check(&folder, &text, &[]);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    let found = err
        .starts_with("useradmin.toml:2:8: warning: the folder of the audit log cannot be written");
    assert_eq!(found, !is_writable, "{err}");
    fs::set_permissions(&log, Permissions::from_mode(0o755)).unwrap();
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn expiring_certificate_is_warned_of() {
    let folder = folder();
    let text = format!("{TLS}{HMC}{}", anonymous());
    for (days, fault) in [
        (-1, "it has expired: it was valid until "),
        (13, "it expires soon: it is valid until "),
        (15, ""),
    ] {
        write_certificate(&folder, days);
        let (code, out, err) = check(&folder, &text, &[]);
        assert_eq!((code, out.as_str()), (0, ""), "{err}");
        let start = "useradmin.toml:2:13: warning: `cert_file` holds a certificate to replace: CN=";
        let is_reported = err.starts_with(start) && err.contains(fault);
        assert_eq!(is_reported, !fault.is_empty(), "{err}");
        assert_eq!(err.is_empty(), fault.is_empty(), "{err}");
    }
    write(
        &folder,
        "server.key",
        &fs::read_to_string(folder.join("server.key")).unwrap(),
        0o644,
    );
    let (_, _, err) = check(&folder, &text, &[]);
    let start = "useradmin.toml:3:12: warning: `key_file` can be read by every user of the system; run `chmod o-r`";
    assert!(err.starts_with(start), "{err}");
    fs::remove_dir_all(folder).unwrap();
}

/// `serve` logs the same warnings, without the lines of the file.
#[test]
fn server_logs_configuration_warnings() {
    let folder = folder();
    write_certificate(&folder, -1);
    let ports = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n";
    let (_, _, err) = check(&folder, &format!("{ports}{TLS}{HMC}"), &[]);
    let warnings = err.lines().filter(|line| line.contains(": warning: "));
    let warnings: Vec<_> = warnings.collect();
    assert_eq!(warnings.len(), 2, "{err}");
    Process::start(&folder).stop();
    let log_lines = Process::log_records(&folder, "configuration warning");
    let path = format!("{}/", folder.display());
    let texts = log_lines
        .iter()
        .map(|line| line["warning"].as_str().unwrap().replace(&path, ""));
    assert_eq!(texts.collect::<Vec<_>>(), warnings);
    assert!(log_lines.iter().all(|line: &Value| line["level"] == "WARN"));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn summary_shows_configuration() {
    let folder = folder();
    let complete = format!(
        "[server]\nlisten = \"127.0.0.1:50052\"\nadmin_listen = \"\"\n{TLS}{CLIENTS}\
         [audit]\nfile = \"stdout\"\nsync = false\n{BATCH}{ISSUER}{}deletes_per_minute = 60\n{}",
        caller(
            "spiffe://corp/a",
            "DeleteBatchNodeUser",
            "[\"prod\"], pools = [\"render-*\"]"
        ),
        caller("https://i.example#a", "DeleteBatchNodeUser", "[\"*\"]"),
    );
    let small = format!("{HMC}protected_users = [\"ADMIN*\"]\n{}", anonymous());
    let mut outputs = Vec::new();
    for text in [complete, small] {
        let (code, out, err) = check(&folder, &text, &["--verbose"]);
        assert_eq!((code, err.as_str()), (0, ""));
        outputs.push(out);
    }
    insta::assert_snapshot!("summary", outputs.join("\n"));
    // An invalid file has no summary.
    let (code, out, _) = check(&folder, "x = 1", &["--verbose", "--connect"]);
    assert_eq!((code, out.as_str()), (2, ""));
    fs::remove_dir_all(folder).unwrap();
}

mod connect;
