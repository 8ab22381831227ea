//! The program in a process of its own.

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

/// Returns the path of the program. Cargo builds it before tests and benchmarks, into the folder above theirs.
pub fn program() -> PathBuf {
    let executable = env::current_exe().unwrap();
    let folder = executable.parent().and_then(Path::parent).unwrap();
    folder.join("useradmin")
}

/// Runs it to its end: the exit code, standard output, standard error.
pub fn run(arguments: &[&str]) -> (i32, String, String) {
    run_in(&[], arguments)
}

/// The same, with these variables in its environment.
pub fn run_in(variables: &[(&str, &str)], arguments: &[&str]) -> (i32, String, String) {
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

/// Writes `useradmin.toml`: the account `batch`, everything allowed, and these sections.
pub fn configure(folder: &Path, url: &str, sections: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[[callers]]\nidentity = \"anonymous\"\n\
         allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n{}{sections}",
        batch_section(folder, url)
    );
    fs::write(folder.join("useradmin.toml"), text).unwrap();
}

/// Returns a free port below those that the kernel hands out, which other tests would take before the server does.
pub fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let start = process::id() % 10_000;
    loop {
        let tried = TRIED.fetch_add(1, Ordering::Relaxed);
        let port = 20_000 + (start as u16 + tried) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Writes a configuration with an admin port, and returns the address of the port.
pub fn configure_with_admin(folder: &Path, url: &str) -> String {
    configure(folder, url, "");
    let admin = format!("127.0.0.1:{}", free_port());
    let file = folder.join("useradmin.toml");
    let text = fs::read_to_string(&file).unwrap();
    let named = format!("admin_listen = \"{admin}\"");
    fs::write(file, text.replace("admin_listen = \"\"", &named)).unwrap();
    admin
}

/// A server that is ready. Dropping it kills it.
pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub address: String,
}

impl Process {
    /// With these arguments, and its log there, at this level.
    pub fn logging(arguments: &[&str], log: impl Into<Stdio>, level: &str) -> Self {
        let mut command = Command::new(program());
        command.args(arguments).stderr(log).env("RUST_LOG", level);
        Self::ready(command)
    }

    /// With `useradmin.toml` of this folder. What it logs goes on in `log`.
    pub fn start(folder: &Path) -> Self {
        Self::run(Command::new(program()), folder)
    }

    /// The same, with these variables in its environment.
    pub fn start_in(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program());
        command.envs(variables.iter().copied());
        Self::run(command, folder)
    }

    /// The same, but no file can get longer than this, rounded up to 512 bytes.
    pub fn limited(folder: &Path, bytes: usize) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -f $0; exec \"$@\""]);
        shell.arg(bytes.div_ceil(512).to_string()).arg(program());
        Self::run(shell, folder)
    }

    /// The same, but it begins with this limit of open files.
    pub fn few_files(folder: &Path, most: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -S -n $0; exec \"$@\""]);
        shell.arg(most.to_string()).arg(program());
        Self::run(shell, folder)
    }

    /// The same, but it can never have more open files than this.
    pub fn no_more_files(folder: &Path, most: u32) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n $0; exec \"$@\""]);
        shell.arg(most.to_string()).arg(program());
        Self::run(shell, folder)
    }

    /// The same, and its system calls that write or send go to this file.
    pub fn traced(folder: &Path, file: &Path) -> Self {
        let mut strace = Command::new("strace");
        // `-D`: the program is this process's child, for its signals; `-yy`: what is behind a descriptor.
        strace
            .args(["-D", "-f", "-yy", "-s", "512", "-o"])
            .arg(file);
        let calls = "trace=openat,write,writev,sendto,sendmsg,connect,fdatasync";
        strace.args(["-e", calls]).arg(program());
        Self::run(strace, folder)
    }

    /// The same, and each sync takes 50 milliseconds; this file tells of them.
    pub fn slow_to_sync(folder: &Path, file: &Path) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-o"]).arg(file);
        strace.args(["-e", "trace=fdatasync"]);
        strace.args(["-e", "inject=fdatasync:delay_exit=50ms"]);
        strace.arg(program());
        Self::run(strace, folder)
    }

    /// The same, and these writes to its audit log fail, such as `3..8`; this file tells of them.
    pub fn failing_writes(folder: &Path, file: &Path, writes: &str) -> Self {
        let mut strace = Command::new("strace");
        strace.args(["-D", "-f", "-o"]).arg(file);
        strace.arg("-P").arg(folder.join("audit.jsonl"));
        let fault = format!("inject=write:error=EIO:when={writes}");
        strace
            .args(["-e", "trace=write", "-e", &fault])
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

    /// Returns a client that connects from this address of the loopback network.
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

    /// SIGKILL: no chance to write anything any more.
    pub fn kill(self) {
        drop(self);
    }

    /// SIGTERM, and the good end of it.
    pub fn stop(self) {
        assert_eq!(self.end("TERM").0, Some(0));
    }

    /// Sends a signal and waits for the end: the exit code, and the rest of standard output.
    pub fn end(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
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
        // Nobody else would reap it.
        let _ = self.child.wait();
    }
}
