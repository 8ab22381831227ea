//! The responses of the upstreams, as HTTP/1.1.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use tokio::{io::AsyncWriteExt as _, net::TcpStream, time::sleep};

/// An answer.
pub struct Reply {
    status: u16,
    headers: String,
    body: String,
}

impl Reply {
    pub const fn empty(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: String::new(),
        }
    }

    pub fn json(status: u16, body: &serde_json::Value) -> Self {
        let reply = Self {
            body: body.to_string(),
            ..Self::empty(status)
        };
        reply.with("Content-Type", "application/json")
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.headers, "{name}: {value}\r\n");
        self
    }

    pub const fn is_success(&self) -> bool {
        self.status < 300
    }

    fn head(&self) -> String {
        format!("HTTP/1.1 {} Soak\r\n{}", self.status, self.headers)
    }
}

/// Sends it with the date of a clock that is so many seconds wrong. Has it gone out?
pub async fn send(stream: &mut TcpStream, reply: &Reply, clock: i64) -> bool {
    let wrong = Duration::from_secs(clock.unsigned_abs());
    let now = SystemTime::now();
    let now = if clock < 0 { now - wrong } else { now + wrong };
    let mut text = format!("{}Date: {}\r\n", reply.head(), httpdate::fmt_http_date(now));
    if reply.status != 204 {
        let _ = write!(text, "Content-Length: {}\r\n", reply.body.len());
    }
    text.push_str("\r\n");
    text.push_str(&reply.body);
    send_raw(stream, text.as_bytes()).await
}

/// Sends the head, and a body until nobody wants more of it.
pub async fn send_endless(stream: &mut TcpStream, reply: &Reply) {
    let mut next = format!("{}Transfer-Encoding: chunked\r\n\r\n", reply.head());
    while send_raw(stream, next.as_bytes()).await {
        "1\r\nx\r\n".clone_into(&mut next);
        sleep(Duration::from_millis(20)).await;
    }
}

/// Has it gone out?
pub async fn send_raw(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok()
}
