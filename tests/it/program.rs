//! The program itself: its exit codes, its one line on standard output, its signals.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use crate::support::App;

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_useradmin"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// A folder with a configuration file.
fn configured(text: &str) -> (PathBuf, PathBuf) {
    let folder = App::folder();
    let file = folder.join("useradmin.toml");
    fs::write(&file, text).unwrap();
    fs::write(folder.join("password"), "secret\n").unwrap();
    (folder, file)
}

const SOUND: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[hmcs.h]
url = "https://hmc.example:6794"
userid = "u"
password_file = "password"
"#;

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

#[test]
fn check_config_tells_every_fault() {
    let (folder, file) = configured(SOUND);
    let (code, out, err) = run(&["check-config", "--config", path(&file)]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));

    fs::write(&file, SOUND.replace("password\"", "gone\"")).unwrap();
    let file = path(&file);
    let gone = folder.join("gone");
    let expected = format!(
        "{file}:8:17: `password_file` cannot be used: No such file or directory (os error 2) ({})\n\
         password_file = \"gone\"\n                ^\n",
        gone.display()
    );
    for command in ["check-config", "serve"] {
        let (code, out, err) = run(&[command, "--config", file]);
        assert_eq!((code, out.as_str(), &err), (2, "", &expected));
    }
    fs::remove_dir_all(folder).unwrap();

    for command in ["check-config", "serve"] {
        let (code, out, err) = run(&[command, "--config", file]);
        assert_eq!((code, out.as_str()), (2, ""));
        let expected = "1:1: cannot be read: No such file or directory (os error 2)\n";
        assert_eq!(err, format!("{file}:{expected}"));
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    for arguments in [
        &["serve"][..],
        &["serve", "--sandbox", "--config", "x"],
        &["serve", "--config", "x", "--listen", "127.0.0.1:0"],
        &["check-config"],
        &["frobnicate"],
        &[],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains("Usage:"), "{err}");
    }
}

/// A server in a process of its own.
struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Serving {
    fn start(arguments: &[&str]) -> Self {
        Self::logging(arguments, Stdio::null())
    }

    fn logging(arguments: &[&str], log: Stdio) -> Self {
        let mut command = program(arguments);
        command.stdout(Stdio::piped()).stderr(log);
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

    /// Sends a signal and waits for the end.
    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.unwrap().success());
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

#[test]
fn the_sandbox_serves_until_a_signal() {
    for signal in ["TERM", "INT"] {
        let serving = Serving::start(&["serve", "--sandbox", "--listen", "127.0.0.1:0"]);
        let address = serving.address.clone();
        let (code, out, err) = run(&["health", "--addr", &address]);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
        assert_eq!(serving.stop(signal), (Some(0), String::new()));
        let (code, out, err) = run(&["health", "--addr", &address]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains(&address), "{err}");
    }
}

/// Ready does not wait for upstreams, and health does not depend on them.
#[test]
fn a_configured_server_is_ready_without_its_upstreams() {
    let (folder, file) = configured(SOUND);
    let serving = Serving::start(&["serve", "--config", path(&file)]);
    let (code, ..) = run(&["health", "--addr", &serving.address]);
    assert_eq!(code, 0);

    // A port that is taken is no fault of the configuration.
    let taken = SOUND.replacen("127.0.0.1:0", &serving.address, 1);
    fs::write(&file, taken).unwrap();
    let (code, out, err) = run(&["serve", "--config", path(&file)]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("cannot listen on"), "{err}");

    assert_eq!(serving.stop("TERM"), (Some(0), String::new()));
    fs::remove_dir_all(folder).unwrap();
}

/// Whoever takes the log may go away, or have no space left: the service goes on.
#[test]
fn a_log_that_cannot_be_written_stops_nothing() {
    let (folder, file) = configured(SOUND);
    let full = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let serving = Serving::logging(&["serve", "--config", path(&file)], full.into());
    let (code, ..) = run(&["health", "--addr", &serving.address]);
    assert_eq!(code, 0);
    assert_eq!(serving.stop("TERM"), (Some(0), String::new()));
    fs::remove_dir_all(folder).unwrap();
}
