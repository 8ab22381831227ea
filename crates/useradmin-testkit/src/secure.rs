//! Clients that authenticate: over TLS, with a certificate, or with a token.

use std::{io, net::SocketAddr, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    AlertDescription, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use useradmin::proto::{
    DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse, DeleteHmcUserRequest,
    DeleteHmcUserResponse, user_admin_client::UserAdminClient,
};

use crate::{CallFailure, failure::result, pki::Identity};

/// Returns a TLS connector for HTTP/2 that trusts this authority and presents this certificate.
pub fn connector(authority: &str, identity: Option<&Identity>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes());
    roots.add(authority.unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        // The key is not checked, because it need not match the certificate.
        Some(identity) => {
            let key = ring::sign::any_supported_type(&identity.key()).unwrap();
            let identity = CertifiedKey::new(identity.chain(), key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// Opens a TLS connection to `localhost`.
pub async fn connect(
    connector: &TlsConnector,
    address: SocketAddr,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    // tonic sets this option, too. Otherwise small messages are delayed by up to 40 ms.
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    connector.connect(name, stream).await
}

/// Returns the alert with which the server ends the handshake, or `None` if the handshake succeeds.
pub async fn alert(
    address: SocketAddr,
    authority: &str,
    identity: &Identity,
) -> Option<AlertDescription> {
    let mut stream = connect(&connector(authority, Some(identity)), address)
        .await
        .unwrap();
    // With TLS 1.3, the handshake completes on the client before the server verifies the client certificate. A client
    // that sends nothing more receives the alert; if the server continues, it sends the HTTP/2 settings.
    let error = stream.read(&mut [0]).await.err()?;
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        other => panic!("{other}"),
    }
}

/// A client with optional TLS and credentials.
#[derive(Clone)]
pub struct SecureClient {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl SecureClient {
    /// Creates a client without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self {
            channel: endpoint.connect_lazy(),
            token: None,
        }
    }

    /// Creates a client over TLS to `localhost`, whose certificate must be issued by this authority.
    pub fn tls(address: SocketAddr, authority: &str, identity: Option<&Identity>) -> Self {
        let connector = connector(authority, identity);
        let connect = service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move { connect(&connector, address).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        Self {
            channel: endpoint.connect_with_connector_lazy(connect),
            token: None,
        }
    }

    /// Returns a client on the same connection with this bearer token.
    pub fn with_token(&self, token: &str) -> Self {
        self.with_authorization(&format!("Bearer {token}"))
    }

    /// Returns a client on the same connection with this value of `authorization`.
    pub fn with_authorization(&self, value: &str) -> Self {
        Self {
            channel: self.channel.clone(),
            token: Some(value.parse().unwrap()),
        }
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Returns a request with the credentials of this client.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.clone());
        }
        request
    }

    pub async fn delete_batch_node_user(
        &self,
        request: DeleteBatchNodeUserRequest,
    ) -> Result<DeleteBatchNodeUserResponse, CallFailure> {
        let mut client = UserAdminClient::new(self.channel());
        let response = client.delete_batch_node_user(self.request(request)).await;
        result(response)
    }

    pub async fn delete_hmc_user(
        &self,
        request: DeleteHmcUserRequest,
    ) -> Result<DeleteHmcUserResponse, CallFailure> {
        let mut client = UserAdminClient::new(self.channel());
        let response = client.delete_hmc_user(self.request(request)).await;
        result(response)
    }
}
