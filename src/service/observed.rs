//! A call as monitoring sees it: counted when it arrives and when it ends, and a span from one to the other.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use http::HeaderMap;
use opentelemetry::Context;
use tonic::Code;

use super::unreadable;
use crate::{
    metrics::Metrics,
    trace::{self, CallEnd},
};

/// One call.
pub struct Observed {
    rpc: &'static str,
    begun: Instant,
    metrics: Arc<Metrics>,
    context: Context,
    ended: AtomicBool,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed")
            .field("rpc", &self.rpc)
            .finish_non_exhaustive()
    }
}

impl Observed {
    /// It arrives at this path; `None` when that is none of the rpcs.
    #[must_use]
    pub fn begin(
        path: &str,
        headers: &HeaderMap,
        peer: Option<SocketAddr>,
        metrics: &Arc<Metrics>,
    ) -> Option<Arc<Self>> {
        let (rpc, _) = unreadable::rpc(path)?;
        metrics.calls.begun(rpc);
        let method = path.trim_start_matches('/').to_owned();
        Some(Arc::new(Self {
            rpc,
            begun: Instant::now(),
            metrics: Arc::clone(metrics),
            context: trace::call(headers, method, peer),
            ended: AtomicBool::new(false),
        }))
    }

    /// Its place in the trace.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// It has ended. What is said after that does not count.
    pub fn end(&self, end: &CallEnd<'_>) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let took = self.begun.elapsed();
        self.metrics
            .calls
            .ended(self.rpc, end.code, end.reason, took);
        trace::end_call(&self.context, end);
    }

    /// The same, when no more is known than this.
    pub fn end_with(&self, code: Code, reason: &'static str) {
        self.end(&CallEnd {
            code,
            reason,
            attributes: &[],
        });
    }
}

/// The caller has gone before there was anything to do.
impl Drop for Observed {
    fn drop(&mut self) {
        self.end_with(Code::Cancelled, "");
    }
}
