//! Files that change while the server runs: the effect on new and existing connections, and the reports to the
//! operator.

use std::{fs, path::Path};

use useradmin_testkit::{
    App, CallFailure, Process, Reply, SecureClient, Signer, Upstream, batch_request, batch_section,
    canary, delete_by_name, hmc_reply_or, hmc_section,
    pki::{Authority, Validity},
    wait_until,
};

use super::{SecureServer, uri};
use crate::authorization::upstream;

pub const CALLERS: &str = r#"
[[callers]]
identity = "spiffe://corp/offboarding"
deletes_per_minute = 1000
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
[[callers]]
identity = "https://login.corp.example#svc"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
"#;

async fn start_server() -> SecureServer {
    let sections = |folder: &Path, url: &str| batch_section(folder, url) + CALLERS;
    SecureServer::start(upstream().await, sections, "").await
}

/// Makes a call. Returns `ok`, or the reason of its rejection.
pub async fn call(client: &SecureClient) -> String {
    let response = client.delete_batch_node_user(batch_request("alice")).await;
    reason_of(response.err())
}

fn reason_of(failure: Option<CallFailure>) -> String {
    match failure {
        None => "ok".to_owned(),
        Some(failure) if failure.metadata_value("cause").is_empty() => failure.reason,
        Some(failure) => failure.metadata_value("cause").to_owned(),
    }
}

/// Waits until this number of reloads had this result.
pub async fn await_reloads(app: &App, what: &str, count: u32, result: &str) {
    let metric = "useradmin_reloads_total";
    app.await_metric(&format!(
        "{metric}{{what=\"{what}\",result=\"{result}\"}} {count}"
    ))
    .await;
}

#[tokio::test]
async fn removed_authority_is_refused_on_open_connections() {
    let server = start_server().await;
    let old_client = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    assert_eq!(call(&old_client).await, "ok");
    let next = Authority::new();
    let folder = &server.app.folder;
    // Both authorities are trusted during the transition.
    let both_authorities = format!("{}{}", server.authority.pem(), next.pem());
    fs::write(folder.join("clients.pem"), both_authorities).unwrap();
    await_reloads(&server.app, "tls", 1, "ok").await;
    let identity = next.issue_to(vec![uri("spiffe://corp/offboarding")], Validity::Now);
    let new_client = server.client(Some(&identity));
    assert_eq!(
        (call(&old_client).await, call(&new_client).await),
        ("ok".into(), "ok".into())
    );
    fs::write(folder.join("clients.pem"), next.pem()).unwrap();
    await_reloads(&server.app, "tls", 2, "ok").await;
    assert_eq!(call(&old_client).await, "certificate_not_trusted");
    assert_eq!(call(&new_client).await, "ok");
    // An invalid file changes only the metrics.
    fs::write(folder.join("clients.pem"), "rubbish").unwrap();
    await_reloads(&server.app, "tls", 1, "failed").await;
    server
        .app
        .await_metric("useradmin_reload_stale{what=\"tls\"} 1")
        .await;
    assert_eq!(call(&old_client).await, "certificate_not_trusted");
    assert_eq!(call(&server.client(Some(&identity))).await, "ok");
    fs::write(folder.join("clients.pem"), next.pem()).unwrap();
    server
        .app
        .await_metric("useradmin_reload_stale{what=\"tls\"} 0")
        .await;
}

#[tokio::test]
async fn new_server_certificate_is_used_with_its_key() {
    let server = start_server().await;
    let folder = &server.app.folder;
    let next = Authority::new();
    let certificate = next.issue("localhost", Validity::Now);
    fs::write(folder.join("server.pem"), certificate.pem()).unwrap();
    // The new certificate does not match the old key.
    await_reloads(&server.app, "tls", 1, "failed").await;
    let identity = server
        .authority
        .issue_to(vec![uri("spiffe://corp/offboarding")], Validity::Now);
    let before = SecureClient::tls(server.app.address, server.authority.pem(), Some(&identity));
    assert_eq!(call(&before).await, "ok");
    fs::write(folder.join("server.key"), certificate.key_pem()).unwrap();
    await_reloads(&server.app, "tls", 1, "ok").await;
    let after = SecureClient::tls(server.app.address, next.pem(), Some(&identity));
    assert_eq!(call(&after).await, "ok");
    // Existing connections stay usable.
    assert_eq!(call(&before).await, "ok");
}

#[tokio::test]
async fn callers_are_reloaded() {
    let server = start_server().await;
    let file = server.app.folder.join("useradmin.toml");
    let client = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(call(&client).await, "ok");
    // Protected users are reloaded together with the callers.
    let protecting = text.replace(
        "[batch_accounts.batch]\n",
        "[batch_accounts.batch]\nprotected_users = [\"ALI*\"]\n",
    );
    fs::write(&file, &protecting).unwrap();
    await_reloads(&server.app, "configuration", 1, "ok").await;
    assert_eq!(call(&client).await, "ERROR_REASON_PROTECTED_USER");
    fs::write(
        &file,
        text.replace("spiffe://corp/offboarding", "spiffe://corp/other"),
    )
    .unwrap();
    await_reloads(&server.app, "configuration", 2, "ok").await;
    assert_eq!(call(&client).await, "ERROR_REASON_CALLER_NOT_AUTHORIZED");
    assert_eq!(call(&server.with_subject("svc")).await, "ok");
    // Neither a syntax error nor an incomplete file removes permissions.
    for (bad, count) in [("[[callers", 1), ("", 2)] {
        fs::write(&file, bad).unwrap();
        await_reloads(&server.app, "configuration", count, "failed").await;
        assert_eq!(call(&server.with_subject("svc")).await, "ok");
    }
    // Tokens of a removed issuer are rejected.
    let without = text.split("[[jwt_issuers]]").next().unwrap().to_owned();
    let remaining = text.split("jwks_file = \"issuer.jwks\"").nth(1).unwrap();
    fs::write(&file, without + remaining).unwrap();
    await_reloads(&server.app, "configuration", 3, "ok").await;
    assert_eq!(call(&server.with_subject("svc")).await, "nothing_shown");
    assert_eq!(call(&client).await, "ok");
    fs::write(&file, &text).unwrap();
    await_reloads(&server.app, "configuration", 4, "ok").await;
    assert_eq!(call(&server.with_subject("svc")).await, "ok");
}

#[tokio::test]
async fn reload_does_not_reset_quota() {
    let sections = |folder: &Path, url: &str| batch_section(folder, url) + CALLERS;
    let server = SecureServer::start(upstream().await, sections, "").await;
    let file = server.app.folder.join("useradmin.toml");
    let text = fs::read_to_string(&file).unwrap();
    let two = text.replace("deletes_per_minute = 1000", "deletes_per_minute = 2");
    fs::write(&file, &two).unwrap();
    await_reloads(&server.app, "configuration", 1, "ok").await;
    let client = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    assert_eq!(
        (call(&client).await, call(&client).await),
        ("ok".into(), "ok".into())
    );
    fs::write(&file, format!("{two}\n")).unwrap();
    await_reloads(&server.app, "configuration", 2, "ok").await;
    assert_eq!(call(&client).await, "ERROR_REASON_DELETE_QUOTA_EXCEEDED");
}

#[tokio::test]
async fn invalid_secret_is_logged_and_last_valid_one_used() {
    let sections = |folder: &Path, url: &str| {
        hmc_section(folder, url) + &CALLERS.replace("DeleteBatchNodeUser", "DeleteHmcUser")
    };
    let server = SecureServer::start(upstream().await, sections, "").await;
    let file = server.app.folder.join("hmc.password");
    fs::write(&file, "").unwrap();
    await_reloads(&server.app, "secret", 1, "failed").await;
    let client = server.with_subject("svc");
    client
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap();
    let logon = &server.upstream.requests("POST", "/api/sessions")[0];
    assert!(logon.body.contains(canary::PASSWORD));
    // An invalid secret must not prevent the removal of a permission.
    let configuration = server.app.folder.join("useradmin.toml");
    let text = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, text.replace("#svc", "#other")).unwrap();
    await_reloads(&server.app, "configuration", 1, "ok").await;
    let failure = client
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap_err();
    assert_eq!(
        reason_of(Some(failure)),
        "ERROR_REASON_CALLER_NOT_AUTHORIZED"
    );
    fs::write(&file, "hmc-password-2").unwrap();
    await_reloads(&server.app, "secret", 1, "ok").await;
}

#[tokio::test]
async fn new_hmc_certificate_is_trusted_after_reload() {
    let (old_authority, new_authority) = (Authority::new(), Authority::new());
    let identity = new_authority.issue("localhost", Validity::Now);
    let setup = Upstream::start_tls(identity.server(rustls::ALL_VERSIONS), |request| {
        hmc_reply_or(request, || Reply::empty(204))
    })
    .await;
    let sections = |folder: &Path, _: &str| {
        fs::write(folder.join("hmc.pem"), old_authority.pem()).unwrap();
        let callers = CALLERS.replace("DeleteBatchNodeUser", "DeleteHmcUser");
        let section = hmc_section(folder, &setup.url);
        format!("{section}ca_file = \"hmc.pem\"\n{callers}")
    };
    let server = SecureServer::start(upstream().await, sections, "").await;
    let client = server.with_subject("svc");
    let failure = client
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap_err();
    assert_eq!(
        reason_of(Some(failure)),
        "ERROR_REASON_UPSTREAM_UNREACHABLE"
    );
    let file = server.app.folder.join("hmc.pem");
    fs::write(&file, new_authority.pem()).unwrap();
    await_reloads(&server.app, "configuration", 1, "ok").await;
    client
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap();
}

/// If the secret of a target is invalid, other changes to the target still take effect.
#[tokio::test]
async fn target_with_invalid_secret_is_reloaded() {
    let server = start_server().await;
    let client = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    assert_eq!(call(&client).await, "ok");
    let folder = &server.app.folder;
    let secrets = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let secret = secrets
        .into_iter()
        .find(|file| file.extension().is_some_and(|end| end == "secret"));
    fs::write(secret.unwrap(), "").unwrap();
    await_reloads(&server.app, "secret", 1, "failed").await;
    let file = folder.join("useradmin.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace(
        "[batch_accounts.batch]\n",
        "[batch_accounts.batch]\nprotected_users = [\"ALI*\"]\n",
    );
    fs::write(&file, text).unwrap();
    await_reloads(&server.app, "configuration", 1, "ok").await;
    assert_eq!(call(&client).await, "ERROR_REASON_PROTECTED_USER");
}

/// A change between the reading of a file and its first check is detected.
#[tokio::test]
async fn changes_during_start_are_applied() {
    let (upstream, folder) = (upstream().await, App::folder());
    let text = |user: &str| {
        let server_section = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
        let callers = CALLERS.replace("spiffe://corp/offboarding", "anonymous");
        let section = batch_section(&folder, &upstream.url).replacen(
            "url =",
            &format!("protected_users = [\"{user}\"]\nurl ="),
            1,
        );
        format!("{server_section}{}{section}", without_issuers(&callers))
    };
    let file = folder.join("useradmin.toml");
    fs::write(&file, text("bob")).unwrap();
    let config = useradmin::config::load(&file).unwrap();
    fs::write(&file, text("alice")).unwrap();
    let app = App::run(folder.clone(), &config).await;
    await_reloads(&app, "configuration", 1, "ok").await;
    let client = SecureClient::plain(app.address);
    assert_eq!(call(&client).await, "ERROR_REASON_PROTECTED_USER");
}

/// Removing the last issuer must not make all callers anonymous: every caller is rejected.
#[tokio::test]
async fn removing_last_issuer_rejects_all_callers() {
    let (upstream, folder) = (upstream().await, App::folder());
    let server_section = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    let callers = without_issuers(&CALLERS.replace("spiffe://corp/offboarding", "anonymous"));
    let remaining = callers + &batch_section(&folder, &upstream.url);
    let issuer = super::issuer_section(&folder, &Signer::es256("key-1"));
    let app = App::start_with_text(
        folder.clone(),
        &format!("{server_section}{remaining}{issuer}"),
    )
    .await;
    let client = SecureClient::plain(app.address);
    assert_eq!(call(&client).await, "nothing_shown");
    fs::write(
        folder.join("useradmin.toml"),
        format!("{server_section}{remaining}"),
    )
    .unwrap();
    await_reloads(&app, "configuration", 1, "ok").await;
    assert_eq!(call(&client).await, "nothing_shown");
    assert!(upstream.received().is_empty());
}

/// Changes that need a restart are reported until the restart.
#[tokio::test]
async fn restart_required_is_logged() {
    let server = start_server().await;
    let file = server.app.folder.join("useradmin.toml");
    let text = fs::read_to_string(&file).unwrap();
    let slower = text.replacen("url =", "max_in_flight = 3\nurl =", 1);
    for (number, (text, needed)) in [
        (slower.clone(), 1),
        (slower.replace("= 1000", "= 999"), 1),
        (text, 0),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&file, text).unwrap();
        let count = u32::try_from(number).unwrap() + 1;
        await_reloads(&server.app, "configuration", count, "ok").await;
        let line = format!("useradmin_restart_needed {needed}");
        server.app.await_metric(&line).await;
    }
}

/// TLS is configured once at startup. Changes to `[server.tls]` have no effect before a restart.
#[tokio::test]
async fn client_authentication_mode_stays_as_at_start() {
    let (upstream, folder, authority) = (upstream().await, App::folder(), Authority::new());
    let open = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    let callers = CALLERS.replace("spiffe://corp/offboarding", "anonymous");
    let remaining = without_issuers(&callers) + &batch_section(&folder, &upstream.url);
    let closed = super::tls_section(&folder, &authority, "");
    let app = App::start_with_text(folder.clone(), &format!("{open}{remaining}")).await;
    let client = SecureClient::plain(app.address);
    assert_eq!(call(&client).await, "ok");
    fs::write(
        folder.join("useradmin.toml"),
        format!("{closed}{remaining}"),
    )
    .unwrap();
    await_reloads(&app, "configuration", 1, "ok").await;
    assert_eq!(call(&client).await, "ok");
}

/// Returns only the entry of `anonymous`.
fn without_issuers(callers: &str) -> String {
    let entries = callers.split("[[callers]]");
    let entry = entries
        .into_iter()
        .find(|entry| entry.contains("anonymous"));
    format!("[[callers]]{}", entry.unwrap())
}

/// The content of an invalid file is shown by `check-config`, but not in the log.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_configuration_is_not_quoted_in_log() {
    let folder = App::folder();
    let (file, log) = (folder.join("useradmin.toml"), folder.join("log"));
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{}",
        hmc_section(&folder, "http://127.0.0.1:1")
    );
    fs::write(&file, &text).unwrap();
    let arguments = ["serve", "--config", file.to_str().unwrap()];
    let serving = Process::start_with_log(&arguments, fs::File::create(&log).unwrap(), "");
    fs::write(
        &file,
        format!("{text}password = \"{}\"\n", canary::PASSWORD),
    )
    .unwrap();
    let reason_of = || fs::read_to_string(&log).unwrap();
    wait_until("a line about the file", async || {
        reason_of().contains("file reload failed")
    })
    .await;
    assert!(
        reason_of().contains("unknown key `password`"),
        "{}",
        reason_of()
    );
    canary::check("the log", &reason_of());
    drop(serving);
    fs::remove_dir_all(folder).unwrap();
}
