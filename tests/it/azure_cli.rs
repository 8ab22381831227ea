//! The Azure CLI as a token source: time limit, accepted output, and reasons for a missing token.

mod causes;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use futures_util::future::join_all;
use tonic::{Code, Request};
use useradmin::proto::{DeleteBatchNodeUserResponse, DeleteOutcome::Deleted};
use useradmin_testkit::{
    App, CallFailure, Process, Upstream, batch_deleted, batch_request, now, wait_until,
};

/// A server whose `az` is this script.
struct Server {
    folder: PathBuf,
    process: Process,
    _upstream: Upstream,
}

impl Server {
    async fn start(keys: &str, script: &str) -> Self {
        let upstream = Upstream::start(|_| batch_deleted()).await;
        let folder = App::folder();
        let az = folder.join("az");
        let script = format!(
            "#!/bin/sh\necho \"$@\" >>{}/begun\n{script}\n",
            folder.display()
        );
        fs::write(&az, script).unwrap();
        fs::set_permissions(&az, Permissions::from_mode(0o755)).unwrap();
        let config = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[[callers]]\nidentity = \"anonymous\"\n\
             allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n\
             [batch_accounts.batch]\nurl = \"{}\"\n[batch_accounts.batch.credential]\nkind = \"azure_cli\"\n{keys}",
            upstream.url
        );
        fs::write(folder.join("useradmin.toml"), config).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.display());
        let process = Process::start_with_env(&folder, &[("PATH", &path)]);
        Self {
            folder,
            process,
            _upstream: upstream,
        }
    }

    async fn delete(&self, seconds: f64) -> Result<DeleteBatchNodeUserResponse, CallFailure> {
        let mut request = Request::new(batch_request("alice"));
        request.set_timeout(Duration::from_secs_f64(seconds));
        let mut client = self.process.client();
        let response = client.delete_batch_node_user(request).await;
        response
            .map(tonic::Response::into_inner)
            .map_err(CallFailure::from)
    }

    fn started_runs(&self) -> usize {
        count_lines(&self.folder.join("begun"))
    }

    /// Waits until the process whose ID the script wrote to the file `child` has exited.
    async fn wait_for_child_exit(&self) {
        let child = fs::read_to_string(self.folder.join("child")).unwrap();
        let status = PathBuf::from(format!("/proc/{}/stat", child.trim()));
        wait_until("the process has ended", async || {
            // A process that has exited stays a zombie if its parent does not wait for it.
            fs::read_to_string(&status).map_or(true, |text| text.contains(") Z "))
        })
        .await;
    }

    /// Stops the server. Returns the log messages about calls and about tokens. The output of `az` must not be logged.
    fn stop_and_read_contexts(self) -> [Vec<String>; 2] {
        self.process.stop();
        let log = fs::read_to_string(self.folder.join("log")).unwrap();
        assert!(!log.contains("C4N4RY"), "{log}");
        let contexts = ["call ended", "access token request failed"].map(|message| {
            let lines = Process::log_records(&self.folder, message);
            let contexts = lines.iter().map(|line| line["context"].as_str());
            contexts.flatten().map(str::to_owned).collect()
        });
        fs::remove_dir_all(self.folder).unwrap();
        contexts
    }
}

fn count_lines(file: &Path) -> usize {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().count()
}

fn script_with_token(members: &str) -> String {
    format!("echo '{{\"accessToken\":\"kanari-token-az\",{members}\"tokenType\":\"Bearer\"}}'")
}

/// The script takes longer than the timeout of other credential kinds.
#[tokio::test(flavor = "multi_thread")]
async fn call_waits_for_slow_azure_cli() {
    let script = format!("sleep 9\n{}", script_with_token(r#""expires_in":3599,"#));
    let server = Server::start("", &script).await;
    let response = server.delete(25.0).await.unwrap();
    assert_eq!((response.outcome(), response.attempts), (Deleted, 1));
    assert_eq!(server.started_runs(), 1);
}

/// Returns a script that exits when the test calls [`release`].
fn waiting_script() -> String {
    format!(
        "while [ ! -e {RELEASE_FILE} ]; do sleep 0.05; done\n{}",
        script_with_token(r#""expires_in":3599,"#)
    )
}

const RELEASE_FILE: &str = "$(dirname $0)/go";

fn release(server: &Server) {
    fs::write(server.folder.join("go"), "").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn late_token_is_used_by_next_call() {
    let unreachable = (Code::Unavailable, "UPSTREAM_UNREACHABLE", "token_timed_out");
    let exceeded = (
        Code::DeadlineExceeded,
        "DEADLINE_EXCEEDED",
        "token_timed_out",
    );
    let rows = [
        ("", 0.6, exceeded),
        ("token_timeout_seconds = 1\n", 20.0, unreachable),
    ];
    for (keys, seconds, (code, reason, cause)) in rows {
        let server = Server::start(keys, &waiting_script()).await;
        for _ in 0..2 {
            let error = server.delete(seconds).await.unwrap_err();
            error.expect(code, reason);
            assert_eq!(error.metadata_value("cause"), cause);
        }
        release(&server);
        wait_until("there is a token", async || {
            server.delete(seconds).await.is_ok()
        })
        .await;
        assert_eq!(server.started_runs(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_share_one_azure_cli_process() {
    let server = Server::start("tenant_id = \"tenant-1\"\n", &waiting_script()).await;
    let calls = join_all((0..8).map(|_| server.delete(20.0)));
    let release_when_started = async {
        wait_until("az runs", async || server.started_runs() > 0).await;
        release(&server);
    };
    let (response, ()) = tokio::join!(calls, release_when_started);
    assert!(response.iter().all(Result::is_ok), "{response:?}");
    assert_eq!(
        fs::read_to_string(server.folder.join("begun")).unwrap(),
        "account get-access-token --output json --scope https://batch.core.windows.net//.default --tenant tenant-1\n"
    );
}

/// The script is killed at shutdown, whether or not a call is waiting for it.
#[tokio::test(flavor = "multi_thread")]
async fn azure_cli_is_killed_at_shutdown() {
    for (seconds, stop_after_call) in [(0.5, true), (2.0, false)] {
        let script = "sleep 300 & echo $! >$(dirname $0)/child\nwait";
        let server = Server::start("", script).await;
        let stop = async {
            let child = server.folder.join("child");
            wait_until("az runs", async || count_lines(&child) == 1).await;
            if !stop_after_call {
                server.process.signal("TERM");
            }
        };
        let (failure, ()) = tokio::join!(server.delete(seconds), stop);
        failure
            .unwrap_err()
            .expect(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        if stop_after_call {
            server.process.signal("TERM");
        }
        server.wait_for_child_exit().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_cli_leaves_no_child_process() {
    let token_script = script_with_token(r#""expires_in":3599,"#);
    for (streams, last_command, succeeds) in [
        ("", "exit 1", false),
        (">/dev/null 2>&1", "exit 1", false),
        ("2>/dev/null", "kill -9 $$", false),
        ("", &token_script, true),
        (">/dev/null", &token_script, true),
    ] {
        let script = format!("sleep 300 {streams} & echo $! >$(dirname $0)/child\n{last_command}");
        let server = Server::start("", &script).await;
        let response = server.delete(20.0).await;
        assert_eq!(response.is_ok(), succeeds, "{script}: {response:?}");
        server.wait_for_child_exit().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_cli_with_endless_output_is_killed() {
    for script in ["exec yes", "exec yes >&2"] {
        let script = format!("echo $$ >$(dirname $0)/child\n{script}");
        let server = Server::start("", &script).await;
        let failure = server.delete(20.0).await.unwrap_err();
        failure.expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
        assert_eq!(
            failure.metadata_value("cause"),
            "azure_cli_output_not_understood"
        );
        server.wait_for_child_exit().await;
        assert_eq!(server.started_runs(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_azure_cli_output_formats_are_parsed() {
    let at = now() + 3_600;
    let members = [
        format!(r#""expires_on":{at},"#),
        format!(r#""expires_on":"{at}","#),
        format!(r#""expires_on":{at}.5,"#),
        format!(r#""expiresOn":"2020-01-01 00:00:00.000000","expires_on":{at},"#),
        r#""expires_in":3599,"#.to_owned(),
        r#""expiresIn":3599,"#.to_owned(),
        r#""expiresIn":3599,"expires_in":3599,"#.to_owned(),
        r#""expiresOn":"","expires_on":" ","expires_in":"","expiresIn":"","#.to_owned(),
        r#""access_token":"kanari-token-az","expiresIn":3599,"#.to_owned(),
        r#""expiresOn":"2126-01-01T00:00:00Z","expires_in":3599,"#.to_owned(),
    ];
    let token_script = script_with_token(r#""expires_in":3599,"#);
    // Versions before 2.54 print a local time, in the time zone of the server or in another one.
    let local_time_script = |zone: &str| {
        format!(
            "at=$({zone}date -d '+1 hour' '+%Y-%m-%d %H:%M:%S.000000')\n\
             echo \"{{\\\"accessToken\\\":\\\"kanari-token-az\\\",\\\"expiresOn\\\":\\\"$at\\\"}}\""
        )
    };
    let scripts = [
        local_time_script(""),
        local_time_script("TZ=EST5 "),
        local_time_script("TZ=JST-9 "),
        // More than the capacity of a pipe.
        format!("head -c 200000 /dev/zero | tr '\\0' W >&2\n{token_script}"),
        format!("echo 'WARNING: az login is older than ERROR: AADSTS90002' >&2\n{token_script}"),
        // A child process keeps the output streams open.
        format!("sleep 30 &\n{token_script}"),
    ];
    let members = members.iter().map(|members| script_with_token(members));
    for script in members.chain(scripts) {
        let server = Server::start("", &script).await;
        for _ in 0..2 {
            let response = server.delete(20.0).await;
            let response = response.unwrap_or_else(|failure| panic!("{script}: {failure:?}"));
            assert_eq!(response.outcome(), Deleted, "{script}");
        }
        assert_eq!(server.started_runs(), 1, "{script}");
    }
}
