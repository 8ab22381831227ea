//! Functions that read and forge audit log files, and verify them with the program.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program;

/// Runs `useradmin audit verify` with these arguments. Returns the exit code, standard output and standard error.
pub fn verify<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> (i32, String, String) {
    let mut command = Command::new(program());
    let output = command.args(["audit", "verify"]).args(arguments).output();
    let output = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Returns the SHA-256 hash in hexadecimal, as in the chain.
pub fn sha256(line: &[u8]) -> String {
    let digest = Sha256::digest(line);
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn lines(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(ToOwned::to_owned).collect()
}

pub fn records(file: &Path) -> Vec<Value> {
    let lines = lines(file);
    lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the texts of this key, of all records that have it.
pub fn values_of(records: &[Value], key: &str) -> Vec<String> {
    let texts = records.iter().filter_map(|record| record[key].as_str());
    texts.map(ToOwned::to_owned).collect()
}

/// A forged audit log with a valid chain, as an earlier process could have written it.
#[derive(Default)]
pub struct ForgedLog {
    pub text: String,
    seq: u64,
    prev: String,
}

impl ForgedLog {
    /// Appends a line that is not a record, or a record that is already serialized.
    pub fn line(&mut self, line: &str) -> &mut Self {
        self.prev = sha256(line.as_bytes());
        self.text.push_str(line);
        self.text.push('\n');
        self
    }

    pub fn intent(&mut self, id: &str, user: &str) -> &mut Self {
        self.record("intent", id, user, "", 0)
    }

    pub fn outcome(&mut self, id: &str, user: &str, outcome: &str) -> &mut Self {
        self.record("outcome", id, user, outcome, 1)
    }

    pub fn ended(&mut self, id: &str, user: &str, outcome: &str, attempts: u32) -> &mut Self {
        self.record("outcome", id, user, outcome, attempts)
    }

    /// Appends a record about a deletion on the HMC `hmc`, whose user has these identifiers.
    pub fn hmc(&mut self, event: &str, id: &str, identifiers: &Value, outcome: &str) -> &mut Self {
        let user = identifiers["user_name"].as_str().unwrap_or("id-1");
        let record = json!({
            "ts": "2026-01-02T03:04:05.006Z", "event": event, "request_id": id, "caller": "anonymous",
            "auth": "anonymous", "peer": "127.0.0.1:4", "rpc": "DeleteHmcUser", "target": "hmc", "user": user,
            "identifiers": identifiers, "outcome": outcome, "reason": "", "attempts": 1, "caller_gone": false,
        });
        self.with(record)
    }

    /// Appends the intent and the outcome of a deletion like [`ForgedLog::hmc`].
    pub fn hmc_call(&mut self, id: &str, identifiers: &Value, outcome: &str) -> &mut Self {
        self.hmc("intent", id, identifiers, "");
        self.hmc("outcome", id, identifiers, outcome)
    }

    fn record(
        &mut self,
        event: &str,
        id: &str,
        user: &str,
        outcome: &str,
        attempts: u32,
    ) -> &mut Self {
        let record = json!({
            "ts": "2026-01-02T03:04:05.006Z", "event": event, "request_id": id, "caller": "anonymous",
            "peer": "127.0.0.1:4", "rpc": "DeleteBatchNodeUser", "target": "batch", "user": user,
            "identifiers": {"user_name": user}, "outcome": outcome, "reason": "", "attempts": attempts,
            "caller_gone": false,
        });
        self.with(record)
    }

    /// Appends a record with these keys, and sets `seq` and `prev` to continue the chain.
    pub fn with(&mut self, mut record: Value) -> &mut Self {
        self.seq += 1;
        record["seq"] = self.seq.into();
        record["prev"] = self.prev.as_str().into();
        // `v` comes first, as in the records that the server writes.
        self.line(&format!("{{\"v\":1,{}", &record.to_string()[1..]))
    }

    /// Returns the head of the chain: sequence number and hash of the last record.
    pub fn head(&self) -> String {
        format!("{}:{}", self.seq, self.prev)
    }
}
