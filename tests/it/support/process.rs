//! The program in a process of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use tonic::transport::Channel;
use useradmin::proto::user_admin_client::UserAdminClient;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_useradmin"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs it to its end: the exit code, standard output, standard error.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A server in a process of its own.
pub struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub address: String,
}

impl Serving {
    pub fn start(arguments: &[&str]) -> Self {
        Self::logging(arguments, Stdio::null(), "")
    }

    /// With its log there, at this level.
    pub fn logging(arguments: &[&str], log: impl Into<Stdio>, level: &str) -> Self {
        let mut command = program(arguments);
        command
            .stdout(Stdio::piped())
            .stderr(log)
            .env("RUST_LOG", level);
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap().trim_end();
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"));
        Self {
            address: address.to_owned(),
            child,
            stdout,
        }
    }

    pub fn client(&self) -> UserAdminClient<Channel> {
        let url = format!("http://{}", self.address);
        UserAdminClient::new(Channel::from_shared(url).unwrap().connect_lazy())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Sends a signal and waits for the end.
    pub fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
