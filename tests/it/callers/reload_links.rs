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
    reload::{CALLERS, call, failed, reloaded},
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

fn version(folder: &Path) -> PathBuf {
    let version = folder.join(format!("..{}", Uuid::new_v4()));
    fs::create_dir(&version).unwrap();
    version
}

/// Turns these files of the folder into files of a volume. Files that are written later are also written to the volume.
fn mount(folder: &Path) {
    let first = version(folder);
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
fn swap(folder: &Path, changed: &[(&str, &str)]) {
    let (data, before) = (
        folder.join("..data"),
        fs::canonicalize(folder.join("..data")).unwrap(),
    );
    let next = version(folder);
    for name in FILES {
        fs::copy(data.join(name), next.join(name)).unwrap();
    }
    for (name, text) in changed {
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
        mount(folder);
        batch_section(folder, url) + &hmc + &other + &callers
    };
    SecureServer::start(upstream().await, sections, "").await
}

#[tokio::test]
async fn certificates_are_replaced_through_symlink() {
    let server = start_server().await;
    let old = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    assert_eq!(call(&old).await, "ok");
    let next = Authority::new();
    let certificate = next.issue("localhost", Validity::Now);
    let changed = [
        ("server.pem", certificate.pem()),
        ("server.key", &certificate.key_pem()),
        ("clients.pem", next.pem()),
    ];
    swap(&server.app.folder, &changed);
    server.app.await_metric(&reloaded("tls", 1)).await;
    let identity = next.issue_to(vec![uri("spiffe://corp/offboarding")], Validity::Now);
    let new = SecureClient::tls(server.app.address, next.pem(), Some(&identity));
    assert_eq!(call(&new).await, "ok");
    assert_eq!(call(&old).await, "certificate_not_trusted");
}

#[tokio::test]
async fn callers_are_replaced_through_symlink() {
    let server = start_server().await;
    let client = server.with_names(vec![uri("spiffe://corp/offboarding")]);
    assert_eq!(call(&client).await, "ok");
    let text = fs::read_to_string(server.app.folder.join("useradmin.toml")).unwrap();
    let without = text.replace("spiffe://corp/offboarding", "spiffe://corp/other");
    swap(&server.app.folder, &[("useradmin.toml", &without)]);
    server.app.await_metric(&reloaded("configuration", 1)).await;
    assert_eq!(call(&client).await, "ERROR_REASON_CALLER_NOT_AUTHORIZED");
    swap(&server.app.folder, &[("useradmin.toml", &text)]);
    server.app.await_metric(&reloaded("configuration", 2)).await;
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
        swap(&server.app.folder, &[("hmc.password", &next)]);
    }
    assert_eq!(server.upstream.requests("POST", "/api/sessions").len(), 2);
}

#[tokio::test]
async fn issuer_keys_are_replaced_through_symlink() {
    let server = start_server().await;
    assert_eq!(call(&server.with_subject("svc")).await, "ok");
    let next = Signer::es256("key-2");
    swap(&server.app.folder, &[("issuer.jwks", &next.key_set())]);
    let token = next.token(&default_claims(ISSUER, "svc"));
    let client = server.client(None).with_token(&token);
    // An unknown key causes the file to be read immediately.
    assert_eq!(call(&client).await, "ok");
    assert_eq!(call(&server.with_subject("svc")).await, "token_key_unknown");
    swap(&server.app.folder, &[("issuer.jwks", "{}")]);
    server.app.await_metric(&failed("jwks", 1)).await;
    assert_eq!(call(&client).await, "ok");
}
