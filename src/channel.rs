//! gRPC as a client: of the server's own health, and of a collector of traces.

use std::{io, sync::Arc};

use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;
use url::Url;

/// A connection over TLS, whose server has to have this name.
type Connector = (TlsConnector, ServerName<'static>);

/// A channel that connects when it is used, in plaintext without `tls`.
pub fn lazy(url: &Url, tls: Option<ClientConfig>) -> Result<Channel, String> {
    let host = host(url);
    let address = format!("{host}:{}", url.port_or_known_default().unwrap_or(443));
    let endpoint = endpoint(&address)?;
    let Some(tls) = tls else {
        return Ok(endpoint.connect_lazy());
    };
    let connector = connector(tls, host.trim_matches(['[', ']']))?;
    let connect = service_fn(move |_: Uri| connect(address.clone(), connector.clone()));
    Ok(endpoint.connect_with_connector_lazy(connect))
}

/// HOST:PORT
pub fn endpoint(address: &str) -> Result<Endpoint, String> {
    // What is in place of the scheme is of no interest to a connector.
    Endpoint::from_shared(format!("http://{address}")).map_err(|_| "want HOST:PORT".to_owned())
}

/// For a server that must have this name.
pub fn connector(tls: ClientConfig, name: &str) -> Result<Connector, String> {
    let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
    Ok((TlsConnector::from(Arc::new(tls)), name))
}

/// Connects.
pub async fn connect(
    address: String,
    (connector, name): Connector,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    Ok(TokioIo::new(connector.connect(name, stream).await?))
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}
