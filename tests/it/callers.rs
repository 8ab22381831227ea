//! Authentication and authorization: every caller on every rpc and target, and everything that does not identify a
//! caller.

mod certificates;
mod conventions;
mod health_and_reflection;
mod keys;
mod lifetimes;
mod matrix;
pub mod reload;
mod reload_links;
mod tokens;

use std::{fs, path::Path};

use rcgen::SanType;
use useradmin_testkit::{
    App, SecureClient, Signer, Upstream, default_claims,
    pki::{Authority, Identity, Validity},
};

pub const ISSUER: &str = "https://login.corp.example";

/// A server with TLS, client certificates and one token issuer, and the credentials of its callers.
pub struct SecureServer {
    pub app: App,
    pub upstream: Upstream,
    pub authority: Authority,
    pub signer: Signer,
}

/// Returns the beginning of a configuration with TLS, and writes the files to the folder.
pub fn tls_section(folder: &Path, authority: &Authority, settings: &str) -> String {
    let server = authority.issue("localhost", Validity::Now);
    fs::write(folder.join("server.pem"), server.pem()).unwrap();
    fs::write(folder.join("server.key"), server.key_pem()).unwrap();
    fs::write(folder.join("clients.pem"), authority.pem()).unwrap();
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
{settings}
[server.tls]
cert_file = "server.pem"
key_file = "server.key"
client_ca_file = "clients.pem"
"#
    )
}

/// Returns the section of an issuer, and writes its keys to a file in the folder.
pub fn issuer_section(folder: &Path, signer: &Signer) -> String {
    fs::write(folder.join("issuer.jwks"), signer.key_set()).unwrap();
    format!(
        r#"
[[jwt_issuers]]
issuer = "{ISSUER}"
audience = "useradmin"
algorithms = ["ES256", "RS256"]
jwks_file = "issuer.jwks"
"#
    )
}

pub fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

impl SecureServer {
    /// Starts a server with additional sections and with additional keys in `[server]`.
    pub async fn start(
        upstream: Upstream,
        sections: impl FnOnce(&Path, &str) -> String,
        settings: &str,
    ) -> Self {
        let (folder, authority, signer) = (App::folder(), Authority::new(), Signer::es256("key-1"));
        let text = tls_section(&folder, &authority, settings)
            + &issuer_section(&folder, &signer)
            + &sections(&folder, &upstream.url);
        Self {
            app: App::start_with_text(folder, &text).await,
            upstream,
            authority,
            signer,
        }
    }

    /// Returns a client that presents this certificate.
    pub fn client(&self, identity: Option<&Identity>) -> SecureClient {
        SecureClient::tls(self.app.address, self.authority.pem(), identity)
    }

    /// Returns a client with a certificate for these names.
    pub fn with_names(&self, names: Vec<SanType>) -> SecureClient {
        self.client(Some(&self.authority.issue_to(names, Validity::Now)))
    }

    /// Returns a client with a token for this subject and without a certificate.
    pub fn with_subject(&self, subject: &str) -> SecureClient {
        let token = self.signer.token(&default_claims(ISSUER, subject));
        self.client(None).with_token(&token)
    }
}
