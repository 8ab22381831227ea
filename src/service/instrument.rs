//! Metrics and trace of a call: it is counted when it arrives and when it ends, with a span from one to the other.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::Request;
use opentelemetry::{Context, KeyValue};
use tonic::Code;

use crate::{
    access::refusals::{Kind, Refusals},
    metrics::Metrics,
    trace::{self, Ends},
};

/// Calls whose caller disconnects before there is anything to do.
const CANCELLED: Kind = Kind::logged("call", "Cancelled");

/// Metrics and span of one call.
pub struct CallInstrument {
    rpc: &'static str,
    request_id: String,
    peer: Option<SocketAddr>,
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
    /// Starts the metrics and the span of a call that arrives.
    #[must_use]
    pub fn start<B>(
        rpc: &'static str,
        request: &Request<B>,
        request_id: &str,
        ends: Ends,
        metrics: &Arc<Metrics>,
        refusals: &Arc<Refusals>,
    ) -> Self {
        metrics.calls.begun(rpc);
        let method = request.uri().path().trim_start_matches('/').to_owned();
        Self {
            rpc,
            request_id: request_id.to_owned(),
            peer: ends.client,
            begun: Instant::now(),
            metrics: Arc::clone(metrics),
            refusals: Arc::clone(refusals),
            context: trace::call(request.headers(), method, ends),
            ended: AtomicBool::new(false),
        }
    }

    /// Returns the context of the span.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Returns whether the call has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Ends the call; `more` returns further attributes of the span. Does nothing if the call has already ended.
    pub fn end(&self, code: Code, reason: &'static str, more: impl FnOnce() -> Vec<KeyValue>) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let took = self.begun.elapsed();
        self.metrics.calls.ended(self.rpc, code, reason, took);
        trace::end_call(&self.context, code, reason, more);
    }

    /// Ends the call without further attributes.
    pub fn end_with(&self, code: Code, reason: &'static str) {
        self.end(code, reason, Vec::new);
    }

    /// Ends a call whose caller disconnected before its message arrived.
    pub fn end_as_cancelled(&self) {
        if self.has_ended() {
            return;
        }
        if self
            .refusals
            .admit(self.peer.map(|peer| peer.ip()), None, CANCELLED)
        {
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
            peer = self.peer.map(display),
            code = ?Code::Cancelled,
            reason = "",
            outcome = "not_sent",
            context = "the caller has gone before its message came",
            caller_gone = true,
            "call"
        );
    }
}

/// A call with a response has already ended.
impl Drop for CallInstrument {
    fn drop(&mut self) {
        self.end_as_cancelled();
    }
}
