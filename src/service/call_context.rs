//! The context of a call, which the layers of the server add to the extensions of the request.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Status};
use uuid::Builder;

use super::instrument::CallInstrument;
use crate::{
    access::authentication_error::AuthenticationError,
    error::{Violation, resource::ResourceNames},
    identity::Identity,
    proto::ErrorReason,
    trace,
    upstream::deadline::Deadline,
};

/// Time limit of a call without a deadline.
const DEFAULT: Duration = Duration::from_secs(30);
/// Maximum time limit of a call.
pub const MAX_CALL_DURATION: Duration = Duration::from_mins(1);
/// Time between the response and the deadline of the caller.
const MARGIN: Duration = Duration::from_millis(100);

/// The violation of a call whose `grpc-timeout` is malformed or occurs more than once.
pub const BAD_TIMEOUT: Violation = Violation {
    field: "grpc-timeout",
    description: "must occur at most once, as 1-8 digits and one of H M S m u n",
};

/// What the server knows of a call before its message is read.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// ID that the server assigned to the call.
    pub request_id: String,
    /// The authenticated identity, or why there is none.
    pub caller: Result<Identity, AuthenticationError>,
    /// The rpc, and the names of its platform; `None` for other services.
    pub rpc: Option<(&'static str, &'static ResourceNames)>,
    /// Address of the client.
    pub peer: Option<SocketAddr>,
    /// When the response is due; `None` if `grpc-timeout` is malformed.
    pub deadline: Option<Deadline>,
    pub(crate) received: Instant,
    /// Cancelled when the message has been read.
    pub read: CancellationToken,
    /// Cancelled when the body fails before the message is complete.
    pub cut: CancellationToken,
    /// Metrics and trace of the call; `None` if it is not an rpc of `UserAdmin`.
    pub instrument: Option<Arc<CallInstrument>>,
}

impl Default for CallContext {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl CallContext {
    /// Creates the context of a call that arrives now, with the value of its `grpc-timeout`. Its caller is not
    /// authenticated.
    #[must_use]
    pub fn new(timeout: Option<&[u8]>, peer: Option<SocketAddr>) -> Self {
        let received = Instant::now();
        let time = match timeout {
            None => Some(DEFAULT),
            Some(text) => parse_timeout(text).map(|time| time.min(MAX_CALL_DURATION)),
        };
        Self {
            request_id: new_id(),
            caller: Err(AuthenticationError::NoCredentials),
            rpc: None,
            peer,
            deadline: time.map(|time| Deadline::at(received + time.saturating_sub(MARGIN))),
            received,
            read: CancellationToken::new(),
            cut: CancellationToken::new(),
            instrument: None,
        }
    }

    /// Returns the ID of the call's trace.
    #[must_use]
    pub fn trace_id(&self) -> Option<String> {
        let instrument = self.instrument.as_ref()?;
        trace::trace_id(instrument.context())
    }

    /// Records that the call ends with this status.
    #[must_use]
    pub fn ended(&self, status: Status, reason: ErrorReason) -> Status {
        if let Some(instrument) = &self.instrument {
            instrument.end_with(status.code(), reason.as_str_name());
        }
        status
    }

    /// Returns the context of a call, and records that its message has been read.
    #[must_use]
    pub fn message_received(extensions: &Extensions) -> Arc<Self> {
        let call = Self::of(extensions);
        call.read.cancel();
        call
    }

    /// Returns the time until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline
            .as_ref()
            .map_or(Duration::ZERO, Deadline::remaining)
    }

    /// Returns the time limit for authentication and message. A malformed deadline is reported once the message has been
    /// read.
    #[must_use]
    pub fn time_limit(&self) -> Duration {
        self.deadline.as_ref().map_or(DEFAULT, Deadline::remaining)
    }

    /// Returns the identity as text, which is empty if there is none.
    #[must_use]
    pub fn caller_name(&self) -> String {
        self.caller
            .as_ref()
            .map_or_else(|_| String::new(), ToString::to_string)
    }

    /// Returns the IP address of the peer, or `None` if it is not known.
    #[must_use]
    pub fn peer_address(&self) -> Option<IpAddr> {
        self.peer.map(|peer| peer.ip())
    }

    /// Returns the context that the layer has added.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Arc<Self> {
        let found = extensions.get::<Arc<Self>>().cloned();
        found.unwrap_or_default()
    }
}

/// Returns a random UUID.
#[must_use]
pub fn new_id() -> String {
    // The generator of the thread makes fewer system calls than `Uuid::new_v4`.
    Builder::from_random_bytes(rand::random())
        .into_uuid()
        .to_string()
}

/// Parses `grpc-timeout`: at most 8 digits and a unit (gRPC over HTTP/2, "Requests").
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
