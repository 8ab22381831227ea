//! A call as monitoring sees it: counted when it arrives and when it ends, and a span from one to the other.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::HeaderMap;
use opentelemetry::{Context, KeyValue};
use tonic::{Code, Status};

use crate::{
    access::refusals::{Kind, Refusals},
    metrics::Metrics,
    proto::{self, ErrorReason},
    trace::{self, Ends},
};

/// Calls whose caller disconnects before there is anything to do.
const CANCELLED: Kind = Kind::logged("call", "Cancelled");

/// One call.
pub struct CallInstrument {
    rpc: &'static str,
    request_id: String,
    peer: String,
    begun: Instant,
    metrics: Arc<Metrics>,
    refusals: Arc<Refusals>,
    context: Context,
    ended: AtomicBool,
}

impl fmt::Debug for CallInstrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallInstrument")
            .field("rpc", &self.rpc)
            .finish_non_exhaustive()
    }
}

impl CallInstrument {
    /// It arrives at this path; `None` when that is none of the rpcs.
    #[must_use]
    pub fn start(
        path: &str,
        headers: &HeaderMap,
        (request_id, peer): (&str, &str),
        ends: Ends,
        metrics: &Arc<Metrics>,
        refusals: &Arc<Refusals>,
    ) -> Option<Arc<Self>> {
        let rpc = proto::rpc(path)?;
        metrics.calls.begun(rpc);
        let method = path.trim_start_matches('/').to_owned();
        Some(Arc::new(Self {
            rpc,
            request_id: request_id.to_owned(),
            peer: peer.to_owned(),
            begun: Instant::now(),
            metrics: Arc::clone(metrics),
            refusals: Arc::clone(refusals),
            context: trace::call(headers, method, ends),
            ended: AtomicBool::new(false),
        }))
    }

    /// Its place in the trace.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Has it ended?
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// It has ended; `more` tells what else is known of it. What is said after that does not count.
    pub fn end(&self, code: Code, reason: &'static str, more: impl FnOnce() -> Vec<KeyValue>) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let took = self.begun.elapsed();
        self.metrics.calls.ended(self.rpc, code, reason, took);
        trace::end_call(&self.context, code, reason, more);
    }

    /// The same, when no more is known than this.
    pub fn end_with(&self, code: Code, reason: &'static str) {
        self.end(code, reason, Vec::new);
    }
}

impl CallInstrument {
    /// The caller has gone before there was anything to do.
    pub fn end_as_cancelled(&self) {
        if self.has_ended() {
            return;
        }
        if self.refusals.admit(address_of(&self.peer), None, CANCELLED) {
            self.log_cancelled();
        }
        self.end_with(Code::Cancelled, "");
    }

    fn log_cancelled(&self) {
        let trace_id = trace::trace_id(&self.context);
        tracing::info!(
            request_id = self.request_id,
            trace_id,
            rpc = self.rpc,
            peer = self.peer,
            code = ?Code::Cancelled,
            reason = "",
            outcome = "not_sent",
            context = "the caller has gone before its message came",
            caller_gone = true,
            "call"
        );
    }
}

/// Notes that the call ends with this status.
pub(super) fn ended(call: Option<&CallInstrument>, status: Status, reason: ErrorReason) -> Status {
    if let Some(call) = call {
        call.end_with(status.code(), reason.as_str_name());
    }
    status
}

/// Whoever has an answer for the call has ended it by now.
impl Drop for CallInstrument {
    fn drop(&mut self) {
        self.end_as_cancelled();
    }
}

/// Returns the IP address in the text of a socket address.
pub(super) fn address_of(peer: &str) -> Option<IpAddr> {
    let address = peer.parse::<SocketAddr>().ok()?;
    Some(address.ip())
}
