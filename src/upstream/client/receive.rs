//! Waits for the response to a request: applies the time limits, and classifies errors.

use std::{error::Error as _, future::pending, iter::successors};

use bytes::Bytes;
use http::{StatusCode, response::Parts};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::{Error, ResponseFuture};
use tokio::{task::yield_now, time::timeout};

use super::write_tracker::WriteTracker;
use crate::upstream::{
    call_limits::CallLimits,
    response::{BODY_TIMEOUT, DRAIN_TIMEOUT, RequestError, Response, describe, read_whole_body},
};

pub struct ReceiveOptions<'a> {
    /// Status after which the body is not returned.
    pub no_body_status: Option<StatusCode>,
    pub max_body_bytes: usize,
    pub limits: &'a CallLimits,
}

/// Waits for the response to a request, and reads its body. Fails if there is no status line.
pub async fn receive(
    sent: ResponseFuture,
    tracker: &WriteTracker,
    options: &ReceiveOptions<'_>,
) -> Result<Response, RequestError> {
    let response = receive_head(sent, tracker, options.limits).await?;
    Ok(read_body(response, options).await)
}

/// Waits for the status line and the headers. If the caller disconnects before a connection starts to write the
/// request, the request is cancelled. If the caller disconnects later, the response is still awaited.
async fn receive_head(
    sent: ResponseFuture,
    tracker: &WriteTracker,
    limits: &CallLimits,
) -> Result<http::Response<Incoming>, RequestError> {
    let cancelled_in_time = async {
        limits.disconnected.cancelled().await;
        if tracker.has_started() {
            pending::<()>().await;
        }
    };
    let head = tokio::select! {
        biased;
        head = limits.deadline.bound(sent) => head,
        () = cancelled_in_time => None,
    };
    // If the wait ended early, the request is dropped by now, so no connection starts to write it after this line:
    // request and connection run on the same thread (see `runtimes`).
    let started = tracker.has_started();
    match head {
        Some(Ok(response)) => Ok(response),
        Some(Err(error)) => Err(request_error(&error, started)),
        None if started => Err(RequestError::TimedOut),
        None => Err(RequestError::NotConnected),
    }
}

/// Returns why there is no status line.
fn request_error(error: &Error, started: bool) -> RequestError {
    let text = error.source().map_or_else(|| error.to_string(), describe);
    if !started {
        RequestError::Unreachable(text)
    } else if is_refusal(error) {
        RequestError::Refused(text)
    } else {
        RequestError::Cut(text)
    }
}

/// Returns whether the upstream reported that it has not processed the request. It does so by `REFUSED_STREAM`, or by
/// the GOAWAY of an orderly shutdown, which ends all streams after the last processed one (RFC 9113, sections 6.8 and
/// 8.7).
fn is_refusal(error: &Error) -> bool {
    let causes = successors(error.source(), |&error| error.source());
    let mut causes = causes.filter_map(|error| error.downcast_ref::<h2::Error>());
    causes.next().is_some_and(|error| {
        let stops = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (stops || refused)
    })
}

/// Reads the body, and returns the response. The connection can be used again only if the body is read to its end.
async fn read_body(response: http::Response<Incoming>, options: &ReceiveOptions<'_>) -> Response {
    let (head, body) = response.into_parts();
    let decided = options.no_body_status == Some(head.status);
    let body = if body.is_end_stream() {
        Some(Bytes::new())
    } else {
        // Boxed, because the future is large.
        Box::pin(read_in_time(decided, &head, body, options)).await
    };
    Response {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.filter(|_| !decided),
    }
}

/// Reads a body within its timeout. Returns `None` if it is not complete. If `decided`, the status alone decides the
/// result: the body is only drained, and usually no other request follows.
async fn read_in_time(
    decided: bool,
    head: &Parts,
    body: Incoming,
    options: &ReceiveOptions<'_>,
) -> Option<Bytes> {
    let patience = if decided { DRAIN_TIMEOUT } else { BODY_TIMEOUT };
    let read = read_whole_body(head, body, options.max_body_bytes);
    let read = options.limits.deadline.bound(timeout(patience, read)).await;
    if !decided {
        // Lets the task run that returns the connection to the pool, where the next request of the call needs it.
        yield_now().await;
    }
    read?.ok()?
}
