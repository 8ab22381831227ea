//! Detects a session that is no longer valid although the HMC does not answer 401, 403/4 or 403/5: a proxy or gateway
//! in front of the HMC may end sessions, too, and answers in its own way.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{error::Failure, upstream::platform::Purpose};

/// Doubtful responses in a row after which the session is replaced.
const MAX_DOUBTFUL: u32 = 3;
/// After a replacement that did not help, the next one has to wait this long.
const REPLACEMENT_INTERVAL: Duration = Duration::from_mins(5);

/// The doubtful responses of one HMC, by the purpose of the request: a gateway may pass reads and refuse deletions.
#[derive(Default)]
pub struct SessionWatch {
    reads: Mutex<DoubtfulResponses>,
    deletions: Mutex<DoubtfulResponses>,
}

#[derive(Default)]
struct DoubtfulResponses {
    /// Doubtful responses since the last one that showed a valid session.
    count: u32,
    /// When the session was replaced because of them.
    replaced: Option<Instant>,
}

impl SessionWatch {
    fn responses(&self, purpose: Purpose) -> MutexGuard<'_, DoubtfulResponses> {
        crate::lock(match purpose {
            Purpose::Read => &self.reads,
            Purpose::Delete => &self.deletions,
        })
    }

    /// Records a response that shows that the session is valid.
    pub fn accepted(&self, purpose: Purpose) {
        *self.responses(purpose) = DoubtfulResponses::default();
    }

    /// Records a doubtful response. Returns whether the session must be replaced.
    pub fn doubtful(&self, purpose: Purpose) -> bool {
        let mut responses = self.responses(purpose);
        responses.count = responses.count.saturating_add(1);
        let recent = |at: Instant| at.elapsed() < REPLACEMENT_INTERVAL;
        responses.count >= MAX_DOUBTFUL && !responses.replaced.is_some_and(recent)
    }

    /// Records that the session was replaced because of doubtful responses to requests with this purpose.
    pub fn replaced(&self, purpose: Purpose) {
        *self.responses(purpose) = DoubtfulResponses {
            count: 0,
            replaced: Some(Instant::now()),
        };
    }
}

/// Returns whether the response may come from a session that is no longer valid: anything but a success, a failure of the
/// server, and an error document that shows that the HMC has looked at the request. 401, 403/4 and 403/5 are not
/// doubtful: after them the session is renewed at once. 403/1 is a missing permission.
pub fn is_doubtful(failure: &Failure) -> bool {
    let Some(upstream_response) = failure.upstream_response.as_deref() else {
        return false;
    };
    match upstream_response.http_status {
        401 | 408 | 429 | 500.. => false,
        403 => !matches!(upstream_response.code.as_deref(), Some("1" | "4" | "5")),
        440 => true,
        _ => upstream_response.document.is_none(),
    }
}
