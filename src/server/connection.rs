//! Serves connections over HTTP/2 within limits, and closes a connection that is old or idle, or when the server
//! stops.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rand::RngExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::body::Body;
use tower::Service;

use super::{
    acceptor::{Connection, Peer},
    connection_log::ConnectionLog,
    in_flight::{InFlightCalls, TotalInFlight, TrackedBody},
    metadata,
};
use crate::{config::Limits, service::call_context::MAX_CALL_DURATION, telemetry::ON_REFUSAL};

/// Interval of HTTP/2 pings.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Time limit for the response to a ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of streams of one connection that the server resets. By default, tonic sets no limit.
const MAX_LOCAL_RESETS: usize = 1_024;
/// Bytes of the flow-control windows, and of the buffer for a slow peer. Messages are small.
const STREAM_WINDOW: u32 = 65_535;
const CONNECTION_WINDOW: u32 = 1 << 18;
const SEND_BUFFER: usize = 65_536;
/// Time limit for the calls of a connection after GOAWAY. The connection is closed afterwards.
const GRACE: Duration = MAX_CALL_DURATION.saturating_add(Duration::from_secs(5));
/// Number of streams, on all connections, for each of `max_concurrent_calls`. Above that number, the fair share of
/// each connection applies. The additional streams wait for their messages or for the client to read their responses,
/// or are health checks.
const STREAMS_PER_CALL: usize = 2;
/// Lower bound of the random age at which a connection is closed, as a fraction of the maximum age. The age is random
/// so that connections are not closed all at once.
const MIN_AGE: f64 = 0.9;

pub struct Connections<S> {
    service: S,
    http: http2::Builder<TokioExecutor>,
    limits: Limits,
    log: Arc<ConnectionLog>,
    ending: Ending,
    calls: TotalInFlight,
}

/// Handles with which the drain ends all connections.
#[derive(Clone, Default)]
pub struct Ending {
    pub connections: TaskTracker,
    /// Cancelled to send GOAWAY on all connections.
    pub goaway: CancellationToken,
    /// Cancelled to close the connections that have not ended after GOAWAY.
    pub cut: CancellationToken,
}

impl<S, B> Connections<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error: Into<tonic::codegen::StdError>>,
    B: Send + Unpin + 'static,
{
    pub fn new(service: S, limits: &Limits, log: Arc<ConnectionLog>, ending: Ending) -> Self {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            // gRPC has no use for the header `date`.
            .auto_date_header(false)
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(limits.max_concurrent_streams)
            .max_header_list_size(metadata::MAX_READ)
            // A correct client may cancel all its calls at once; the default limit of h2 is 20.
            .max_pending_accept_reset_streams(limits.max_concurrent_streams as usize)
            .max_local_error_reset_streams(MAX_LOCAL_RESETS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER);
        Self {
            service,
            http,
            limits: limits.clone(),
            log,
            ending,
            calls: TotalInFlight::default(),
        }
    }

    /// Serves a connection in its own task.
    pub fn spawn(self: &Arc<Self>, connection: Connection) {
        let this = Arc::clone(self);
        self.ending.connections.spawn(async move {
            let Connection {
                io,
                peer,
                permit,
                wrong_protocol,
            } = connection;
            let (log, address) = (Arc::clone(&this.log), peer.endpoints.client);
            let report = move |error: &str| log.refused(address, error);
            let serving = this.serve(io, peer, wrong_protocol);
            ON_REFUSAL.scope(Box::new(report), serving).await;
            drop(permit);
        });
    }

    async fn serve<I>(&self, io: I, peer: Peer, wrong_protocol: Option<&str>)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let calls = Arc::new(InFlightCalls::new(Arc::clone(&self.calls)));
        let (in_flight, address) = (Arc::clone(&calls), peer.endpoints.client);
        let max_calls = self.limits.max_concurrent_calls as usize * STREAMS_PER_CALL;
        let max_metadata = self.limits.max_metadata_bytes;
        let service = TowerToHyperService::new(self.service.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            // The metadata is limited before the request waits for its task, so that it occupies little memory.
            metadata::limit(&mut request, max_metadata);
            let (call, over_share) = in_flight.start(max_calls);
            if let Some(over_share) = over_share {
                request.extensions_mut().insert(over_share);
            }
            request.extensions_mut().insert(peer.clone());
            let response = hyper::service::Service::call(&service, request.map(Body::new));
            async move {
                let response = response.await?;
                call.response_ready();
                Ok::<_, Infallible>(response.map(|body| TrackedBody { body, call }))
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(io), service));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = calls.wait_until_stalled() => return self.log.not_read(address),
            () = self.time_to_end(&calls) => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = &mut connection => ended,
                    () = sleep(GRACE) => Ok(()),
                    () = self.ending.cut.cancelled() => Ok(()),
                }
            }
        };
        if let Err(error) = ended {
            self.log.broken(address, &error, wrong_protocol);
        }
    }

    /// Completes when a connection has to end because it is old or idle, or because the server stops.
    async fn time_to_end(&self, calls: &InFlightCalls) {
        let age = self
            .limits
            .max_connection_age
            .mul_f64(rand::rng().random_range(MIN_AGE..=1.0));
        tokio::select! {
            () = self.ending.goaway.cancelled() => {}
            () = sleep(age) => {}
            () = calls.wait_until_idle(self.limits.max_connection_idle) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

    use bytes::Bytes;
    use futures_util::stream;
    use http::{Request, Response};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        task::JoinHandle,
        time::{Instant, sleep},
    };
    use tonic::body::Body;
    use tower::service_fn;

    use super::{Connections, Ending, GRACE, KEEPALIVE, KEEPALIVE_TIMEOUT, MIN_AGE, Peer};
    use crate::{config::Limits, server::in_flight::STALL_TIMEOUT, trace::Endpoints};

    const IDLE: Duration = Duration::from_mins(5);
    const AGE: Duration = Duration::from_mins(30);

    /// Starts a connection whose calls take as many seconds as their path says, and whose client accepts `window`
    /// bytes of a response. Returns the client and the task of its connection, which ends when the connection does.
    async fn begin(window: u32) -> (h2::client::SendRequest<Bytes>, JoinHandle<()>) {
        let (client, server) = duplex(65_536);
        tokio::spawn(serve(server));
        let mut builder = h2::client::Builder::new();
        let connecting = builder.initial_window_size(window).handshake(client);
        let Ok((client, connection)) = connecting.await else {
            unreachable!("the server answers");
        };
        let client_side = tokio::spawn(async move { drop(connection.await) });
        (client, client_side)
    }

    async fn serve(stream: DuplexStream) {
        let service = service_fn(|request: Request<Body>| async move {
            let wanted = &request.uri().path()[1..];
            if wanted == "text" {
                return Ok(Response::new(Body::new(String::from("text"))));
            }
            if wanted == "watch" {
                let nothing_yet = stream::pending::<Result<Frame<Bytes>, Infallible>>();
                return Ok(Response::new(Body::new(StreamBody::new(nothing_yet))));
            }
            sleep(Duration::from_secs(wanted.parse().unwrap_or_default())).await;
            Ok(Response::new(Body::default()))
        });
        let limits = Limits {
            max_connection_age: AGE,
            max_connection_idle: IDLE,
            ..Limits::default()
        };
        let connections = Connections::new(service, &limits, Arc::default(), Ending::default());
        let peer = Peer {
            endpoints: Endpoints::new(SocketAddr::from(([127, 0, 0, 1], 1)), None),
            certificate: None,
        };
        connections.serve(stream, peer, None).await;
    }

    /// Sends a request with the path `what`, and returns the response without reading its body.
    async fn call(
        client: &h2::client::SendRequest<Bytes>,
        what: &str,
    ) -> Option<Response<h2::RecvStream>> {
        let request = Request::post(format!("http://server/{what}")).body(());
        let mut client = client.clone().ready().await.ok()?;
        let sent = client.send_request(request.unwrap_or_default(), true);
        sent.ok()?.0.await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn connection_without_calls_is_closed() {
        let start = Instant::now();
        let (client, ended) = begin(65_535).await;
        for seconds in ["290", "350"] {
            assert!(call(&client, seconds).await.is_some());
        }
        assert!(ended.await.is_ok());
        let time = start.elapsed().as_secs();
        assert_eq!(time, 290 + 350 + IDLE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn long_calls_are_cut_off_after_grace_period() {
        let begun = Instant::now();
        let (client, ended) = begin(65_535).await;
        assert!(call(&client, "86400").await.is_none());
        assert!(ended.await.is_ok());
        let time = begun.elapsed();
        assert!(time >= AGE.mul_f64(MIN_AGE) + GRACE && time <= AGE + GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn peer_that_does_not_read_is_disconnected() {
        let (client, ended) = begin(0).await;
        let begun = Instant::now();
        let answer = call(&client, "text").await;
        assert!(answer.is_some() && ended.await.is_ok());
        assert_eq!(begun.elapsed(), STALL_TIMEOUT);
        // A client that waits for more has read everything so far, so its connection is not aborted.
        let (client, ended) = begin(65_535).await;
        let begun = Instant::now();
        let answer = call(&client, "watch").await;
        assert!(answer.is_some() && ended.await.is_ok());
        assert!(begun.elapsed() > AGE.mul_f64(MIN_AGE));
    }

    #[tokio::test(start_paused = true)]
    async fn peer_without_ping_response_is_disconnected() {
        let begun = Instant::now();
        let (mut client, server) = duplex(65_536);
        let serving = tokio::spawn(serve(server));
        let beginning = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        assert!(client.write_all(beginning).await.is_ok());
        let mut answer = Vec::new();
        assert!(client.read_to_end(&mut answer).await.is_ok());
        assert!(serving.await.is_ok());
        assert_eq!(begun.elapsed(), KEEPALIVE + KEEPALIVE_TIMEOUT);
    }
}
