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
    reads: Mutex<Doubts>,
    deletions: Mutex<Doubts>,
}

#[derive(Default)]
struct Doubts {
    /// Doubtful responses since the last one that showed a valid session.
    count: u32,
    /// When the session was replaced because of them.
    replaced: Option<Instant>,
}

impl SessionWatch {
    fn doubts(&self, purpose: Purpose) -> MutexGuard<'_, Doubts> {
        crate::lock(match purpose {
            Purpose::Read => &self.reads,
            Purpose::Delete => &self.deletions,
        })
    }

    /// Records a response that shows that the session is valid.
    pub fn accepted(&self, purpose: Purpose) {
        *self.doubts(purpose) = Doubts::default();
    }

    /// Records a doubtful response. Returns whether the session must be replaced.
    pub fn doubtful(&self, purpose: Purpose) -> bool {
        let mut doubts = self.doubts(purpose);
        doubts.count = doubts.count.saturating_add(1);
        let recent = |at: Instant| at.elapsed() < REPLACEMENT_INTERVAL;
        doubts.count >= MAX_DOUBTFUL && !doubts.replaced.is_some_and(recent)
    }

    /// Records that the session was replaced because of doubtful responses to requests with this purpose.
    pub fn replaced(&self, purpose: Purpose) {
        *self.doubts(purpose) = Doubts {
            count: 0,
            replaced: Some(Instant::now()),
        };
    }
}

/// Returns whether the response may come from a session that is no longer valid: anything but a success, a failure of the
/// server, and an error document that shows that the HMC has looked at the request. 401, 403/4 and 403/5 are not
/// doubtful: after them the session is renewed at once. 403/1 is a missing permission.
pub fn is_doubtful(failure: &Failure) -> bool {
    let Some(answered) = failure.answered.as_deref() else {
        return false;
    };
    match answered.http_status {
        401 | 408 | 429 | 500.. => false,
        403 => !matches!(answered.code.as_deref(), Some("1" | "4" | "5")),
        440 => true,
        _ => answered.document.is_none(),
    }
}
