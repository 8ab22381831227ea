//! A Batch account that goes wrong by schedule, and keeps a book of what it did.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// The connection ends before the request is read.
    ResetBefore,
    /// The user is deleted, and the connection ends without an answer.
    ResetAfter,
    /// The connection ends with half a status line.
    HalfAnAnswer,
    /// Nothing is done, and nothing said.
    Hang,
    /// The user is deleted, and nothing said.
    HangAfter,
    Slow,
    Throttled,
    Busy,
    Failing,
    Redirect,
    /// The user is deleted; the body never ends.
    EndlessBody,
    Rubbish,
}

/// All of them.
pub const FAULTS: [Fault; 12] = [
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::HalfAnAnswer,
    Fault::Hang,
    Fault::HangAfter,
    Fault::Slow,
    Fault::Throttled,
    Fault::Busy,
    Fault::Failing,
    Fault::Redirect,
    Fault::EndlessBody,
    Fault::Rubbish,
];

/// What became of a user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    /// DELETEs that were read.
    pub asked: u32,
    pub deleted: bool,
}

struct State {
    fault: Fault,
    users: HashMap<String, Done>,
}

/// The account.
pub struct Upstream {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Upstream {
    /// On loopback.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State {
            fault: Fault::None,
            users: HashMap::new(),
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state }
    }

    /// From now on.
    pub fn set(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    /// What became of this user.
    pub fn done(&self, user: &str) -> Done {
        let state = self.state.lock().unwrap();
        state.users.get(user).copied().unwrap_or_default()
    }

    /// DELETEs that were read.
    pub fn asked(&self) -> u32 {
        let state = self.state.lock().unwrap();
        state.users.values().map(|done| done.asked).sum()
    }
}

/// The path of the next request, which has no body.
async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.strip_prefix("DELETE ")?.split(['?', ' ']).next()?;
    Some(path.to_owned())
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    loop {
        let mut first = [0];
        if stream.peek(&mut first).await.unwrap_or(0) == 0 {
            return;
        }
        if state.lock().unwrap().fault == Fault::ResetBefore {
            return;
        }
        let Some(path) = request(&mut stream).await else {
            return;
        };
        let user = path.rsplit('/').next().unwrap().to_owned();
        let (fault, was_there) = note(&state, user);
        if !answer(&mut stream, fault, was_there).await {
            return;
        }
    }
}

/// Carries the request out, where the fault lets it. Was the user there?
fn note(state: &Mutex<State>, user: String) -> (Fault, bool) {
    let mut state = state.lock().unwrap();
    let fault = state.fault;
    let carried_out = matches!(
        fault,
        Fault::None | Fault::ResetAfter | Fault::HangAfter | Fault::Slow | Fault::EndlessBody
    );
    let done = state.users.entry(user).or_default();
    done.asked += 1;
    let was_there = !done.deleted;
    done.deleted |= carried_out;
    (fault, was_there)
}

const GONE: &str = r#"{"code":"NodeUserNotFound","message":{"lang":"en-US","value":"gone"}}"#;

/// Says what is to be said. May the connection go on?
async fn answer(stream: &mut TcpStream, fault: Fault, was_there: bool) -> bool {
    let plain =
        |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}Content-Length: 0\r\n\r\n");
    let text = match fault {
        Fault::ResetBefore | Fault::ResetAfter => return false,
        Fault::Hang | Fault::HangAfter => {
            sleep(Duration::from_secs(20)).await;
            return false;
        }
        Fault::HalfAnAnswer => "HTTP/1.1 20".to_owned(),
        Fault::Throttled => plain("429 Too Many Requests", "Retry-After: 1\r\n"),
        Fault::Busy => plain("503 Service Unavailable", ""),
        Fault::Failing => plain("500 Internal Server Error", ""),
        Fault::Redirect => plain("302 Found", "Location: http://127.0.0.1:1/\r\n"),
        Fault::Rubbish => "\0\u{1}rubbish\r\n\r\n".to_owned(),
        Fault::EndlessBody if was_there => {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n".to_owned()
        }
        Fault::None | Fault::Slow | Fault::EndlessBody => {
            if fault == Fault::Slow {
                sleep(Duration::from_millis(500)).await;
            }
            if was_there {
                plain("200 OK", "")
            } else {
                let head = "HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n";
                format!("{head}Content-Length: {}\r\n\r\n{GONE}", GONE.len())
            }
        }
    };
    let sent = stream.write_all(text.as_bytes()).await.is_ok();
    if fault == Fault::EndlessBody {
        while stream.write_all(b"1\r\nx\r\n").await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    }
    sent && !matches!(fault, Fault::HalfAnAnswer | Fault::Rubbish)
}
