//! Upstreams that inject faults on command and record the requests that they carry out.

mod batch;
mod entra;
mod hmc;
mod users;

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::{net::TcpSocket, sync::watch};
use useradmin_testkit::{ReceivedRequest as Request, Reply, serve};

pub use self::{
    batch::Batch,
    entra::{Entra, SECRET},
    hmc::{Hmc, PASSWORD},
    users::{Traits, UserRequests, Users},
};

/// Pause after each chunk of an endless body.
const CHUNK_PAUSE: Duration = Duration::from_millis(20);

/// A fault of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Connections are refused.
    Refuse,
    /// The connection is reset before the request is carried out.
    ResetBefore,
    /// The request is carried out, and the connection is reset without a response.
    ResetAfter,
    /// The connection is closed after half a status line.
    TruncatedStatusLine,
    /// The request is not carried out, and no response is sent until the client closes the connection.
    Hang,
    /// The request is carried out, and no response is sent.
    HangAfter,
    /// The response is delayed by `Control::slow_latency`.
    Slow,
    /// The response is 429.
    Throttled,
    /// The response is 503.
    Busy,
    /// The response is 500.
    Failing,
    /// The response is the conflict of [`Service::conflict`].
    Conflict,
    /// The response is a redirect.
    Redirect,
    /// The request is carried out, and the body of the response never ends.
    EndlessBody,
    /// The response is not HTTP.
    InvalidHttp,
}

impl Fault {
    const fn carries_out(self) -> bool {
        matches!(
            self,
            Self::None | Self::ResetAfter | Self::HangAfter | Self::Slow | Self::EndlessBody
        )
    }
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Delete,
    Logon,
    Other,
}

/// The settings of an upstream, which can be changed while it runs.
#[derive(Clone, Copy)]
pub struct Control {
    pub fault: Fault,
    /// Kind of the requests that the fault affects. `None` for all requests.
    pub affected_kind: Option<Kind>,
    /// Delay of each response.
    pub latency: Duration,
    /// Delay of each response under [`Fault::Slow`].
    pub slow_latency: Duration,
    /// Offset of the upstream's clock, in seconds.
    pub clock_offset: i64,
}

/// The API of an upstream.
pub trait Service: Send + Sync + 'static {
    fn kind(&self, request: &Request) -> Kind;
    /// Returns the response. Records the request, and executes it if `carry_out` is true.
    fn handle(&self, request: &Request, carry_out: bool, clock_offset: i64) -> Reply;
    /// Returns the response of an upstream that is busy with another operation.
    fn conflict(&self) -> Reply {
        Reply::empty(409)
    }
}

/// A running upstream. It dereferences to its service, which contains the records.
pub struct Upstream<S> {
    pub url: String,
    pub control: watch::Sender<Control>,
    service: Arc<S>,
    requests: Arc<AtomicU32>,
}

impl<S> Deref for Upstream<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.service
    }
}

impl<S: Service> Upstream<S> {
    /// Starts an upstream on loopback.
    pub fn start(service: S, control: Control) -> Self {
        let socket = bind("127.0.0.1:0".parse().unwrap());
        let upstream = Self {
            url: format!("http://{}", socket.local_addr().unwrap()),
            control: watch::Sender::new(control),
            service: Arc::new(service),
            requests: Arc::default(),
        };
        let control = upstream.control.subscribe();
        let service = Arc::clone(&upstream.service);
        let requests = Arc::clone(&upstream.requests);
        let handler = move |request: &Request, control: Control| {
            requests.fetch_add(1, Ordering::Relaxed);
            reply(service.as_ref(), request, control)
        };
        tokio::spawn(run(socket, control, handler));
        upstream
    }

    /// Injects a fault into later requests of this kind, or into all requests.
    pub fn set_fault(&self, fault: Fault, affected_kind: Option<Kind>) {
        self.control
            .send_modify(|control| (control.fault, control.affected_kind) = (fault, affected_kind));
    }

    /// Returns the number of requests received so far.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Binds a port without listening, so that connections are refused and no other program can use the port.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// Serves requests. During [`Fault::Refuse`], all connections are closed and new ones are refused.
async fn run(
    mut socket: TcpSocket,
    mut control: watch::Receiver<Control>,
    handler: impl Fn(&Request, Control) -> Reply + Clone + Send + 'static,
) {
    let address = socket.local_addr().unwrap();
    loop {
        let listener = socket.listen(1024).unwrap();
        let (handler, current) = (handler.clone(), control.clone());
        let handler = move |request: &Request| handler(request, *current.borrow());
        tokio::select! {
            () = serve(listener, useradmin_testkit::Settings::default(), handler) => {}
            ended = control.wait_for(refuses) => if ended.is_err() { return },
        }
        socket = bind(address);
        if control.wait_for(|control| !refuses(control)).await.is_err() {
            return;
        }
    }
}

fn refuses(control: &Control) -> bool {
    control.fault == Fault::Refuse
}

/// Returns the reply to a request, with the injected fault.
fn reply(service: &impl Service, request: &Request, control: Control) -> Reply {
    let is_affected = control
        .affected_kind
        .is_none_or(|kind| kind == service.kind(request));
    let fault = if is_affected {
        control.fault
    } else {
        Fault::None
    };
    let latency = match fault {
        Fault::Slow => control.slow_latency,
        _ => control.latency,
    };
    let reply = service.handle(request, fault.carries_out(), control.clock_offset);
    let reply = match fault {
        Fault::EndlessBody if matches!(reply, Reply::Http(..300, ..)) => reply.endless(CHUNK_PAUSE),
        Fault::None | Fault::Slow | Fault::EndlessBody => reply,
        Fault::Throttled => Reply::empty(429).with_header("Retry-After", "1"),
        Fault::Busy => Reply::empty(503),
        Fault::Failing => Reply::empty(500),
        Fault::Conflict => service.conflict(),
        Fault::Redirect => Reply::empty(302).with_header("Location", "http://127.0.0.1:1/"),
        Fault::TruncatedStatusLine => Reply::Raw(b"HTTP/1.1 20".to_vec()),
        Fault::InvalidHttp => Reply::Raw(b"\0\x01rubbish\r\n\r\n".to_vec()),
        Fault::Hang | Fault::HangAfter => Reply::Hang,
        Fault::Refuse | Fault::ResetBefore | Fault::ResetAfter => Reply::Abort,
    };
    let reply = reply.with_header("Date", &date(control.clock_offset));
    if latency.is_zero() {
        return reply;
    }
    Reply::Delayed(latency, Box::new(reply))
}

/// Returns the value of the `Date` header for a clock with this offset in seconds.
fn date(clock_offset: i64) -> String {
    let offset = Duration::from_secs(clock_offset.unsigned_abs());
    let now = SystemTime::now();
    httpdate::fmt_http_date(if clock_offset < 0 {
        now - offset
    } else {
        now + offset
    })
}
