//! Callers that disconnect: before the DELETE, nothing more is sent; after it, the call continues without another
//! DELETE, and its outcome is recorded.

use std::{future::Future, sync::Arc};

use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tonic::Code;
use useradmin_testkit::{
    App, HmcSetup, ReceivedRequest, Reply, ScriptedReply, SecureClient, Step, Upstream,
    batch_deleted, batch_request, batch_section, default_reply, delete_by_id, hmc_reply_or,
    hmc_section, token_reply_or, wait_until,
};

/// A gate that delays replies until the test opens it.
struct Gate {
    arrived: mpsc::UnboundedReceiver<()>,
    open: Arc<Notify>,
}

/// Creates a gate, and a function that makes a reply wait for it.
fn gate() -> (Gate, impl Fn(Reply) -> Reply + Send + 'static) {
    let (notify, arrived) = mpsc::unbounded_channel();
    let open = Arc::new(Notify::new());
    let gate_for_reply = Arc::clone(&open);
    let hold = move |reply| {
        notify.send(()).unwrap();
        Reply::Gated(Arc::clone(&gate_for_reply), Box::new(reply))
    };
    (Gate { arrived, open }, hold)
}

/// Disconnects the caller while the call waits at the gate. Returns the last record.
async fn disconnect_at_gate<T: Send + 'static>(
    app: &mut App,
    mut gate: Gate,
    call: impl Future<Output = T> + Send + 'static,
) -> Value {
    let call = tokio::spawn(call);
    gate.arrived.recv().await.unwrap();
    call.abort();
    assert!(call.await.is_err_and(|error| error.is_cancelled()));
    wait_for_cancellation(app).await;
    gate.open.notify_one();
    app.drain().await;
    app.audit().pop().unwrap()
}

/// Makes another call on the same connection. When it ends, the server has processed the cancellation of the previous
/// one.
async fn wait_for_cancellation(app: &App) {
    let other = app.delete_batch_node_user(batch_request("")).await;
    let other = other.unwrap_err();
    other.expect(Code::InvalidArgument, "INVALID_REQUEST");
}

#[track_caller]
fn expect_nothing_sent(record: &Value) {
    assert_eq!(record["event"], "outcome", "{record}");
    assert_eq!(record["outcome"], "not_sent", "{record}");
    assert_eq!(record["attempts"], 0, "{record}");
    assert_eq!(record["caller_gone"], true, "{record}");
}

fn both_sections(folder: &std::path::Path, url: &str) -> String {
    let hmc = hmc_section(folder, url);
    format!("[audit]\nsync = false\n{}{hmc}", batch_section(folder, url))
}

#[tokio::test]
async fn hmc_delete_is_not_sent_after_caller_disconnects() {
    for step in [Step::Logon, Step::Read] {
        let (gate, hold) = gate();
        let upstream = Upstream::start(move |request| match Step::of(request) {
            at if at == step => hold(default_reply(request, 1)),
            _ => default_reply(request, 1),
        })
        .await;
        let folder = App::folder();
        let sections = both_sections(&folder, &upstream.url);
        let mut app = App::start_in(folder, &sections).await;
        let mut client = app.client();
        let call = async move { client.delete_hmc_user(delete_by_id("id-1")).await };
        let record = disconnect_at_gate(&mut app, gate, call).await;
        expect_nothing_sent(&record);
        let deletes = |request: &&ReceivedRequest| Step::of(request) == Step::Delete;
        assert_eq!(
            upstream.received().iter().filter(deletes).count(),
            0,
            "{step:?}"
        );
    }
}

#[tokio::test]
async fn batch_delete_is_not_sent_after_caller_disconnects() {
    let (gate, hold) = gate();
    let upstream = Upstream::start(move |request| {
        let reply = token_reply_or(request, batch_deleted);
        if request.method == "POST" {
            hold(reply)
        } else {
            reply
        }
    })
    .await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let mut app = App::start_in(folder, &section).await;
    let mut client = app.client();
    let call = async move { client.delete_batch_node_user(batch_request("alice")).await };
    let record = disconnect_at_gate(&mut app, gate, call).await;
    expect_nothing_sent(&record);
    assert_eq!(upstream.requests("DELETE", "").len(), 0);
}

/// One call is in flight. Another call is queued and its caller disconnects: it ends before a slot is free.
#[tokio::test]
async fn caller_that_disconnects_while_queued_has_sent_nothing() {
    let (mut gate, hold) = gate();
    let upstream =
        Upstream::start(move |request| token_reply_or(request, || hold(batch_deleted()))).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let section = section.replacen("url =", "max_in_flight = 1\nurl =", 1);
    let app = App::start_in(folder, &section).await;
    let (mut first, mut second) = (app.client(), app.client());
    let first =
        tokio::spawn(async move { first.delete_batch_node_user(batch_request("alice")).await });
    gate.arrived.recv().await.unwrap();
    let second =
        tokio::spawn(async move { second.delete_batch_node_user(batch_request("bob")).await });
    wait_until("the intent", async || app.audit().len() == 2).await;
    second.abort();
    wait_for_cancellation(&app).await;
    wait_until("the outcome", async || app.audit().len() == 3).await;
    let record = app.audit().pop().unwrap();
    assert_eq!(record["user"], "bob");
    expect_nothing_sent(&record);
    gate.open.notify_one();
    assert!(first.await.unwrap().is_ok());
    app.stop().await;
    assert_eq!(upstream.requests("DELETE", "").len(), 1);
}

/// Sends this reply to a DELETE whose caller has disconnected, and the other one to reads after it. Returns the number
/// of DELETEs and the recorded outcome.
async fn caller_disconnects(reply: ScriptedReply, read: ScriptedReply) -> (usize, Value) {
    let (gate, hold) = gate();
    let mut is_deleted = false;
    let HmcSetup { mut app, upstream } = HmcSetup::start(move |request| match Step::of(request) {
        Step::Delete => {
            is_deleted = true;
            hold(reply.reply(request))
        }
        Step::Read if is_deleted => read.reply(request),
        _ => default_reply(request, 1),
    })
    .await;
    let mut client = app.client();
    let call = async move { client.delete_hmc_user(delete_by_id("id-1")).await };
    let record = disconnect_at_gate(&mut app, gate, call).await;
    (upstream.requests("DELETE", "/api/users/").len(), record)
}

#[tokio::test]
async fn hmc_delete_continues_after_caller_disconnects() {
    let rows = [
        (ScriptedReply::Default, "deleted", ""),
        (ScriptedReply::Hmc(404, 1), "not_deleted", "USER_NOT_FOUND"),
        // After the caller has disconnected, the service neither retries nor logs on again.
        (
            ScriptedReply::Hmc(503, 1),
            "not_deleted",
            "UPSTREAM_UNAVAILABLE",
        ),
        (
            ScriptedReply::Hmc(403, 5),
            "not_deleted",
            "UPSTREAM_CREDENTIALS_REJECTED",
        ),
        (ScriptedReply::Reset, "unknown", "OUTCOME_UNKNOWN"),
    ];
    for (reply, outcome, reason) in rows {
        let (sent, record) = caller_disconnects(reply, ScriptedReply::Default).await;
        assert_eq!(sent, 1, "{record}");
        assert_eq!(record["outcome"], outcome, "{record}");
        let actual = record["reason"].as_str().unwrap();
        assert_eq!(
            actual.trim_start_matches("ERROR_REASON_"),
            reason,
            "{record}"
        );
        assert_eq!(record["attempts"], 1, "{record}");
        assert_eq!(record["caller_gone"], true, "{record}");
    }
}

/// The read after an unknown outcome is sent although no caller waits for it.
#[tokio::test]
async fn unknown_outcome_is_resolved_after_caller_disconnects() {
    let absent = ScriptedReply::Hmc(404, 1);
    let (sent, record) = caller_disconnects(ScriptedReply::Reset, absent).await;
    assert_eq!(sent, 1, "{record}");
    assert_eq!(record["outcome"], "absent_after_retry", "{record}");
    assert_eq!(record["caller_gone"], true, "{record}");
}

/// The whole connection is closed, not only the call.
#[tokio::test]
async fn delete_continues_after_connection_is_closed() {
    for of_a_node in [true, false] {
        let (mut gate, hold) = gate();
        let response = if of_a_node {
            batch_deleted()
        } else {
            Reply::empty(204)
        };
        let upstream = Upstream::start(move |request| {
            token_reply_or(request, || hmc_reply_or(request, || hold(response.clone())))
        })
        .await;
        let folder = App::folder();
        let sections = both_sections(&folder, &upstream.url);
        let limits = "[server.limits]\nmax_connections = 1\n";
        let mut app = App::start_in(folder, &format!("{sections}{limits}")).await;
        let client = SecureClient::plain(app.address);
        let call = tokio::spawn(async move {
            if of_a_node {
                drop(client.delete_batch_node_user(batch_request("alice")).await);
            } else {
                drop(client.delete_hmc_user(delete_by_id("id-1")).await);
            }
        });
        gate.arrived.recv().await.unwrap();
        // The only client of the connection is dropped with the task.
        call.abort();
        wait_until("the place of the connection is free", async || {
            let other = app.delete_batch_node_user(batch_request("")).await;
            other.unwrap_err().reason == "ERROR_REASON_INVALID_REQUEST"
        })
        .await;
        gate.open.notify_one();
        app.drain().await;
        let record = app.audit().pop().unwrap();
        assert_eq!(record["outcome"], "deleted", "{record}");
        assert_eq!(record["caller_gone"], true, "{record}");
        assert_eq!(record["attempts"], 1, "{record}");
    }
}
