//! Reconciles calls whose outcome is unknown: reads their users, and records whether they exist. Deletes nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, select_all},
};
use tokio::{task::spawn_blocking, time::sleep};

use super::{Shared, rpcs};
use crate::{
    audit::{self, Audit, Case, CaseList, Record, Scope, WRITE_TIMEOUT},
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

/// What was found about the user of a call.
pub enum Finding {
    /// The user does not exist, or the service's own user cannot see it.
    Absent,
    Present,
    /// The user could not be read.
    Unreadable(Box<Failure>),
}

impl Finding {
    fn of(read: Result<DeleteOutcome, Failure>) -> Self {
        let Err(failure) = read else {
            return Self::Present;
        };
        match failure.reason {
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
}

/// A call whose user was read.
pub struct Reconciled {
    pub case: Case,
    pub finding: Finding,
    /// Whether the finding was recorded. If the file could not be written, the writer tries again.
    pub recorded: Result<(), Failure>,
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
/// records nothing.
pub fn reconcile<'a>(
    targets: &'a Targets,
    audit: Option<&'a Audit>,
    cases: Vec<Case>,
) -> impl Stream<Item = Reconciled> + Send + use<'a> {
    let mut groups: BTreeMap<_, Vec<Case>> = BTreeMap::new();
    for case in cases {
        let target = (case.rpc().to_owned(), case.target().to_owned());
        groups.entry(target).or_default().push(case);
    }
    let groups = groups.into_values().map(|cases| {
        stream::iter(cases)
            .then(move |case| reconcile_one(targets, audit, case))
            .boxed()
    });
    select_all(groups)
}

async fn reconcile_one(targets: &Targets, audit: Option<&Audit>, case: Case) -> Reconciled {
    let limits = CallLimits::from(Deadline::after(READ_TIMEOUT));
    let finding = Finding::of(rpcs::read_user(targets, &case, &limits).await);
    let recorded = match audit {
        Some(audit) => {
            let record = Record::reconciled(&case, finding.as_str(), finding.reason());
            audit.record(record, WRITE_TIMEOUT).await
        }
        None => Ok(()),
    };
    Reconciled {
        case,
        finding,
        recorded,
    }
}

/// Reconciles the calls of a server's audit log, once. Waits until the log is open and the calls that a crash
/// interrupted are recorded as unknown.
pub(crate) async fn at_start(shared: Arc<Shared>) {
    let Some(file) = shared.audit.file() else {
        return;
    };
    while !shared.audit.is_healthy() {
        sleep(OPEN_INTERVAL).await;
    }
    shared.audit.flush().await;
    // The file may be large.
    let read = spawn_blocking(move || audit::unsettled(&file, &scope(false, MAX_AT_START)));
    let cases = match read.await {
        Ok(Ok(cases)) => cases.readable,
        Ok(Err(error)) => return tracing::warn!(%error, "unknown outcomes not read"),
        // The task was cancelled, or it panicked, which is logged.
        Err(_) => return,
    };
    log_start(&cases);
    let mut reconciled = reconcile(&shared.targets, Some(&shared.audit), cases.newest);
    while let Some(reconciled) = reconciled.next().await {
        log(&reconciled);
    }
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

fn log(reconciled: &Reconciled) {
    let Reconciled {
        case,
        finding,
        recorded,
    } = reconciled;
    let (request_id, target) = (short(case.request_id()), short(case.target()));
    match finding {
        Finding::Unreadable(failure) => tracing::warn!(
            target,
            request_id,
            reason = finding.reason(),
            context = short(&failure.context),
            "unknown outcome not reconciled"
        ),
        Finding::Absent | Finding::Present => tracing::info!(
            target,
            request_id,
            finding = finding.as_str(),
            "unknown outcome reconciled"
        ),
    }
    if let Err(failure) = recorded {
        let error = short(&failure.context);
        tracing::error!(request_id, error, "reconciliation not recorded yet");
    }
}
