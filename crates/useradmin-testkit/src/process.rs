//! Runs the program in a separate process.

use std::{
    env,
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader, Read as _},
    net::{IpAddr, TcpListener},
    path::{Path, PathBuf},
    process::{self, Child, ChildStdout, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
};

use serde_json::Value;
use tonic::transport::Channel;
use useradmin::proto::user_admin_client::UserAdminClient;

use crate::batch_section;

/// Returns the path of the program. Cargo builds it before tests and benchmarks, in the parent of the folder that
/// contains their executables.
pub fn program() -> PathBuf {
    let executable = env::current_exe().unwrap();
    let folder = executable.parent().and_then(Path::parent).unwrap();
    folder.join("useradmin")
}

/// Runs the program until it exits. Returns the exit code, standard output and standard error.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    run_with_env(&[], arguments)
}

/// Runs the program like [`run`], with these environment variables.
pub fn run_with_env(variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(program());
    command.envs(variables.iter().copied());
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Writes `useradmin.toml` with the account `batch`, permission for every call, and these sections.
pub fn configure(folder: &Path, url: &str, sections: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[[callers]]\nidentity = \"anonymous\"\n\
         allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n{}{sections}",
        batch_section(folder, url)
    );
    fs::write(folder.join("useradmin.toml"), text).unwrap();
}

/// Returns a free port below the ephemeral range, so that other tests do not bind it before the server does.
pub fn free_port() -> u16 {
    static TRIED_PORTS: AtomicU16 = AtomicU16::new(0);
    let start = process::id() % 10_000;
    loop {
        let offset = TRIED_PORTS.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (start as u16 + offset) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Writes a configuration with an admin port and returns the address of that port.
pub fn configure_with_admin(folder: &Path, url: &str) -> String {
    configure(folder, url, "");
    let admin = format!("127.0.0.1:{}", free_port());
    let file = folder.join("useradmin.toml");
    let text = fs::read_to_string(&file).unwrap();
    let key_line = format!("admin_listen = \"{admin}\"");
    fs::write(file, text.replace("admin_listen = \"\"", &key_line)).unwrap();
    admin
}

/// A running server process that is ready. It is killed when dropped.
pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub address: String,
}

impl Process {
    /// Starts the program with these arguments. The program logs to this destination at this level.
    pub fn start_with_log(arguments: &[&str], log: impl Into<Stdio>, level: &str) -> Self {
        let mut command = Command::new(program());
        command.args(arguments).stderr(log).env("RUST_LOG", level);
        Self::ready(command)
    }

    /// Starts the program with `useradmin.toml` in this folder. The log is appended to the file `log`.
    pub fn start(folder: &Path) -> Self {
        Self::run(Command::new(program()), folder)
    }

    /// Starts the program like [`Process::start`], with these environment variables.
    pub fn start_with_env(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program());
        command.envs(variables.iter().copied());
        Self::run(command, folder)
    }

    /// Starts the program with a limit of the file size in bytes, rounded up to a multiple of 512.
    pub fn start_with_file_size_limit(folder: &Path, bytes: usize) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -f $0; exec \"$@\""]);
        shell.arg(bytes.div_ceil(512).to_string()).arg(program());
        Self::run(shell, folder)
    }

    /// Starts the program with this soft limit of open files.
    pub fn start_with_soft_file_limit(folder: &Path, max: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -S -n $0; exec \"$@\""]);
        shell.arg(max.to_string()).arg(program());
        Self::run(shell, folder)
    }

    /// Starts the program with this soft and hard limit of open files.
    pub fn start_with_file_limit(folder: &Path, max: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n $0; exec \"$@\""]);
        shell.arg(max.to_string()).arg(program());
        Self::run(shell, folder)
    }

    /// Starts the program under strace, which records its write and send system calls in this file.
    pub fn start_traced(folder: &Path, file: &Path) -> Self {
        let mut strace = Command::new("strace");
        // `-D` keeps the program a direct child of this process, so that it can be signalled; `-yy` prints the target
        // of each descriptor.
        strace
            .args(["-D", "-f", "-yy", "-s", "512", "-o"])
            .arg(file);
        let calls = "trace=openat,write,writev,sendto,sendmsg,connect,fdatasync";
        strace.args(["-e", calls]).arg(program());
        Self::run(strace, folder)
    }

    /// Starts the program under strace, which delays each sync by 50 ms and records the syncs in this file.
    pub fn start_with_slow_sync(folder: &Path, file: &Path) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-o"]).arg(file);
        strace.args(["-e", "trace=fdatasync"]);
        strace.args(["-e", "inject=fdatasync:delay_exit=50ms"]);
        strace.arg(program());
        Self::run(strace, folder)
    }

    /// Starts the program under strace, which makes some writes to the audit log fail and records the writes in this
    /// file. `writes` is a range of their numbers, such as `3..8`.
    pub fn start_with_failing_writes(folder: &Path, file: &Path, writes: &str) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-o"]).arg(file);
        strace.arg("-P").arg(folder.join("audit.jsonl"));
        let error = format!("inject=write:error=EIO:when={writes}");
        strace
            .args(["-e", "trace=write", "-e", &error])
            .arg(program());
        Self::run(strace, folder)
    }

    fn run(mut command: Command, folder: &Path) -> Self {
        let log = folder.join("log");
        let log = OpenOptions::new().create(true).append(true).open(log);
        command.args(["serve", "--config"]);
        command.arg(folder.join("useradmin.toml"));
        command.stderr(log.unwrap());
        Self::ready(command)
    }

    fn ready(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut process = Self {
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
            address: String::new(),
        };
        let mut line = String::new();
        process.stdout.read_line(&mut line).unwrap();
        let Some(address) = line.strip_prefix("listening on ") else {
            panic!("not ready: {line}{command:?}");
        };
        address.trim_end().clone_into(&mut process.address);
        assert!(address.starts_with("127.0.0.1:") && !process.address.ends_with(":0"));
        process
    }

    pub fn client(&self) -> UserAdminClient<Channel> {
        let url = format!("http://{}", self.address);
        UserAdminClient::new(Channel::from_shared(url).unwrap().connect_lazy())
    }

    /// Returns a client that connects from this loopback address.
    pub fn client_from(&self, source: [u8; 4]) -> UserAdminClient<Channel> {
        let endpoint = Channel::from_shared(format!("http://{}", self.address)).unwrap();
        let endpoint = endpoint.local_address(Some(IpAddr::from(source)));
        UserAdminClient::new(endpoint.connect_lazy())
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Kills the process with SIGKILL, so that it cannot write anything more.
    pub fn kill(self) {
        drop(self);
    }

    /// Stops the process with SIGTERM and asserts that it exits with 0.
    pub fn stop(self) {
        assert_eq!(self.stop_with("TERM").0, Some(0));
    }

    /// Sends a signal and waits for the process to exit. Returns the exit code and the rest of standard output.
    pub fn stop_with(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }

    /// Returns the log records with this message. The log is that of all servers that were started in this folder.
    pub fn log_records(folder: &Path, message: &str) -> Vec<Value> {
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
        // Reaps the child process.
        let _ = self.child.wait();
    }
}
