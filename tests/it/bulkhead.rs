//! The bulkhead of a target: calls above the limit are rejected immediately, and disconnected callers do not occupy a
//! slot.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use useradmin_testkit::{
    App, Reply, Upstream, assert_immediate, batch_deleted, batch_request, batch_section,
    default_reply, delete_by_id, hmc_section, token_reply_or, wait_until,
};

/// Starts an upstream that notifies the test when a DELETE arrives, and replies when the test opens the gate.
pub async fn gated_upstream() -> (Upstream, Arc<Notify>, Arc<Notify>) {
    let (arrived, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (notify, gate_for_reply) = (Arc::clone(&arrived), Arc::clone(&gate));
    let upstream = Upstream::start(move |request| {
        token_reply_or(request, || {
            notify.notify_one();
            Reply::Gated(Arc::clone(&gate_for_reply), Box::new(batch_deleted()))
        })
    })
    .await;
    (upstream, arrived, gate)
}

/// If one HMC hangs and its bulkhead is full, other targets are not affected.
#[tokio::test]
async fn hung_hmc_does_not_affect_other_targets() {
    let hmc = Upstream::start(|request| {
        if request.method == "POST" {
            default_reply(request, 0)
        } else {
            Reply::Hang
        }
    })
    .await;
    let account = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let folder = App::folder();
    let hung_hmc_section = hmc_section(&folder, &hmc.url);
    let hung_hmc_section =
        hung_hmc_section.replacen("url =", "max_in_flight = 2\nmax_queued = 2\nurl =", 1);
    let sections = format!("{}{hung_hmc_section}", batch_section(&folder, &account.url));
    let app = App::start_in(folder, &sections).await;
    let start_call = || Box::pin(app.delete_hmc_user(delete_by_id("id-1")));
    let mut calls: Vec<_> = (0..7).map(|_| start_call()).collect();
    for _ in 0..3 {
        let (response, _, remaining) = futures_util::future::select_all(calls).await;
        let failure = response.unwrap_err();
        failure.expect(Code::ResourceExhausted, "OVERLOADED");
        calls = remaining;
    }
    for _ in 0..20 {
        let started = Instant::now();
        let result = app.delete_batch_node_user(batch_request("alice")).await;
        assert!(result.is_ok() && started.elapsed() < Duration::from_secs(1));
    }
}

/// A server at its limit rejects calls before it authenticates them, and keeps reporting its health.
#[tokio::test]
async fn call_beyond_max_concurrent_calls_is_rejected_immediately() {
    let (upstream, arrived, gate) = gated_upstream().await;
    let folder = App::folder();
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[server.limits]\n\
        max_concurrent_calls = 1\n[[callers]]\nidentity = \"anonymous\"\n\
        allow = [{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }]\n";
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_with_text(folder, &format!("{text}{section}")).await;
    let mut first = Box::pin(app.delete_batch_node_user(batch_request("alice")));
    tokio::select! {
        _ = &mut first => panic!("the call ended before the gate opened"),
        () = arrived.notified() => {}
    }
    for _ in 0..3 {
        let refusal = app.delete_batch_node_user(batch_request("bob")).await;
        refusal
            .unwrap_err()
            .expect(Code::ResourceExhausted, "OVERLOADED");
        let mut health = HealthClient::new(app.channel());
        let request = HealthCheckRequest::default();
        assert_eq!(health.check(request).await.unwrap().into_inner().status, 1);
    }
    gate.notify_one();
    first.await.unwrap();
    let records = app.audit();
    assert!(records.iter().all(|record| record["user"] == "alice"));
    let again = app.delete_batch_node_user(batch_request("bob"));
    gate.notify_one();
    again.await.unwrap();
}

/// Starts a server with an account that allows one call in flight and two queued.
async fn app_with_small_bulkhead(upstream: &Upstream) -> App {
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let section = section.replacen("url =", "max_in_flight = 1\nmax_queued = 2\nurl =", 1);
    App::start_in(folder, &format!("[audit]\nsync = false\n{section}")).await
}

#[tokio::test]
async fn requests_beyond_bulkhead_are_rejected_immediately() {
    let (upstream, _arrived, gate) = gated_upstream().await;
    let app = app_with_small_bulkhead(&upstream).await;
    let calls = (0..8).map(|_| app.delete_batch_node_user(batch_request("alice")));
    let mut calls: Vec<_> = calls.map(Box::pin).collect();
    let mut refusal = Vec::new();
    // One call is in flight and two are queued; the other five are rejected before the gate opens.
    while refusal.len() < 5 {
        let (response, _, remaining) = futures_util::future::select_all(calls).await;
        refusal.push(response.unwrap_err());
        calls = remaining;
    }
    // No slot has become free, so further calls are rejected without a wait.
    let mut times = Vec::new();
    for _ in 0..10 {
        let started = Instant::now();
        let response = app.delete_batch_node_user(batch_request("bob")).await;
        times.push(started.elapsed());
        refusal.push(response.unwrap_err());
    }
    assert_immediate(&times);
    for failure in refusal {
        failure.expect(Code::ResourceExhausted, "OVERLOADED");
        assert!(failure.retry_delay.is_some());
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            ("0", "not_sent")
        );
    }
    let open = async {
        loop {
            gate.notify_one();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = open => {}
        responses = join_all(calls) => assert!(responses.iter().all(Result::is_ok)),
    }
}

#[tokio::test]
async fn disconnected_callers_free_their_queue_slots() {
    let (upstream, arrived, gate) = gated_upstream().await;
    let app = app_with_small_bulkhead(&upstream).await;
    let first = app.delete_batch_node_user(batch_request("alice"));
    let mut first = Box::pin(first);
    tokio::select! {
        _ = &mut first => panic!("the call ended before the gate opened"),
        () = arrived.notified() => {}
    }
    // Two callers wait and disconnect; then two others find the queue empty again.
    for round in 1..=2 {
        let queued_calls = (0..2).map(|_| app.delete_batch_node_user(batch_request("bob")));
        let timed_out =
            tokio::time::timeout(Duration::from_millis(50), join_all(queued_calls)).await;
        assert!(timed_out.is_err(), "no call was rejected");
        // The server detects the disconnects shortly afterwards.
        let is_disconnect = |record: &serde_json::Value| record["caller_gone"] == true;
        let disconnects_recorded = async || {
            app.audit()
                .iter()
                .filter(|record| is_disconnect(record))
                .count()
                == 2 * round
        };
        wait_until("both disconnects in the audit log", disconnects_recorded).await;
    }
    gate.notify_one();
    first.await.unwrap();
    app.stop().await;
    assert_eq!(upstream.requests("DELETE", "").len(), 1);
}
