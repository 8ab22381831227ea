//! gRPC as a client: of the server's own health, and of a collector of traces.

use std::{io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;
use url::Url;

use crate::certificates::refusal::of_io;

/// A connection that is not made within this time is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose other end has vanished without a word is noticed by its silence.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// TLS that can be exchanged while the channel lives: the next connection uses what is there then.
pub type Tls = Arc<ArcSwap<ClientConfig>>;

/// A channel that connects when it is used, in plaintext without `tls`. A call that is not answered in time is given up.
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

/// HOST:PORT
pub fn endpoint(address: &str) -> Result<Endpoint, String> {
    // What is in place of the scheme is of no interest to a connector.
    Endpoint::from_shared(format!("http://{address}")).map_err(|_| "want HOST:PORT".to_owned())
}

/// What has to stand in the certificate of a server with this host.
pub fn server_name(host: &str) -> Result<ServerName<'static>, String> {
    let name = host.trim_matches(['[', ']']).to_owned();
    ServerName::try_from(name).map_err(|error| error.to_string())
}

/// Connects.
pub async fn connect(
    address: String,
    connector: TlsConnector,
    name: ServerName<'static>,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let stream = TcpStream::connect(address).await?;
    let connected = connector.connect(name, stream).await;
    let connected = connected.map_err(|error| io::Error::new(error.kind(), of_io(&error)))?;
    Ok(TokioIo::new(connected))
}
