//! The audit log: the intent is recorded before anything is sent, the outcome after it. One writer appends;
//! records that wait at the same time share one write and one sync (group commit).

mod writer;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, SyncSender},
    },
    thread,
    time::Duration,
};

use serde::Serialize;
use tokio::{sync::oneshot, time::timeout};

use self::writer::Writer;
use crate::{
    config::{self, AuditSink},
    error::Failure,
    proto::ErrorReason,
};

/// A sink that takes longer than this counts as failed.
const PATIENCE: Duration = Duration::from_secs(1);
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
    /// Intent or outcome.
    pub event: Event,
    /// The call.
    pub request_id: String,
    /// The verified identity.
    pub caller: String,
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
}

fn as_map<S: serde::Serializer>(
    pairs: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// A record on its way; in a box, because the queue has a place for each from the start.
struct Job {
    entry: Box<Entry>,
    done: oneshot::Sender<io::Result<()>>,
}

/// The audit log.
#[derive(Clone)]
pub struct Audit {
    /// `None` when nothing is recorded.
    sender: Option<SyncSender<Job>>,
    works: Arc<AtomicBool>,
}

impl Audit {
    /// Starts the writer. A sink that cannot be opened now is tried again with each record.
    pub fn start(config: &config::Audit) -> io::Result<Self> {
        let works = Arc::new(AtomicBool::new(true));
        if config.sink == AuditSink::Nowhere {
            return Ok(Self {
                sender: None,
                works,
            });
        }
        let (sender, jobs) = mpsc::sync_channel(QUEUE);
        let mut writer = Writer::new(config.clone(), Arc::clone(&works));
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&jobs))?;
        Ok(Self {
            sender: Some(sender),
            works,
        })
    }

    /// Can records be written? While they cannot, deletions are refused.
    #[must_use]
    pub fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    /// Writes a record; when this returns `Ok` it is as safe as the configuration asks. An intent whose caller
    /// does not wait any longer is not written any more; an outcome is, as soon as the sink works again.
    pub async fn record(&self, entry: Entry) -> Result<(), Failure> {
        let Some(sender) = &self.sender else {
            return Ok(());
        };
        let (done, written) = oneshot::channel();
        let entry = Box::new(entry);
        if sender.try_send(Job { entry, done }).is_err() {
            return Err(unavailable("the writer does not keep up, or has stopped"));
        }
        match timeout(PATIENCE, written).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(unavailable(&error.to_string())),
            Ok(Err(_)) => Err(unavailable("the writer has stopped")),
            Err(_) => Err(unavailable("the sink takes too long")),
        }
    }
}

fn unavailable(context: &str) -> Failure {
    Failure::new(ErrorReason::AuditUnavailable, format!("audit: {context}"))
}
