//! A TCP proxy that injects faults between a client and a server on loopback, for example a database.

use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::free_port;

/// Larger than a message of a client, so that one read returns a whole message.
const BUFFER_LEN: usize = 1 << 18;

/// The moment when all connections are cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// After this many more bytes of responses, counted over all connections. With 0, instead of the next response.
    AfterResponseBytes(usize),
    /// Instead of forwarding a request that contains this text. TLS hides the text.
    BeforeRequest(&'static str),
    /// Instead of forwarding the next response on a connection after a request that contains this text. If the client
    /// does not send requests before it receives the previous response, the server has processed the request.
    BeforeResponseTo(&'static str),
}

/// A TCP proxy. It forwards connections until one of its methods is called, and closes all of them when dropped.
pub struct TcpProxy {
    port: u16,
    shared: Arc<Shared>,
    /// The task that accepts connections, except while they are refused.
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    /// The port of the server.
    target: u16,
    cut: Mutex<Option<Cut>>,
    black_hole: watch::Sender<bool>,
    connections: Mutex<JoinSet<()>>,
}

impl TcpProxy {
    /// Starts a proxy in front of this port of 127.0.0.1.
    pub async fn start(target: u16) -> Self {
        let mut proxy = Self {
            port: free_port(),
            shared: Arc::new(Shared {
                target,
                cut: Mutex::new(None),
                black_hole: watch::Sender::new(false),
                connections: Mutex::default(),
            }),
            accepting: None,
        };
        proxy.accept().await;
        proxy
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts all connections and waits until they are closed.
    pub async fn cut(&self) {
        let mut connections = mem::take(&mut *self.shared.connections.lock().unwrap());
        connections.shutdown().await;
    }

    /// The moment at which all connections are cut, once.
    pub fn cut_at(&self, cut: Cut) {
        *self.shared.cut.lock().unwrap() = Some(cut);
    }

    /// Returns whether the moment of [`TcpProxy::cut_at`] has not come yet.
    pub fn will_cut(&self) -> bool {
        self.shared.cut.lock().unwrap().is_some()
    }

    /// Refuses new connections; the existing ones remain.
    pub async fn refuse(&mut self) {
        if let Some(task) = self.accepting.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Accepts new connections after [`TcpProxy::refuse`].
    pub async fn accept(&mut self) {
        self.refuse().await;
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let mut connections = shared.connections.lock().unwrap();
                connections.spawn(Arc::clone(&shared).forward(client));
            }
        }));
    }

    /// With `true`, keeps the connections open and accepts new ones, but forwards nothing. With `false`, forwards what
    /// has been sent in the meantime.
    pub fn set_black_hole(&self, value: bool) {
        self.shared.black_hole.send_replace(value);
    }
}

impl Drop for TcpProxy {
    fn drop(&mut self) {
        if let Some(task) = &self.accepting {
            task.abort();
        }
        self.shared.abort_all();
    }
}

impl Shared {
    async fn forward(self: Arc<Self>, mut client: TcpStream) {
        self.wait_while_black_hole().await;
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", self.target)).await else {
            return;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
        }
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let matched = AtomicBool::new(false);
        // The end of one direction closes both.
        tokio::select! {
            () = self.forward_requests(from_client, to_server, &matched) => {}
            () = self.forward_responses(from_server, to_client, &matched) => {}
        }
    }

    async fn forward_requests(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        matched: &AtomicBool,
    ) {
        let mut buffer = vec![0; BUFFER_LEN];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            self.wait_while_black_hole().await;
            let data = &buffer[..len];
            let cut = *self.cut.lock().unwrap();
            match cut {
                Some(Cut::BeforeRequest(text)) if contains(data, text) => {
                    return self.cut_now();
                }
                Some(Cut::BeforeResponseTo(text)) if contains(data, text) => {
                    matched.store(true, Ordering::Relaxed);
                }
                _ => {}
            }
            if to.write_all(data).await.is_err() {
                return;
            }
        }
    }

    async fn forward_responses(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        matched: &AtomicBool,
    ) {
        let mut buffer = vec![0; BUFFER_LEN];
        while let Ok(len @ 1..) = from.read(&mut buffer).await {
            self.wait_while_black_hole().await;
            let allowed = self.count_response(len, matched.load(Ordering::Relaxed));
            let forwarded = allowed.unwrap_or(len);
            let written = to.write_all(&buffer[..forwarded]).await;
            if allowed.is_some() {
                return self.cut_now();
            }
            if written.is_err() {
                return;
            }
        }
    }

    /// Counts a part of a response. If the connections must be cut, returns how many bytes are forwarded before.
    fn count_response(&self, len: usize, matched: bool) -> Option<usize> {
        match self.cut.lock().unwrap().as_mut()? {
            Cut::AfterResponseBytes(remaining) if *remaining > len => {
                *remaining -= len;
                None
            }
            Cut::AfterResponseBytes(remaining) => Some(*remaining),
            Cut::BeforeResponseTo(_) => matched.then_some(0),
            Cut::BeforeRequest(_) => None,
        }
    }

    /// Cuts all connections. The caller's own ends when it returns.
    fn cut_now(&self) {
        self.abort_all();
        *self.cut.lock().unwrap() = None;
    }

    fn abort_all(&self) {
        self.connections.lock().unwrap().abort_all();
    }

    async fn wait_while_black_hole(&self) {
        let mut black_hole = self.black_hole.subscribe();
        let _ = black_hole.wait_for(|value| !value).await;
    }
}

fn contains(data: &[u8], text: &str) -> bool {
    data.windows(text.len()).any(|part| part == text.as_bytes())
}
