//! The load generator: a closed loop of unary calls over HTTP/2 with a fixed number of calls in flight and connections.
//! The `grpc-status` of each response is checked.

use std::{
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Runtime,
    task::JoinSet,
    time::sleep,
};
use tokio_rustls::TlsConnector;

use crate::tls::Tls;

/// A method, its request message and the concurrency of the calls.
#[derive(Clone)]
pub struct Load {
    /// The path of the method.
    pub rpc: &'static str,
    /// The request message with its gRPC prefix.
    pub message: Bytes,
    /// Number of concurrent calls.
    pub in_flight: usize,
    /// Number of connections that the calls share.
    pub connections: usize,
}

/// Address of a server, and the TLS of its callers.
#[derive(Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    tls: Option<TlsConnector>,
}

impl Endpoint {
    pub fn new(address: SocketAddr, tls: Option<&Tls>) -> Self {
        Self {
            address,
            tls: tls.map(Tls::connector),
        }
    }
}

/// Result of a measurement.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// Calls per second.
    pub rate: f64,
    /// Median latency in microseconds.
    pub p50: f64,
    /// 99th percentile of the latency in microseconds.
    pub p99: f64,
    /// Number of measured calls.
    pub calls: usize,
}

impl Load {
    /// Limits the load to one call at a time over one connection.
    pub fn one_at_a_time(self) -> Self {
        Self {
            in_flight: 1,
            connections: 1,
            ..self
        }
    }

    /// Makes this number of calls, at most `in_flight` at a time.
    pub fn calls(&self, runtime: &Runtime, server: &Endpoint, calls: usize) {
        runtime.block_on(async {
            let in_flight = self.in_flight.min(calls);
            let mut callers = JoinSet::new();
            let mut clients = Vec::new();
            for index in 0..in_flight {
                if index < self.connections {
                    clients.push(connect(server).await.unwrap());
                }
                let mut client = clients[index % clients.len()].clone();
                let (request, message) = (self.request(server), self.message.clone());
                let share = calls / in_flight + usize::from(index < calls % in_flight);
                callers.spawn(async move {
                    for _ in 0..share {
                        client = client.ready().await.unwrap();
                        call(&mut client, request.clone(), message.clone()).await;
                    }
                });
            }
            callers.join_all().await;
        });
    }

    fn request(&self, server: &Endpoint) -> Request<()> {
        let scheme = if server.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let uri = format!("{scheme}://localhost:{}{}", server.address.port(), self.rpc);
        let request = Request::post(uri)
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "20S")
            .header("user-agent", "bench");
        request.body(()).unwrap()
    }

    /// Measures calls for `time`, after a warm-up of a fifth of it. Calls `started` when the warm-up ends.
    pub fn run(
        &self,
        runtime: &Runtime,
        server: &Endpoint,
        time: Duration,
        started: impl FnOnce(),
    ) -> Sample {
        runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..self.connections {
                clients.push(connect(server).await.unwrap());
            }
            let [is_measuring, stop] = [false, false].map(|flag| Arc::new(AtomicBool::new(flag)));
            let mut callers = JoinSet::new();
            for index in 0..self.in_flight {
                let client = clients[index % self.connections].clone();
                let request = self.request(server);
                let (is_measuring, stop) = (Arc::clone(&is_measuring), Arc::clone(&stop));
                callers.spawn(self.clone().caller(request, client, is_measuring, stop));
            }
            sleep(time / 5).await;
            started();
            let start = Instant::now();
            is_measuring.store(true, Ordering::Relaxed);
            sleep(time).await;
            let elapsed = start.elapsed();
            is_measuring.store(false, Ordering::Relaxed);
            stop.store(true, Ordering::Relaxed);
            sample(callers.join_all().await.concat(), elapsed)
        })
    }

    async fn caller(
        self,
        request: Request<()>,
        mut client: SendRequest<Bytes>,
        is_measuring: Arc<AtomicBool>,
        stop: Arc<AtomicBool>,
    ) -> Vec<Duration> {
        let mut durations = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let started = Instant::now();
            client = client.ready().await.unwrap();
            call(&mut client, request.clone(), self.message.clone()).await;
            if is_measuring.load(Ordering::Relaxed) {
                durations.push(started.elapsed());
            }
        }
        durations
    }
}

/// Establishes a connection and waits until it is ready for calls.
pub async fn connect(server: &Endpoint) -> Result<SendRequest<Bytes>, Box<dyn Error>> {
    if let Some(tls) = &server.tls {
        return handshake(useradmin_testkit::connect(tls, server.address).await?).await;
    }
    let stream = TcpStream::connect(server.address).await?;
    stream.set_nodelay(true)?;
    handshake(stream).await
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Bytes>, Box<dyn Error>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (client, connection) = h2::client::handshake(stream).await?;
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(client.ready().await?)
}

async fn call(client: &mut SendRequest<Bytes>, request: Request<()>, message: Bytes) {
    let (response, mut body) = client.send_request(request, false).unwrap();
    body.send_data(message, true).unwrap();
    let response = response.await.unwrap();
    let status = if response.headers().contains_key("grpc-status") {
        response.headers().clone()
    } else {
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let length = data.unwrap().len();
            body.flow_control().release_capacity(length).unwrap();
        }
        body.trailers()
            .await
            .unwrap()
            .unwrap_or_else(HeaderMap::new)
    };
    assert_eq!(
        status.get("grpc-status").map(HeaderValue::as_bytes),
        Some(&b"0"[..]),
        "{status:?}"
    );
}

fn sample(mut elapsed: Vec<Duration>, time: Duration) -> Sample {
    elapsed.sort_unstable();
    let percentile = |part: f64| {
        let last = elapsed.len().saturating_sub(1);
        elapsed
            .get(((last as f64) * part) as usize)
            .map_or(0.0, |elapsed| elapsed.as_secs_f64() * 1e6)
    };
    Sample {
        rate: elapsed.len() as f64 / time.as_secs_f64(),
        p50: percentile(0.5),
        p99: percentile(0.99),
        calls: elapsed.len(),
    }
}
