//! Documents on TLS connections that end without `close_notify`: complete documents are accepted by the client of
//! targets and by the client of tokens and keys.

use std::{fs, path::Path};

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    App, ReceivedRequest, Reply, SecureClient, Signer, Upstream, batch_document, batch_request,
    batch_section, default_claims, default_reply, delete_by_name, hmc_section,
    pki::{Authority, Validity},
    token_reply_or,
};

use super::callers::ISSUER;

/// The way in which a response marks the end of its body. From `CutLength` on, the body is truncated.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
    Connection,
    Http1_0,
    TruncatedLength,
    CutChunk,
    NoLastChunk,
    CutDocument,
}

use Framing::{
    Chunked, Connection, CutChunk, CutDocument, Http1_0, Length, NoLastChunk, TruncatedLength,
};

const COMPLETE: [Framing; 4] = [Length, Chunked, Connection, Http1_0];
const CUT: [Framing; 4] = [TruncatedLength, CutChunk, NoLastChunk, CutDocument];

/// Returns the response in this form, after which the connection is closed.
fn with_framing(reply: Reply, framing: Framing) -> Reply {
    let Reply::Http(status, headers, body) = reply else {
        return reply;
    };
    let length = body.len();
    let (version, header, body) = match framing {
        Length => ("1.1", format!("Content-Length: {length}\r\n"), body),
        TruncatedLength => ("1.1", format!("Content-Length: {}\r\n", length + 1), body),
        Chunked | CutChunk | NoLastChunk => {
            let (size, end) = match framing {
                Chunked => (length, "\r\n0\r\n\r\n"),
                NoLastChunk => (length, "\r\n"),
                _ => (length + 1, ""),
            };
            let body = format!("{size:x}\r\n{body}{end}");
            ("1.1", "Transfer-Encoding: chunked\r\n".to_owned(), body)
        }
        Connection => ("1.1", String::new(), body),
        Http1_0 => ("1.0", String::new(), body),
        CutDocument => (
            "1.1",
            String::new(),
            body[..length.saturating_sub(1)].to_owned(),
        ),
    };
    let headers = headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let headers = headers.concat();
    let text = format!("HTTP/{version} {status} Scripted\r\n{header}{headers}\r\n{body}");
    Reply::WithoutCloseNotify(text.into_bytes())
}

/// Starts an upstream over TLS with this script, and a server with it as its target.
async fn start(
    section: impl FnOnce(&Path, &str) -> String,
    script: impl FnMut(&ReceivedRequest) -> Reply + Send + 'static,
) -> (App, Upstream) {
    let authority = Authority::new();
    let identity = authority.issue("localhost", Validity::Now);
    let config = identity.server(&[&rustls::version::TLS12, &rustls::version::TLS13]);
    let upstream = Upstream::start_tls(config, script).await;
    let folder = App::folder();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let section = section(&folder, &upstream.url);
    let url = format!("url = \"{}\"\n", upstream.url);
    let section = section.replacen(&url, &format!("{url}ca_file = \"ca.pem\"\n"), 1);
    (App::start_in(folder, &section).await, upstream)
}

#[tokio::test]
async fn complete_document_is_accepted_without_close_notify() {
    join_all(COMPLETE.map(|framing| async move {
        let script =
            move |request: &ReceivedRequest| with_framing(default_reply(request, 1), framing);
        let (app, _upstream) = start(hmc_section, script).await;
        let response = app.delete_hmc_user(delete_by_name("alice")).await;
        let response = response.unwrap_or_else(|failure| panic!("{framing:?}: {failure:?}"));
        assert_eq!(response.outcome(), DeleteOutcome::Deleted, "{framing:?}");
        let script = move |request: &ReceivedRequest| {
            with_framing(token_reply_or(request, node_not_ready_reply), framing)
        };
        let (app, _upstream) = start(batch_section, script).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(Code::FailedPrecondition, "NODE_UNUSABLE");
    }))
    .await;
}

#[tokio::test]
async fn truncated_document_is_rejected() {
    join_all(CUT.map(|framing| async move {
        let script = move |request: &ReceivedRequest| match request.method.as_str() {
            "DELETE" => with_framing(node_not_ready_reply(), framing),
            _ => token_reply_or(request, node_not_ready_reply),
        };
        let (app, _upstream) = start(batch_section, script).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
        assert!(failure.batch.is_none(), "{framing:?}: {failure:?}");
        // The token endpoint.
        let script = move |request: &ReceivedRequest| {
            with_framing(token_reply_or(request, node_not_ready_reply), framing)
        };
        let (app, upstream) = start(batch_section, script).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
        assert!(upstream.requests("DELETE", "/").is_empty(), "{framing:?}");
    }))
    .await;
}

fn node_not_ready_reply() -> Reply {
    Reply::json(409, &batch_document("NodeStateUnusable", "x", &[]))
}

/// Calls a server whose issuer serves its keys in this form. Returns the reason why the call was rejected.
async fn call_with_keys(framing: Framing) -> String {
    let signer = Signer::es256("key-1");
    let (token, keys) = (
        signer.token(&default_claims(ISSUER, "svc")),
        signer.key_set(),
    );
    let script = move |request: &ReceivedRequest| match request.target.as_str() {
        "/keys" => with_framing(Reply::json(200, &keys), framing),
        _ => token_reply_or(request, node_not_ready_reply),
    };
    let issuer = |folder: &Path, url: &str| {
        let batch = batch_section(folder, url);
        format!(
            "{batch}\n[[jwt_issuers]]\nissuer = \"{ISSUER}\"\naudience = \"useradmin\"\n\
             jwks_url = \"{url}/keys\"\nca_file = \"ca.pem\"\n"
        )
    };
    let (app, _upstream) = start(issuer, script).await;
    let client = SecureClient::plain(app.address).with_token(&token);
    let failure = client.delete_batch_node_user(batch_request("alice")).await;
    let failure = failure.unwrap_err();
    failure.metadata_value("cause").to_owned()
}

#[tokio::test]
async fn complete_jwks_is_accepted_without_close_notify() {
    let read = COMPLETE.map(|framing| (framing, ""));
    let truncated = CUT.map(|framing| (framing, "token_keys_unavailable"));
    let rows = read.into_iter().chain(truncated);
    join_all(rows.map(|(framing, cause)| async move {
        assert_eq!(call_with_keys(framing).await, cause, "{framing:?}");
    }))
    .await;
}
