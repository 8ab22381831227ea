//! `/metrics` as Prometheus reads it: the metrics of calls, upstreams and the audit log, with their names and labels.

mod edge_cases;

use tonic::Code;
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{
    App, Upstream, batch_deleted, batch_error, batch_request, batch_section, delete_by_name,
    error_reply, hmc_reply_or, hmc_section, http_get, in_sequence, token_reply_or, wait_until,
};

use crate::bulkhead::gated_upstream;

const SERVER: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[[callers]]
identity = "anonymous"
allow = [
    { rpc = "DeleteBatchNodeUser", targets = ["*"], pools = ["pool-*"] },
    { rpc = "DeleteHmcUser", targets = ["*"] },
]
"#;

const BATCH: &str = r#"upstream="azure_batch",target="batch""#;
const HMC: &str = r#"upstream="ibm_hmc",target="hmc""#;

async fn start_app(account: &Upstream, hmc: &Upstream) -> App {
    let folder = App::folder();
    let sections = [
        SERVER.to_owned(),
        batch_section(&folder, &account.url),
        hmc_section(&folder, &hmc.url),
    ];
    App::start_with_text(folder, &sections.concat()).await
}

/// Returns the value of the only line with this name and these labels, in any order.
async fn metric_value(app: &App, name: &str, labels: &[&str]) -> f64 {
    let lines = app.metrics(name).await;
    let has_labels = |line: &&String| {
        let rest = line.strip_prefix(name).unwrap_or_default();
        rest.starts_with(['{', ' ']) && labels.iter().all(|label| line.contains(label))
    };
    let found: Vec<_> = lines.iter().filter(has_labels).collect();
    assert_eq!(found.len(), 1, "{name} {labels:?} in {lines:#?}");
    found[0].rsplit(' ').next().unwrap().parse().unwrap()
}

/// Returns the same value as an integer, for counters.
async fn count(app: &App, name: &str, labels: &[&str]) -> u32 {
    let value = metric_value(app, name, labels).await;
    let text = value.to_string();
    text.parse()
        .unwrap_or_else(|_| panic!("{name} {labels:?}: {text}"))
}

const BATCH_RPC: &str = "DeleteBatchNodeUser";
const HMC_RPC: &str = "DeleteHmcUser";

/// Makes one call of each kind, and a second deletion, which is refused.
async fn make_calls(app: &App) {
    let batch = |pool: &str, account: &str| DeleteBatchNodeUserRequest {
        pool_id: pool.to_owned(),
        account: account.to_owned(),
        ..batch_request("alice")
    };
    for (request, code) in [
        (batch("pool-1", ""), Code::Ok),
        (batch("pool-1", ""), Code::FailedPrecondition),
        (batch("", ""), Code::InvalidArgument),
        (batch("other", ""), Code::PermissionDenied),
        (batch("pool-1", "nowhere"), Code::NotFound),
    ] {
        let response = app.client().delete_batch_node_user(request).await;
        assert_eq!(response.map_or_else(|s| s.code(), |_| Code::Ok), code);
    }
    app.delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap_err();
}

async fn expect_calls(app: &App) {
    for (rpc, times) in [(BATCH_RPC, 5), (HMC_RPC, 1)] {
        assert_eq!(count(app, "grpc_server_started_total", &[rpc]).await, times);
    }
    for (rpc, code, reason) in [
        (BATCH_RPC, "OK", ""),
        (BATCH_RPC, "FailedPrecondition", "NODE_NOT_READY"),
        (BATCH_RPC, "InvalidArgument", "INVALID_REQUEST"),
        (BATCH_RPC, "PermissionDenied", "CALLER_NOT_AUTHORIZED"),
        (BATCH_RPC, "NotFound", "UNKNOWN_TARGET"),
        (HMC_RPC, "FailedPrecondition", "TEMPLATE_USER_IN_USE"),
    ] {
        let reason = match reason {
            "" => String::new(),
            reason => format!("ERROR_REASON_{reason}"),
        };
        let labels = format!(
            "grpc_type=\"unary\",grpc_service=\"useradmin.v1.UserAdmin\",grpc_method=\"{rpc}\",\
             grpc_code=\"{code}\",reason=\"{reason}\""
        );
        for name in [
            "grpc_server_handled_total",
            "grpc_server_handling_seconds_count",
        ] {
            assert_eq!(count(app, name, &[&labels]).await, 1, "{name} {labels}");
        }
    }
}

async fn expect_outcomes(app: &App) {
    for (target, outcome, times) in [
        (BATCH, "deleted", 1),
        (BATCH, "not_deleted", 1),
        // One of the three refused calls named an unknown target.
        (BATCH, "not_sent", 2),
        (r#"upstream="azure_batch",target="""#, "not_sent", 1),
        (HMC, "not_deleted", 1),
        // Exists from startup on.
        (HMC, "unknown", 0),
    ] {
        let labels = format!("{target},outcome=\"{outcome}\"");
        let found = count(app, "useradmin_call_outcomes_total", &[&labels]).await;
        assert_eq!(found, times, "{labels}");
    }
}

async fn expect_requests(app: &App) {
    for (target, operation, result) in [
        (BATCH, "request_token", "200"),
        (BATCH, "delete_user", "503"),
        (BATCH, "delete_user", "200"),
        (BATCH, "delete_user", "409"),
        (HMC, "logon", "200"),
        (HMC, "list_users", "200"),
        (HMC, "delete_user", "409"),
    ] {
        let labels = format!("{target},operation=\"{operation}\",result=\"{result}\"");
        let found = count(app, "useradmin_upstream_requests_total", &[&labels]).await;
        assert_eq!(found, 1, "{labels}");
    }
    for (target, operation, times) in [(BATCH, "delete_user", 3), (HMC, "logon", 1)] {
        let labels = format!("{target},operation=\"{operation}\"");
        let name = "useradmin_upstream_request_duration_seconds_count";
        assert_eq!(count(app, name, &[&labels]).await, times, "{labels}");
    }
}

async fn expect_credentials(app: &App) {
    for (target, kind) in [(BATCH, "token"), (HMC, "session")] {
        let labels = format!("{target},kind=\"{kind}\"");
        let name = "useradmin_upstream_credential_renewals_total";
        let renewals = count(app, name, &[&labels, "result=\"ok\""]).await;
        assert_eq!(renewals, 1);
        let name = "useradmin_upstream_credential_age_seconds";
        let age = metric_value(app, name, &[&labels]).await;
        assert!(age > 0.0 && age < 60.0, "{age}");
    }
    let name = "useradmin_upstream_credential_expires_in_seconds";
    let remaining_seconds = metric_value(app, name, &[BATCH]).await;
    assert!(
        remaining_seconds > 3000.0 && remaining_seconds < 3600.0,
        "{remaining_seconds}"
    );
}

#[tokio::test]
async fn calls_and_requests_are_counted() {
    let mut answers = in_sequence(vec![
        batch_error(503, "ServerBusy"),
        batch_deleted(),
        batch_error(409, "NodeBeingRebooted"),
    ]);
    let account =
        Upstream::start(move |request| token_reply_or(request, || answers(request))).await;
    let hmc =
        Upstream::start(|request| hmc_reply_or(request, || error_reply(request, 409, 317))).await;
    let app = start_app(&account, &hmc).await;
    make_calls(&app).await;
    expect_calls(&app).await;
    expect_outcomes(&app).await;
    expect_requests(&app).await;
    expect_credentials(&app).await;
    // One retry took a token, and each of two calls added a fifth of one.
    let budget = metric_value(&app, "useradmin_upstream_retry_budget", &[BATCH]).await;
    assert!((9.0..=10.0).contains(&budget), "{budget}");
    let writes = "useradmin_audit_write_duration_seconds_count";
    assert!(count(&app, writes, &[]).await >= 2);
}

/// Gauges of the current state.
#[tokio::test]
async fn gauges_show_current_state() {
    let (account, arrived, gate) = gated_upstream().await;
    let hmc =
        Upstream::start(|request| hmc_reply_or(request, || error_reply(request, 409, 317))).await;
    let app = start_app(&account, &hmc).await;
    for (name, labels, expected) in [
        ("useradmin_upstream_in_flight", BATCH, 0),
        ("useradmin_upstream_max_in_flight", BATCH, 256),
        ("useradmin_upstream_max_in_flight", HMC, 8),
        ("useradmin_upstream_queued", HMC, 0),
        ("useradmin_upstream_max_queued", HMC, 256),
        ("useradmin_upstream_breaker_open", HMC, 0),
        ("useradmin_upstream_breaker_openings_total", HMC, 0),
        ("useradmin_upstream_retry_budget", HMC, 10),
        ("useradmin_audit_log_works", "", 1),
        ("useradmin_audit_records_queued", "", 0),
        ("useradmin_audit_outcomes_pending", "", 0),
        ("useradmin_audit_lag_seconds", "", 0),
        ("useradmin_calls_in_progress", "", 0),
        ("useradmin_max_calls_in_progress", "", 2048),
        ("useradmin_max_connections", "", 1024),
        (
            "useradmin_connections_refused_total",
            "max_connections_per_peer",
            0,
        ),
        (
            "useradmin_upstream_credential_renewals_total",
            "kind=\"session\",result=\"failed\"",
            0,
        ),
        (
            "useradmin_reloads_total",
            "what=\"configuration\",result=\"failed\"",
            0,
        ),
    ] {
        assert_eq!(count(&app, name, &[labels]).await, expected, "{name}");
    }
    // No session exists yet.
    let name = "useradmin_upstream_credential_age_seconds";
    assert_eq!(app.metrics(name).await, [""; 0]);
    let mut call = Box::pin(app.delete_batch_node_user(batch_request("alice")));
    tokio::select! {
        _ = &mut call => panic!("the call ended before the gate opened"),
        () = arrived.notified() => {}
    }
    for (name, labels) in [
        ("useradmin_upstream_in_flight", BATCH),
        ("useradmin_calls_in_progress", ""),
        ("useradmin_connections", ""),
    ] {
        assert_eq!(count(&app, name, &[labels]).await, 1, "{name}");
    }
    gate.notify_one();
    call.await.unwrap();
    wait_until("nothing is in progress", async || {
        count(&app, "useradmin_calls_in_progress", &[]).await == 0
    })
    .await;
    expect_process(&app).await;
}

async fn expect_process(app: &App) {
    let text = http_get(app.admin.unwrap(), "/metrics").await;
    assert!(text.contains("content-type: text/plain; version=0.0.4; charset=utf-8"));
    let version = concat!(
        "useradmin_build_info{version=\"",
        env!("CARGO_PKG_VERSION"),
        "\"} 1"
    );
    assert!(text.contains(version), "{text}");
    if cfg!(target_os = "linux") {
        for name in [
            "cpu_seconds_total",
            "resident_memory_bytes",
            "open_fds",
            "max_fds",
        ] {
            assert!(
                metric_value(app, &format!("process_{name}"), &[]).await > 0.0,
                "{name}"
            );
        }
        let started = metric_value(app, "process_start_time_seconds", &[]).await;
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!((now - started).abs() < 3600.0, "{started}, {now}");
    }
}
