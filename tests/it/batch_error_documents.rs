//! Unusual error documents of Azure Batch: members of the wrong type are ignored, long texts are truncated, and secrets
//! are redacted.

use futures_util::future::join_all;
use tonic::Code;
use useradmin_client::proto::BatchError;
use useradmin_testkit::{
    CallFailure, Reply, batch_document, batch_error, batch_request, batch_response, start_batch,
};

async fn delete_failure(reply: Reply) -> CallFailure {
    let (app, _upstream) = start_batch(move |_| reply.clone()).await;
    let call = app.delete_batch_node_user(batch_request("alice")).await;
    call.unwrap_err()
}

/// Returns the message of the error and its values as `key=value`.
fn content_of(error: &BatchError) -> (Option<&str>, Vec<String>) {
    let values = error.values.iter();
    let text = error.message.as_ref().map(|message| message.value.as_str());
    (
        text,
        values
            .map(|pair| format!("{}={}", pair.key, pair.value))
            .collect(),
    )
}

/// The name of the case, the document (`$` stands for its code), and the expected message and values.
#[rustfmt::skip]
const ODD: [(&str, &str, Option<&str>, &[&str]); 17] = [
    ("bare", "{$}", None, &[]),
    ("mark", "\u{feff}{$}", None, &[]),
    ("blanks", "\r\n\t { $ }\r\n ", None, &[]),
    ("code: twice", r#"{"code":"Other",$}"#, None, &[]),
    ("unknown members", r#"{"a":[{}],$,"error":{"code":1}}"#, None, &[]),
    ("message: string", r#"{$,"message":"x"}"#, None, &[]),
    ("message: null", r#"{$,"message":null}"#, None, &[]),
    ("message: array", r#"{$,"message":[1]}"#, None, &[]),
    ("text: number", r#"{$,"message":{"value":1,"lang":2}}"#, Some(""), &[]),
    ("text: alone", r#"{$,"message":{"value":"x"}}"#, Some("x"), &[]),
    ("text: only a tail", r#"{$,"message":{"value":"\nRequestId:1\nTime:2"}}"#, Some(""), &[]),
    ("text: NUL", r#"{$,"message":{"value":"a\u0000b"}}"#, Some("a\0b"), &[]),
    ("values: object", r#"{$,"values":{"key":"a","value":"b"}}"#, None, &[]),
    ("values: string", r#"{$,"values":"a"}"#, None, &[]),
    ("values: null", r#"{$,"values":null}"#, None, &[]),
    ("values: odd items", r#"{$,"values":[1,null,"a",["b"],{},{"key":1},{"key":"k","value":"v"}]}"#, None, &["k=v"]),
    ("values: odd value", r#"{$,"values":[{"key":"k","value":7},{"key":"l"}]}"#, None, &["k=", "l="]),
];

#[tokio::test]
async fn members_of_wrong_type_are_ignored() {
    let calls = ODD.map(|(name, document, text, values)| async move {
        let body = document.replace('$', r#""code":"NodeStateUnusable""#);
        let failure = delete_failure(Reply::typed(409, "text/plain", &body)).await;
        failure.expect(Code::FailedPrecondition, "NODE_UNUSABLE");
        let error = failure.batch.as_ref().unwrap();
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        assert_eq!(content_of(error), (text, values), "{name}");
        assert_eq!(failure.metadata_value("outcome"), "not_deleted", "{name}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn documents_are_limited_to_64_kib() {
    let document = batch_document("NodeStateUnusable", "x", &[]);
    let padded = |size: usize| document.clone() + &" ".repeat(size - document.len());
    let (accepted, too_long) = tokio::join!(
        delete_failure(batch_response(409, &padded(64 * 1024))),
        delete_failure(batch_response(409, &padded(64 * 1024 + 1))),
    );
    accepted.expect(Code::FailedPrecondition, "NODE_UNUSABLE");
    too_long.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
}

#[tokio::test]
async fn at_most_eight_values_are_returned() {
    let names: Vec<_> = (0..12).map(|at| format!("Key{at}")).collect();
    let values: Vec<_> = names.iter().map(|name| (name.as_str(), "v")).collect();
    let reply = batch_response(409, &batch_document("NodeStateUnusable", "x", &values));
    let failure = delete_failure(reply).await;
    let (_, values) = content_of(failure.batch.as_ref().unwrap());
    let expected: Vec<_> = names[..8].iter().map(|name| format!("{name}=v")).collect();
    assert_eq!(values, expected);
}

/// Returns a text that exceeds every limit, with a two-byte character across the position of the cut.
fn long_text() -> String {
    format!("{}\u{e9}{}", "x".repeat(255), "y".repeat(10 * 1024))
}

#[tokio::test]
async fn long_texts_are_truncated_at_character_boundary() {
    let (long, truncated) = (long_text(), "x".repeat(255));
    let reply = batch_response(
        409,
        &batch_document("NodeStateUnusable", &long, &[(&long, &long)]),
    );
    let failure = delete_failure(reply).await;
    failure.expect(Code::FailedPrecondition, "NODE_UNUSABLE");
    let error = failure.batch.unwrap();
    assert_eq!(
        content_of(&error),
        (Some(&*truncated), vec![format!("{truncated}={truncated}")])
    );
}

#[tokio::test]
async fn status_size_is_limited_for_any_document() {
    let long = long_text();
    let part = &long[..1_025];
    let values = [(part, part); 9];
    let reply = batch_response(429, &batch_document(&long, &long, &values));
    let reply = reply
        .with_header("x-filler", &long)
        .with_header("Retry-After", "60");
    let failure = delete_failure(reply).await;
    // `expect` checks the size.
    failure.expect(Code::ResourceExhausted, "UPSTREAM_THROTTLED");
    assert_eq!(failure.retry_delay.unwrap().as_secs(), 60);
    assert_eq!(failure.metadata_value("upstream_code"), "x".repeat(255));
    let error = failure.batch.unwrap();
    assert_eq!(error.code, "x".repeat(255));
    assert!(error.values.len() < 8, "{error:?}");
}

#[tokio::test]
async fn string_to_sign_is_never_returned() {
    let detail = "The MAC signature found in the HTTP request 'S3CR3T' is not the same as any computed signature. \
                  Server used following string to sign: 'S3CR3T'.";
    let calls = [
        (401, "AuthenticationFailed"),
        (403, "AuthenticationFailed"),
        (409, "Nameless"),
        (500, "InternalError"),
    ]
    .into_iter()
    .flat_map(|row| {
        ["AuthenticationErrorDetail", "authenticationerrordetail"].map(|key| (row, key))
    })
    .map(|((status, code), key)| async move {
        let values = [("Before", "1"), (key, detail), ("After", "2")];
        let failure = delete_failure(batch_response(
            status,
            &batch_document(code, "Refused.", &values),
        ))
        .await;
        let (_, values) = content_of(failure.batch.as_ref().unwrap());
        assert_eq!(
            values,
            [
                "Before=1".to_owned(),
                format!("{key}=(redacted)"),
                "After=2".to_owned()
            ]
        );
        assert!(!format!("{failure:?}").contains("S3CR3T"));
    });
    join_all(calls).await;
}

#[tokio::test]
async fn invalid_request_id_is_omitted() {
    let document = batch_document("NodeStateUnusable", "x", &[]);
    let response_head = format!(
        "HTTP/1.1 409 Conflict\r\nContent-Length: {}\r\nConnection: close\r\nrequest-id: ",
        document.len()
    );
    let bytes = [
        response_head.as_bytes(),
        b"\xFF\xFE\r\n\r\n",
        document.as_bytes(),
    ]
    .concat();
    let failure = delete_failure(Reply::Raw(bytes)).await;
    failure.expect(Code::FailedPrecondition, "NODE_UNUSABLE");
    assert_eq!(failure.metadata_value("upstream_request_id"), "");
    assert_eq!(failure.batch.unwrap().request_id, "");

    let long = batch_error(409, "NodeStateUnusable");
    let Reply::Http(status, _, body) = long else {
        panic!("another reply")
    };
    let failure =
        delete_failure(Reply::json(status, &body).with_header("request-id", &"9".repeat(1_000)))
            .await;
    assert_eq!(
        failure.metadata_value("upstream_request_id"),
        "9".repeat(256)
    );
}

#[tokio::test]
async fn invalid_header_is_found_after_eight_values() {
    let filler = r#"{"key":"k","value":"v"},"#.repeat(8);
    let body = format!(
        r#"{{"code":"MissingRequiredHeader","values":[{filler}{{"key":"HeaderName","value":"Authorization"}}]}}"#
    );
    let failure = delete_failure(Reply::json(400, &body)).await;
    failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(failure.metadata_value("attempts"), "2");
    assert_eq!(failure.batch.unwrap().values.len(), 8);
}
