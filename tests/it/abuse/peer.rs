//! A peer that can send arbitrary bytes and records the data from the server.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{
        AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf, split,
    },
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tonic::{Code, Status};
use useradmin_testkit::CallFailure;

use super::{
    frames::{
        ACK, CONTINUATION, DATA, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS,
        fields, frame, settings,
    },
    hpack,
};

/// An upper limit that no operation reaches, even on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
/// A write that takes longer counts as not accepted: the server has stopped reading.
const WRITE_LIMIT: Duration = Duration::from_millis(500);
/// A stream that no attack uses.
const UNUSED_STREAM: u32 = 1_000_001;
const CODES: [&str; 12] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
];

/// A plaintext or TLS connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Everything that the server has sent.
#[derive(Debug, Default)]
pub struct ReceivedFrames {
    pub acks: usize,
    /// The settings of the server.
    pub settings: Vec<(u16, u32)>,
    pub pings_acknowledged: usize,
    pub goaway: Option<String>,
    pub resets: BTreeMap<u32, String>,
    /// The fields of headers and trailers.
    pub responses: BTreeMap<u32, Vec<(String, String)>>,
    pub ended_streams: BTreeSet<u32>,
    pub closed: bool,
}

impl ReceivedFrames {
    fn record(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let code = |offset: usize| {
            let code = u32::from_be_bytes(payload[offset..offset + 4].try_into().unwrap());
            CODES[usize::try_from(code).unwrap()].to_owned()
        };
        match kind {
            SETTINGS if flags & ACK == 0 => self.settings = settings_of(payload),
            SETTINGS => self.acks += 1,
            PING => self.pings_acknowledged += usize::from(flags & ACK),
            GOAWAY => {
                let mut text = code(4);
                let _ = write!(text, " {}", String::from_utf8_lossy(&payload[8..]));
                self.goaway = Some(text.trim_end().to_owned());
            }
            RST_STREAM => drop(self.resets.insert(stream, code(0))),
            HEADERS => {
                let fields = hpack::fields(payload);
                self.responses.entry(stream).or_default().extend(fields);
            }
            CONTINUATION => panic!("a response of more than one frame"),
            _ => {}
        }
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            self.ended_streams.insert(stream);
        }
    }

    /// Returns how this stream ended, or `None` if it is still open.
    pub fn end(&self, stream: u32) -> Option<String> {
        if self.ended_streams.contains(&stream) {
            return Some(response_text(&self.responses[&stream]));
        }
        if let Some(code) = self.resets.get(&stream) {
            return Some(format!("RST_STREAM {code}"));
        }
        self.connection_end()
    }

    /// Returns how the connection ended, or `None` if it is still open.
    pub fn connection_end(&self) -> Option<String> {
        let goaway = self.goaway.as_ref().map(|code| format!("GOAWAY {code}"));
        goaway.or_else(|| self.closed.then(|| "closed".to_owned()))
    }
}

/// Returns the identifiers and values of a SETTINGS frame.
fn settings_of(payload: &[u8]) -> Vec<(u16, u32)> {
    let pairs = payload.chunks_exact(6).map(|pair| {
        let value = u32::from_be_bytes(pair[2..].try_into().unwrap());
        (u16::from_be_bytes([pair[0], pair[1]]), value)
    });
    pairs.collect()
}

/// Summarizes a response: the HTTP status if it is not a gRPC response, `OK`, or code and reason.
fn response_text(response: &[(String, String)]) -> String {
    let mut headers = HeaderMap::new();
    for (name, value) in response.iter().filter(|(name, _)| !name.starts_with(':')) {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(value).unwrap());
    }
    let http_status = response.iter().find(|(name, _)| name == ":status");
    let http_status = &http_status.unwrap().1;
    let Some(status) = Status::from_header_map(&headers) else {
        return format!("HTTP {http_status}");
    };
    assert_eq!(http_status, "200");
    if status.code() == Code::Ok {
        return "OK".to_owned();
    }
    let code = status.code();
    if status.details().is_empty() {
        return format!("{code:?} without details");
    }
    let failure = CallFailure::from(status);
    let reason = failure.reason.strip_prefix("ERROR_REASON_").unwrap();
    failure.expect(code, reason);
    format!("{code:?} {reason}")
}

/// A connection to the server.
pub struct Peer {
    writer: WriteHalf<Box<dyn Io>>,
    frames: watch::Receiver<ReceivedFrames>,
    reader: JoinHandle<()>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let frames = self.frames.borrow();
        let (responses, resets) = (frames.responses.len(), frames.resets.len());
        let end = frames.connection_end().unwrap_or_else(|| "open".to_owned());
        write!(
            f,
            "{end}, {responses} responses, {resets} resets, {} pings acknowledged",
            frames.pings_acknowledged
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Peer {
    /// Creates a peer that has sent nothing yet and never reads.
    pub fn without_reading(stream: Box<dyn Io>) -> Self {
        let (reader, writer) = split(stream);
        let (notify, frames) = watch::channel(ReceivedFrames::default());
        let reader = tokio::spawn(async move {
            let _kept = (reader, notify);
            std::future::pending::<()>().await;
        });
        Self {
            writer,
            frames,
            reader,
        }
    }

    /// Creates a peer that has sent nothing yet.
    pub fn silent(stream: Box<dyn Io>) -> Self {
        let (reader, writer) = split(stream);
        let (notify, frames) = watch::channel(ReceivedFrames::default());
        let reader = tokio::spawn(read(reader, notify));
        Self {
            writer,
            frames,
            reader,
        }
    }

    /// Starts HTTP/2 with these settings. The dynamic table is disabled, so that each header list can be decoded
    /// independently.
    pub async fn start_http2(&mut self, additional: &[(u16, u32)]) {
        let settings = settings(&[&[(1, 0)][..], additional].concat());
        self.send([PREFACE, &settings, &frame(SETTINGS, ACK, 0, &[])].concat())
            .await;
    }

    /// Sends these bytes. A server that has closed the connection accepts no more of them, so errors are ignored.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = async {
            self.writer.write_all(bytes.as_ref()).await?;
            self.writer.flush().await
        };
        let sent = timeout(LIMIT, sent).await;
        assert!(sent.is_ok(), "the server does not read: {self:?}");
        if sent.is_ok_and(|sent| sent.is_err()) {
            self.wait_until_frames(|frames| frames.closed).await;
        }
    }

    /// Waits until the recorded data satisfies this condition.
    pub async fn wait_until_frames(&mut self, mut condition: impl FnMut(&ReceivedFrames) -> bool) {
        let satisfied = timeout(LIMIT, self.frames.wait_for(|frames| condition(frames))).await;
        let satisfied = satisfied.is_ok_and(|satisfied| satisfied.is_ok());
        assert!(satisfied, "condition not reached: {self:?}");
    }

    /// Sends these bytes, followed by a call on this stream. A response to the call shows that the server has read all
    /// of them. Returns whether the call succeeded.
    pub async fn send_and_call(&mut self, bytes: &[u8], stream: u32) -> bool {
        self.send(bytes).await;
        self.call(stream).await == "OK"
    }

    /// Closes the sending half of the connection.
    pub async fn close_write(&mut self) {
        self.writer.shutdown().await.unwrap();
    }

    /// Returns whether the server accepts these bytes in a short time.
    pub async fn is_accepted(&mut self, bytes: &[u8]) -> bool {
        let sent = timeout(WRITE_LIMIT, self.writer.write_all(bytes)).await;
        sent.is_ok_and(|sent| sent.is_ok())
    }

    /// Returns a value computed from the recorded data.
    pub fn inspect<T>(&self, read_frames: impl FnOnce(&ReceivedFrames) -> T) -> T {
        read_frames(&self.frames.borrow())
    }

    /// Waits for the end of this stream and returns it. If the connection is still open, a subsequent call must
    /// succeed.
    pub async fn end(&mut self, stream: u32) -> String {
        self.wait_until_frames(|frames| frames.end(stream).is_some())
            .await;
        let (end, connection_end) =
            self.inspect(|frames| (frames.end(stream).unwrap(), frames.connection_end()));
        if connection_end.is_none() {
            let after = self.call(UNUSED_STREAM).await;
            assert_eq!(after, "OK", "a call after {end}");
        }
        end
    }

    /// Waits for the end of the connection and returns it.
    pub async fn wait_for_close(&mut self) -> String {
        self.wait_until_frames(|frames| frames.connection_end().is_some())
            .await;
        self.inspect(|frames| frames.connection_end().unwrap())
    }

    /// Makes a valid call on an unused stream and returns its result.
    pub async fn call(&mut self, stream: u32) -> String {
        self.send(fields().call(stream, "later")).await;
        self.wait_until_frames(|frames| frames.end(stream).is_some())
            .await;
        self.inspect(|frames| frames.end(stream).unwrap())
    }

    /// Checks that the connection is still usable.
    pub async fn assert_usable(&mut self) -> String {
        match self.call(UNUSED_STREAM).await.as_str() {
            "OK" => "usable".to_owned(),
            other => other.to_owned(),
        }
    }
}

async fn read(mut stream: ReadHalf<Box<dyn Io>>, notify: watch::Sender<ReceivedFrames>) {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let (kind, flags) = (head[3], head[4]);
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        notify.send_modify(|frames| frames.record(kind, flags, stream, &payload));
    }
    notify.send_modify(|frames| frames.closed = true);
}
