//! Metrics and traces of upstream requests: each request is counted when it ends, and has a span within the trace of
//! its call.

use http::{request::Parts, uri::PathAndQuery};
use opentelemetry::Context;
use tokio::time::Instant;
use url::Url;

use super::{
    call_limits::CallLimits,
    response::{RequestError, Response},
};
use crate::{
    metrics::{RequestMetrics, RequestResult},
    trace::{self, RequestStart},
};

/// Name and route of a kind of request, for metrics and traces.
#[derive(Debug)]
pub struct Operation {
    pub name: &'static str,
    /// Template of the path. `None` if the server does not build the path itself, as for token endpoints, which do
    /// not receive `traceparent` either.
    pub route: Option<&'static str>,
}

impl Operation {
    /// Creates the operation of a request whose path has the template `route`. The request carries `traceparent`.
    pub const fn new(name: &'static str, route: &'static str) -> Self {
        Self {
            name,
            route: Some(route),
        }
    }
}

/// A request in progress. If the value is dropped before [`Self::end`], the request is counted as given up.
pub struct RequestSpan<'a> {
    operation: &'static Operation,
    metrics: &'a RequestMetrics,
    begun: Instant,
    context: Context,
    ended: bool,
}

impl<'a> RequestSpan<'a> {
    /// Starts the span of a request that is about to be sent to the host of `url`. Adds `traceparent` to its headers if
    /// the operation has a route.
    pub fn begin(
        operation: &'static Operation,
        metrics: &'a RequestMetrics,
        url: &Url,
        head: &mut Parts,
        limits: &CallLimits,
    ) -> Self {
        let target = metrics.target();
        let start = RequestStart {
            method: head.method.as_str(),
            url,
            path: head.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            route: operation.route,
            // The number of earlier attempts. `limits` counts only DELETEs, so it is 0 for a read.
            resent: limits.deletes().saturating_sub(1),
            purpose: [
                ("useradmin.upstream", target.upstream),
                ("useradmin.target", &target.target),
                ("useradmin.operation", operation.name),
            ],
        };
        let context = trace::request(&start, &limits.trace);
        if operation.route.is_some() {
            trace::inject(&context, &mut head.headers);
        }
        Self {
            operation,
            metrics,
            begun: Instant::now(),
            context,
            ended: false,
        }
    }

    /// Ends the span and counts the request.
    pub fn end(mut self, sent: &Result<Response, RequestError>) {
        self.close(match sent {
            Ok(response) => Ok(response.status),
            Err(error) => Err(error.name()),
        });
    }

    fn close(&mut self, result: Result<u16, &'static str>) {
        self.ended = true;
        trace::end_request(&self.context, result);
        let end = match result {
            Ok(status) => RequestResult::Status(status),
            Err(why) => RequestResult::Failed(why),
        };
        let took = self.begun.elapsed();
        self.metrics.record_request(self.operation.name, end, took);
    }
}

impl Drop for RequestSpan<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.close(Err("given_up"));
        }
    }
}
