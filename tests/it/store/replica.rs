//! Replicas that share a database: their configuration, their state, and checks of the records that they have written.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::Value;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use useradmin_testkit::{
    App, Process, ReceivedRequest, Reply, Store, Upstream, batch_deleted, batch_request,
    batch_section, free_port, http_get, token_reply_or, wait_until,
};

/// The shortest lease.
pub const LEASE: &str = "lease_seconds = 3\n";
pub const UNAVAILABLE: &str = "ERROR_REASON_AUDIT_UNAVAILABLE";
/// Time limit of a refusal: the bound of one second, and time for a debug build on a busy machine.
const REFUSAL_LIMIT: Duration = Duration::from_millis(1_500);

/// Returns a configuration with this admin port, the account `batch`, this section `[store]` and keys of the caller.
pub fn configuration(
    folder: &Path,
    admin: u16,
    upstream: &str,
    store: &str,
    caller: &str,
) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:{admin}\"\n{store}\
         [[callers]]\nidentity = \"anonymous\"\n{caller}\n\
         allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n{}",
        batch_section(folder, upstream)
    )
}

/// Starts a replica in this process, which reaches the database through this port.
pub async fn start_app(store: &Store<'_>, port: u16, upstream: &str) -> App {
    let folder = App::folder();
    let section = store.section_at(port, &folder, LEASE);
    let text = configuration(&folder, 0, upstream, &section, "");
    App::start_with_text(folder, &text).await
}

/// A replica as a process.
pub struct Replica {
    pub process: Process,
    pub folder: PathBuf,
    pub admin: String,
}

impl Replica {
    /// Starts a replica with this section `[store]` and keys of the caller. The function writes the files of the
    /// section to the folder.
    pub fn start(upstream: &str, caller: &str, section: impl FnOnce(&Path) -> String) -> Self {
        let folder = App::folder();
        let store = section(&folder);
        let admin = free_port();
        let text = configuration(&folder, admin, upstream, &store, caller);
        fs::write(folder.join("useradmin.toml"), text).unwrap();
        Self {
            process: Process::start(&folder),
            folder,
            admin: format!("127.0.0.1:{admin}"),
        }
    }

    pub async fn is_ready(&self) -> bool {
        is_ready(&self.admin).await
    }

    pub async fn wait_until_ready(&self) {
        wait_until("the replica is ready", async || self.is_ready().await).await;
    }

    /// Stops the replica and removes its files.
    pub fn stop(self) {
        self.process.stop();
        fs::remove_dir_all(self.folder).unwrap();
    }

    /// Kills the replica and removes its files.
    pub fn kill(self) {
        self.process.kill();
        fs::remove_dir_all(self.folder).unwrap();
    }
}

/// Returns whether `/readyz` of this admin port returns 200.
pub async fn is_ready(admin: &str) -> bool {
    http_get(admin, "/readyz").await.starts_with("HTTP/1.1 200")
}

async fn is_serving(channel: Channel) -> bool {
    let request = HealthCheckRequest {
        service: "useradmin.v1.UserAdmin".to_owned(),
    };
    let response = HealthClient::new(channel).check(request).await;
    response.is_ok_and(|response| response.get_ref().status() == ServingStatus::Serving)
}

/// Waits until readiness and health of a replica have this value.
pub async fn wait_for_health(app: &App, healthy: bool, case: &str) {
    wait_until(&format!("{case}: healthy is {healthy}"), async || {
        (app.readyz().await == "200") == healthy && is_serving(app.channel()).await == healthy
    })
    .await;
}

/// Asserts that concurrent calls are refused in time, because the audit log is not available.
pub async fn assert_refused(app: &App, case: &str) {
    let calls = (0..4).map(async |number| {
        let start = Instant::now();
        let request = batch_request(&format!("refused-{number}"));
        let failure = app.delete_batch_node_user(request).await.unwrap_err();
        assert_eq!(failure.reason, UNAVAILABLE, "{case}");
        assert_eq!(failure.metadata_value("outcome"), "not_sent", "{case}");
        assert!(start.elapsed() < REFUSAL_LIMIT, "{case}: {start:?}");
    });
    futures_util::future::join_all(calls).await;
}

/// Returns the names of the users for which the upstream has received a DELETE.
pub fn deleted_users(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests("DELETE", "/pools");
    requests.iter().map(ReceivedRequest::user).collect()
}

/// Starts an upstream of the account `batch`, whose deletions succeed.
pub async fn batch_upstream() -> Upstream {
    upstream_with(batch_deleted).await
}

/// Starts an upstream of the account `batch` with this reply to each DELETE.
pub async fn upstream_with(reply: impl Fn() -> Reply + Send + 'static) -> Upstream {
    Upstream::start(move |request| token_reply_or(request, &reply)).await
}

/// The records of one call.
#[derive(Debug, Default)]
pub struct Call {
    pub user: String,
    pub intents: Vec<u64>,
    pub outcomes: Vec<(u64, String)>,
    pub findings: Vec<(u64, String)>,
}

impl Call {
    /// Returns the outcome, and the finding or an empty text. Panics unless there is exactly one intent, then one
    /// outcome, and then at most one finding about an unknown outcome.
    pub fn result(&self) -> (&str, &str) {
        let ([intent], [(ended, outcome)]) = (&self.intents[..], &self.outcomes[..]) else {
            panic!("not one intent and one outcome: {self:?}");
        };
        assert!(intent < ended, "{self:?}");
        match &self.findings[..] {
            [] => (outcome, ""),
            [(found, finding)] => {
                assert!(ended < found, "{self:?}");
                assert!(outcome.starts_with("unknown"), "{self:?}");
                (outcome, finding)
            }
            _ => panic!("several findings: {self:?}"),
        }
    }
}

/// Returns the records of each call by its request ID.
pub fn calls(records: &[Value]) -> BTreeMap<String, Call> {
    let mut calls = BTreeMap::<_, Call>::new();
    for record in records {
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let call = calls.entry(text("request_id")).or_default();
        call.user = text("user");
        let (seq, outcome) = (record["seq"].as_u64().unwrap(), text("outcome"));
        match record["event"].as_str() {
            Some("intent") => call.intents.push(seq),
            Some("outcome") => call.outcomes.push((seq, outcome)),
            _ => call.findings.push((seq, outcome)),
        }
    }
    calls
}

/// Waits until no intent is open. Then asserts that the records are one chain, and that each call has one intent and
/// one outcome. Returns outcome and finding of each user; each user must have been named by only one call.
pub async fn results(store: &Store<'_>) -> BTreeMap<String, (String, String)> {
    let results = all_results(store).await;
    let count = results.len();
    let results: BTreeMap<_, _> = results.into_iter().collect();
    assert_eq!(results.len(), count, "a user with two calls");
    results
}

/// Like [`results`], with the user of each call, in the order of request IDs.
pub async fn all_results(store: &Store<'_>) -> Vec<(String, (String, String))> {
    wait_until("no intent is open", async || {
        open_intents(store).is_ok_and(|open| open == 0)
    })
    .await;
    let (code, stdout, stderr) = store.verify();
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.contains(" 0 open intents"), "{stdout}");
    let calls = calls(&store.records());
    let results = calls.into_values().map(|call| {
        let (outcome, finding) = call.result();
        (call.user.clone(), (outcome.to_owned(), finding.to_owned()))
    });
    results.collect()
}

/// Returns the number of intents that have no outcome.
pub fn open_intents(store: &Store<'_>) -> Result<usize, String> {
    let sql = "SELECT count(*) FROM useradmin.open_intent WHERE closed_at IS NULL";
    store
        .database
        .sql(sql)
        .map(|count| count.parse::<usize>().unwrap())
}
