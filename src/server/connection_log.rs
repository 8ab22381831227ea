//! Log lines and metrics of connections that are refused or end with an error, and of requests that HTTP/2 refuses.

use std::{error::Error as _, io, net::SocketAddr, sync::Arc};

use crate::{
    access::refusals::{Kind, Refusals},
    certificates::refusal::{PLAINTEXT, describe_io_error},
    error::status::{MAX_TEXT_BYTES, truncate},
    metrics::Metrics,
};

const NOT_ACCEPTED: &str = "connection not accepted";
const TOO_MANY: &str = "connection refused: limit reached";
const TLS_FAILED: &str = "TLS handshake failed";
const HANDSHAKE_TIMED_OUT: &str = "connection handshake timed out";
const NOT_READ: &str = "connection aborted: peer stopped reading responses";
const PROTOCOL_VIOLATED: &str = "connection aborted: peer violated HTTP/2";
const REFUSED: &str = "request rejected by the HTTP/2 library";

/// Logs and counts errors of connections.
#[derive(Default)]
pub struct ConnectionLog {
    pub metrics: Arc<Metrics>,
    /// Limits the number of log lines.
    pub refusals: Arc<Refusals>,
}

impl ConnectionLog {
    /// Reports that the system could not accept a connection.
    pub fn not_accepted(&self, error: &io::Error) {
        let kind = Kind::logged(NOT_ACCEPTED, "");
        if self.refusals.should_report(None, None, kind) {
            tracing::warn!(%error, "{NOT_ACCEPTED}");
        }
    }

    /// Reports a connection that was closed because of a limit.
    pub fn limit_reached(&self, peer: SocketAddr, limit: &'static str) {
        self.metrics.connection_refused(limit);
        if self.admits(peer, TOO_MANY, limit) {
            tracing::info!(%peer, limit, "{TOO_MANY}");
        }
    }

    /// Reports a TLS handshake that failed.
    pub fn tls_failed(&self, peer: SocketAddr, error: &io::Error) {
        self.metrics.handshake_failed("tls");
        if self.admits(peer, TLS_FAILED, "") {
            let error = match describe_io_error(error) {
                error if error == PLAINTEXT => "plaintext client on the TLS port".to_owned(),
                error => error,
            };
            tracing::info!(%peer, error, "{TLS_FAILED}");
        }
    }

    /// Reports a connection that did not begin HTTP/2 in time.
    pub fn handshake_timed_out(&self, peer: SocketAddr) {
        self.metrics.handshake_failed("timeout");
        if self.admits(peer, HANDSHAKE_TIMED_OUT, "") {
            tracing::info!(%peer, "{HANDSHAKE_TIMED_OUT}");
        }
    }

    /// Reports a connection that was closed because its peer stopped reading responses.
    pub fn not_read(&self, peer: SocketAddr) {
        self.metrics.connection_aborted("NOT_READ");
        if self.admits(peer, NOT_READ, "NOT_READ") {
            tracing::info!(%peer, "{NOT_READ}");
        }
    }

    /// Reports a connection that ended with an error. Errors other than violations of HTTP/2, such as a disconnect,
    /// are only logged at debug level. `wrong_protocol` is the cause of the error, if the first bytes show it.
    pub fn broken(&self, peer: SocketAddr, error: &hyper::Error, wrong_protocol: Option<&str>) {
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        let library = cause.filter(|cause: &&h2::Error| cause.is_library());
        let Some((cause, reason)) = library.and_then(|cause| Some((cause, cause.reason()?))) else {
            tracing::debug!(%peer, %error, "connection failed");
            return;
        };
        let reason = name(reason);
        self.metrics.connection_aborted(reason);
        if self.admits(peer, PROTOCOL_VIOLATED, reason) {
            let cause = wrong_protocol.map_or_else(|| cause.to_string(), str::to_owned);
            tracing::info!(%peer, reason, cause, "{PROTOCOL_VIOLATED}");
        }
    }

    /// Reports a request that h2 refused. The error is truncated, because it may quote the request.
    pub fn refused(&self, peer: SocketAddr, error: &str) {
        if self.admits(peer, REFUSED, "") {
            tracing::info!(%peer, error = truncate(error, MAX_TEXT_BYTES), "{REFUSED}");
        }
    }

    /// Counts an event, and returns whether it is logged individually instead of in a summary.
    fn admits(&self, peer: SocketAddr, event: &'static str, reason: &'static str) -> bool {
        let peer = Some(peer.ip());
        self.refusals
            .should_report(peer, None, Kind::logged(event, reason))
    }
}

/// Returns the name of an error code (RFC 9113, section 7), or `OTHER` for rare ones.
const fn name(reason: h2::Reason) -> &'static str {
    match reason {
        h2::Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        h2::Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        h2::Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        h2::Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        h2::Reason::STREAM_CLOSED => "STREAM_CLOSED",
        h2::Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        _ => "OTHER",
    }
}
