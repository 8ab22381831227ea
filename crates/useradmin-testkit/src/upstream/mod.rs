//! An upstream whose every byte the test decides: HTTP/1.1 on loopback, one request a connection unless the
//! reply says how long its body is.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Barrier, Notify, watch},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

mod http2;
mod request;

pub use self::{
    http2::{Http2, Stream},
    request::Request as Seen,
};

impl Seen {
    /// The last part of the path: the user of a DELETE.
    pub fn user(&self) -> String {
        self.path().rsplit('/').next().unwrap().to_owned()
    }
}

/// What the upstream does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Sends these bytes, then closes the connection.
    Raw(Vec<u8>),
    /// Sends these bytes, then closes the connection without the `close_notify` of TLS.
    Unclosed(Vec<u8>),
    /// Sends an answer with a Content-Length, and keeps the connection.
    Http(u16, Vec<(String, String)>, String),
    /// Closes the connection without a word.
    Close,
    /// Says nothing until the test ends.
    Hang,
    /// Waits until the test allows it, then replies.
    Held(Arc<Notify>, Box<Reply>),
    /// Sends this head of a chunked answer, then chunks for ever, with this pause after each.
    Endless(String, Duration),
    /// The reply, as soon as all parties have come to the barrier.
    Together(Arc<Barrier>, Box<Reply>),
}

impl Reply {
    /// An answer with a JSON body.
    pub fn json(status: u16, body: &str) -> Self {
        Self::typed(status, "application/json", body)
    }

    /// An answer with an HTML body.
    pub fn html(status: u16) -> Self {
        Self::typed(status, "text/html", "<html><body>gateway</body></html>")
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self::Http(status, Vec::new(), String::new())
    }

    pub fn typed(status: u16, media_type: &str, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), media_type.to_owned())];
        Self::Http(status, headers, body.to_owned())
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        if let Self::Http(_, headers, _) = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// What is sent.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Raw(bytes) | Self::Unclosed(bytes) => bytes.clone(),
            Self::Http(status, headers, body) => {
                let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
                for (name, value) in headers {
                    let _ = write!(text, "{name}: {value}\r\n");
                }
                if *status != 204 {
                    let _ = write!(text, "Content-Length: {}\r\n", body.len());
                }
                text.push_str("\r\n");
                text.push_str(body);
                text.into_bytes()
            }
            Self::Close | Self::Hang | Self::Held(..) | Self::Together(..) | Self::Endless(..) => {
                Vec::new()
            }
        }
    }
}

type Script = Box<dyn FnMut(&Seen) -> Reply + Send>;

struct State {
    script: Script,
    seen: Vec<Seen>,
    arrived: watch::Sender<usize>,
    connections: usize,
}

/// The upstream.
pub struct Upstream {
    pub url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts it; the script is asked for each request, in the order of their arrival.
    pub async fn start(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        Self::listen(None, script).await
    }

    /// The same over TLS, as `localhost`.
    pub async fn start_tls(
        config: ServerConfig,
        script: impl FnMut(&Seen) -> Reply + Send + 'static,
    ) -> Self {
        Self::listen(Some(TlsAcceptor::from(Arc::new(config))), script).await
    }

    async fn listen(
        tls: Option<TlsAcceptor>,
        script: impl FnMut(&Seen) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = match tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let state = Arc::new(Mutex::new(State {
            script: Box::new(script),
            seen: Vec::new(),
            arrived: watch::Sender::new(0),
            connections: 0,
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(connection(stream, tls.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, state, task }
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }

    /// The requests with this method whose target starts like this.
    pub fn requests(&self, method: &str, target: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|request| request.method == method && request.target.starts_with(target));
        seen
    }

    /// Waits until so many of these requests have come.
    pub async fn until(&self, method: &str, target: &str, count: usize) {
        let mut arrived = self.state.lock().unwrap().arrived.subscribe();
        let enough = async {
            while self.requests(method, target).len() < count {
                arrived.changed().await.unwrap();
            }
        };
        let come = timeout(Duration::from_secs(5), enough).await;
        assert!(come.is_ok(), "{count} {method} {target}: {:?}", self.seen());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, state: Arc<Mutex<State>>) {
    match tls {
        None => serve(stream, state).await,
        // A handshake that fails is the client's to tell.
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, state).await;
            }
        }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, state: Arc<Mutex<State>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = Seen::read(&mut stream).await {
        let mut reply = {
            let mut state = state.lock().unwrap();
            state.seen.push(request.clone());
            state.arrived.send_modify(|count| *count += 1);
            (state.script)(&request)
        };
        let reply = loop {
            reply = match reply {
                Reply::Held(gate, then) => {
                    gate.notified().await;
                    *then
                }
                Reply::Together(barrier, then) => {
                    barrier.wait().await;
                    *then
                }
                Reply::Hang => std::future::pending().await,
                Reply::Endless(head, pause) => return endless(stream, &head, pause).await,
                other => break other,
            };
        };
        if stream.write_all(&reply.bytes()).await.is_err() || !matches!(reply, Reply::Http(..)) {
            if !matches!(reply, Reply::Unclosed(_)) {
                let _ = stream.shutdown().await;
            }
            return;
        }
    }
}

/// Sends until the other side has had enough.
async fn endless<S: AsyncWrite + Unpin>(mut stream: S, head: &str, pause: Duration) {
    let mut next = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    while stream.write_all(&next).await.is_ok() {
        let size = if pause.is_zero() { 4_096 } else { 1 };
        next = format!("{size:x}\r\n{:size$}\r\n", "").into_bytes();
        tokio::time::sleep(pause).await;
    }
}
