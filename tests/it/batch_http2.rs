//! Azure Batch over TLS with HTTP/2, as in production. The result is determined as over HTTP/1.1: by the status line,
//! or by its absence.

use std::fs;

use futures_util::future::join_all;
use h2::Reason;
use tonic::Code::{NotFound, Unavailable};
use useradmin::proto::{
    DeleteBatchNodeUserRequest,
    DeleteOutcome::{AbsentAfterRetry, AlreadyAbsent, Deleted},
};
use useradmin_testkit::{
    App, REQUEST_ID, ReceivedRequest,
    Reply::{self, GoAway, Reset, ResetInBody},
    Upstream, batch_deleted, batch_error, batch_request, batch_section,
    pki::{Authority, Validity},
    token_reply_or,
};

/// Starts a server with the account `batch`, whose token endpoint is on the same upstream. The script replies to the
/// DELETEs.
async fn account(
    mut script: impl FnMut(&ReceivedRequest) -> Reply + Send + 'static,
) -> (App, Upstream) {
    let authority = Authority::new();
    let identity = authority.issue("localhost", Validity::Now);
    let upstream = Upstream::start_http2(&identity, move |request| match request.method.as_str() {
        "POST" => token_reply_or(request, || Reply::html(404)),
        _ => script(request),
    })
    .await;
    let folder = App::folder();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let section = batch_section(&folder, &upstream.url);
    let section = section.replacen("url =", "ca_file = \"ca.pem\"\nurl =", 1);
    (App::start_in(folder, &section).await, upstream)
}

/// Starts a server whose upstream sends these replies to the DELETEs in turn.
async fn in_sequence(replies: &[Reply]) -> (App, Upstream) {
    let replies = replies.to_vec();
    let mut count = 0;
    account(move |_| {
        count += 1;
        replies[count - 1].clone()
    })
    .await
}

#[tokio::test]
async fn deletes_user_over_http2() {
    let (app, upstream) = account(|_| batch_deleted()).await;
    let calls = (0..20).map(|_| app.delete_batch_node_user(batch_request("alice")));
    for response in join_all(calls).await {
        let response = response.unwrap();
        assert_eq!((response.outcome(), response.attempts), (Deleted, 1));
        assert_eq!(response.request_id, REQUEST_ID);
    }
    let deletes = upstream.requests("DELETE", "");
    assert_eq!(deletes.len(), 20);
    for delete in &deletes {
        let target =
            "/pools/pool-1/nodes/node-1/users/alice?timeout=29&api-version=2023-11-01.18.0";
        assert_eq!((delete.target.as_str(), delete.body.as_str()), (target, ""));
        assert_eq!(
            delete.header("authorization"),
            Some("Bearer kanari-token-1")
        );
        assert_eq!(delete.header("accept-encoding"), None);
        assert_eq!(delete.header("content-length"), None);
    }
    // Calls that wait for a connection share the first one, and the next call uses it, too.
    app.delete_batch_node_user(batch_request("bob"))
        .await
        .unwrap();
    let last = upstream.requests("DELETE", "").pop().unwrap().connection;
    assert!(deletes.iter().all(|delete| delete.connection == last));
}

#[tokio::test]
async fn reads_error_document_over_http2() {
    let (app, _upstream) = account(|_| batch_error(404, "NodeUserNotFound")).await;
    let failure = app.delete_batch_node_user(batch_request("alice")).await;
    let failure = failure.unwrap_err();
    failure.expect(NotFound, "USER_NOT_FOUND");
    app.assert_recorded(&failure);
    let error = failure.batch.as_ref().unwrap();
    assert_eq!(
        (error.code.as_str(), error.http_status),
        ("NodeUserNotFound", 404)
    );
    assert_eq!(error.request_id, REQUEST_ID);
    let request = DeleteBatchNodeUserRequest {
        allow_missing: true,
        ..batch_request("alice")
    };
    let response = app.delete_batch_node_user(request).await.unwrap();
    assert_eq!((response.outcome(), response.attempts), (AlreadyAbsent, 1));
}

/// Returns replies after which the effect of the request is unknown.
fn unknown() -> Vec<Reply> {
    vec![
        Reset(Reason::INTERNAL_ERROR),
        Reset(Reason::CANCEL),
        Reset(Reason::PROTOCOL_ERROR),
        // The last processed stream is greater than the stream of the request.
        GoAway(101, Reason::INTERNAL_ERROR),
        GoAway(101, Reason::NO_ERROR),
    ]
}

#[tokio::test]
async fn reset_stream_has_unknown_outcome() {
    join_all(unknown().into_iter().map(|lost| async move {
        let case = format!("{lost:?}");
        let (app, upstream) = in_sequence(&[lost.clone(), lost.clone(), lost.clone()]).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(Unavailable, "OUTCOME_UNKNOWN");
        app.assert_recorded(&failure);
        let actual = (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome"),
        );
        assert_eq!(actual, ("3", "unknown"), "{case}");
        assert_eq!(upstream.requests("DELETE", "").len(), 3, "{case}");

        let absent = batch_error(404, "NodeUserNotFound");
        let (app, upstream) = in_sequence(&[lost, absent]).await;
        let response = app.delete_batch_node_user(batch_request("alice")).await;
        let response = response.unwrap_or_else(|failure| panic!("{case}: {failure:?}"));
        assert_eq!(
            (response.outcome(), response.attempts),
            (AbsentAfterRetry, 2),
            "{case}"
        );
        app.assert_recorded(&response);
        assert_eq!(upstream.requests("DELETE", "").len(), 2, "{case}");
    }))
    .await;
}

#[tokio::test]
async fn status_decides_over_http2_before_body_ends() {
    let (app, _upstream) = in_sequence(&[ResetInBody(200, Reason::INTERNAL_ERROR)]).await;
    let response = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!((response.outcome(), response.attempts), (Deleted, 1));
    // It is unknown which resource is missing.
    let (app, upstream) = in_sequence(&[ResetInBody(404, Reason::INTERNAL_ERROR)]).await;
    let failure = app.delete_batch_node_user(batch_request("alice")).await;
    let failure = failure.unwrap_err();
    failure.expect(Unavailable, "UPSTREAM_PROTOCOL_ERROR");
    app.assert_recorded(&failure);
    assert_eq!(failure.metadata_value("outcome"), "unknown");
    assert_eq!(upstream.requests("DELETE", "").len(), 1);
}

/// Returns replies that guarantee that a stream was not processed: it was refused, or a graceful GOAWAY excludes it.
fn not_processed() -> [Reply; 2] {
    [Reset(Reason::REFUSED_STREAM), GoAway(0, Reason::NO_ERROR)]
}

#[tokio::test]
async fn refused_stream_is_not_deleted() {
    join_all(not_processed().map(|refusal| async move {
        let case = format!("{refusal:?}");
        let streams = [refusal.clone(), refusal.clone(), refusal.clone()];
        let (app, upstream) = in_sequence(&streams).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(Unavailable, "UPSTREAM_UNAVAILABLE");
        app.assert_recorded(&failure);
        let actual = (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome"),
        );
        assert_eq!(actual, ("3", "not_deleted"), "{case}");
        // All attempts are made by the call itself; the HTTP client does not retry.
        assert_eq!(upstream.requests("DELETE", "").len(), 3, "{case}");

        let absent = batch_error(404, "NodeUserNotFound");
        let (app, _upstream) = in_sequence(&[refusal.clone(), absent]).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        failure.unwrap_err().expect(NotFound, "USER_NOT_FOUND");

        let (app, upstream) = in_sequence(&[refusal, batch_deleted()]).await;
        let response = app.delete_batch_node_user(batch_request("alice")).await;
        assert_eq!(response.unwrap().attempts, 2, "{case}");
        assert_eq!(upstream.requests("DELETE", "").len(), 2, "{case}");
    }))
    .await;
}
