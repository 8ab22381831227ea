//! The program in a process of its own, that can be killed.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use useradmin::proto::user_admin_client::UserAdminClient;

use super::batch_section;

const PROGRAM: &str = env!("CARGO_BIN_EXE_useradmin");

/// Writes `useradmin.toml`: the account `batch`, everything allowed, and these sections.
pub fn configure(folder: &Path, url: &str, sections: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[[callers]]\nidentity = \"anonymous\"\n\
         allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n{}{sections}",
        batch_section(folder, url)
    );
    fs::write(folder.join("useradmin.toml"), text).unwrap();
}

/// A server. Dropping it kills it.
pub struct Process {
    child: Child,
    /// Held, so that the program can write to it.
    _stdout: BufReader<ChildStdout>,
    address: String,
}

impl Process {
    /// With `useradmin.toml` of this folder; it is ready when this returns. What it logs goes on in `log`.
    pub fn start(folder: &Path) -> Self {
        Self::run(Command::new(PROGRAM), folder)
    }

    /// The same, but no file can get longer than this, rounded up to 512 bytes.
    pub fn limited(folder: &Path, bytes: usize) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f $0; exec \"$@\""]);
        shell.args([&bytes.div_ceil(512).to_string(), PROGRAM]);
        Self::run(shell, folder)
    }

    fn run(mut command: Command, folder: &Path) -> Self {
        let log = folder.join("log");
        let log = OpenOptions::new().create(true).append(true).open(log);
        command.args(["serve", "--config"]);
        command.arg(folder.join("useradmin.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(log.unwrap()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let Some(address) = line.strip_prefix("listening on ") else {
            // Nobody else would reap it.
            let _ = child.kill();
            let _ = child.wait();
            let log = fs::read_to_string(folder.join("log"));
            panic!("not ready: {line}{}", log.unwrap_or_default());
        };
        Self {
            address: format!("http://{}", address.trim_end()),
            child,
            _stdout: stdout,
        }
    }

    pub async fn client(&self) -> UserAdminClient<Channel> {
        let channel = Channel::from_shared(self.address.clone()).unwrap();
        UserAdminClient::new(channel.connect().await.unwrap())
    }

    /// SIGKILL: no chance to write anything any more.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the end of it.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(sent.unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    /// What all servers of this folder have logged with these words.
    pub fn logged(folder: &Path, message: &str) -> Vec<Value> {
        let text = fs::read_to_string(folder.join("log")).unwrap_or_default();
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["message"] == message)
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until it is so.
#[track_caller]
pub fn until(what: &str, holds: impl Fn() -> bool) -> impl Future<Output = ()> {
    let late = Instant::now() + Duration::from_secs(10);
    async move {
        while !holds() {
            assert!(Instant::now() < late, "never: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}
