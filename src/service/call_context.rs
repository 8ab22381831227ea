//! What the transport knows of a call. The server's layers put it into the request's extensions.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Status};
use uuid::Builder;

use super::instrument::{CallInstrument, address_of, ended};
use crate::{
    access::authentication_error::AuthenticationError, error::Violation, identity::Identity,
    proto::ErrorReason, trace, upstream::deadline::Deadline,
};

/// For a caller who sets no deadline.
const DEFAULT: Duration = Duration::from_secs(30);
/// No call takes longer.
pub const MAX_CALL_DURATION: Duration = Duration::from_mins(1);
/// The answer leaves this long before the caller's deadline.
const MARGIN: Duration = Duration::from_millis(100);

/// The violation of a call whose `grpc-timeout` is malformed or occurs more than once.
pub const BAD_TIMEOUT: Violation = Violation {
    field: "grpc-timeout",
    description: "must occur at most once, as 1-8 digits and one of H M S m u n",
};

/// What the transport knows of a call.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// Made by this server.
    pub request_id: String,
    /// The verified identity, or why there is none.
    pub caller: Result<Identity, AuthenticationError>,
    /// Address of the connection.
    pub peer: String,
    /// The moment by which the answer leaves; `None` when the caller's deadline could not be read.
    pub deadline: Option<Deadline>,
    /// When the call arrived.
    pub received: Instant,
    /// Cancelled when its message has been read.
    pub read: CancellationToken,
    /// Cancelled when the rest of its message cannot come any more.
    pub cut: CancellationToken,
    /// What monitoring sees of it; `None` where it is none of the rpcs.
    pub instrument: Option<Arc<CallInstrument>>,
}

/// Of a call of which nothing is known.
impl Default for CallContext {
    fn default() -> Self {
        Self::new(None, String::new())
    }
}

impl CallContext {
    /// A call that arrives now, with the text of its `grpc-timeout`; nobody has asked yet who calls.
    #[must_use]
    pub fn new(timeout: Option<&[u8]>, peer: String) -> Self {
        let received = Instant::now();
        let time = match timeout {
            None => Some(DEFAULT),
            Some(text) => parse_timeout(text).map(|time| time.min(MAX_CALL_DURATION)),
        };
        Self {
            request_id: new_id(),
            caller: Err(AuthenticationError::NoCredentials),
            peer,
            deadline: time.map(|time| Deadline::at(received + time.saturating_sub(MARGIN))),
            received,
            read: CancellationToken::new(),
            cut: CancellationToken::new(),
            instrument: None,
        }
    }

    /// The id of the trace that the call belongs to.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        let instrument = self.instrument.as_ref()?;
        trace::trace_id(instrument.context())
    }

    /// Notes that the call ends with this status.
    #[must_use]
    pub fn ended(&self, status: Status, reason: ErrorReason) -> Status {
        ended(self.instrument.as_deref(), status, reason)
    }

    /// Of a call whose message has been read.
    #[must_use]
    pub fn message_received(extensions: &Extensions) -> Arc<Self> {
        let call = Self::of(extensions);
        call.read.cancel();
        call
    }

    /// The time that is left.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline
            .as_ref()
            .map_or(Duration::ZERO, Deadline::remaining)
    }

    /// How long the beginning of the call may take. A deadline that could not be read is told of as soon as the
    /// message is there.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.deadline.as_ref().map_or(DEFAULT, Deadline::remaining)
    }

    /// The verified identity as text; empty where there is none.
    #[must_use]
    pub fn caller_name(&self) -> String {
        self.caller
            .as_ref()
            .map_or_else(|_| String::new(), ToString::to_string)
    }

    /// The IP address of the peer, or `None` if it is not known.
    #[must_use]
    pub fn peer_address(&self) -> Option<IpAddr> {
        address_of(&self.peer)
    }

    /// The one that the layer has put there.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Arc<Self> {
        let found = extensions.get::<Arc<Self>>().cloned();
        found.unwrap_or_default()
    }
}

/// A random UUID.
#[must_use]
pub fn new_id() -> String {
    // The thread's own generator asks the system once for many.
    Builder::from_random_bytes(rand::random())
        .into_uuid()
        .to_string()
}

/// `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2, "Requests").
#[must_use]
pub fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}
