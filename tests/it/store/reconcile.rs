//! Reconciliation of the unknown outcomes in a database that replicas share, by servers and by the command.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::Value;
use tokio::sync::Notify;
use tonic::IntoRequest;
use useradmin::proto::DeleteHmcUserRequest;
use useradmin_testkit::{
    App, Cut, Postgres, Process, ReceivedRequest, Reply, Step, Store, TcpProxy, Upstream,
    batch_section, default_reply, delete_by_id, delete_by_name, error_reply, free_port,
    hmc_section, http_get, token_reply_or, wait_until, with_timeout,
};

use super::replica::{LEASE, Replica, all_results, is_ready, start_app};

/// The statement that searches for unknown outcomes.
const SEARCH: &str = "WITH unknown";

/// Returns a configuration with the HMC `hmc`, the account `batch` and this section `[store]`.
pub fn configuration(folder: &Path, admin: u16, upstream: &str, store: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:{admin}\"\n{store}[[callers]]\n\
         identity = \"anonymous\"\nallow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}, \
         {{ rpc = \"DeleteHmcUser\", targets = [\"*\"] }}]\n{}{}",
        hmc_section(folder, upstream),
        batch_section(folder, upstream)
    )
}

/// Starts a replica in this process.
pub async fn start_survivor(store: &Store<'_>, upstream: &Upstream) -> App {
    let folder = App::folder();
    let section = store.section(&folder, LEASE);
    let text = configuration(&folder, 0, &upstream.url, &section);
    App::start_with_text(folder, &text).await
}

/// Starts a replica as a process, which reaches the database through this port.
fn start_process(store: &Store<'_>, port: u16, upstream: &Upstream) -> Replica {
    let (folder, admin) = (App::folder(), free_port());
    let section = store.section_at(port, &folder, LEASE);
    let text = configuration(&folder, admin, &upstream.url, &section);
    fs::write(folder.join("useradmin.toml"), text).unwrap();
    Replica {
        process: Process::start(&folder),
        folder,
        admin: format!("127.0.0.1:{admin}"),
    }
}

/// Calls a replica in a task.
fn call_hmc(
    replica: &Replica,
    request: impl IntoRequest<DeleteHmcUserRequest> + Send + 'static,
) -> tokio::task::JoinHandle<bool> {
    let mut client = replica.process.client();
    tokio::spawn(async move { client.delete_hmc_user(request).await.is_ok() })
}

/// Returns the user and the outcome of each finding.
pub fn findings(store: &Store<'_>) -> Vec<(String, String)> {
    let records = store.records().into_iter();
    let findings = records.filter(|record| record["event"] == "reconciled");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    findings
        .map(|record| (text(&record["user"]), text(&record["outcome"])))
        .collect()
}

pub async fn wait_for_findings(store: &Store<'_>, count: usize) {
    wait_until(&format!("{count} findings"), async || {
        findings(store).len() >= count
    })
    .await;
}

/// Starts an upstream. Each DELETE receives the result of this function.
pub async fn upstream_with(
    mut delete: impl FnMut(&ReceivedRequest) -> Reply + Send + 'static,
) -> Upstream {
    Upstream::start(move |request| {
        token_reply_or(request, || match Step::of(request) {
            Step::Delete => delete(request),
            _ if request.target.starts_with("/pools") => delete(request),
            _ => default_reply(request, 1),
        })
    })
    .await
}

/// Number of reads of the user `id-1` at the HMC.
fn reads(upstream: &Upstream) -> usize {
    upstream.requests("GET", "/api/users/id-1").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_survivor_reads_the_user_of_a_dead_replica_once() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "reconcile_dead");
    let deleted = Arc::new(AtomicBool::new(false));
    let is_deleted = Arc::clone(&deleted);
    let upstream = Upstream::start(move |request| match Step::of(request) {
        Step::Delete => Reply::Hang,
        Step::Read if is_deleted.load(Ordering::Relaxed) => error_reply(request, 404, 1),
        _ => token_reply_or(request, || default_reply(request, 1)),
    })
    .await;
    let mut survivors = Vec::new();
    for _ in 0..3 {
        survivors.push(start_survivor(&store, &upstream).await);
    }
    for (round, finding) in ["present", "absent"].into_iter().enumerate() {
        deleted.store(false, Ordering::Relaxed);
        let victim = start_process(&store, postgres.port(), &upstream);
        victim.wait_until_ready().await;
        let call = call_hmc(&victim, delete_by_id("id-1"));
        upstream
            .wait_for_requests("DELETE", "/api/users", round + 1)
            .await;
        let before = reads(&upstream);
        deleted.store(finding == "absent", Ordering::Relaxed);
        victim.kill();
        assert!(!call.await.unwrap());
        wait_for_findings(&store, round + 1).await;
        assert_eq!(reads(&upstream), before + 1, "{finding}");
    }
    let mut closed = Vec::new();
    for survivor in survivors {
        closed.extend(survivor.metrics("useradmin_store_intents_closed").await);
        survivor.stop().await;
    }
    // Those of the calls, and one for each finding.
    assert_eq!(reads(&upstream), 2 + 2);
    let closed = closed.iter().map(|line| line.rsplit(' ').next().unwrap());
    let closed: u32 = closed.map(|value| value.parse::<u32>().unwrap()).sum();
    assert_eq!(closed, 2);
    let mut results = all_results(&store).await;
    results.sort();
    let result = |finding: &str| {
        let outcome = "unknown_after_crash".to_owned();
        ("id-1".to_owned(), (outcome, finding.to_owned()))
    };
    assert_eq!(results, ["absent", "present"].map(result));
}

/// The record of the true outcome has the name of the user, which the intent does not have.
#[tokio::test(flavor = "multi_thread")]
async fn call_by_id_with_late_outcome_is_not_read_again() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "reconcile_late");
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let mut deletions = 0;
    let upstream = upstream_with(move |_| {
        deletions += 1;
        match deletions {
            1 => Reply::Gated(Arc::clone(&opened), Box::new(Reply::empty(204))),
            _ => Reply::Hang,
        }
    })
    .await;
    let proxy = TcpProxy::start(postgres.port()).await;
    let separated = start_process(&store, proxy.port(), &upstream);
    separated.wait_until_ready().await;
    // It does not have the HMC, so that it records no definite finding.
    let survivor = start_app(&store, postgres.port(), &upstream.url).await;
    let call = call_hmc(&separated, delete_by_id("id-1"));
    upstream.wait_for_requests("DELETE", "/api/users", 1).await;
    proxy.set_black_hole(true);
    wait_for_findings(&store, 1).await;
    gate.notify_one();
    assert!(call.await.unwrap());
    proxy.set_black_hole(false);
    wait_for_findings(&store, 2).await;
    let pair = |user: &str, finding: &str| (user.to_owned(), finding.to_owned());
    let expected = [pair("id-1", "unreadable"), pair("alice", "deleted")];
    assert_eq!(findings(&store), expected);

    // The call of another replica is read at the next start.
    separated.wait_until_ready().await;
    let victim = call_hmc(&separated, delete_by_name("alice"));
    upstream.wait_for_requests("DELETE", "/api/users", 2).await;
    separated.kill();
    assert!(!victim.await.unwrap());
    wait_for_findings(&store, 3).await;
    let next = start_process(&store, postgres.port(), &upstream);
    wait_for_findings(&store, 4).await;
    assert_eq!(findings(&store)[3], pair("alice", "present"));
    let started = Process::log_records(&next.folder, "reconciling unknown outcomes");
    assert_eq!((started.len(), &started[0]["calls"]), (1, &1.into()));
    next.stop();
    survivor.stop().await;
}

/// The outcome that a replica records after another one has read the user cannot be recorded any more.
#[tokio::test(flavor = "multi_thread")]
async fn outcome_after_a_finding_is_lost_and_reported() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "reconcile_lost");
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let upstream =
        upstream_with(move |_| Reply::Gated(Arc::clone(&opened), Box::new(Reply::empty(204))))
            .await;
    let proxy = TcpProxy::start(postgres.port()).await;
    let separated = start_process(&store, proxy.port(), &upstream);
    separated.wait_until_ready().await;
    let survivor = start_survivor(&store, &upstream).await;
    let call = call_hmc(&separated, delete_by_id("id-1"));
    upstream.wait_for_requests("DELETE", "/api/users", 1).await;
    proxy.set_black_hole(true);
    wait_for_findings(&store, 1).await;
    gate.notify_one();
    assert!(call.await.unwrap());
    proxy.set_black_hole(false);
    separated.wait_until_ready().await;
    let lost = "useradmin_audit_records_lost_total 1\n";
    wait_until("the loss is counted", async || {
        http_get(&separated.admin, "/metrics").await.contains(lost)
    })
    .await;
    let records = store.records();
    let logged = || Process::log_records(&separated.folder, "audit outcome lost");
    wait_until("the loss is logged", async || !logged().is_empty()).await;
    let logged = logged();
    assert_eq!(logged.len(), 1);
    assert_eq!(logged[0]["outcome"], "deleted");
    assert_eq!(logged[0]["request_id"], records[0]["request_id"]);
    let pair = |user: &str, finding: &str| (user.to_owned(), finding.to_owned());
    assert_eq!(findings(&store), [pair("id-1", "present")]);
    assert_eq!(
        survivor.metrics("useradmin_audit_records_lost_total").await,
        ["useradmin_audit_records_lost_total 0"]
    );
    separated.stop();
    survivor.stop().await;
}

/// How the search fails at the start of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Failure {
    /// The connection is cut before the search.
    Cut,
    /// The connection is cut before the response.
    Response,
    /// The database is away from the search on, until the server has noticed it.
    Away,
}

async fn failed_search_is_repeated(failure: Failure) {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let name = format!("reconcile_search_{failure:?}").to_lowercase();
    let store = Store::create(postgres, &name);
    let upstream = upstream_with(|_| Reply::Hang).await;
    let app = start_survivor(&store, &upstream).await;
    let request = with_timeout(delete_by_id("id-1"), 1_500);
    app.client().delete_hmc_user(request).await.unwrap_err();
    app.stop().await;
    let mut proxy = TcpProxy::start(postgres.port()).await;
    proxy.cut_at(match failure {
        Failure::Response => Cut::BeforeResponseTo(SEARCH),
        Failure::Cut | Failure::Away => Cut::BeforeRequest(SEARCH),
    });
    let next = start_process(&store, proxy.port(), &upstream);
    wait_until("the search", async || !proxy.will_cut()).await;
    if failure == Failure::Away {
        proxy.refuse().await;
        proxy.cut().await;
        wait_until("the outage", async || !is_ready(&next.admin).await).await;
        proxy.accept().await;
    }
    wait_for_findings(&store, 1).await;
    next.wait_until_ready().await;
    // On a busy machine, the database may not record the logon in time, and the user is then unreadable.
    let findings = findings(&store);
    assert_eq!((findings.len(), &*findings[0].0), (1, "alice"));
    let message = "audit log not searched for unknown outcomes";
    assert!(!Process::log_records(&next.folder, message).is_empty());
    next.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn search_that_fails_at_the_start_is_repeated() {
    let failures = [Failure::Cut, Failure::Response, Failure::Away];
    futures_util::future::join_all(failures.map(failed_search_is_repeated)).await;
}
