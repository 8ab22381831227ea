//! Readiness and health after a failure of the audit log: they return only after a real write has succeeded.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use tonic::{Code, transport::Channel};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use useradmin_testkit::{
    App, CallFailure, Process, batch_request, configure_with_admin, http_get, verify, wait_until,
};

use crate::{audit_sync::strace_works, authorization::upstream};

/// A server in a separate process, and the address of its admin port.
struct Service {
    process: Process,
    admin: String,
}

impl Service {
    async fn call(&self) -> Result<(), CallFailure> {
        let mut client = self.process.client();
        let response = client.delete_batch_node_user(batch_request("alice")).await;
        response.map(drop).map_err(CallFailure::from)
    }

    /// Makes calls until one is rejected because it cannot be recorded. Returns the number of successful calls.
    async fn fill_log(&self) -> usize {
        for succeeded in 0..1_000 {
            if let Err(failure) = self.call().await {
                failure.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
                return succeeded;
            }
        }
        panic!("every record was written");
    }

    async fn is_ready(&self) -> bool {
        let response = http_get(&self.admin, "/readyz").await;
        response.split(' ').nth(1).unwrap() == "200"
    }

    async fn is_healthy(&self) -> bool {
        let url = format!("http://{}", self.process.address);
        let channel = Channel::from_shared(url).unwrap().connect_lazy();
        let request = HealthCheckRequest {
            service: "useradmin.v1.UserAdmin".to_owned(),
        };
        let response = HealthClient::new(channel).check(request).await;
        response.unwrap().into_inner().status() == ServingStatus::Serving
    }

    /// Asserts that readiness and health stay off. The writer retries every second and cannot write.
    async fn assert_stays_unready(&self) {
        wait_until("unhealthy", async || !self.is_healthy().await).await;
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(2_500) {
            assert!(!self.is_ready().await);
            assert!(!self.is_healthy().await);
        }
    }

    /// Waits until readiness and health return without a call, and then stops the server after one more call.
    async fn assert_recovers(self) {
        wait_until("ready", async || self.is_ready().await).await;
        wait_until("healthy", async || self.is_healthy().await).await;
        self.call().await.unwrap();
        self.process.stop();
    }
}

/// Asserts that these files are valid and contain no bytes of a probe.
fn verify_logs(files: &[&Path]) {
    let (code, _, err) = verify(files.iter().copied());
    assert_eq!((code, err.as_str()), (0, ""));
    for file in files {
        assert!(!fs::read(file).unwrap().contains(&0), "{}", file.display());
    }
}

/// Tests the file size limit of the process, which `fallocate` ignores.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_fails_at_file_size_limit() {
    let upstream = upstream().await;
    let folder = App::folder();
    let admin = configure_with_admin(&folder, &upstream.url);
    let process = Process::start_with_file_size_limit(&folder, 8_192);
    let service = Service { process, admin };
    let succeeded = service.fill_log().await;
    service.assert_stays_unready().await;
    assert_eq!(upstream.requests("DELETE", "").len(), succeeded);
    let (file, rotated_file) = (folder.join("audit.jsonl"), folder.join("audit.jsonl.1"));
    fs::rename(&file, &rotated_file).unwrap();
    service.assert_recovers().await;
    verify_logs(&[&rotated_file, &file]);
    fs::remove_dir_all(folder).unwrap();
}

/// Tests a start with a file that has reached the limit.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_fails_if_started_at_file_size_limit() {
    let upstream = upstream().await;
    let folder = App::folder();
    let admin = configure_with_admin(&folder, &upstream.url);
    let process = Process::start(&folder);
    let service = Service { process, admin };
    let file = folder.join("audit.jsonl");
    while fs::metadata(&file).map_or(0, |found| found.len()) < 8_192 {
        service.call().await.unwrap();
    }
    service.process.stop();
    let size = fs::metadata(&file).unwrap().len();
    let process = Process::start_with_file_size_limit(&folder, usize::try_from(size).unwrap());
    let service = Service { process, ..service };
    service.assert_stays_unready().await;
    assert_eq!(Process::log_records(&folder, FAILED).len(), 1);
    let rotated_file = folder.join("audit.jsonl.1");
    fs::rename(&file, &rotated_file).unwrap();
    service.assert_recovers().await;
    verify_logs(&[&rotated_file, &file]);
    fs::remove_dir_all(folder).unwrap();
}

const FAILED: &str = "audit log write failed; deletions are refused";

/// Tests device errors that only a write detects.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_recovers_after_successful_write() {
    if !strace_works() {
        // Written directly to standard error, because the test harness captures the output of macros.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: the test of failing writes, because strace does not work here"
        );
        return;
    }
    let upstream = upstream().await;
    let folder = App::folder();
    let admin = configure_with_admin(&folder, &upstream.url);
    let trace = folder.join("writes");
    // The intent and the outcome of the first call are written successfully.
    let process = Process::start_with_failing_writes(&folder, &trace, "3..6");
    let service = Service { process, admin };
    assert_eq!(service.fill_log().await, 1);
    let injected_failures = || {
        let text = fs::read_to_string(&trace).unwrap();
        text.matches("(INJECTED)").count()
    };
    wait_until("ready", async || service.is_ready().await).await;
    assert_eq!(injected_failures(), 4);
    service.assert_recovers().await;
    verify_logs(&[&folder.join("audit.jsonl")]);
    fs::remove_dir_all(folder).unwrap();
}
