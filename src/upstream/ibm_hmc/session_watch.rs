//! Detects a session that is no longer valid although the HMC does not answer 401, 403/4 or 403/5 (status/reason).
//! This happens if a proxy or gateway in front of the HMC ends sessions, and then responds instead of the HMC.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{error::Failure, upstream::platform::Purpose};

/// Number of doubtful responses in a row after which the session is replaced.
const MAX_DOUBTFUL: u32 = 3;
/// Minimum time between two replacements if no response between them shows a valid session.
const REPLACEMENT_INTERVAL: Duration = Duration::from_mins(5);

/// The doubtful responses of one HMC to reads and to deletions, since a gateway may refuse only one kind.
#[derive(Default)]
pub struct SessionWatch {
    reads: Mutex<DoubtfulResponses>,
    deletions: Mutex<DoubtfulResponses>,
}

#[derive(Default)]
struct DoubtfulResponses {
    /// Number of doubtful responses since the last response of a valid session, or the last replacement.
    count: u32,
    /// Time at which the session was replaced because of doubtful responses.
    replaced: Option<Instant>,
}

impl SessionWatch {
    fn responses(&self, purpose: Purpose) -> MutexGuard<'_, DoubtfulResponses> {
        crate::lock(match purpose {
            Purpose::Read | Purpose::ReadDetails => &self.reads,
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

/// Returns whether the response may come from a session that is no longer valid.
///
/// Doubtful are 440, a 403 without one of the reasons 1, 4 and 5, and other statuses without an error document of the
/// HMC. Not doubtful are 401, 403/4 and 403/5, after which the session is renewed at once, 403/1, which is a missing
/// permission, and 408, 429 and 5xx.
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
