//! Sends a request and waits for its response: applies the time limits, and classifies errors.

use std::{error::Error, future::poll_fn, iter::successors, pin::pin, sync::Arc, task::Poll};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, StatusCode};
use tokio::task::yield_now;

use super::{
    pool::{Pool, ReceivedHead},
    write_tracker::{TrackedBody, WriteTracker},
};
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

/// Sends a request, waits for the response, and reads its body. Fails if there is no status line.
pub async fn receive(
    pool: &Arc<Pool>,
    request: Box<Request<TrackedBody>>,
    tracker: &WriteTracker,
    options: &ReceiveOptions<'_>,
) -> Result<Response, RequestError> {
    let (response, connection) = send(pool, request, tracker, options.limits).await?;
    let (head, body) = response.into_parts();
    let decided = options.no_body_status == Some(head.status);
    let body = {
        let mut read = pin!(read_whole_body(&head, body, options.max_body_bytes));
        // Most bodies arrive together with the head.
        match read.as_mut().now_or_never() {
            Some(body) => body,
            None => read_in_time(read, decided, options.limits).await,
        }
    };
    if body.is_some() {
        if !connection.is_ready() && !decided {
            // Lets the task of the connection run, because the next request of the call needs the connection.
            yield_now().await;
        }
        pool.put(connection);
    }
    Ok(Response {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.filter(|_| !decided),
    })
}

/// Sends a request, and waits for the status line and the headers. If the caller disconnects before a connection starts
/// to write the request, the request is cancelled. If the caller disconnects later, the response is still awaited.
async fn send(
    pool: &Arc<Pool>,
    request: Box<Request<TrackedBody>>,
    tracker: &WriteTracker,
    limits: &CallLimits,
) -> Result<ReceivedHead, RequestError> {
    let cancelled_in_time = poll_fn(|_| {
        if limits.is_disconnected() && !tracker.has_started() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let head = {
        let sent = pin!(pool.send(request));
        tokio::select! {
            biased;
            head = limits.deadline.bound(sent) => head,
            () = cancelled_in_time => None,
        }
    };
    // If the wait ended early, the request is dropped by now, so no connection starts to write it after this line:
    // request and connection run on the same thread (see `runtimes`).
    let started = tracker.has_started();
    match head {
        Some(Ok(received)) => Ok(received),
        Some(Err(error)) => Err(request_error(&*error, started)),
        None if started => Err(RequestError::TimedOut),
        None => Err(RequestError::NotConnected),
    }
}

/// Returns why there is no status line.
fn request_error(error: &(dyn Error + 'static), started: bool) -> RequestError {
    let text = describe(error);
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
fn is_refusal(error: &(dyn Error + 'static)) -> bool {
    let causes = successors(Some(error), |&error| error.source());
    let mut causes = causes.filter_map(|error| error.downcast_ref::<h2::Error>());
    causes.next().is_some_and(|error| {
        let stops = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        error.is_remote() && (stops || refused)
    })
}

/// Waits for the body within its timeout. Returns `None` if it is not complete. If `decided`, the status alone decides
/// the result: the body is only drained, and usually no other request follows.
async fn read_in_time(
    read: impl Future<Output = Option<Bytes>>,
    decided: bool,
    limits: &CallLimits,
) -> Option<Bytes> {
    let patience = if decided { DRAIN_TIMEOUT } else { BODY_TIMEOUT };
    limits.deadline.within(patience).bound(read).await?
}
