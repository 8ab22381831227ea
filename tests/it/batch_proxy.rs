//! The program itself with proxies in its environment: requests and credentials go to the configured hosts alone.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use tonic::transport::Channel;
use useradmin::proto::{DeleteOutcome, user_admin_client::UserAdminClient};

use crate::support::{App, Reply, Upstream, batch_deleted, batch_request, batch_section, token_or};

/// Ends the program when the test ends, however it ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the program, and returns with the address that it tells.
fn start(configuration: &str, proxy: &str) -> (Program, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_useradmin"));
    command.args(["serve", "--config", configuration]);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, proxy).env(name.to_lowercase(), proxy);
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    let command = command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = Program(command.spawn().unwrap());
    let mut line = String::new();
    let stdout = program.0.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening on ").unwrap();
    (program, format!("http://{address}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_of_the_environment_are_ignored() {
    let proxy = Upstream::start(|_| Reply::html(502)).await;
    let upstream = Upstream::start(|seen| token_or(seen, batch_deleted)).await;
    let folder = App::folder();
    let head = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[[callers]]\nidentity = \"anonymous\"\n\
                allow = [{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }]\n";
    let file = folder.join("useradmin.toml");
    fs::write(
        &file,
        head.to_owned() + &batch_section(&folder, &upstream.url),
    )
    .unwrap();
    let (program, address) = start(file.to_str().unwrap(), &proxy.url);
    let channel = Channel::from_shared(address)
        .unwrap()
        .connect()
        .await
        .unwrap();
    let call = UserAdminClient::new(channel)
        .delete_batch_node_user(batch_request("alice"))
        .await;
    assert_eq!(call.unwrap().into_inner().outcome(), DeleteOutcome::Deleted);
    assert_eq!(upstream.seen().len(), 2);
    assert_eq!(proxy.seen().len(), 0);
    drop(program);
    fs::remove_dir_all(folder).unwrap();
}
