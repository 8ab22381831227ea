//! Floods of refused calls: callers receive all details and metrics count all calls, while the log and the audit log
//! have sixty lines for each peer and kind, and a summary of the rest.

mod connections;

use std::{fs, net::IpAddr, path::Path, time::Duration};

use futures_util::{StreamExt as _, future::join_all, stream};
use serde_json::Value;
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use useradmin::proto::{DeleteBatchNodeUserRequest, user_admin_client::UserAdminClient};
use useradmin_testkit::{
    App, CallFailure, Process, Signer, Upstream, batch_deleted, batch_request, batch_section,
    records, token_reply_or, verify,
};

use crate::callers::issuer_section;

const FLOOD: u64 = 100;
/// Number of refusals of a flood that are reported individually.
const REPORTED: u64 = 60;

const CALLERS: &str = "[[callers]]\nidentity = \"anonymous\"\ndeletes_per_minute = 1\n\
    allow = [{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"], pools = [\"pool-*\"] }]\n";

async fn upstream() -> Upstream {
    Upstream::start(|request| token_reply_or(request, batch_deleted)).await
}

fn configuration(folder: &Path, url: &str, head: &str) -> String {
    let target = batch_section(folder, url);
    let target = target.replacen("url =", "protected_users = [\"root\"]\nurl =", 1);
    format!("{head}{target}")
}

fn server_configuration(admin: &str) -> String {
    format!("[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"{admin}\"\n{CALLERS}")
}

/// Connects to the server from this address of the loopback network.
fn connect_from(source: [u8; 4], address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint
        .local_address(Some(IpAddr::from(source)))
        .connect_lazy()
}

/// A kind of flood: the request of each call, and the expected refusal.
struct Kind {
    request: DeleteBatchNodeUserRequest,
    timeout: Duration,
    reason: &'static str,
    code: Code,
    /// The outcome in the audit log; empty if there is no record.
    outcome: &'static str,
}

fn kind(
    change: impl FnOnce(&mut DeleteBatchNodeUserRequest),
    reason: &'static str,
    code: Code,
    outcome: &'static str,
) -> Kind {
    let mut request = batch_request("alice");
    change(&mut request);
    // Less than an attempt needs, and more than the refusal takes.
    let has_short_deadline = reason == "DEADLINE_EXCEEDED";
    Kind {
        request,
        timeout: Duration::from_millis(if has_short_deadline { 340 } else { 20_000 }),
        reason,
        code,
        outcome,
    }
}

/// Returns the kinds of floods. The last one exhausts the quota.
fn refusal_kinds() -> Vec<Kind> {
    let pool = |pool: &str| pool.to_owned();
    vec![
        kind(
            |r| r.pool_id = pool("other"),
            "CALLER_NOT_AUTHORIZED",
            Code::PermissionDenied,
            "denied",
        ),
        kind(
            |r| r.user_name = pool(".."),
            "INVALID_REQUEST",
            Code::InvalidArgument,
            "",
        ),
        kind(
            |r| r.account = pool("nowhere"),
            "UNKNOWN_TARGET",
            Code::NotFound,
            "",
        ),
        kind(
            |r| r.user_name = pool("root"),
            "PROTECTED_USER",
            Code::FailedPrecondition,
            "not_sent",
        ),
        kind(|_| {}, "DEADLINE_EXCEEDED", Code::DeadlineExceeded, ""),
        kind(
            |_| {},
            "DELETE_QUOTA_EXCEEDED",
            Code::ResourceExhausted,
            "not_sent",
        ),
    ]
}

async fn make_calls(channel: &Channel, kind: &Kind) {
    let client = UserAdminClient::new(channel.clone());
    let call = || {
        let mut client = client.clone();
        let mut request = Request::new(kind.request.clone());
        request.set_timeout(kind.timeout);
        async move { client.delete_batch_node_user(request).await }
    };
    if kind.reason == "DELETE_QUOTA_EXCEEDED" {
        call().await.unwrap();
    }
    // Not all calls at the same time, because the client has a deadline too.
    let responses = stream::iter(0..FLOOD).map(|_| call()).buffered(8);
    for response in responses.collect::<Vec<_>>().await {
        let failure = CallFailure::from(response.unwrap_err());
        failure.expect(kind.code, kind.reason);
        assert!(!failure.request_id.is_empty() && failure.trailer_id.is_some());
    }
}

/// Returns the number of lines or records of single refusals for this reason, and the sum of their summaries.
fn totals(lines: &[Value], reason: &str, peer: &str) -> (u64, u64) {
    let is_summary_of = |line: &&Value| {
        let from = line["peer"].as_str().unwrap();
        line["reason"].as_str().unwrap().ends_with(reason)
            && from.split(':').next().unwrap() == peer
    };
    let (summaries, single): (Vec<_>, Vec<_>) = lines
        .iter()
        .filter(is_summary_of)
        .partition(|line| line.get("count").is_some());
    assert!(summaries.len() <= 1, "{summaries:?}");
    // Only audit records have this key.
    let auth = lines.iter().filter_map(|line| line.get("auth"));
    let expected = match reason {
        "CALLER_UNAUTHENTICATED" => "none",
        _ => "anonymous",
    };
    assert_eq!(auth.filter(|auth| *auth != expected).count(), 0);
    let count = summaries.iter().map(|line| line["count"].as_u64().unwrap());
    (u64::try_from(single.len()).unwrap(), count.sum())
}

/// Returns all log lines about refusals, single ones and summaries.
fn refusal_log_lines(folder: &Path, event: &str) -> Vec<Value> {
    let summaries = Process::log_records(folder, "refusals summarized");
    let summaries = summaries.into_iter().filter(|line| line["event"] == event);
    Process::log_records(folder, event)
        .into_iter()
        .chain(summaries)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_refused_calls_are_summarized() {
    let (upstream, folder) = (upstream().await, App::folder());
    let text = configuration(&folder, &upstream.url, &server_configuration(""));
    fs::write(folder.join("useradmin.toml"), text).unwrap();
    let process = Process::start(&folder);
    let channel = connect_from([127, 0, 0, 1], &process.address);
    for kind in refusal_kinds() {
        make_calls(&channel, &kind).await;
    }
    // Each peer has a separate limit of sixty lines, and a separate summary.
    let first = &refusal_kinds()[0];
    for last in [2, 3] {
        make_calls(&connect_from([127, 0, 0, last], &process.address), first).await;
    }
    drop(channel);
    process.stop();
    let audit = records(&folder.join("audit.jsonl"));
    let log = refusal_log_lines(&folder, "call ended");
    let unreported = FLOOD - REPORTED;
    for kind in refusal_kinds() {
        let (reason, outcome) = (kind.reason, kind.outcome);
        assert_eq!(
            totals(&log, reason, "127.0.0.1"),
            (REPORTED, unreported),
            "{reason}"
        );
        let expected = if outcome.is_empty() {
            (0, 0)
        } else {
            (REPORTED, unreported)
        };
        assert_eq!(totals(&audit, reason, "127.0.0.1"), expected, "{reason}");
        let mut of_reason = audit
            .iter()
            .filter(|record| record["reason"].as_str().unwrap().ends_with(reason));
        assert!(of_reason.all(|record| record["outcome"] == outcome));
    }
    for peer in ["127.0.0.2", "127.0.0.3"] {
        for lines in [&log, &audit] {
            assert_eq!(
                totals(lines, first.reason, peer),
                (REPORTED, unreported),
                "{peer}"
            );
        }
    }
    // Each summary has a separate ID, which is the same in its log line.
    let summary = audit
        .iter()
        .find(|record| record.get("count").is_some())
        .unwrap();
    assert!(
        log.iter()
            .any(|line| line["request_id"] == summary["request_id"])
    );
    assert_eq!(summary["caller"], "anonymous");
    assert!(summary["since"].as_str().unwrap() <= summary["ts"].as_str().unwrap());
    // The next server reads the records and appends to them.
    Process::start(&folder).stop();
    let foreign = Process::log_records(&folder, "foreign lines found in audit log");
    assert_eq!(foreign, Vec::<Value>::new());
    let (code, out, err) = verify([folder.join("audit.jsonl")]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn metrics_count_every_refused_call() {
    let (upstream, folder) = (upstream().await, App::folder());
    let text = configuration(&folder, &upstream.url, &server_configuration("127.0.0.1:0"));
    let mut app = App::start_with_text(folder, &text).await;
    let channel = connect_from([127, 0, 0, 1], &app.address.to_string());
    for kind in refusal_kinds() {
        make_calls(&channel, &kind).await;
        let lines = app.metrics("grpc_server_handled_total").await;
        let metric_line = format!("reason=\"ERROR_REASON_{}\"}} {FLOOD}", kind.reason);
        assert!(
            lines.iter().any(|line| line.ends_with(&metric_line)),
            "{lines:?}"
        );
    }
    app.drain().await;
    // The intent and the outcome of the call within the quota; sixty records and a summary for each of three kinds.
    assert_eq!(
        u64::try_from(app.audit().len()).unwrap(),
        2 + 3 * (REPORTED + 1)
    );
}

/// Calls without credentials, including health checks, of a server that requires authentication.
#[tokio::test(flavor = "multi_thread")]
async fn repeated_unauthenticated_calls_are_summarized() {
    let (upstream, folder) = (upstream().await, App::folder());
    let head = server_configuration("")
        .replace("[[callers]]", "health_needs_identity = true\n[[callers]]")
        + &issuer_section(&folder, &Signer::es256("key-1"));
    let text = configuration(&folder, &upstream.url, &head);
    fs::write(folder.join("useradmin.toml"), text).unwrap();
    let process = Process::start(&folder);
    let channel = connect_from([127, 0, 0, 1], &process.address);
    let unauthenticated = kind(
        |_| {},
        "CALLER_UNAUTHENTICATED",
        Code::Unauthenticated,
        "denied",
    );
    make_calls(&channel, &unauthenticated).await;
    let health = HealthClient::new(channel);
    let checks = (0..FLOOD).map(|_| {
        let mut health = health.clone();
        async move { health.check(HealthCheckRequest::default()).await }
    });
    for response in join_all(checks).await {
        let failure = CallFailure::from(response.unwrap_err());
        assert_eq!(failure.code, Code::Unauthenticated);
        assert_eq!(failure.reason, "ERROR_REASON_CALLER_UNAUTHENTICATED");
    }
    drop(health);
    process.stop();
    let audit = records(&folder.join("audit.jsonl"));
    let expected = (REPORTED, FLOOD - REPORTED);
    assert_eq!(
        totals(&audit, "CALLER_UNAUTHENTICATED", "127.0.0.1"),
        expected
    );
    let calls = refusal_log_lines(&folder, "call ended");
    assert_eq!(
        totals(&calls, "CALLER_UNAUTHENTICATED", "127.0.0.1"),
        expected
    );
    let refusal = Process::log_records(&folder, "call refused").len();
    assert_eq!(u64::try_from(refusal).unwrap(), REPORTED);
    let sums = Process::log_records(&folder, "refusals summarized");
    let of_health: Vec<_> = sums
        .iter()
        .filter(|line| line["event"] == "call refused")
        .collect();
    assert_eq!(of_health.len(), 1);
    assert_eq!(of_health[0]["count"], FLOOD - REPORTED);
    fs::remove_dir_all(folder).unwrap();
}
