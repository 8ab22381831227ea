//! Parser of HTTP/1.1 requests, for upstreams that control every byte of their responses, which a complete HTTP server
//! does not allow.

use httparse::{EMPTY_HEADER, Status};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};

const MAX_HEADERS: usize = 100;

/// A request as it was received.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    /// Path and query, as sent.
    pub target: String,
    /// Headers in the order of their arrival, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, without the framing of the chunked encoding.
    pub body: String,
    /// Number of the connection on which the request arrived, counted from 1.
    pub connection: usize,
}

impl Request {
    /// Reads the next request of a connection. Returns `None` at the end of the stream, and for a malformed request.
    pub(super) async fn read(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            read_line(stream, &mut head).await?;
        }
        let mut request = Self::parse(&head)?;
        let body = request.read_body(stream).await?;
        request.body = String::from_utf8(body).ok()?;
        Some(request)
    }

    fn parse(head: &[u8]) -> Option<Self> {
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        parsed.parse(head).ok()?;
        let headers = parsed.headers.iter().map(|header| {
            let value = String::from_utf8(header.value.to_vec()).ok()?;
            Some((header.name.to_ascii_lowercase(), value))
        });
        Some(Self {
            method: parsed.method?.to_owned(),
            target: parsed.path?.to_owned(),
            headers: headers.collect::<Option<_>>()?,
            ..Self::default()
        })
    }

    async fn read_body(&self, stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
        if self.header("transfer-encoding") == Some("chunked") {
            return read_chunks(stream).await;
        }
        let length = self.header("content-length").unwrap_or("0");
        let mut body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    /// Returns whether the request has this method and a target that starts with this text.
    pub fn matches(&self, method: &str, target: &str) -> bool {
        self.method == method && self.target.starts_with(target)
    }

    /// Returns the last segment of the path, which is the user of a DELETE.
    pub fn user(&self) -> String {
        self.path().rsplit('/').next().unwrap().to_owned()
    }

    /// Returns the path, still percent-encoded.
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(&self.target, |(path, _)| path)
    }

    /// Returns the query, still percent-encoded; empty if there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// Returns the value of a header, or `None` if it is absent. Panics if the header occurs twice.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} twice");
        value
    }
}

/// Reads a chunked body to its end, including trailers, and returns it without them (RFC 9112, section 7.1).
async fn read_chunks(stream: &mut (impl AsyncBufRead + Unpin)) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = Vec::new();
        read_line(stream, &mut line).await?;
        let Ok(Status::Complete((_, size))) = httparse::parse_chunk_size(&line) else {
            return None;
        };
        if size == 0 {
            break;
        }
        let start = body.len();
        body.resize(start + usize::try_from(size).ok()?, 0);
        stream.read_exact(&mut body[start..]).await.ok()?;
        // Skips the CRLF after the data.
        stream.read_u16().await.ok()?;
    }
    let mut trailer = Vec::new();
    while trailer != b"\r\n" {
        trailer.clear();
        read_line(stream, &mut trailer).await?;
    }
    Some(body)
}

/// Appends the next line including its line break. Returns `None` at the end of the stream.
async fn read_line(stream: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> Option<()> {
    let length = stream.read_until(b'\n', line).await.ok()?;
    (length > 0).then_some(())
}
