//! Files as mounted by Kubernetes: each file is a symbolic link through `..data` to the folder of one version. Renaming
//! `..data` changes all files at once.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    ISSUER, SecureServer,
    reload::{CALLERS, await_reloads, call},
    uri,
};
use crate::authorization::upstream;
use useradmin::proto::DeleteHmcUserRequest;
use useradmin_testkit::{
    SecureClient, Signer, batch_section, canary, default_claims, delete_by_name, hmc_section,
    pki::{Authority, Validity},
};

const FILES: [&str; 6] = [
    "useradmin.toml",
    "server.pem",
    "server.key",
    "clients.pem",
    "issuer.jwks",
    "hmc.password",
];

fn create_version(folder: &Path) -> PathBuf {
    let version = folder.join(format!("..{}", Uuid::new_v4()));
    fs::create_dir(&version).unwrap();
    version
}

/// Turns these files of the folder into files of a volume. Files that are written later are also written to the volume.
fn convert_to_volume(folder: &Path) {
    let first = create_version(folder);
    for name in FILES {
        let file = folder.join(name);
        if file.exists() {
            fs::rename(&file, first.join(name)).unwrap();
        }
        symlink(Path::new("..data").join(name), file).unwrap();
    }
    symlink(first.file_name().unwrap(), folder.join("..data")).unwrap();
}

/// Publishes a new version of the volume with these changes and removes the previous version.
fn replace_volume(folder: &Path, changed_files: &[(&str, &str)]) {
    let (data, before) = (
        folder.join("..data"),
        fs::canonicalize(folder.join("..data")).unwrap(),
    );
    let next = create_version(folder);
    for name in FILES {
        fs::copy(data.join(name), next.join(name)).unwrap();
    }
    for (name, text) in changed_files {
        fs::write(next.join(name), text).unwrap();
    }
    let link = folder.join("..data_tmp");
    symlink(next.file_name().unwrap(), &link).unwrap();
    fs::rename(link, data).unwrap();
    fs::remove_dir_all(before).unwrap();
}

async fn start_server() -> SecureServer {
    let sections = |folder: &Path, url: &str| {
        let hmc = hmc_section(folder, url);
        let other = hmc.replace("hmcs.hmc", "hmcs.other");
        let callers = CALLERS.replace(
            "allow = [",
            "allow = [{ rpc = \"DeleteHmcUser\", targets = [\"*\"] }, ",
        );
        convert_to_volume(folder);
        batch_section(folder, url) + &hmc + &other + &callers
    };
    SecureServer::start(upstream().await, sections, "").await
}

#[tokio::test]
async fn certificates_are_replaced_through_symlink() {
    let server = start_server().await;
    let old_client = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    assert_eq!(call(&old_client).await, "ok");
    let next = Authority::new();
    let certificate = next.issue("localhost", Validity::Now);
    let changed_files = [
        ("server.pem", certificate.pem()),
        ("server.key", &certificate.key_pem()),
        ("clients.pem", next.pem()),
    ];
    replace_volume(&server.app.folder, &changed_files);
    await_reloads(&server.app, "tls", 1, "ok").await;
    let identity = next.issue_to(vec![uri("spiffe://corp/offboarding")], Validity::Now);
    let new_client = SecureClient::tls(server.app.address, next.pem(), Some(&identity));
    assert_eq!(call(&new_client).await, "ok");
    assert_eq!(call(&old_client).await, "certificate_not_trusted");
}

#[tokio::test]
async fn callers_are_replaced_through_symlink() {
    let server = start_server().await;
    let client = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    assert_eq!(call(&client).await, "ok");
    let text = fs::read_to_string(server.app.folder.join("useradmin.toml")).unwrap();
    let without = text.replace("spiffe://corp/offboarding", "spiffe://corp/other");
    replace_volume(&server.app.folder, &[("useradmin.toml", &without)]);
    await_reloads(&server.app, "configuration", 1, "ok").await;
    assert_eq!(call(&client).await, "ERROR_REASON_CALLER_NOT_AUTHORIZED");
    replace_volume(&server.app.folder, &[("useradmin.toml", &text)]);
    await_reloads(&server.app, "configuration", 2, "ok").await;
    assert_eq!(call(&client).await, "ok");
}

/// Two HMCs share one password. The HMC that is called later receives the new one.
#[tokio::test]
async fn secret_is_replaced_through_symlink() {
    let server = start_server().await;
    let client = server.with_subject("svc");
    let next = format!("{}-next", canary::PASSWORD);
    for (hmc, password) in [("hmc", canary::PASSWORD), ("other", &next)] {
        let request = DeleteHmcUserRequest {
            hmc: hmc.to_owned(),
            ..delete_by_name("alice")
        };
        client.delete_hmc_user(request).await.unwrap();
        let logons = server.upstream.requests("POST", "/api/sessions");
        let sent = format!("\"{password}\"");
        assert!(logons.last().unwrap().body.contains(&sent), "{hmc}");
        // No wait is needed: the next read of the file returns the new content.
        replace_volume(&server.app.folder, &[("hmc.password", &next)]);
    }
    assert_eq!(server.upstream.requests("POST", "/api/sessions").len(), 2);
}

#[tokio::test]
async fn issuer_keys_are_replaced_through_symlink() {
    let server = start_server().await;
    assert_eq!(call(&server.with_subject("svc")).await, "ok");
    let next = Signer::es256("key-2");
    replace_volume(&server.app.folder, &[("issuer.jwks", &next.key_set())]);
    let token = next.token(&default_claims(ISSUER, "svc"));
    let client = server.client(None).with_token(&token);
    // An unknown key causes the file to be read immediately.
    assert_eq!(call(&client).await, "ok");
    assert_eq!(call(&server.with_subject("svc")).await, "token_key_unknown");
    replace_volume(&server.app.folder, &[("issuer.jwks", "{}")]);
    await_reloads(&server.app, "jwks", 1, "failed").await;
    assert_eq!(call(&client).await, "ok");
}
