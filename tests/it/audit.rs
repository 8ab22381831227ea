//! Contents of the audit log, and behaviour of the service when records cannot be written.

use std::{
    fs::{self, Permissions},
    io::{self, BufRead as _, BufReader},
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::sync::Notify;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use useradmin::{config, proto::DeleteBatchNodeUserRequest};
use useradmin_testkit::{
    App, CallFailure, Process, ReceivedRequest, Reply, Upstream, batch_deleted, batch_request,
    batch_response, batch_section, configure, delete_by_id, delete_by_name, hmc_section,
    token_reply_or, verify, wait_until,
};

use crate::authorization::{app, upstream};

/// Starts a server with an admin port.
async fn app_with_admin_port(folder: &Path, upstream: &Upstream) -> App {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[[callers]]\nidentity = \"anonymous\"\n\
         allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n{}",
        batch_section(folder, &upstream.url)
    );
    let config = config::parse(&folder.join("useradmin.toml"), &text);
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    App::run(folder.to_owned(), &config).await
}

#[tokio::test]
async fn full_disk_blocks_deletions_until_space_is_freed() {
    let upstream = upstream().await;
    let folder = App::folder();
    let file = folder.join("audit.jsonl");
    symlink("/dev/full", &file).unwrap();
    let app = app_with_admin_port(&folder, &upstream).await;
    assert_eq!(app.readyz().await, "200");
    for _ in 0..2 {
        let failure = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        failure.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
        assert_eq!(app.readyz().await, "503");
    }
    assert_stays_unready(&app).await;
    assert!(upstream.received().is_empty());
    fs::remove_file(&file).unwrap();
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!(app.readyz().await, "200");
    assert_eq!(app.audit().len(), 2);
}

/// Asserts that readiness does not return while nothing has changed. The writer checks every second.
pub async fn assert_stays_unready(app: &App) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(app.readyz().await, "503");
    }
}

/// A file size limit has the same effect as a full disk. The process must survive it.
#[tokio::test(flavor = "multi_thread")]
async fn file_size_limit_blocks_deletions_until_raised() {
    let upstream = upstream().await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let file = folder.join("audit.jsonl");
    let process = Process::start_with_file_size_limit(&folder, 8_192);
    let call = async || {
        let mut client = process.client();
        let response = client.delete_batch_node_user(batch_request("alice")).await;
        response.map_err(CallFailure::from)
    };
    let mut succeeded = 0;
    let failure = loop {
        match call().await {
            Ok(_) => succeeded += 1,
            Err(failure) => break failure,
        }
    };
    failure.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    assert_eq!(upstream.requests("DELETE", "").len(), succeeded);
    fs::rename(&file, folder.join("audit.jsonl.1")).unwrap();
    call().await.unwrap();
    process.stop();
    let (code, _, err) = verify([folder.join("audit.jsonl.1"), file]);
    assert_eq!((code, err.as_str()), (0, ""));
    fs::remove_dir_all(folder).unwrap();
}

/// Creates a pipe at the path of the audit log.
fn create_pipe(folder: &Path) -> PathBuf {
    let path = folder.join("audit.jsonl");
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    path
}

/// Makes calls until the pipe is full.
async fn fill_pipe(app: &App) {
    let filler = DeleteBatchNodeUserRequest {
        validate_only: true,
        ..batch_request(&"x".repeat(250))
    };
    wait_until("a full pipe", async || {
        app.delete_batch_node_user(filler.clone()).await.unwrap();
        app.readyz().await == "503"
    })
    .await;
}

#[tokio::test]
async fn hung_audit_sink_does_not_block_start_or_stop() {
    let upstream = upstream().await;
    let folder = App::folder();
    // Opening a pipe for writing blocks until another process opens it for reading.
    create_pipe(&folder);
    let app = app_with_admin_port(&folder, &upstream).await;
    assert_eq!(app.readyz().await, "503");
    let failure = app.delete_batch_node_user(batch_request("alice")).await;
    let failure = failure.unwrap_err();
    failure.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    assert!(upstream.received().is_empty());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_the_outcome_record() {
    let (arrived, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (notify, gate_for_reply) = (Arc::clone(&arrived), Arc::clone(&gate));
    let upstream = Upstream::start(move |request| {
        token_reply_or(request, || {
            if request.method == "GET" {
                return batch_response(200, r#"{"state":"idle"}"#);
            }
            notify.notify_one();
            Reply::Gated(Arc::clone(&gate_for_reply), Box::new(batch_deleted()))
        })
    })
    .await;
    let folder = App::folder();
    let pipe = create_pipe(&folder);
    // A pipe that is opened for reading and writing does not block. Nothing is read from it for now.
    let mut reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let app = app_with_admin_port(&folder, &upstream).await;
    let mut client = app.client();
    let call =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("alice")).await });
    arrived.notified().await;
    fill_pipe(&app).await;
    gate.notify_one();
    assert_eq!(call.await.unwrap().unwrap().get_ref().attempts, 1);
    let mut stop_task = tokio::spawn(app.stop());
    let stopped_early = tokio::time::timeout(Duration::from_millis(300), &mut stop_task).await;
    assert!(stopped_early.is_err(), "stopped without the outcome");
    let deleted = tokio::task::spawn_blocking(move || {
        let lines = BufReader::new(&mut reader).lines();
        let mut records = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        records.any(|record| record["outcome"] == "deleted" && record["user"] == "alice")
    });
    assert!(deleted.await.unwrap());
    stop_task.await.unwrap();
}

/// While the pipe is not read, calls that need a record are rejected within a second. They succeed again when it is
/// read.
#[tokio::test(flavor = "multi_thread")]
async fn hung_audit_sink_rejects_deletions_and_recovers() {
    let upstream = Upstream::start(|request| {
        token_reply_or(request, || match request.method.as_str() {
            "GET" => batch_response(200, r#"{"state":"idle"}"#),
            _ => batch_deleted(),
        })
    })
    .await;
    let folder = App::folder();
    let pipe = create_pipe(&folder);
    let reader = fs::OpenOptions::new().read(true).write(true).open(&pipe);
    let app = app_with_admin_port(&folder, &upstream).await;
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    fill_pipe(&app).await;
    let started = Instant::now();
    let failure = app
        .delete_batch_node_user(batch_request("bob"))
        .await
        .unwrap_err();
    failure.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    // The writer waits for one second; the rest is tolerance for a busy machine.
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 1);
    // The copy ends when the server closes the pipe, because there is no other writer.
    let mut drain = fs::File::open(&pipe).unwrap();
    drop(reader);
    thread::spawn(move || io::copy(&mut drain, &mut io::sink()));
    // The service recovers without a call.
    wait_until("ready", async || app.readyz().await == "200").await;
    app.delete_batch_node_user(batch_request("carol"))
        .await
        .unwrap();
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 2);
}

/// Creates a file that cannot be written. Root ignores permission bits, so for root the file is a link to a read-only
/// attribute in `/sys`.
fn make_read_only(file: &Path) {
    fs::write(file, "").unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o444)).unwrap();
    let is_read_only = |file: &Path| fs::OpenOptions::new().append(true).open(file).is_err();
    if !is_read_only(file) {
        let attributes = ["/sys/kernel/uevent_seqnum", "/sys/kernel/vmcoreinfo"].map(Path::new);
        let attribute = attributes.into_iter().find(|path| is_read_only(path));
        fs::remove_file(file).unwrap();
        symlink(attribute.expect("nothing is read-only"), file).unwrap();
    }
}

async fn is_serving(app: &App, service: &str) -> bool {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let response = HealthClient::new(app.channel()).check(request).await;
    response.unwrap().into_inner().status() == ServingStatus::Serving
}

#[tokio::test]
async fn read_only_audit_sink_blocks_deletions_until_writable() {
    let upstream = upstream().await;
    let folder = App::folder();
    let file = folder.join("audit.jsonl");
    make_read_only(&file);
    let app = app_with_admin_port(&folder, &upstream).await;
    let writable_metric = async || app.metrics("audit_log_works").await;
    for _ in 0..2 {
        assert_eq!(app.readyz().await, "503");
        let unhealthy = async || !is_serving(&app, "useradmin.v1.UserAdmin").await;
        wait_until("unhealthy", unhealthy).await;
        assert_eq!(writable_metric().await, ["useradmin_audit_log_works 0"]);
        // The server as a whole stays healthy, because a restart would not help.
        assert!(is_serving(&app, "").await);
        let refusal = app.delete_batch_node_user(batch_request("alice")).await;
        let refusal = refusal.unwrap_err();
        refusal.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    }
    assert!(upstream.received().is_empty());
    fs::remove_file(&file).unwrap();
    wait_until("ready", async || app.readyz().await == "200").await;
    wait_until("healthy", async || {
        is_serving(&app, "useradmin.v1.UserAdmin").await
    })
    .await;
    assert_eq!(writable_metric().await, ["useradmin_audit_log_works 1"]);
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!(app.audit().len(), 2);
}

#[tokio::test]
async fn audit_file_is_locked_by_one_server() {
    let upstream = upstream().await;
    let folder = App::folder();
    let first = app_with_admin_port(&folder, &upstream).await;
    let second = app_with_admin_port(&folder, &upstream).await;
    let failure = second
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    assert_eq!(second.readyz().await, "503");
    first
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let seqs: Vec<_> = first
        .audit()
        .iter()
        .map(|record| record["seq"].clone())
        .collect();
    assert_eq!(seqs, [1, 2]);
}

#[tokio::test]
async fn intent_is_recorded_before_outcome() {
    let upstream = upstream().await;
    let folder = App::folder();
    let section = hmc_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let request = delete_by_id("id-1");
    let succeeded = app.client().delete_hmc_user(request).await.unwrap();
    assert_eq!(succeeded.get_ref().user_name, "alice");
    let records = app.audit();
    let fields = |key: &str| -> Vec<Value> { records.iter().map(|r| r[key].clone()).collect() };
    assert_eq!(fields("event"), ["intent", "outcome"]);
    assert_eq!(fields("seq"), [1, 2]);
    assert_eq!(fields("v"), [1, 1]);
    assert_eq!(fields("caller"), ["anonymous", "anonymous"]);
    assert_eq!(fields("rpc"), ["DeleteHmcUser", "DeleteHmcUser"]);
    assert_eq!(fields("target"), ["hmc", "hmc"]);
    // The name is only known after the HMC has reported it.
    assert_eq!(fields("user"), ["id-1", "alice"]);
    assert_eq!(records[1]["identifiers"]["user_id"], "id-1");
    assert_eq!(records[1]["outcome"], "deleted");
    assert_eq!(records[1]["attempts"], 1);
    for record in &records {
        for key in ["ts", "outcome", "reason", "peer"] {
            assert!(record[key].is_string(), "{key}: {record}");
        }
    }
    assert_eq!(records[0]["prev"], "");
    assert_eq!(records[1]["prev"].as_str().unwrap().len(), 64);
    assert_eq!(records[0]["request_id"], records[1]["request_id"]);
}

#[tokio::test]
async fn refused_and_failed_calls_are_recorded() {
    let upstream = Upstream::start(|request| token_reply_or(request, || Reply::html(409))).await;
    let app = app("", &upstream).await;
    let request = delete_by_name("alice");
    app.delete_hmc_user(request).await.unwrap_err();
    let records = app.audit();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["outcome"], "denied");
    assert_eq!(records[0]["reason"], "ERROR_REASON_CALLER_NOT_AUTHORIZED");

    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    let records = app.audit();
    assert_eq!(records[1]["outcome"], "unknown");
    assert_eq!(records[1]["reason"], "ERROR_REASON_UPSTREAM_PROTOCOL_ERROR");
}

#[tokio::test]
async fn no_request_is_sent_without_a_recorded_intent() {
    let upstream = upstream().await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    // A folder exists at the path of the file.
    fs::create_dir(folder.join("audit.jsonl")).unwrap();
    let app = App::start_in(folder, &section).await;
    let failure = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    assert!(failure.retry_delay.is_some());
    assert!(upstream.received().is_empty());
    // The service recovers automatically.
    fs::remove_dir(app.folder.join("audit.jsonl")).unwrap();
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!(app.audit().len(), 2);
}

#[tokio::test]
async fn azure_request_ids_are_recorded() {
    let reply = Reply::empty(200).with_header("request-id", "azure-1");
    let reply = move |request: &ReceivedRequest| token_reply_or(request, || reply.clone());
    let upstream = Upstream::start(reply).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let succeeded = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let record = &app.audit()[1];
    assert_eq!(record["client_request_id"], succeeded.client_request_id);
    assert_eq!(record["upstream_request_id"], "azure-1");
}
