//! A request as monitoring sees it: counted when it ends, however it ends, and a span of the call that it belongs to.

use http::{HeaderMap, Method};
use opentelemetry::Context;
use tokio::time::Instant;
use url::Url;

use super::{
    call_limits::CallLimits,
    response::{RequestError, Response},
};
use crate::{
    metrics::{RequestEnd, Requests},
    trace::{self, RequestStart},
};

/// What a request is for.
#[derive(Debug)]
pub struct Operation {
    /// Its name in the numbers.
    pub name: &'static str,
    /// The path, with names in place of what differs from call to call, where it is ours to know.
    pub route: Option<&'static str>,
    /// Does it carry `traceparent`? Who only issues tokens does not need to know of calls.
    pub traced: bool,
}

/// What is sent.
pub struct Sent<'a> {
    /// Its method.
    pub method: &'a Method,
    /// A URL of the host.
    pub url: &'a Url,
    /// Path and query.
    pub path: &'a str,
}

/// One request.
pub struct RequestSpan<'a> {
    operation: &'static Operation,
    numbers: &'a Requests,
    begun: Instant,
    context: Context,
    ended: bool,
}

impl<'a> RequestSpan<'a> {
    /// It is about to be sent.
    pub fn begin(
        operation: &'static Operation,
        numbers: &'a Requests,
        sent: &Sent<'_>,
        headers: &mut HeaderMap,
        limits: &CallLimits,
    ) -> Self {
        let target = numbers.target();
        let context = trace::request(&RequestStart {
            method: sent.method.as_str(),
            url: sent.url,
            path: sent.path,
            route: operation.route,
            // Reads have no book of their own.
            resent: limits.deletes().saturating_sub(1),
            purpose: [
                ("useradmin.upstream", target.upstream),
                ("useradmin.target", &target.target),
                ("useradmin.operation", operation.name),
            ],
        });
        if operation.traced {
            trace::pass_on(&context, headers);
        }
        Self {
            operation,
            numbers,
            begun: Instant::now(),
            context,
            ended: false,
        }
    }

    /// It has ended.
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
            Ok(status) => RequestEnd::Status(status),
            Err(why) => RequestEnd::Failed(why),
        };
        let took = self.begun.elapsed();
        self.numbers.ended(self.operation.name, end, took);
    }
}

/// Nobody waits for it any more.
impl Drop for RequestSpan<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.close(Err("given_up"));
        }
    }
}
