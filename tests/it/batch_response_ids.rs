//! A 200 is accepted as a response of Azure Batch only with a `request-id`, and without the `client-request-id` of
//! another request.

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteOutcome};
use useradmin_testkit::{REQUEST_ID, Reply, batch_request, batch_response, start_batch};

const OWN_ID: &str = "9C4D50EE-2d56-4cd3-8152-34347DC9F2B0";
const OTHER_ID: &str = "11111111-2222-3333-4444-555555555555";

/// Returns a 200 with a node as its body and these headers.
fn response_with_headers(headers: &[(&str, &str)]) -> Reply {
    let reply = Reply::json(200, r#"{"id":"node-1","state":"idle"}"#);
    let add = |reply: Reply, (name, value): &(&str, &str)| reply.with_header(name, value);
    headers.iter().fold(reply, add)
}

fn request(validate_only: bool) -> DeleteBatchNodeUserRequest {
    DeleteBatchNodeUserRequest {
        node_id: "node-1".to_owned(),
        client_request_id: OWN_ID.to_owned(),
        validate_only,
        ..batch_request("alice")
    }
}

fn foreign_responses() -> Vec<Reply> {
    let id = ("request-id", REQUEST_ID);
    let echo = |value| response_with_headers(&[id, ("client-request-id", value)]);
    let both_ids = format!("{OWN_ID}, {OTHER_ID}");
    vec![
        Reply::html(200),
        Reply::empty(200),
        response_with_headers(&[]),
        response_with_headers(&[("request-id", "")]),
        response_with_headers(&[("request-id", "  ")]),
        response_with_headers(&[("client-request-id", OWN_ID)]),
        response_with_headers(&[("x-ms-request-id", REQUEST_ID)]),
        Reply::html(200).with_header("request-id", " "),
        echo(OTHER_ID),
        echo("{11111111-2222-3333-4444-555555555555}"),
        echo("not-a-guid"),
        echo(&both_ids),
        echo("9C4D50EE-2d56-4cd3-8152-34347DC9F2B"),
        response_with_headers(&[
            id,
            ("client-request-id", OWN_ID),
            ("client-request-id", OTHER_ID),
        ]),
        response_with_headers(&[
            id,
            ("client-request-id", OTHER_ID),
            ("client-request-id", OWN_ID),
        ]),
    ]
}

fn matching_responses() -> Vec<Reply> {
    let id = ("request-id", REQUEST_ID);
    let echo = |value: &str| response_with_headers(&[id, ("client-request-id", value)]);
    let braced = format!("{{{OWN_ID}}}");
    let twice = format!("{OWN_ID},{OWN_ID}");
    vec![
        response_with_headers(&[id]),
        echo(OWN_ID),
        echo(&OWN_ID.to_lowercase()),
        echo(&OWN_ID.to_uppercase()),
        echo(&braced),
        echo(&twice),
        echo(""),
        response_with_headers(&[
            id,
            ("client-request-id", OWN_ID),
            ("client-request-id", OWN_ID),
        ]),
    ]
}

#[tokio::test]
async fn status_200_without_matching_ids_is_protocol_error() {
    let rows = foreign_responses()
        .into_iter()
        .flat_map(|reply| [(reply.clone(), false), (reply, true)]);
    join_all(rows.map(|(reply, validate_only)| async move {
        let text = format!("{validate_only} {reply:?}");
        let (app, upstream) = start_batch(move |_| reply.clone()).await;
        let failure = app.delete_batch_node_user(request(validate_only)).await;
        let Err(failure) = failure else {
            panic!("{text}")
        };
        failure.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
        let expected = if validate_only {
            ("0", "not_sent")
        } else {
            ("1", "unknown")
        };
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            expected,
            "{text}"
        );
        assert_eq!(
            failure.metadata_value("upstream_http_status"),
            "200",
            "{text}"
        );
        assert_eq!(failure.retry_delay, None, "{text}");
        let requests = upstream.received();
        let requests = requests
            .iter()
            .filter(|seen| seen.target.starts_with("/pools/"));
        assert_eq!(requests.count(), 1, "{text}");
    }))
    .await;
}

#[tokio::test]
async fn client_request_id_is_compared_ignoring_case() {
    let rows = matching_responses()
        .into_iter()
        .flat_map(|reply| [(reply.clone(), false), (reply, true)]);
    join_all(rows.map(|(reply, validate_only)| async move {
        let text = format!("{validate_only} {reply:?}");
        let (app, _upstream) = start_batch(move |_| reply.clone()).await;
        let response = app.delete_batch_node_user(request(validate_only)).await;
        let response = response.unwrap_or_else(|failure| panic!("{text}: {failure:?}"));
        let expected = if validate_only {
            DeleteOutcome::Validated
        } else {
            DeleteOutcome::Deleted
        };
        assert_eq!(
            (response.outcome(), response.request_id.as_str()),
            (expected, REQUEST_ID),
            "{text}"
        );
    }))
    .await;
}

#[tokio::test]
async fn description_of_another_node_fails_validation() {
    let reply = batch_response(200, r#"{"id":"node-2","state":"idle"}"#);
    let (app, _upstream) = start_batch(move |_| reply.clone()).await;
    let failure = app.delete_batch_node_user(request(true)).await.unwrap_err();
    failure.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
    assert_eq!(failure.metadata_value("outcome"), "not_sent");
}
