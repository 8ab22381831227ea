//! TLS on all connections: the callers show client certificates, and the upstream offers HTTP/2.

use std::{fs, path::Path};

use rcgen::SanType;
use rustls::ServerConfig;
use tokio_rustls::TlsConnector;
use useradmin_testkit::{
    connector,
    pki::{Authority, Identity, Validity},
};

/// The identity of the callers, which is the URI in their certificate.
pub const CALLER: &str = "spiffe://bench/caller";
/// Names of the files of a server in its folder.
pub const AUTHORITY_FILE: &str = "authority.pem";
pub const CERTIFICATE_FILE: &str = "server.pem";
pub const KEY_FILE: &str = "server.key";

/// The certificates of the servers, the callers and the upstream, all of one authority.
pub struct Tls {
    authority: Authority,
    server: Identity,
    caller: Identity,
    upstream: Identity,
}

impl Tls {
    pub fn new() -> Self {
        let authority = Authority::new();
        let uri = SanType::URI(CALLER.try_into().unwrap());
        Self {
            server: authority.issue("localhost", Validity::Now),
            caller: authority.issue_to(vec![uri], Validity::Now),
            upstream: authority.issue("127.0.0.1", Validity::Now),
            authority,
        }
    }

    /// Returns the connector of the callers.
    pub fn connector(&self) -> TlsConnector {
        connector(self.authority.pem(), Some(&self.caller))
    }

    /// Returns the TLS configuration of the upstream.
    pub fn upstream(&self) -> ServerConfig {
        let mut config = self.upstream.server(&[&rustls::version::TLS13]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    /// Writes the files of a server to its folder.
    pub fn write_files(&self, folder: &Path) {
        for (name, text) in [
            (AUTHORITY_FILE, self.authority.pem()),
            (CERTIFICATE_FILE, self.server.pem()),
            (KEY_FILE, &self.server.key_pem()),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
    }
}
