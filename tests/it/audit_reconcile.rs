//! Reconciliation of unknown outcomes, at the start of a server and by `useradmin audit reconcile`.

mod command;
mod findings;
mod start;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use useradmin::proto::DeleteHmcUserRequest;
use useradmin_testkit::{
    App, COMMON, ForgedLog, Process, ReceivedRequest, Reply, Upstream, batch_section,
    default_reply, hmc_section, records, run, verify, wait_until,
};

/// A folder with a configuration and an audit log, and the HMC that the configuration names.
struct Setup {
    folder: PathBuf,
    file: PathBuf,
    upstream: Upstream,
}

impl Setup {
    async fn start(
        log: &ForgedLog,
        script: impl FnMut(&ReceivedRequest) -> Reply + Send + 'static,
    ) -> Self {
        let upstream = Upstream::start(script).await;
        let folder = App::folder();
        let file = folder.join("audit.jsonl");
        configure(&folder, &upstream.url);
        fs::write(&file, &log.text).unwrap();
        Self {
            folder,
            file,
            upstream,
        }
    }

    /// Starts an HMC with the user `alice`, whose ID is `id-1`.
    async fn with_alice(log: &ForgedLog) -> Self {
        Self::start(log, |request| default_reply(request, 1)).await
    }

    /// Runs the command with these further arguments. Returns the exit code, standard output, and the lines of standard
    /// error that are not part of the log.
    fn reconcile(&self, arguments: &[&str]) -> (i32, String, String) {
        let config = self.folder.join("useradmin.toml");
        let command = ["audit", "reconcile", "--config", config.to_str().unwrap()];
        let (code, out, err) = run(&[&command, arguments].concat());
        let messages = err.split_inclusive('\n');
        let messages = messages.filter(|line| !line.starts_with('{')).collect();
        (
            code,
            out.replace(self.file.to_str().unwrap(), "FILE"),
            messages,
        )
    }

    /// Starts a server, waits until it has recorded this number of findings, and stops it.
    async fn restart(&self, findings: usize) {
        let process = Process::start(&self.folder);
        wait_until("findings", async || self.findings().len() >= findings).await;
        process.stop();
    }

    /// Starts a server that sends a DELETE to which the HMC does not respond.
    async fn with_hanging_delete(&self, request: DeleteHmcUserRequest) -> Process {
        let process = Process::start(&self.folder);
        let mut client = process.client();
        tokio::spawn(async move { client.delete_hmc_user(request).await });
        let upstream = &self.upstream;
        upstream.wait_for_requests("DELETE", "/api/users", 1).await;
        process
    }

    /// Returns the records of findings.
    fn findings(&self) -> Vec<Value> {
        // The last line may be incomplete while a server writes it.
        let text = fs::read_to_string(&self.file).unwrap();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|record: &Value| record["event"] == "reconciled")
            .collect()
    }

    /// Returns the request ID, finding and reason of each record of a finding.
    fn found(&self) -> Vec<[String; 3]> {
        let text = |record: &Value, key: &str| record[key].as_str().unwrap().to_owned();
        let findings = self.findings().into_iter();
        findings
            .map(|record| ["request_id", "outcome", "reason"].map(|key| text(&record, key)))
            .collect()
    }

    /// Asserts that the log is a valid chain, and removes the folder. No DELETE may have been sent.
    fn finish(self) {
        let (code, _, err) = verify([&self.file]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(self.upstream.requests("DELETE", "/api/users").is_empty());
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Writes a configuration with the HMC `hmc` and the account `batch`.
fn configure(folder: &Path, url: &str) {
    let (hmc, batch) = (hmc_section(folder, url), batch_section(folder, url));
    let keys = "protected_users = [\"ACSADMIN\"]\n";
    let text = format!("{COMMON}{hmc}{keys}{batch}");
    fs::write(folder.join("useradmin.toml"), text).unwrap();
}

/// Returns a log of one call, by the ID of `alice`, with this outcome.
fn log_of_alice(outcome: &str) -> ForgedLog {
    let mut log = ForgedLog::default();
    log.hmc_call("a", &by_id("id-1"), outcome);
    log
}

fn by_id(id: &str) -> Value {
    json!({"hmc": "hmc", "user_id": id})
}

fn by_name(name: &str) -> Value {
    json!({"hmc": "hmc", "user_name": name})
}

fn last_record(file: &Path) -> Value {
    records(file).pop().unwrap()
}

/// Returns the last record of a log, without the keys that depend on its position.
fn last_line(log: &ForgedLog) -> Value {
    let mut record: Value = serde_json::from_str(log.text.lines().last().unwrap()).unwrap();
    // `ForgedLog` adds this key.
    record.as_object_mut().unwrap().remove("v");
    record
}
