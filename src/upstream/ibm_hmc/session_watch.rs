//! Detects a session that is no longer valid although the HMC does not answer 401, 403/4 or 403/5: a proxy or gateway
//! in front of the HMC may end sessions, too, and answers in its own way.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::{error::Failure, upstream::platform::Purpose};

/// Doubtful responses in a row after which the session is replaced.
const MAX_DOUBTFUL: u32 = 3;
/// After a replacement that did not help, the next one has to wait this long.
const REPLACEMENT_INTERVAL: Duration = Duration::from_mins(5);

#[derive(Clone, Copy, Default)]
struct Answers {
    /// Doubtful responses since the last one that showed a valid session.
    doubtful: u32,
    /// When the session was replaced because of them.
    replaced: Option<Instant>,
}

/// The doubtful responses of one HMC, by the purpose of the request: a gateway may pass reads and refuse deletions.
#[derive(Default)]
pub struct SessionWatch(Mutex<[Answers; 2]>);

impl SessionWatch {
    /// Records a response that shows that the session is valid.
    pub fn accepted(&self, purpose: Purpose) {
        crate::lock(&self.0)[purpose as usize] = Answers::default();
    }

    /// Records a doubtful response. Returns whether the session is to be replaced.
    pub fn doubtful(&self, purpose: Purpose) -> bool {
        let mut responses = crate::lock(&self.0);
        let responses = &mut responses[purpose as usize];
        responses.doubtful = responses.doubtful.saturating_add(1);
        let recent = |at: Instant| at.elapsed() < REPLACEMENT_INTERVAL;
        responses.doubtful >= MAX_DOUBTFUL && !responses.replaced.is_some_and(recent)
    }

    /// Records that the session was replaced because of doubtful responses to requests with this purpose.
    pub fn replaced(&self, purpose: Purpose) {
        crate::lock(&self.0)[purpose as usize] = Answers {
            doubtful: 0,
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
