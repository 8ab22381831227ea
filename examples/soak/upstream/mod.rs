//! Upstreams that go wrong when they are told to, and keep a book of what they did.

mod batch;
mod entra;
mod hmc;
mod users;
mod wire;

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::sleep,
};

pub use useradmin_testkit::Seen as Request;

pub use self::{
    batch::Batch,
    entra::{Entra, SECRET},
    hmc::{Hmc, PASSWORD},
    users::{Done, Traits, Users},
    wire::Reply,
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Nobody listens.
    Refuse,
    /// The connection is reset before the request is read.
    ResetBefore,
    /// The request is carried out, and the connection is reset without an answer.
    ResetAfter,
    /// The connection ends with half a status line.
    HalfAnAnswer,
    /// Nothing is done, and nothing said, as long as the other side waits.
    Hang,
    /// The request is carried out, and nothing said.
    HangAfter,
    Slow,
    Throttled,
    Busy,
    Failing,
    /// In the upstream's own words.
    Conflict,
    Redirect,
    /// The request is carried out; the body never ends.
    EndlessBody,
    Rubbish,
}

impl Fault {
    const fn carries_out(self) -> bool {
        matches!(
            self,
            Self::None | Self::ResetAfter | Self::HangAfter | Self::Slow | Self::EndlessBody
        )
    }
}

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Delete,
    Logon,
    Other,
}

/// What the requests of an upstream meet.
#[derive(Clone, Copy)]
pub struct Control {
    pub fault: Fault,
    /// Only these requests meet the fault.
    pub only: Option<Kind>,
    /// Before each answer.
    pub latency: Duration,
    /// How long it takes when the upstream is slow.
    pub slow: Duration,
    /// Seconds by which the upstream's clock is wrong.
    pub clock: i64,
}

/// What an upstream does.
pub trait Service: Send + Sync + 'static {
    fn kind(&self, request: &Request) -> Kind;
    /// The answer. Without `carry_out`, the request is only noted.
    fn answer(&self, request: &Request, carry_out: bool, clock: i64) -> Reply;
    /// The answer of one that has no time for this.
    fn conflict(&self) -> Reply {
        Reply::empty(409)
    }
}

/// One that is running; its service can be asked for its books.
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
    /// On loopback.
    pub fn start(service: S, control: Control) -> Self {
        let held = hold("127.0.0.1:0".parse().unwrap());
        let address = held.local_addr().unwrap();
        let upstream = Self {
            url: format!("http://{address}"),
            control: watch::Sender::new(control),
            service: Arc::new(service),
            requests: Arc::default(),
        };
        let control = upstream.control.subscribe();
        let service = Arc::clone(&upstream.service);
        let requests = Arc::clone(&upstream.requests);
        tokio::spawn(listen(held, service, control, requests));
        upstream
    }

    /// From now on.
    pub fn set(&self, fault: Fault, only: Option<Kind>) {
        self.control
            .send_modify(|control| (control.fault, control.only) = (fault, only));
    }

    /// Requests that came, of whatever kind.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// A port without anybody who listens.
fn hold(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn listen<S: Service>(
    mut held: TcpSocket,
    service: Arc<S>,
    mut control: watch::Receiver<Control>,
    requests: Arc<AtomicU32>,
) {
    let address = held.local_addr().unwrap();
    loop {
        let listener = held.listen(1024).unwrap();
        accept(&listener, &service, &mut control, &requests).await;
        drop(listener);
        held = hold(address);
        if control.wait_for(|now| !refuses(now)).await.is_err() {
            return;
        }
    }
}

/// Until the upstream is to refuse connections.
async fn accept<S: Service>(
    listener: &TcpListener,
    service: &Arc<S>,
    control: &mut watch::Receiver<Control>,
    requests: &Arc<AtomicU32>,
) {
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.unwrap();
                let connection = Connection {
                    stream: BufReader::new(stream),
                    service: Arc::clone(service),
                    control: control.clone(),
                    requests: Arc::clone(requests),
                };
                tokio::spawn(connection.serve());
            }
            () = refused(control) => return,
        }
    }
}

fn refuses(control: &Control) -> bool {
    control.fault == Fault::Refuse
}

async fn refused(control: &mut watch::Receiver<Control>) {
    if control.wait_for(refuses).await.is_err() {
        std::future::pending::<()>().await;
    }
}

struct Connection<S> {
    stream: BufReader<TcpStream>,
    service: Arc<S>,
    control: watch::Receiver<Control>,
    requests: Arc<AtomicU32>,
}

impl<S: Service> Connection<S> {
    async fn serve(mut self) {
        loop {
            tokio::select! {
                more = self.stream.fill_buf() => if more.map_or(true, <[u8]>::is_empty) { return },
                () = refused(&mut self.control) => return,
            }
            let before = *self.control.borrow();
            if before.fault == Fault::ResetBefore && before.only.is_none() {
                let _ = self.stream.get_ref().set_zero_linger();
                return;
            }
            let Some(request) = Request::read(&mut self.stream).await else {
                return;
            };
            self.requests.fetch_add(1, Ordering::Relaxed);
            if !self.answer(&request).await {
                return;
            }
        }
    }

    /// May the connection go on?
    async fn answer(&mut self, request: &Request) -> bool {
        let now = *self.control.borrow();
        let kind = self.service.kind(request);
        let hit = now.only.is_none_or(|only| only == kind);
        let fault = if hit { now.fault } else { Fault::None };
        let latency = match fault {
            Fault::Slow => now.slow,
            _ => now.latency,
        };
        if !latency.is_zero() {
            sleep(latency).await;
        }
        let carry_out = fault.carries_out();
        let reply = self.service.answer(request, carry_out, now.clock);
        let reply = match fault {
            Fault::None | Fault::Slow | Fault::EndlessBody => reply,
            Fault::Throttled => Reply::empty(429).with("Retry-After", "1"),
            Fault::Busy => Reply::empty(503),
            Fault::Failing => Reply::empty(500),
            Fault::Conflict => self.service.conflict(),
            Fault::Redirect => Reply::empty(302).with("Location", "http://127.0.0.1:1/"),
            Fault::HalfAnAnswer => return self.end(b"HTTP/1.1 20").await,
            Fault::Rubbish => return self.end(b"\0\x01rubbish\r\n\r\n").await,
            Fault::Hang | Fault::HangAfter => {
                let _ = self.stream.read_u8().await;
                return false;
            }
            Fault::Refuse | Fault::ResetBefore | Fault::ResetAfter => {
                let _ = self.stream.get_ref().set_zero_linger();
                return false;
            }
        };
        let stream = self.stream.get_mut();
        if fault == Fault::EndlessBody && reply.is_success() {
            wire::send_endless(stream, &reply).await;
            return false;
        }
        wire::send(stream, &reply, now.clock).await
    }

    async fn end(&mut self, last: &[u8]) -> bool {
        wire::send_raw(self.stream.get_mut(), last).await;
        false
    }
}
