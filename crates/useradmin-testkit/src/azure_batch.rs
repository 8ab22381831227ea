//! Responses of Azure Batch according to its documentation and to recordings, and a server with one account on a
//! scripted upstream.

use std::{fmt::Write as _, time::Duration};

use tonic::{Request, Response, Status};
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse};

use crate::{
    App, CallFailure, ReceivedRequest, Reply, Upstream, batch_section, canary, token_reply_or,
};

/// The `request-id` of every scripted response.
pub const REQUEST_ID: &str = "5289d960-7a3c-4d0e-9a57-0c6f1f0a2b11";

const MEDIA_TYPE: &str = "application/json; odata=minimalmetadata";
const METADATA: &str = "https://account.region.batch.azure.com/$metadata#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element";

/// Returns an error document in the recorded layout: with CRLF, with `values` only if there are some, and with the
/// request ID and the time at the end of the message.
pub fn batch_document(code: &str, message: &str, values: &[(&str, &str)]) -> String {
    let text = format!("{message}\nRequestId:{REQUEST_ID}\nTime:2024-11-20T17:44:19.8906540Z");
    let (code, text) = (quoted(code), quoted(&text));
    let mut document = format!(
        "{{\r\n  \"odata.metadata\":\"{METADATA}\",\"code\":{code},\"message\":{{\r\n    \"lang\":\"en-US\",\"value\":{text}\r\n  }}"
    );
    for (at, (key, value)) in values.iter().enumerate() {
        let before = if at == 0 {
            ",\"values\":[\r\n    "
        } else {
            ","
        };
        let (key, value) = (quoted(key), quoted(value));
        let _ = write!(
            document,
            "{before}{{\r\n      \"key\":{key},\"value\":{value}\r\n    }}"
        );
    }
    document.push_str(if values.is_empty() {
        "\r\n}"
    } else {
        "\r\n  ]\r\n}"
    });
    document
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Returns a response of Azure Batch with this body.
pub fn batch_response(status: u16, body: &str) -> Reply {
    Reply::typed(status, MEDIA_TYPE, body)
        .with_header("request-id", REQUEST_ID)
        .with_header("DataServiceVersion", "3.0")
        .with_header("Server", "Microsoft-HTTPAPI/2.0")
}

/// Returns an error response of Azure Batch.
pub fn batch_error(status: u16, code: &str) -> Reply {
    batch_response(status, &batch_document(code, "What went wrong.", &[]))
}

/// Returns the response to a successful DELETE: no body and no `Content-Type`.
pub fn batch_deleted() -> Reply {
    Reply::empty(200).with_header("request-id", REQUEST_ID)
}

/// Starts a server with the account `batch`. The script replies to all requests except token requests.
pub async fn start_batch(
    mut script: impl FnMut(&ReceivedRequest) -> Reply + Send + 'static,
) -> (App, Upstream) {
    let upstream =
        Upstream::start(move |request| token_reply_or(request, || script(request))).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    (App::start_in(folder, &section).await, upstream)
}

/// Returns a script that sends these replies in turn and then repeats the last one.
pub fn in_sequence(replies: Vec<Reply>) -> impl FnMut(&ReceivedRequest) -> Reply + Send + 'static {
    let mut replies = replies.into_iter().peekable();
    move |_| {
        let reply = replies.next().unwrap();
        if replies.peek().is_none() {
            replies = vec![reply.clone()].into_iter().peekable();
        }
        reply
    }
}

/// Calls `DeleteBatchNodeUser` with this value of `grpc-timeout`.
pub async fn batch_with_timeout(
    app: &App,
    request: DeleteBatchNodeUserRequest,
    timeout: Duration,
) -> Result<DeleteBatchNodeUserResponse, CallFailure> {
    let mut request = Request::new(request);
    request.set_timeout(timeout);
    let response = app.client().delete_batch_node_user(request).await;
    response
        .map(Response::into_inner)
        .map_err(CallFailure::from)
}

/// Text in scripted responses that the server must not disclose.
pub const CANARY: &str = "C4N4RY";

/// Asserts that the status discloses nothing of the upstream's responses and address.
#[track_caller]
pub fn assert_not_disclosed(status: &Status, upstream: &Upstream) {
    canary::check_status(status);
    let host = upstream.url.strip_prefix("http://").unwrap();
    let details = String::from_utf8_lossy(status.details());
    let text = format!("{} {details} {:?}", status.message(), status.metadata());
    for needle in [
        CANARY,
        host,
        "127.0.0.1",
        "html",
        "HTML",
        "elsewhere",
        "string to sign",
    ] {
        assert!(!text.contains(needle), "{needle} in {text}");
    }
}
