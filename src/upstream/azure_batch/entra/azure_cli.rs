//! Tokens of the Azure CLI: runs `az account get-access-token` and parses its output.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    pin,
    process::{Child, Command},
    time::timeout,
};
use zeroize::Zeroizing;

use super::{
    causes::{
        AZURE_CLI_FAILED, AZURE_CLI_NOT_FOUND, AZURE_CLI_NOT_LOGGED_IN,
        AZURE_CLI_OUTPUT_NOT_UNDERSTOOD, AZURE_CLI_TOO_OLD, CREDENTIAL_REFUSED,
        INTERACTION_REQUIRED, TOKEN_ENDPOINT_UNREACHABLE, aadsts_code, is_transient, oauth_error,
        rejected, unreachable,
    },
    document,
    token::Token,
};
use crate::{
    error::{Failure, Repeat},
    upstream::credential_cache::Lease,
};

/// Exit status with which a shell reports that it does not find a program.
const NOT_FOUND: i32 = 127;
/// Maximum output of `az` that is read, in bytes, for each stream.
const MAX_OUTPUT_BYTES: u64 = 1024 * 1024;
/// Maximum time to continue reading after `az` has exited, since a process that it started may keep the streams open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Output {
    stdout: Zeroizing<Vec<u8>>,
    stderr: Zeroizing<Vec<u8>>,
}

/// Returns a token of the account that is logged in to the Azure CLI. Dropping the future kills the CLI and the
/// processes that it started.
pub async fn token(scope: &str, tenant_id: Option<&str>) -> Result<Lease<Token>, Failure> {
    let mut command = Command::new("az");
    command.args(["account", "get-access-token", "--output", "json"]);
    command.args(["--scope", scope]);
    if let Some(tenant_id) = tenant_id {
        command.args(["--tenant", tenant_id]);
    }
    // If PATH has a relative entry, it must not select a program in the server's working directory.
    command.current_dir("/bin");
    // Versions before 2.54 print the expiry only as a local time without a zone.
    command.env("TZ", "UTC0");
    match run(command).await {
        Ok((status, output)) if status.success() => {
            document::read(&output.stdout, SystemTime::now()).map_err(|error| {
                let context = format!("the output of az cannot be used: {error}");
                not_understood(context)
            })
        }
        Ok((status, output)) => Err(failure(status, &String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(run_failure(&error)),
    }
}

async fn run(mut command: Command) -> io::Result<(ExitStatus, Output)> {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let mut child = command.spawn()?;
    let mut group = Group(child.id());
    let mut output = Output::default();
    let (status, streams_closed) = wait_with_output(&mut child, &mut output).await?;
    if status.success() && streams_closed {
        group.0 = None;
    }
    Ok((status, output))
}

/// Reads the output until the command has exited. Returns the exit status, and whether both streams were closed
/// within [`OUTPUT_TIMEOUT`] after the exit.
async fn wait_with_output(
    child: &mut Child,
    output: &mut Output,
) -> io::Result<(ExitStatus, bool)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async {
        tokio::try_join!(
            read(stdout, &mut output.stdout),
            read(stderr, &mut output.stderr)
        )
    };
    pin!(reading);
    tokio::select! {
        done = &mut reading => {
            done?;
            Ok((child.wait().await?, true))
        }
        status = child.wait() => {
            let done = timeout(OUTPUT_TIMEOUT, reading).await;
            let streams_closed = done.is_ok();
            if let Ok(done) = done {
                done?;
            }
            Ok((status?, streams_closed))
        }
    }
}

async fn read(stream: Option<impl AsyncRead + Unpin>, into: &mut Vec<u8>) -> io::Result<()> {
    let Some(stream) = stream else {
        return Ok(());
    };
    let read = stream.take(MAX_OUTPUT_BYTES).read_to_end(into).await?;
    if read as u64 == MAX_OUTPUT_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(())
}

/// Process group of `az` and the processes that it started, which are killed when the value is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let group = self.0.and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            let _ended = kill_process_group(group, Signal::KILL);
        }
    }
}

fn run_failure(error: &io::Error) -> Failure {
    let context = format!("az cannot be run: {error}");
    match error.kind() {
        io::ErrorKind::NotFound => rejected(AZURE_CLI_NOT_FOUND, context),
        io::ErrorKind::FileTooLarge => not_understood("az prints more than 1 MiB".to_owned()),
        io::ErrorKind::PermissionDenied => rejected(AZURE_CLI_FAILED, context),
        // For example, the process has too many open files.
        _ => unreachable(AZURE_CLI_FAILED, context),
    }
}

/// Returns the failure for output without a usable token. The call fails without another run of `az`.
fn not_understood(context: String) -> Failure {
    Failure {
        repeat: Repeat::Never,
        ..unreachable(AZURE_CLI_OUTPUT_NOT_UNDERSTOOD, context)
    }
}

/// Returns the failure for an exit status. `text` is not logged, because it may contain secrets.
fn failure(status: ExitStatus, text: &str) -> Failure {
    let aadsts = aadsts_code(text);
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let oauth = words.find_map(oauth_error);
    let mut context = format!("az failed: {status}");
    if let Some(error) = oauth {
        context = format!("{context}, {error}");
    }
    if let Some(code) = aadsts {
        context = format!("{context}, AADSTS{code}");
    }
    let says = |words: &[&str]| words.iter().any(|words| text.contains(words));
    let login = says(&["az login", "az account set"]);

    let failure = if is_transient(oauth, aadsts) {
        unreachable(oauth.unwrap_or(CREDENTIAL_REFUSED), context)
    } else if aadsts.is_some() {
        let usual = if login {
            INTERACTION_REQUIRED
        } else {
            CREDENTIAL_REFUSED
        };
        rejected(oauth.unwrap_or(usual), context)
    } else if status.code() == Some(NOT_FOUND) {
        rejected(AZURE_CLI_NOT_FOUND, context)
    } else if login {
        rejected(AZURE_CLI_NOT_LOGGED_IN, context)
    } else if says(&["unrecognized arguments", "not recognized", "command group"]) {
        rejected(AZURE_CLI_TOO_OLD, context)
    } else if says(&["network connection", "Max retries exceeded"]) {
        unreachable(TOKEN_ENDPOINT_UNREACHABLE, context)
    } else if status.code().is_none() {
        // `az` was killed by a signal, for example because the system ran out of memory.
        unreachable(AZURE_CLI_FAILED, context)
    } else {
        rejected(AZURE_CLI_FAILED, context)
    };
    failure.with_aadsts_code(aadsts)
}
