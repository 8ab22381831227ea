//! Every documented code of Azure Batch and every status, tested with the real server: one table, one snapshot.

#[rustfmt::skip]
mod table;

use std::fmt::Write as _;

use futures_util::future::join_all;
use useradmin::{
    error::rule::{Body, RequestPart},
    proto::DeleteBatchNodeUserRequest,
    upstream::azure_batch::rules::{CALLERS_HEADER, RULES},
};
use useradmin_testkit::{CallFailure, batch_document, batch_request, batch_response, start_batch};

use self::table::{CODES, Row, STATUSES};
use crate::platforms::TestedResponse;

fn rows() -> impl Iterator<Item = &'static Row> {
    CODES.iter().chain(STATUSES)
}

/// Returns the failure that the response of this row causes.
async fn run_case(row: &Row) -> CallFailure {
    let document = batch_document(row.code, row.message, row.values);
    let reply = batch_response(row.status, &document);
    let (app, upstream) = start_batch(move |_| reply.clone()).await;
    let id = if row.id_is_from_caller {
        "9C4D50EE-2D56-4CD3-8152-34347DC9F2B0"
    } else {
        ""
    };
    let request = DeleteBatchNodeUserRequest {
        client_request_id: id.to_owned(),
        ..batch_request("alice")
    };
    let failure = app.delete_batch_node_user(request).await.unwrap_err();
    let deletes = upstream.requests("DELETE", "/pools/pool-1/nodes/node-1/users/alice?");
    assert_eq!(
        deletes.len(),
        row.attempts as usize,
        "{} {}",
        row.status,
        row.code
    );
    app.assert_recorded(&failure);
    failure
}

#[track_caller]
fn check(row: &Row, failure: &CallFailure) {
    failure.expect(row.grpc, row.reason);
    let text = format!("{} {}: {failure:?}", row.status, row.code);
    assert_eq!(
        failure.metadata_value("attempts"),
        row.attempts.to_string(),
        "{text}"
    );
    assert_eq!(failure.metadata_value("outcome"), row.outcome, "{text}");
    assert_eq!(failure.metadata_value("upstream"), "azure_batch", "{text}");
    assert_eq!(failure.metadata_value("upstream_code"), row.code, "{text}");
    let status = row.status.to_string();
    assert_eq!(
        failure.metadata_value("upstream_http_status"),
        status,
        "{text}"
    );
    let delay = failure.retry_delay.map(|delay| delay.as_secs());
    assert_eq!(delay, row.retry, "{text}");
    let error = failure.batch.as_ref().unwrap();
    assert_eq!(
        (error.code.as_str(), error.http_status),
        (row.code, row.status.into())
    );
    assert_eq!(error.client_request_id.len(), 36, "{text}");
    assert_eq!(error.message.as_ref().unwrap().value, row.message, "{text}");
    assert_eq!(error.values.len(), row.values.len(), "{text}");
}

#[tokio::test]
async fn codes_and_statuses_map_to_documented_reasons() {
    let failures = join_all(rows().map(run_case)).await;
    let mut snapshot = String::new();
    for (row, failure) in rows().zip(&failures) {
        check(row, failure);
        let id = if row.id_is_from_caller {
            " (caller's client_request_id)"
        } else {
            ""
        };
        let _ = write!(
            snapshot,
            "## {} {}{id}\n\n{failure:?}\n",
            row.status, row.code
        );
    }
    insta::assert_snapshot!(snapshot);
}

/// Returns the tested responses. A `client-request-id` that the server chose is not among their parts.
pub fn responses() -> Vec<TestedResponse> {
    let responses = rows().map(|row| {
        let parts = row.values.iter().filter_map(|(key, name)| match *key {
            "HeaderName" => Some(RequestPart::Header(name)),
            "QueryParameterName" => Some(RequestPart::QueryParameter(name)),
            _ => None,
        });
        let server_chose = |part: &RequestPart<'_>| {
            !row.id_is_from_caller && *part == RequestPart::Header(CALLERS_HEADER)
        };
        let parts = parts.filter(|part| !server_chose(part)).collect();
        (row.status, Some(row.code.to_owned()), parts)
    });
    responses.collect()
}

#[test]
fn every_case_is_unique() {
    for (at, rule) in RULES.iter().enumerate() {
        let codes = matches!(
            rule.body,
            Body::Code(_) | Body::Part(_) | Body::CodeAndPart(..)
        );
        let twin = RULES[..at].iter().find(|other| {
            codes
                && other.body == rule.body
                && other.status.start() <= rule.status.end()
                && rule.status.start() <= other.status.end()
        });
        assert!(twin.is_none(), "{rule:?} and {twin:?}");
    }
    let mut request = Vec::new();
    for row in rows() {
        let key = (row.status, row.code, row.values, row.id_is_from_caller);
        assert!(!request.contains(&key), "{key:?}");
        request.push(key);
    }
}
