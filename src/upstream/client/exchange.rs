//! What is alike in one exchange over either version of HTTP: how long it may take, what its answer becomes, and what its
//! errors mean.

use std::{error::Error as _, future::pending, pin::Pin};

use http::{Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::timeout;

use crate::upstream::{
    attempt::Limits,
    http::{Answer, BODY_TIMEOUT, DRAIN_TIMEOUT, MAX_BODY_BYTES, NoAnswer, describe, whole},
};

/// What a request is sent on.
pub struct Terms<'a> {
    /// After this status the body is of no interest.
    pub done: Option<StatusCode>,
    /// Deadline and caller.
    pub limits: &'a Limits,
}

impl Terms<'_> {
    /// Waits for `work`, while nothing has left: for a caller who has gone nothing leaves any more.
    pub async fn before<T>(&self, work: impl Future<Output = T>) -> Result<T, NoAnswer> {
        self.limits.bound(work).await.ok_or(NoAnswer::NotConnected)
    }

    /// Waits for a status line. `left` tells whether a byte of the request may have left.
    pub async fn head<T>(
        &self,
        head: Pin<&mut impl Future<Output = T>>,
        left: impl Fn() -> bool,
    ) -> Result<T, NoAnswer> {
        let gone_in_time = async {
            self.limits.gone.cancelled().await;
            if left() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            head = self.limits.deadline.bound(head) => match head {
                Some(head) => Ok(head),
                None if left() => Err(NoAnswer::TimedOut),
                None => Err(NoAnswer::NotConnected),
            },
            () = gone_in_time => Err(NoAnswer::NotConnected),
        }
    }

    /// Reads the answer. Can its connection be used again?
    pub async fn answer(&self, response: Response<Incoming>) -> (Answer, bool) {
        let (head, body) = response.into_parts();
        // After that status nothing is decided any more. What is left is only read to use the connection again.
        let decided = self.done == Some(head.status);
        let patience = if decided { DRAIN_TIMEOUT } else { BODY_TIMEOUT };
        let read = timeout(patience, whole(&head, body, MAX_BODY_BYTES));
        let body = self.limits.deadline.bound(read).await;
        let body = body.and_then(Result::ok).flatten();
        let again = body.is_some();
        let answer = Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.filter(|_| !decided),
        };
        (answer, again)
    }
}

/// Why there is no status line, after a request of which a byte may have left, or not.
pub fn failed(error: &hyper::Error, left: bool) -> NoAnswer {
    let text = describe(error);
    if !left {
        NoAnswer::Unreachable(text)
    } else if is_refusal(error) {
        NoAnswer::Refused(text)
    } else {
        NoAnswer::Cut(text)
    }
}

/// Did the upstream say that it has not processed the request? By `REFUSED_STREAM`, or by a GOAWAY of an orderly
/// stop, which ends the streams behind the last one that was processed (RFC 9113, sections 6.8 and 8.7).
fn is_refusal(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let stops = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (stops || refused);
        }
        cause = error.source();
    }
    false
}
