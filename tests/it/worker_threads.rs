//! The worker threads: callers are distributed among them, and each thread has separate connections to upstreams.

use std::fs;

use futures_util::future::join_all;
use tonic::transport::Channel;
use useradmin::{
    proto::{DeleteOutcome::Deleted, user_admin_client::UserAdminClient},
    runtimes::count,
};
use useradmin_testkit::{
    App, Process, Reply, Upstream, batch_deleted, batch_request, batch_section, configure,
    delete_by_id, hmc_reply_or, hmc_section, token_reply_or,
};

async fn connect_clients(app: &App, count: usize) -> Vec<UserAdminClient<Channel>> {
    let endpoint = Channel::from_shared(format!("http://{}", app.address)).unwrap();
    let channels = join_all((0..count).map(|_| endpoint.connect())).await;
    let clients = channels
        .into_iter()
        .map(|channel| UserAdminClient::new(channel.unwrap()));
    clients.collect()
}

#[tokio::test]
async fn each_worker_has_separate_connections() {
    let upstream = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_on_workers(folder, &section).await;
    // The calls do not overlap: a single thread would need only one connection.
    for mut caller in connect_clients(&app, count() * 3).await {
        for _ in 0..3 {
            let response = caller.delete_batch_node_user(batch_request("alice")).await;
            assert_eq!(response.unwrap().into_inner().outcome(), Deleted);
        }
    }
    assert_eq!(upstream.requests("DELETE", "").len(), count() * 9);
    // One more connection is for the token.
    assert_eq!(upstream.connections(), count() + 1);
    let records = app.audit();
    assert_eq!(records.len(), count() * 18);
    app.stop().await;
}

#[tokio::test]
async fn workers_share_session_and_limits() {
    let upstream = Upstream::start(|request| hmc_reply_or(request, || Reply::empty(204))).await;
    let folder = App::folder();
    let section = hmc_section(&folder, &upstream.url);
    let app = App::start_on_workers(folder, &section).await;
    let callers = connect_clients(&app, count() * 4).await;
    let calls = callers.into_iter().map(|mut caller| async move {
        for _ in 0..5 {
            let response = caller.delete_hmc_user(delete_by_id("id-1")).await;
            assert_eq!(response.unwrap().into_inner().outcome(), Deleted);
        }
    });
    join_all(calls).await;
    assert_eq!(upstream.requests("POST", "/api/sessions").len(), 1);
    assert_eq!(
        upstream.requests("DELETE", "/api/users").len(),
        count() * 20
    );
    app.stop().await;
    assert_eq!(upstream.requests("DELETE", "/api/sessions").len(), 1);
}

#[tokio::test]
async fn open_file_limit_is_raised_to_maximum() {
    let upstream = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let process = Process::start_with_soft_file_limit(&folder, 64);
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let max: Vec<_> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(max[0], max[1], "{line}");
    process.stop();
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn worker_count_follows_environment_variable() {
    let upstream = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let process = Process::start_with_env(&folder, &[("TOKIO_WORKER_THREADS", "3")]);
    let mut client = process.client();
    let response = client.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(response.unwrap().into_inner().outcome(), Deleted);
    let threads = fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let names = threads.map(|thread| fs::read_to_string(thread.unwrap().path().join("comm")));
    let workers = names.filter(|name| name.as_ref().unwrap().starts_with("worker-"));
    assert_eq!(workers.count(), 3);
    process.stop();
    fs::remove_dir_all(folder).unwrap();
}
