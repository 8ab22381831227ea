//! gRPC channels to the health service and to a collector of traces.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;
use url::Url;

use crate::certificates::refusal::describe_io_error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval of pings that detect a lost peer.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Configuration of TLS that can be replaced; the next connection uses the new one.
pub type Tls = Arc<ArcSwap<ClientConfig>>;

/// Returns a channel that connects on first use, in plaintext without `tls`, and limits each call to `time`.
pub fn lazy(url: &Url, tls: Option<Tls>, time: Duration) -> Result<Channel, String> {
    let host = url.host_str().unwrap_or_default();
    let address = format!("{host}:{}", url.port_or_known_default().unwrap_or(443));
    let endpoint = endpoint(&address)?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(time)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let Some(tls) = tls else {
        return Ok(endpoint.connect_lazy());
    };
    let name = server_name(host)?;
    let connect = service_fn(move |_: Uri| {
        let tls = tls.load_full();
        connect(address.clone(), TlsConnector::from(tls), name.clone())
    });
    Ok(endpoint.connect_with_connector_lazy(connect))
}

/// Returns the endpoint with this address, HOST:PORT.
pub fn endpoint(address: &str) -> Result<Endpoint, String> {
    // The connector ignores the scheme.
    Endpoint::from_shared(format!("http://{address}")).map_err(|_| "must be HOST:PORT".to_owned())
}

/// Returns the name that the certificate of this host must contain.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let name = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(name).map_err(|error| error.to_string())
}

pub async fn connect(
    address: String,
    connector: TlsConnector,
    name: ServerName<'static>,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    let connected = connector.connect(name, stream).await;
    let connected =
        connected.map_err(|error| io::Error::new(error.kind(), describe_io_error(&error)))?;
    Ok(TokioIo::new(connected))
}
