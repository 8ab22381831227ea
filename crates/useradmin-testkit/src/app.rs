//! The server under test, bound to port 0 and configured by the text of a configuration file.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;
use useradmin::{
    config::{self, Config},
    proto::{
        DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse, DeleteHmcUserRequest,
        DeleteHmcUserResponse, delete_hmc_user_request::User, user_admin_client::UserAdminClient,
    },
    runtimes::Runtimes,
    server::Server,
};
use uuid::Uuid;

use crate::{CallFailure, canary, failure::result, http_get, wait_until};

/// Common configuration: `anonymous` may call every rpc, there is no admin port, and the audit log is written to the
/// folder of the test.
pub const COMMON: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = ""
[[callers]]
identity = "anonymous"
allow = [
    { rpc = "DeleteBatchNodeUser", targets = ["*"] },
    { rpc = "DeleteHmcUser", targets = ["*"] },
]
"#;

/// A running server. Dropping it stops the server immediately; [`App::stop`] drains it.
pub struct App {
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    pub folder: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    server_task: JoinHandle<Result<(), String>>,
    channel: Channel,
}

impl App {
    /// Creates a folder for the files of one test.
    pub fn folder() -> PathBuf {
        canary::watch_logs();
        let folder = std::env::temp_dir().join(format!("useradmin-test-{}", Uuid::new_v4()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Starts a server with the common sections ([`COMMON`]) and these sections. The folder must already contain the
    /// files that they name.
    pub async fn start_in(folder: PathBuf, sections: &str) -> Self {
        let config = Self::config(&folder, sections);
        Self::run(folder, &config).await
    }

    /// Writes this configuration file to the folder and starts a server with it.
    pub async fn start_with_text(folder: PathBuf, text: &str) -> Self {
        let file = folder.join("useradmin.toml");
        fs::write(&file, text).unwrap();
        let config = config::load(&file).unwrap_or_else(|errors| panic!("{errors}"));
        Self::run(folder, &config).await
    }

    /// Starts a server like [`App::start_in`]. Its drain ends early when `force_stop` receives a message.
    pub async fn start_with_force_stop(
        folder: PathBuf,
        sections: &str,
        force_stop: oneshot::Receiver<()>,
    ) -> Self {
        let config = Self::config(&folder, sections);
        let force_stop = async move {
            let _ = force_stop.await;
        };
        Self::bind_and_start(folder, &config, force_stop).await
    }

    fn config(folder: &Path, sections: &str) -> Config {
        let text = format!("{COMMON}{sections}");
        let config = config::parse(&folder.join("useradmin.toml"), &text);
        config.unwrap_or_else(|errors| panic!("{errors}"))
    }

    pub async fn run(folder: PathBuf, config: &Config) -> Self {
        Self::bind_and_start(folder, config, std::future::pending()).await
    }

    /// Starts a server on dedicated threads, as the program does.
    pub async fn start_on_workers(folder: PathBuf, sections: &str) -> Self {
        let config = Self::config(&folder, sections);
        let server = Server::bind(&config).await.unwrap();
        let server = server.with_runtimes(Runtimes::start().unwrap());
        Self::start_server(folder, server, std::future::pending())
    }

    async fn bind_and_start(
        folder: PathBuf,
        config: &Config,
        force_stop: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let server = Server::bind(config).await.unwrap();
        Self::start_server(folder, server, force_stop)
    }

    fn start_server(
        folder: PathBuf,
        server: Server,
        force_stop: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        canary::watch_logs();
        let address = server.address().unwrap();
        let admin = server.admin_address();
        let (stop, stopped) = oneshot::channel::<()>();
        let stop_signal = async move {
            let _ = stopped.await;
        };
        let server_task = tokio::spawn(server.run(stop_signal, force_stop));
        let channel = Channel::from_shared(format!("http://{address}"))
            .unwrap()
            .connect_lazy();
        Self {
            address,
            admin,
            folder,
            stop: Some(stop),
            server_task,
            channel,
        }
    }

    pub fn client(&self) -> UserAdminClient<Channel> {
        UserAdminClient::new(self.channel.clone())
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub async fn delete_batch_node_user(
        &self,
        request: DeleteBatchNodeUserRequest,
    ) -> Result<DeleteBatchNodeUserResponse, CallFailure> {
        let response = self.client().delete_batch_node_user(request).await;
        result(response)
    }

    pub async fn delete_hmc_user(
        &self,
        request: DeleteHmcUserRequest,
    ) -> Result<DeleteHmcUserResponse, CallFailure> {
        let response = self.client().delete_hmc_user(request).await;
        result(response)
    }

    /// Stops the server and waits until its calls in progress have ended.
    pub async fn stop(mut self) {
        self.drain().await;
    }

    /// Stops the server like [`App::stop`], but keeps its files so that the test can inspect them.
    pub async fn drain(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.server_task).await.unwrap().unwrap();
    }

    /// Returns the HTTP status code of `/readyz`, as text.
    pub async fn readyz(&self) -> String {
        let response = http_get(self.admin.unwrap(), "/readyz").await;
        response.split(' ').nth(1).unwrap().to_owned()
    }

    /// Returns the lines of `/metrics` that contain this text, without comments.
    pub async fn metrics(&self, text: &str) -> Vec<String> {
        let response = http_get(self.admin.unwrap(), "/metrics").await;
        let (_, all_lines) = response.split_once("\r\n\r\n").unwrap();
        let lines = all_lines.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.filter(|line| line.contains(text));
        lines.map(ToOwned::to_owned).collect()
    }

    /// Waits until `/metrics` contains this line.
    pub async fn await_metric(&self, line: &str) {
        wait_until(line, async || {
            self.metrics(line).await.contains(&line.to_owned())
        })
        .await;
    }

    /// Returns the records of the audit log.
    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.folder.join("audit.jsonl")).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.server_task.abort();
        canary::check_file(&self.folder.join("audit.jsonl"));
        canary::check_file(&self.folder.join(".audit.jsonl.logons"));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a request to delete a user of `pool-1/node-1`.
pub fn batch_request(user_name: &str) -> DeleteBatchNodeUserRequest {
    DeleteBatchNodeUserRequest {
        pool_id: "pool-1".to_owned(),
        node_id: "node-1".to_owned(),
        user_name: user_name.to_owned(),
        ..DeleteBatchNodeUserRequest::default()
    }
}

/// Returns a request to delete a user by name.
pub fn delete_by_name(user_name: &str) -> DeleteHmcUserRequest {
    DeleteHmcUserRequest {
        user: Some(User::UserName(user_name.to_owned())),
        ..DeleteHmcUserRequest::default()
    }
}

/// Returns a request to delete a user by object ID.
pub fn delete_by_id(user_id: &str) -> DeleteHmcUserRequest {
    DeleteHmcUserRequest {
        user: Some(User::UserId(user_id.to_owned())),
        ..DeleteHmcUserRequest::default()
    }
}
