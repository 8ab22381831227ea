//! HTTP/2 frames and header lists as bytes, valid or invalid.

use prost::Message as _;
use useradmin_testkit::batch_request;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const HAS_PRIORITY: u8 = 32;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const PATH: &str = "/useradmin.v1.UserAdmin/DeleteBatchNodeUser";
/// The size of the largest frame that the server accepts, in bytes.
pub const MAX_FRAME: usize = 16_384;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pair = |(id, value): &(u16, u32)| {
        [id.to_be_bytes().as_slice(), value.to_be_bytes().as_slice()].concat()
    };
    frame(
        SETTINGS,
        0,
        0,
        &pairs.iter().flat_map(pair).collect::<Vec<_>>(),
    )
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

/// Returns `RST_STREAM` with CANCEL.
pub fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// Returns the ID of the nth stream of the client, counted from 0.
pub fn stream_id(number: u32) -> u32 {
    2 * number + 1
}

/// Returns an HPACK integer (RFC 7541, section 5.1) after these leading bits.
pub fn integer(bits: u8, prefix: u32, value: usize) -> Vec<u8> {
    let max = (1 << prefix) - 1;
    if value < max {
        return vec![bits | u8::try_from(value).unwrap()];
    }
    let mut bytes = vec![bits | u8::try_from(max).unwrap()];
    let mut remaining = value - max;
    while remaining >= 128 {
        bytes.push(u8::try_from(remaining % 128).unwrap() | 128);
        remaining /= 128;
    }
    bytes.push(u8::try_from(remaining).unwrap());
    bytes
}

/// Returns an HPACK field without indexing, or with 0x40, one that is added to the dynamic table.
pub fn literal(bits: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
    let (name_length, value_length) = (integer(0, 7, name.len()), integer(0, 7, value.len()));
    [&[bits][..], &name_length, name, &value_length, value].concat()
}

/// A header list that keeps the order of its fields.
#[derive(Clone)]
pub struct Fields(Vec<(String, Vec<u8>)>);

/// Returns the header list of a call.
pub fn fields() -> Fields {
    let standard = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", PATH),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let owned = standard.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
    Fields(owned.to_vec())
}

impl Fields {
    /// Appends a field.
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Inserts a field before all others.
    pub fn prepend(name: &str, value: &str, mut list: Self) -> Self {
        list.0
            .insert(0, (name.to_owned(), value.as_bytes().to_vec()));
        list
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(other, _)| other != name);
        self
    }

    /// Replaces the value of a field.
    pub fn set(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let field = self.0.iter_mut().find(|(other, _)| other == name);
        field.unwrap().1 = value.as_ref().to_vec();
        self
    }

    /// Encodes the list with HPACK, without using the dynamic table.
    pub fn block(&self) -> Vec<u8> {
        let fields = self.0.iter();
        fields
            .flat_map(|(name, value)| literal(0, name.as_bytes(), value))
            .collect()
    }

    /// Returns a HEADERS frame, followed by CONTINUATION frames if the block does not fit.
    pub fn headers(&self, stream: u32, flags: u8) -> Vec<u8> {
        let block = self.block();
        let mut parts = block.chunks(MAX_FRAME).peekable();
        let (mut kind, mut flags, mut frames) = (HEADERS, flags, Vec::new());
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            frames.extend(frame(kind, flags | last, stream, part));
            (kind, flags) = (CONTINUATION, 0);
        }
        frames
    }

    /// Returns a complete call for this user.
    pub fn call(&self, stream: u32, user: &str) -> Vec<u8> {
        let mut call = self.headers(stream, 0);
        call.extend(frame(DATA, END_STREAM, stream, &message(user)));
        call
    }
}

/// Returns the message of a call after its gRPC prefix.
pub fn message(user: &str) -> Vec<u8> {
    let message = batch_request(user).encode_to_vec();
    with_grpc_prefix(0, message.len(), &message)
}

/// Returns a message after a gRPC prefix, which need not match it.
pub fn with_grpc_prefix(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat()
}

/// Returns a call with these headers and DATA frames. The last frame ends the stream if `ends_stream` is true.
pub fn with_body(fields: &Fields, parts: &[&[u8]], ends_stream: bool) -> Vec<u8> {
    let mut call = fields.headers(1, 0);
    for (index, part) in parts.iter().enumerate() {
        let flags = u8::from(ends_stream && index + 1 == parts.len());
        call.extend(frame(DATA, flags, 1, part));
    }
    call
}
