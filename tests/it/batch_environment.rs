//! The program with environment variables: proxy settings are ignored, and identity settings are used.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tonic::{Code, transport::Channel};
use useradmin::proto::{DeleteOutcome, user_admin_client::UserAdminClient};
use useradmin_testkit::{
    App, CallFailure, Reply, Upstream, batch_deleted, batch_request, batch_section, token_reply_or,
};

/// A running program, which is killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const HEAD: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = ""
[[callers]]
identity = "anonymous"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
"#;

/// Starts the program in this environment. Returns it with the address that it prints.
fn start(folder: &Path, section: &str, environment: &[(&str, &str)]) -> (Program, String) {
    let file = folder.join("useradmin.toml");
    fs::write(&file, format!("{HEAD}{section}")).unwrap();
    let mut command = Command::new(useradmin_testkit::program());
    command.arg("serve").arg("--config").arg(file);
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    command.envs(environment.iter().copied());
    let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = Program(command.spawn().unwrap());
    let mut line = String::new();
    let stdout = program.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening on ").unwrap();
    (program, format!("http://{address}"))
}

/// Deletes the user `alice` with a program in this environment.
async fn delete(
    section: &str,
    folder: PathBuf,
    environment: &[(&str, &str)],
) -> Result<DeleteOutcome, CallFailure> {
    let (program, address) = start(&folder, section, environment);
    let channel = Channel::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let call = UserAdminClient::new(channel)
        .delete_batch_node_user(batch_request("alice"))
        .await;
    drop(program);
    fs::remove_dir_all(folder).unwrap();
    call.map(|response| response.into_inner().outcome())
        .map_err(CallFailure::from)
}

/// Returns the section of an account whose credential needs only a kind.
fn account_section(url: &str, kind: &str) -> String {
    format!(
        "[batch_accounts.batch]\nurl = \"{url}\"\n[batch_accounts.batch.credential]\nkind = \"{kind}\"\n"
    )
}

/// Returns the time in an hour, in seconds of Unix time.
fn expiry_in_one_hour() -> u64 {
    let hour = SystemTime::now() + Duration::from_hours(1);
    hour.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread")]
async fn proxy_environment_variables_are_ignored() {
    let proxy = Upstream::start(|_| Reply::html(502)).await;
    let upstream = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let names = [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ];
    let environment = names.map(|name| (name, proxy.url.as_str()));
    let outcome = delete(&section, folder, &environment).await.unwrap();
    assert_eq!(outcome, DeleteOutcome::Deleted);
    assert_eq!(upstream.received().len(), 2);
    assert_eq!(proxy.received().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_identity_obtains_token() {
    let identity = Upstream::start(|_| {
        let expiry = expiry_in_one_hour();
        let resource = "https://batch.core.windows.net/";
        Reply::json(200, &format!(
            r#"{{"access_token":"kanari-token-mi","expires_on":"{expiry}","resource":"{resource}","token_type":"Bearer"}}"#
        ))
    })
    .await;
    let upstream = Upstream::start(|_| batch_deleted()).await;
    let endpoint = format!("{}/msi/token", identity.url);
    let environment = [
        ("IDENTITY_ENDPOINT", endpoint.as_str()),
        ("IDENTITY_HEADER", "header-1"),
    ];
    let section = account_section(&upstream.url, "managed_identity");
    let outcome = delete(&section, App::folder(), &environment).await.unwrap();
    assert_eq!(outcome, DeleteOutcome::Deleted);
    let token_request = &identity.received()[0];
    assert_eq!(token_request.header("x-identity-header"), Some("header-1"));
    // The audience ends with a slash, which is the second slash of the scope.
    assert!(
        token_request
            .target
            .contains("resource=https%3A%2F%2Fbatch.core.windows.net%2F"),
        "{}",
        token_request.target
    );
    let delete_request = &upstream.requests("DELETE", "/pools/")[0];
    assert_eq!(
        delete_request.header("authorization"),
        Some("Bearer kanari-token-mi")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_cli_login_obtains_token() {
    let upstream = Upstream::start(|_| batch_deleted()).await;
    let folder = App::folder();
    let az = folder.join("az");
    let response = format!(
        r#"{{"accessToken":"kanari-token-az","expires_on":{},"tokenType":"Bearer"}}"#,
        expiry_in_one_hour()
    );
    let script = format!(
        "#!/bin/sh\necho \"$@\" >{0}/asked\necho '{response}'\n",
        folder.display()
    );
    fs::write(&az, script).unwrap();
    fs::set_permissions(&az, Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let section = account_section(&upstream.url, "azure_cli");
    let outcome = delete(&section, folder, &[("PATH", &path)]).await.unwrap();
    assert_eq!(outcome, DeleteOutcome::Deleted);
    let delete_request = &upstream.requests("DELETE", "/pools/")[0];
    assert_eq!(
        delete_request.header("authorization"),
        Some("Bearer kanari-token-az")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_azure_cli_login_is_credentials_rejected() {
    let upstream = Upstream::start(|_| batch_deleted()).await;
    let section = account_section(&upstream.url, "azure_cli");
    // `az` is not installed.
    let failure = delete(&section, App::folder(), &[("PATH", "/nonexistent")])
        .await
        .unwrap_err();
    failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(failure.metadata_value("cause"), "azure_cli_not_found");
    assert!(upstream.received().is_empty());
}
