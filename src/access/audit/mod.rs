//! The audit log: the intent is recorded before anything is sent, the outcome after it. One writer appends;
//! records that wait at the same time share one write and one sync (group commit). docs/audit.md has the format.

mod lines;
mod queue;
mod record;
mod round;
mod sink;
mod state;
mod stdout;
mod takeover;
mod verify;
mod writer;

use std::{
    fmt, io,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use serde::Serialize;
use time::OffsetDateTime;
use tokio::{sync::oneshot, time::timeout};

pub use self::record::timestamp;
pub use self::verify::{Finding, Question, Summary, Unreadable, verify};
use self::{
    queue::{Job, Queue},
    state::State,
    writer::Writer,
};
use crate::{
    config::{self, AuditSink},
    error::Failure,
    metrics::{AuditState, Metrics},
    proto::ErrorReason,
};

/// A sink that takes longer than this counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Most records that wait for the writer.
const QUEUE: usize = 16_384;

/// What happened, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A deletion is about to be requested.
    Intent,
    /// How it ended.
    Outcome,
}

/// One record, as the caller of [`Audit::record`] gives it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When.
    #[serde(skip)]
    pub at: OffsetDateTime,
    /// The outcome of an intent that is on record: it is given up last.
    #[serde(skip)]
    pub ends_intent: bool,
    /// Intent or outcome.
    pub event: Event,
    /// The call.
    pub request_id: String,
    /// The verified identity.
    pub caller: String,
    /// How the identity was shown: `anonymous`, `certificate`, `token`, or `none` where there is none.
    pub auth: &'static str,
    /// Why there is none.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cause: &'static str,
    /// Address of the connection.
    pub peer: String,
    /// The rpc's name.
    pub rpc: &'static str,
    /// Alias of the target.
    pub target: String,
    /// Name of the user, or its ID while the name is not known.
    pub user: String,
    /// The request's identifiers, resolved ones included.
    #[serde(serialize_with = "as_map")]
    pub identifiers: Vec<(&'static str, String)>,
    /// `deleted`, `not_sent`, ...; empty in an intent.
    pub outcome: &'static str,
    /// The reason of a failure, else empty.
    pub reason: &'static str,
    /// `client-request-id` that was sent (Azure Batch).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_request_id: String,
    /// The upstream's `request-id` of the last answer (Azure Batch).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub upstream_request_id: String,
    /// DELETEs begun.
    pub attempts: u32,
    /// Did the caller go away before the answer?
    pub caller_gone: bool,
    /// Number of refused calls that this record summarizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The time of the first refusal in the minute of the summary.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
}

impl Entry {
    /// Creates an entry without a caller and a target.
    #[must_use]
    pub const fn new(
        at: OffsetDateTime,
        event: Event,
        outcome: &'static str,
        reason: &'static str,
    ) -> Self {
        Self {
            at,
            ends_intent: false,
            event,
            request_id: String::new(),
            caller: String::new(),
            auth: "none",
            cause: "",
            peer: String::new(),
            rpc: "",
            target: String::new(),
            user: String::new(),
            identifiers: Vec::new(),
            outcome,
            reason,
            client_request_id: String::new(),
            upstream_request_id: String::new(),
            attempts: 0,
            caller_gone: false,
            count: None,
            since: String::new(),
        }
    }

    /// Its line has no more bytes than this: a byte of a text becomes 6 at most.
    fn most_bytes(&self) -> usize {
        const KEYS: usize = 1024;
        let texts = [
            &self.request_id,
            &self.caller,
            &self.peer,
            &self.target,
            &self.user,
            &self.client_request_id,
            &self.upstream_request_id,
        ];
        let identifiers = self.identifiers.iter().map(|(_, value)| value);
        let length: usize = identifiers.chain(texts).map(String::len).sum();
        KEYS + length * 6
    }
}

fn as_map<S: serde::Serializer>(
    pairs: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// Where the chain has come to: whoever notes it elsewhere can prove later that nothing before it was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last record's, or 0.
    pub seq: u64,
    /// SHA-256 of the last line, in hex.
    pub hash: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// The audit log.
#[derive(Clone)]
pub struct Audit {
    /// `None` when nothing is recorded.
    queue: Option<Arc<Queue>>,
    state: Arc<State>,
}

impl Audit {
    /// Starts the writer, and gives it a moment to open its sink. One that cannot be opened is tried again.
    pub async fn start(config: &config::Audit, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let state = Arc::new(State::default());
        if config.sink == AuditSink::Nowhere {
            state.written(true);
            return Ok(Self { queue: None, state });
        }
        let (sender, wishes) = mpsc::channel();
        let (opened, ready) = oneshot::channel();
        let writer = Writer::new(config.clone(), Arc::clone(&state), Arc::clone(metrics));
        let writer = Arc::new(Mutex::new(writer));
        let own = Arc::clone(&writer);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || Writer::run(&own, &wishes, opened))?;
        // A sink that hangs must not keep the server from starting, or from stopping.
        let _late = timeout(PATIENCE, ready).await;
        Ok(Self {
            queue: Some(Arc::new(Queue::new(writer, sender, Arc::clone(&state)))),
            state,
        })
    }

    /// Can records be written? While they cannot, deletions are refused.
    #[must_use]
    pub fn works(&self) -> bool {
        self.state.works()
    }

    /// Waits until every outcome that has been told so far is on the disk.
    pub async fn settle(&self) {
        self.state.settled().await;
        let (done, synced) = oneshot::channel();
        if let Some(queue) = &self.queue
            && queue.sync(done)
        {
            // One that hangs has told so.
            let _late = timeout(PATIENCE, synced).await;
        }
    }

    /// For monitoring.
    #[must_use]
    pub fn numbers(&self) -> AuditState {
        self.state.numbers()
    }

    /// The last record on file.
    #[must_use]
    pub fn head(&self) -> Head {
        self.state.head()
    }

    /// Outcomes that have yet to be written.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.state.pending()
    }

    /// Writes a record; when this returns `Ok` it is as safe as the configuration asks. An outcome that cannot be
    /// written now is written when the sink works again; an intent is not, for its caller has been refused.
    pub async fn record(&self, entry: Entry, patience: Duration) -> Result<(), Failure> {
        let Some(queue) = &self.queue else {
            return Ok(());
        };
        let outcome = entry.event == Event::Outcome;
        let lost = || {
            if outcome {
                self.state.lose();
            }
            unavailable("the writer does not keep up, or has stopped; this is on no record")
        };
        // Calls that are refused anyway must not take the places of outcomes.
        let most = if entry.ends_intent { QUEUE } else { QUEUE / 2 };
        if self.state.queued() >= most {
            return Err(lost());
        }
        let (done, mut written) = oneshot::channel();
        let entry = Box::new(entry);
        let finished = queue.send(Job { entry, done });
        let waited = timeout(patience.min(PATIENCE), finished.cancelled()).await;
        // What is said from now on does not count; what was said just before does.
        written.close();
        match (written.try_recv(), waited) {
            (Ok(Ok(())), _) => Ok(()),
            (Ok(Err(error)), _) => Err(unavailable(&error.to_string())),
            (Err(_), Ok(())) => Err(lost()),
            (Err(_), Err(_)) => Err(unavailable("the sink takes too long")),
        }
    }
}

fn unavailable(context: &str) -> Failure {
    Failure::new(ErrorReason::AuditUnavailable, format!("audit: {context}"))
}
