//! Reconciles calls whose outcome is unknown: reads their users, and records whether they exist. Deletes nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, select_all},
};
use tokio::time::sleep;

use super::{Shared, rpcs};
use crate::{
    audit::{self, Audit, Case, CaseList, Log, Record, Scope, WRITE_TIMEOUT},
    error::{Failure, status::short},
    proto::{DeleteOutcome, ErrorReason},
    upstream::{call_limits::CallLimits, deadline::Deadline, registry::Targets},
};

/// Time limit for reading one user, with logon and retries.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of calls that a server reconciles at its start.
const MAX_AT_START: usize = 1_000;
/// Interval at which a server checks whether its audit log is open.
const OPEN_INTERVAL: Duration = Duration::from_secs(1);
/// Time after which a search of a database that has failed is repeated.
const SEARCH_INTERVAL: Duration = Duration::from_secs(10);

/// Failures that concern a target, not a user.
const OF_TARGET: [ErrorReason; 8] = [
    ErrorReason::UnknownTarget,
    ErrorReason::Overloaded,
    ErrorReason::CircuitOpen,
    ErrorReason::AuditUnavailable,
    ErrorReason::DeadlineExceeded,
    ErrorReason::UpstreamCredentialsRejected,
    ErrorReason::UpstreamSessionLimit,
    ErrorReason::UpstreamUnreachable,
];

/// Result of reading the user of a call.
pub enum UserState {
    /// The user does not exist, or the service's own user cannot see it.
    Absent,
    Present,
    /// The user could not be read.
    Unreadable(Box<Failure>),
}

impl UserState {
    fn of(case: &Case, read: Result<DeleteOutcome, Failure>) -> Self {
        let Err(failure) = read else {
            return Self::Present;
        };
        match failure.reason {
            // An HMC hides the users that the service's own user has no permission for.
            ErrorReason::UserNotFound
                if case.reason() == ErrorReason::UpstreamPermissionDenied.as_str_name() =>
            {
                Self::Unreadable(Box::new(Failure::new(
                    ErrorReason::UpstreamPermissionDenied,
                    "the HMC refused the DELETE, and may hide the user",
                )))
            }
            ErrorReason::UserNotFound => Self::Absent,
            // Without an error of the upstream, the user was read, and the service would not delete it.
            ErrorReason::OwnUser | ErrorReason::PatternBasedUser | ErrorReason::ProtectedUser
                if failure.upstream_response.is_none() =>
            {
                Self::Present
            }
            _ => Self::Unreadable(Box::new(failure)),
        }
    }

    /// Returns the value of the key `outcome` in the record.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Present => "present",
            Self::Unreadable(_) => "unreadable",
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Absent | Self::Present => "",
            Self::Unreadable(failure) => failure.reason.as_str_name(),
        }
    }

    /// Returns whether the other users of the target cannot be read either.
    fn is_failure_of_target(&self) -> bool {
        matches!(self, Self::Unreadable(failure) if OF_TARGET.contains(&failure.reason))
    }
}

/// A call whose user was read.
pub struct CheckedCase {
    pub case: Case,
    pub state: UserState,
    /// Whether the finding was recorded. After a failed write, the writer tries again.
    pub recorded: Result<(), Failure>,
    /// Number of further calls of the target that are not read, because the target failed.
    pub left: usize,
}

/// Returns which calls of an audit log can be reconciled.
pub const fn scope(with_open_intents: bool, max: usize) -> Scope {
    Scope {
        is_readable: rpcs::reads_user,
        with_open_intents,
        max,
    }
}

/// Reads the users of these calls, one at a time for each target, and records the findings. Without an audit log,
/// records nothing. Reads no further user of a target that fails. Users that could not be read before come last, so
/// that one whose read always fails does not keep the others from being read.
pub fn reconcile<'a>(
    targets: &'a Targets,
    audit: Option<&'a Audit>,
    mut cases: Vec<Case>,
) -> impl Stream<Item = CheckedCase> + Send + use<'a> {
    cases.sort_by_key(Case::is_recorded_unreadable);
    let mut groups: BTreeMap<_, Vec<Case>> = BTreeMap::new();
    for case in cases {
        let target = (case.rpc().to_owned(), case.target().to_owned());
        groups.entry(target).or_default().push(case);
    }
    let groups = groups.into_values().map(|cases| {
        stream::unfold(cases.into_iter(), move |mut rest| async move {
            let mut checked = reconcile_one(targets, audit, rest.next()?).await;
            if checked.state.is_failure_of_target() {
                checked.left = rest.by_ref().count();
            }
            Some((checked, rest))
        })
        .boxed()
    });
    select_all(groups)
}

async fn reconcile_one(targets: &Targets, audit: Option<&Audit>, case: Case) -> CheckedCase {
    let limits = CallLimits::from(Deadline::after(READ_TIMEOUT));
    let state = UserState::of(&case, rpcs::read_user(targets, &case, &limits).await);
    // An HMC that stays unreachable must not add a record for each call at every start.
    let repeats = case.is_recorded_unreadable() && matches!(state, UserState::Unreadable(_));
    let recorded = match audit.filter(|_| !repeats) {
        Some(audit) => {
            let record = Record::reconciled(&case, state.as_str(), state.reason());
            audit.record(record, WRITE_TIMEOUT).await
        }
        None => Ok(()),
    };
    CheckedCase {
        case,
        state,
        recorded,
        left: 0,
    }
}

/// Reconciles the calls of a server's audit log at its start. If replicas share the log, does it again whenever this
/// one has recorded the calls of a dead replica as unknown.
pub(crate) async fn after_crashes(shared: Arc<Shared>) {
    while !shared.audit.is_healthy() {
        sleep(OPEN_INTERVAL).await;
    }
    let Some(records) = shared.audit.log() else {
        return;
    };
    loop {
        shared.audit.flush().await;
        let searched = reconcile_log(&shared, &records).await;
        if let Log::File(_) = records {
            return;
        }
        if searched {
            shared.audit.crashed().await;
        } else {
            sleep(SEARCH_INTERVAL).await;
        }
    }
}

/// Reconciles the calls of a log. Returns whether the log could be searched.
async fn reconcile_log(shared: &Shared, records: &Log) -> bool {
    let cases = match audit::unsettled(records, scope(false, MAX_AT_START)).await {
        Ok(cases) => cases.readable,
        Err(error) => {
            tracing::warn!(%error, "audit log not searched for unknown outcomes");
            return false;
        }
    };
    log_start(&cases);
    let mut checked = reconcile(&shared.targets, Some(&shared.audit), cases.newest);
    while let Some(checked) = checked.next().await {
        log(&checked);
    }
    true
}

fn log_start(cases: &CaseList) {
    let (calls, older) = (cases.newest.len(), cases.older);
    if calls > 0 {
        tracing::info!(calls, "reconciling unknown outcomes");
    }
    if older > 0 {
        tracing::warn!(older, "older unknown outcomes not reconciled");
    }
}

fn log(checked: &CheckedCase) {
    let CheckedCase {
        case,
        state,
        recorded,
        left,
    } = checked;
    let (request_id, target) = (short(case.request_id()), short(case.target()));
    match state {
        UserState::Unreadable(failure) => tracing::warn!(
            target,
            request_id,
            reason = state.reason(),
            context = short(&failure.context),
            left,
            "unknown outcome not reconciled"
        ),
        UserState::Absent | UserState::Present => tracing::info!(
            target,
            request_id,
            finding = state.as_str(),
            "unknown outcome reconciled"
        ),
    }
    if let Err(failure) = recorded {
        let error = short(&failure.context);
        tracing::error!(request_id, error, "reconciliation not recorded");
    }
}
