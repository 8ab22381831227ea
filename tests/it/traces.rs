//! Traces: the `traceparent` of the caller is propagated, and the collector receives a span for every call and every
//! request. The server runs as a separate process, because a process can have only one exporter.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tonic::{Request, metadata::AsciiMetadataValue};
use useradmin::proto::DeleteHmcUserRequest;
use useradmin_testkit::{
    App, COMMON, Collector, Process, ReceivedRequest, ReceivedSpan, Upstream, batch_deleted,
    batch_error, batch_request, batch_section, delete_by_name, error_reply, hmc_reply_or,
    hmc_section,
    pki::{Authority, Validity},
    token_reply_or, wait_until,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";
const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// Creates a request with this flag in its `traceparent`.
fn with_traceparent<T>(message: T, flags: &str) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("00-{TRACE}-{CALLER}-{flags}");
    let metadata = request.metadata_mut();
    metadata.insert("traceparent", value.parse().unwrap());
    metadata.insert("tracestate", "vendor=canary".parse().unwrap());
    request
}

/// Starts an upstream of both kinds. The first DELETE of the account fails, all others succeed; the HMC refuses them.
async fn upstream() -> Upstream {
    let mut deletes = 0;
    Upstream::start(move |request| {
        if request.target.starts_with("/api/") {
            return hmc_reply_or(request, || error_reply(request, 409, 317));
        }
        token_reply_or(request, || {
            deletes += 1;
            match deletes {
                1 => batch_error(503, "ServerBusy"),
                _ => batch_deleted(),
            }
        })
    })
    .await
}

fn folder_with(upstream: &Upstream, tracing: &str) -> PathBuf {
    let folder = App::folder();
    configure(&folder, upstream, tracing);
    folder
}

fn configure(folder: &Path, upstream: &Upstream, tracing: &str) {
    let targets = [batch_section, hmc_section].map(|section| section(folder, &upstream.url));
    let text = format!("{COMMON}{}{tracing}", targets.concat());
    fs::write(folder.join("useradmin.toml"), text).unwrap();
}

/// Returns the spans of this name. Panics if there are none.
fn spans_named<'a>(spans: &'a [ReceivedSpan], name: &str) -> Vec<&'a ReceivedSpan> {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert!(!found.is_empty(), "{name} in {spans:#?}");
    found
}

#[track_caller]
fn expect_attributes(span: &ReceivedSpan, attributes: &[(&str, &str)]) {
    for (name, value) in attributes {
        let found = span.attributes.get(*name).map(String::as_str);
        assert_eq!(found, Some(*value), "{name} of {span:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_and_upstream_requests_are_exported() {
    let (collector, upstream) = (Collector::start().await, upstream().await);
    let tracing = format!(
        "[tracing]\notlp_endpoint = \"http://{}\"\n",
        collector.address
    );
    let folder = folder_with(&upstream, &tracing);
    let server = Process::start(&folder);
    let mut client = server.client();
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let port = port.as_str();
    let request = batch_request("alice");
    let response = client
        .delete_batch_node_user(with_traceparent(request, "01"))
        .await;
    assert_eq!(response.unwrap().into_inner().attempts, 2);
    let failure = client
        .delete_hmc_user(with_traceparent(delete_by_name("alice"), "01"))
        .await;
    failure.unwrap_err();
    server.stop();

    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
    let batch = spans_named(&spans, "useradmin.v1.UserAdmin/DeleteBatchNodeUser")[0];
    assert_eq!((batch.kind, batch.status), (SERVER, 0));
    assert_eq!(batch.parent, CALLER);
    expect_attributes(
        batch,
        &[
            ("rpc.system.name", "grpc"),
            ("rpc.method", "useradmin.v1.UserAdmin/DeleteBatchNodeUser"),
            ("rpc.response.status_code", "OK"),
            ("client.address", "127.0.0.1"),
            ("server.address", "127.0.0.1"),
            ("server.port", port),
            ("useradmin.target", "batch"),
            ("useradmin.outcome", "deleted"),
            ("useradmin.attempts", "2"),
        ],
    );
    assert_batch_spans(&spans, batch, &upstream);
    assert_hmc_spans(&spans, &upstream);
    let resource = collector.resource();
    assert_eq!(resource["service.name"], "useradmin");
    assert_eq!(resource["service.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(resource["telemetry.sdk.language"], "rust");
    let calls = Process::log_records(&folder, "call ended");
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|line| line["trace_id"] == TRACE));
    fs::remove_dir_all(folder).unwrap();
}

fn assert_batch_spans(spans: &[ReceivedSpan], batch: &ReceivedSpan, upstream: &Upstream) {
    let deletes = spans_named(
        spans,
        "DELETE /pools/{poolId}/nodes/{nodeId}/users/{userName}",
    );
    assert_eq!(deletes.len(), 2);
    let port = upstream.url.rsplit(':').next().unwrap();
    for (delete, (status, actual)) in deletes.iter().zip([("503", 2), ("200", 0)]) {
        assert_eq!((delete.kind, delete.status), (CLIENT, actual));
        assert_eq!(delete.parent, batch.id);
        expect_attributes(
            delete,
            &[
                ("http.request.method", "DELETE"),
                ("http.response.status_code", status),
                ("server.address", "127.0.0.1"),
                ("server.port", port),
                ("useradmin.target", "batch"),
            ],
        );
        let url = &delete.attributes["url.full"];
        assert!(
            url.contains("/pools/pool-1/nodes/node-1/users/alice?"),
            "{url}"
        );
    }
    expect_attributes(deletes[0], &[("error.type", "503")]);
    expect_attributes(deletes[1], &[("http.request.resend_count", "1")]);
    let token = spans_named(spans, "POST")[0];
    assert_eq!(token.parent, batch.id);
    expect_attributes(token, &[("useradmin.operation", "request_token")]);
    let sent_requests: Vec<_> = upstream
        .received()
        .into_iter()
        .filter(|request| request.target.starts_with("/pools"))
        .collect();
    for (delete, request) in deletes.iter().zip(&sent_requests) {
        let parent = format!("00-{TRACE}-{}-01", delete.id);
        assert_eq!(request.header("traceparent"), Some(parent.as_str()));
        assert_eq!(request.header("tracestate"), None);
    }
    // The token endpoint receives no trace context.
    let other = |request: &ReceivedRequest| request.target.contains("/oauth2/");
    let token = upstream.received().into_iter().find(other).unwrap();
    assert_eq!(token.header("traceparent"), None);
}

fn assert_hmc_spans(spans: &[ReceivedSpan], upstream: &Upstream) {
    let hmc = spans_named(spans, "useradmin.v1.UserAdmin/DeleteHmcUser")[0];
    // A refusal is not an error of the server.
    assert_eq!((hmc.parent.as_str(), hmc.status), (CALLER, 0));
    expect_attributes(
        hmc,
        &[
            ("rpc.response.status_code", "FAILED_PRECONDITION"),
            ("useradmin.reason", "ERROR_REASON_TEMPLATE_USER_IN_USE"),
            ("useradmin.outcome", "not_deleted"),
        ],
    );
    assert_eq!(hmc.attributes.get("error.type"), None);
    for name in [
        "POST /api/sessions",
        "GET /api/console/users",
        "DELETE /api/users/{user-id}",
    ] {
        assert_eq!(spans_named(spans, name)[0].parent, hmc.id, "{name}");
    }
    let deletes = |request: &ReceivedRequest| {
        request.target == "/api/users/id-1" && request.method == "DELETE"
    };
    let request = upstream.received().into_iter().find(deletes).unwrap();
    let delete = spans_named(spans, "DELETE /api/users/{user-id}")[0];
    expect_attributes(delete, &[("http.response.status_code", "409")]);
    let parent = format!("00-{TRACE}-{}-01", delete.id);
    assert_eq!(request.header("traceparent"), Some(parent.as_str()));
    // The log-off at shutdown does not belong to a call.
    assert!(!spans.iter().any(|span| span.name.contains("this-session")));
}

/// Calls are not sampled if the caller decided so, or if the caller sent no context and the ratio is 0. The decision of
/// the caller takes precedence over the ratio.
#[tokio::test(flavor = "multi_thread")]
async fn unsampled_calls_are_not_exported() {
    let (collector, upstream) = (Collector::start().await, upstream().await);
    let tracing = format!(
        "[tracing]\notlp_endpoint = \"http://{}\"\nsample_ratio = 0\n",
        collector.address
    );
    let folder = folder_with(&upstream, &tracing);
    let server = Process::start(&folder);
    let mut client = server.client();
    for request in [
        with_traceparent(delete_by_name("a"), "00"),
        Request::new(delete_by_name("b")),
        with_traceparent(delete_by_name("c"), "01"),
    ] {
        client.delete_hmc_user(request).await.unwrap_err();
    }
    server.stop();
    let spans = collector.spans();
    let calls = spans_named(&spans, "useradmin.v1.UserAdmin/DeleteHmcUser");
    assert_eq!(calls.len(), 1, "{spans:#?}");
    // The trace context is still sent to the upstream and logged.
    let lists = upstream.received().into_iter();
    let lists = lists.filter(|seen| seen.target.starts_with("/api/console/users"));
    let parents: Vec<_> = lists
        .map(|seen| seen.header("traceparent").unwrap().to_owned())
        .collect();
    assert!(parents[0].starts_with(&format!("00-{TRACE}-")) && parents[0].ends_with("-00"));
    assert!(!parents[1].contains(TRACE) && parents[1].ends_with("-00"));
    assert!(parents[2].ends_with("-01"));
    let calls = Process::log_records(&folder, "call ended");
    assert_eq!(calls[0]["trace_id"], TRACE);
    assert_eq!(calls[1]["trace_id"].as_str().map(str::len), Some(32));
    fs::remove_dir_all(folder).unwrap();
}

/// Spans are sent immediately, and exports time out soon.
const SOON: [(&str, &str); 2] = [
    ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ("OTEL_EXPORTER_OTLP_TIMEOUT", "300"),
];

/// Makes calls until the collector has received a span.
async fn wait_for_export(collector: &Collector, server: &Process) {
    wait_until("spans at the collector", async || {
        let request = DeleteHmcUserRequest::default();
        server.client().delete_hmc_user(request).await.unwrap_err();
        !collector.spans().is_empty()
    })
    .await;
}

/// Spans contain names of users, so an untrusted collector receives none. Changed authorities are reloaded while the
/// server runs.
#[tokio::test(flavor = "multi_thread")]
async fn collector_certificate_is_verified() {
    let upstream = upstream().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let collector = Collector::secure(&authority.issue("localhost", Validity::Now)).await;
    let port = collector.address.port();
    let tracing =
        format!("[tracing]\notlp_endpoint = \"https://localhost:{port}\"\nca_file = \"ca.pem\"\n");
    let folder = App::folder();
    fs::write(folder.join("ca.pem"), other.pem()).unwrap();
    configure(&folder, &upstream, &tracing);
    let server = Process::start_with_env(&folder, &SOON);
    let request = DeleteHmcUserRequest::default();
    server.client().delete_hmc_user(request).await.unwrap_err();
    wait_until("the export has failed", async || {
        let lines = fs::read_to_string(folder.join("log")).unwrap();
        lines.contains("BatchSpanProcessor.ExportError")
    })
    .await;
    assert!(collector.spans().is_empty());
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    wait_for_export(&collector, &server).await;
    server.stop();
    fs::remove_dir_all(folder).unwrap();
}

/// Spans of the failed export are lost; later spans are exported once the collector responds again.
#[tokio::test(flavor = "multi_thread")]
async fn hung_collector_is_used_after_recovery() {
    let (collector, upstream) = (Collector::start().await, upstream().await);
    collector.hang(true);
    let tracing = format!(
        "[tracing]\notlp_endpoint = \"http://{}\"\n",
        collector.address
    );
    let folder = folder_with(&upstream, &tracing);
    let server = Process::start_with_env(&folder, &SOON);
    let request = DeleteHmcUserRequest::default();
    server.client().delete_hmc_user(request).await.unwrap_err();
    wait_until("an export is given up", async || {
        let lines = fs::read_to_string(folder.join("log")).unwrap();
        lines.contains("BatchSpanProcessor.ExportError")
    })
    .await;
    assert!(collector.spans().is_empty());
    collector.hang(false);
    wait_for_export(&collector, &server).await;
    server.stop();
    fs::remove_dir_all(folder).unwrap();
}

/// Calls succeed if the collector is unreachable or does not respond.
#[tokio::test(flavor = "multi_thread")]
async fn unreachable_collector_does_not_affect_calls() {
    let upstream = upstream().await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for address in [
        "127.0.0.1:1".to_owned(),
        silent.local_addr().unwrap().to_string(),
    ] {
        let tracing = format!("[tracing]\notlp_endpoint = \"http://{address}\"\n");
        let folder = folder_with(&upstream, &tracing);
        let server = Process::start(&folder);
        let request = DeleteHmcUserRequest::default();
        let failure = server.client().delete_hmc_user(request).await.unwrap_err();
        assert_eq!(failure.code(), tonic::Code::InvalidArgument);
        server.stop();
        fs::remove_dir_all(folder).unwrap();
    }
}

/// Malformed values, which are ignored.
#[rustfmt::skip]
const MALFORMED: [&str; 17] = [
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-0f067aa0ba902b7-01",
    "00-0af92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-01",
    "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
    "00-abc-def-1",
    "no context",
    "\u{e9}",
    "",
];

/// Without an exporter, the trace context of the caller is forwarded.
#[tokio::test]
async fn trace_context_is_propagated() {
    let upstream = Upstream::start(|seen| token_reply_or(seen, batch_deleted)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let valid = format!("00-{TRACE}-{CALLER}-01");
    // Unknown flags are not forwarded, and only the known fields of a later version are.
    let flags = format!("00-{TRACE}-{CALLER}-03");
    let later = format!("cc-{TRACE}-{CALLER}-01-more");
    let mut cases = vec![(vec![], None), (vec![&*valid, &*valid], None)];
    cases
        .extend([&valid, &flags, &later].map(|value| (vec![value.as_str()], Some(valid.as_str()))));
    cases.extend(MALFORMED.map(|value| (vec![value], None)));
    for (values, expected) in cases {
        let mut request = Request::new(batch_request("alice"));
        let metadata = request.metadata_mut();
        for value in &values {
            let value = AsciiMetadataValue::try_from(value.as_bytes());
            metadata.append("traceparent", value.unwrap());
        }
        app.client().delete_batch_node_user(request).await.unwrap();
        let request = upstream.received().pop().unwrap();
        assert_eq!(request.header("traceparent"), expected, "{values:?}");
    }
}
