//! Azure Batch as its documents and recorded answers show it, and a server with one scripted account.

use std::{fmt::Write as _, time::Duration};

use tonic::{Request, Response, Status};
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse};

use crate::{App, Failed, Reply, Seen, Upstream, batch_section, canary, token_or};

/// The `request-id` of every scripted answer.
pub const REQUEST_ID: &str = "5289d960-7a3c-4d0e-9a57-0c6f1f0a2b11";

const MEDIA_TYPE: &str = "application/json; odata=minimalmetadata";
const METADATA: &str = "https://account.region.batch.azure.com/$metadata#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element";

/// The error document in the recorded layout: CRLF, `values` only when there are some, and the tail of the text.
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

/// An answer of the service with this body.
pub fn batch_answer(status: u16, body: &str) -> Reply {
    Reply::typed(status, MEDIA_TYPE, body)
        .with("request-id", REQUEST_ID)
        .with("DataServiceVersion", "3.0")
        .with("Server", "Microsoft-HTTPAPI/2.0")
}

/// An error of the service.
pub fn batch_error(status: u16, code: &str) -> Reply {
    batch_answer(status, &batch_document(code, "What went wrong.", &[]))
}

/// The service has deleted the user: no body, no Content-Type.
pub fn batch_deleted() -> Reply {
    Reply::empty(200).with("request-id", REQUEST_ID)
}

/// A server with the account `batch`. The script answers all but the token requests.
pub async fn batch(mut script: impl FnMut(&Seen) -> Reply + Send + 'static) -> (App, Upstream) {
    let upstream = Upstream::start(move |seen| token_or(seen, || script(seen))).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    (App::start_in(folder, &section).await, upstream)
}

/// A script that gives these answers one after the other, and the last one for ever.
pub fn in_turn(replies: Vec<Reply>) -> impl FnMut(&Seen) -> Reply + Send + 'static {
    let mut replies = replies.into_iter().peekable();
    move |_| {
        let reply = replies.next().unwrap();
        if replies.peek().is_none() {
            replies = vec![reply.clone()].into_iter().peekable();
        }
        reply
    }
}

/// Calls with this `grpc-timeout`.
pub async fn batch_within(
    app: &App,
    request: DeleteBatchNodeUserRequest,
    timeout: Duration,
) -> Result<DeleteBatchNodeUserResponse, Failed> {
    let mut request = Request::new(request);
    request.set_timeout(timeout);
    let answer = app.client().delete_batch_node_user(request).await;
    answer.map(Response::into_inner).map_err(Failed::from)
}

/// Stands in scripted answers, and must not leave the server.
pub const CANARY: &str = "C4N4RY";

/// Nothing of the answer may be in the status.
#[track_caller]
pub fn check_secrecy(status: &Status, upstream: &Upstream) {
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
