//! Clients that show who they are: over TLS, with a certificate, with a token.

use std::{io, net::SocketAddr, sync::Arc};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    Request, Response,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tower::service_fn;
use useradmin::proto::{
    DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse, DeleteHmcUserRequest,
    DeleteHmcUserResponse, user_admin_client::UserAdminClient,
};

use super::{Failed, pki::Identity};

/// A client.
#[derive(Clone)]
pub struct Secure {
    channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Secure {
    /// Without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self {
            channel: endpoint.connect_lazy(),
            token: None,
        }
    }

    /// Over TLS to `localhost`, whose certificate this authority has issued.
    pub fn tls(address: SocketAddr, authority: &str, shown: Option<&Identity>) -> Self {
        let mut roots = RootCertStore::empty();
        let authority = CertificateDer::from_pem_slice(authority.as_bytes());
        roots.add(authority.unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match shown {
            // Whether the key belongs to the certificate or not.
            Some(shown) => {
                let key = ring::sign::any_supported_type(&shown.key()).unwrap();
                let shown = CertifiedKey::new(shown.chain(), key);
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let connect = service_fn(move |_: Uri| {
            let connector = connector.clone();
            async move {
                let stream = TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let stream = connector.connect(name, stream).await?;
                Ok::<_, io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        Self {
            channel: endpoint.connect_with_connector_lazy(connect),
            token: None,
        }
    }

    /// The same connection, with this bearer token.
    pub fn with_token(&self, token: &str) -> Self {
        self.with_authorization(&format!("Bearer {token}"))
    }

    /// The same connection, with this metadata.
    pub fn with_authorization(&self, value: &str) -> Self {
        Self {
            channel: self.channel.clone(),
            token: Some(value.parse().unwrap()),
        }
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A request with what this client shows.
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
    ) -> Result<DeleteBatchNodeUserResponse, Failed> {
        let mut client = UserAdminClient::new(self.channel());
        let answer = client.delete_batch_node_user(self.request(request)).await;
        answer.map(Response::into_inner).map_err(Failed::from)
    }

    pub async fn delete_hmc_user(
        &self,
        request: DeleteHmcUserRequest,
    ) -> Result<DeleteHmcUserResponse, Failed> {
        let mut client = UserAdminClient::new(self.channel());
        let answer = client.delete_hmc_user(self.request(request)).await;
        answer.map(Response::into_inner).map_err(Failed::from)
    }
}
