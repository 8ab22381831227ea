//! The error that a caller receives contains no host, address, port, redirect location or error text of the system or a
//! library: those appear only in the log. The texts of an upstream's own typed error are passed on.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::json;
use tokio::net::TcpSocket;
use tonic::{Request, Status};
use useradmin_testkit::{
    App, CallFailure, ReceivedRequest, Reply, Step, Upstream, batch_deleted, batch_request,
    batch_section, canary, default_reply, delete_by_id, delete_by_name, hmc_section,
    token_reply_or,
};

/// In lower case: internal details in the simulated responses, and words from the error texts of systems and libraries.
const INTERNAL_TEXTS: [&str; 30] = [
    "127.0.0.1",
    "[::1]",
    "localhost",
    "10.1.2.3",
    "internal",
    "gateway",
    "elsewhere",
    "no-such-host",
    "location",
    "html",
    "java",
    "stack",
    "os error",
    "connection",
    "refused (",
    "tcp",
    "dns",
    "socket",
    "resolve",
    "reset",
    "certificate",
    "handshake",
    "tls",
    "hyper",
    "h2::",
    "client error",
    "rustls",
    "azure_core",
    "azure_identity",
    "tokio",
];

const NAMED: &str = "gateway-7.internal.example (10.1.2.3): java.net.ConnectException: Connection refused (os error 111)";

/// Asserts that the text, the details and the metadata of a status contain no internal details and none of these ports.
#[track_caller]
fn check(case: &str, status: &Status, urls: &[&str]) {
    canary::check_status(status);
    let details = String::from_utf8_lossy(status.details());
    let metadata = status.metadata();
    let text = format!("{} {details} {metadata:?}", status.message()).to_lowercase();
    for word in INTERNAL_TEXTS {
        assert!(!text.contains(word), "{case}: {word} in {text}");
    }
    for url in urls {
        let port = url.rsplit(':').next().unwrap();
        assert!(
            !text.contains(&format!(":{port}")),
            "{case}: {port} in {text}"
        );
    }
}

/// Calls both rpcs and checks every failure. Returns the reasons.
async fn call(case: &str, batch: &str, authority: &str, hmc: &str) -> Vec<String> {
    let folder = App::folder();
    let accounts = batch_section(&folder, authority);
    let accounts = accounts.replacen(
        &format!("url = \"{authority}\""),
        &format!("url = \"{batch}\""),
        1,
    );
    let hmcs = hmc_section(&folder, hmc);
    let app = App::start_in(folder, &format!("[audit]\nsync = false\n{accounts}{hmcs}")).await;
    let mut client = app.client();
    let mut failures = Vec::new();
    let mut request = Request::new(batch_request("alice"));
    request.set_timeout(Duration::from_secs(3));
    failures.extend(client.delete_batch_node_user(request).await.err());
    for request in [delete_by_id("id-1"), delete_by_name("alice")] {
        let mut request = Request::new(request);
        request.set_timeout(Duration::from_secs(3));
        failures.extend(client.delete_hmc_user(request).await.err());
    }
    let reasons = failures.into_iter().map(|status| {
        check(case, &status, &[batch, authority, hmc]);
        CallFailure::from(status).reason
    });
    reasons.collect()
}

/// Returns responses of intermediaries, and of upstreams that disclose internal details.
fn responses(request: &ReceivedRequest) -> Vec<(&'static str, Reply)> {
    let page = format!("<html><title>{NAMED}</title></html>");
    let to = format!("http://{NAMED}/elsewhere");
    let quoted = json!({
        "http-status": 409, "reason": 1, "message": "The words of the HMC.", "stack": NAMED,
        "request-uri": format!("https://10.1.2.3:6794{}", request.target), "error-details": {"html": NAMED},
    });
    let foreign =
        json!({"error": {"code": "BadGateway", "message": NAMED, "innererror": {"stack": NAMED}}});
    let named = |reply: Reply| {
        reply
            .with_header("Server", NAMED)
            .with_header("Via", NAMED)
            .with_header("X-Forwarded-Host", NAMED)
            .with_header("WWW-Authenticate", NAMED)
    };
    vec![
        ("page 502", named(Reply::typed(502, "text/html", &page))),
        ("page 401", named(Reply::typed(401, "text/html", &page))),
        ("page 200", named(Reply::typed(206, "text/html", &page))),
        (
            "redirect",
            named(Reply::typed(302, "text/html", &page).with_header("Location", &to)),
        ),
        (
            "permanent redirect",
            named(Reply::empty(308).with_header("Location", &to)),
        ),
        (
            "HMC's document",
            named(Reply::json(409, &quoted.to_string())),
        ),
        (
            "foreign document",
            named(Reply::json(500, &foreign.to_string())),
        ),
        ("cut", Reply::Close),
        ("no HTTP", Reply::Raw(NAMED.as_bytes().to_vec())),
        (
            "bad header",
            Reply::Raw(format!("HTTP/1.1 200 OK\r\n{NAMED}\r\n\r\n").into_bytes()),
        ),
    ]
}

/// The request that receives the response.
#[derive(Clone, Copy, Debug)]
enum InjectionPoint {
    Token,
    Batch,
    Hmc(Step),
}

impl InjectionPoint {
    fn matches_request(self, request: &ReceivedRequest) -> bool {
        let (token, step) = (request.target.ends_with("/token"), Step::of(request));
        match self {
            Self::Token => token,
            Self::Batch => !token && step == Step::Other,
            Self::Hmc(expected) => step == expected,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upstream_responses_do_not_disclose_internals() {
    let injection_points =
        [Step::Logon, Step::Read, Step::List, Step::Delete].map(InjectionPoint::Hmc);
    let injection_points = [InjectionPoint::Token, InjectionPoint::Batch]
        .into_iter()
        .chain(injection_points);
    let count = responses(&ReceivedRequest::default()).len();
    let calls = injection_points.flat_map(|place| (0..count).map(move |at| (place, at)));
    let calls = calls.map(|(place, at)| async move {
        let upstream = Upstream::start(move |request| {
            if place.matches_request(request) {
                return responses(request).swap_remove(at).1;
            }
            match Step::of(request) {
                Step::Other => token_reply_or(request, batch_deleted),
                _ => default_reply(request, 1),
            }
        })
        .await;
        let url = &upstream.url;
        let case = format!("{place:?} {}", responses(&ReceivedRequest::default())[at].0);
        let reasons = call(&case, url, url, url).await;
        assert!(!reasons.is_empty(), "{case}");
    });
    join_all(calls).await;
}

/// Starts a server with an untrusted certificate.
async fn untrusted_upstream() -> Upstream {
    let identity =
        rcgen::generate_simple_self_signed(["gateway-7.internal.example".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
        identity.signing_key.serialize_der(),
    ));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key)
        .unwrap();
    Upstream::start_tls(config, |request| default_reply(request, 1)).await
}

#[tokio::test]
async fn connection_failures_do_not_disclose_internals() {
    // The socket is bound but does not listen: the port is reserved, and connections are refused.
    let unauthenticated = TcpSocket::new_v4().unwrap();
    unauthenticated
        .bind("127.0.0.1:0".parse().unwrap())
        .unwrap();
    let refusal = format!("http://{}", unauthenticated.local_addr().unwrap());
    let untrusted_upstream = untrusted_upstream().await;
    let page = format!("HTTP/1.1 400 Bad Request\r\nServer: {NAMED}\r\n\r\n");
    let plain = Upstream::start_raw(page.as_bytes()).await;
    let no_tls = plain.url.replace("http://127.0.0.1", "https://localhost");
    // RFC 6761, section 6.4: no name below `invalid` exists.
    let no_name = "https://no-such-host.internal.invalid:6794".to_owned();
    let working = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let working_url = &working.url;
    let rows = [
        ("refused", &refusal),
        ("stranger", &untrusted_upstream.url),
        ("no TLS", &no_tls),
        ("no name", &no_name),
    ];
    let calls = rows.iter().flat_map(|(case, url)| {
        let at_service = call(case, url, working_url, url);
        let at_authority = call(case, working_url, url, url);
        [at_service, at_authority]
    });
    for reasons in join_all(calls).await {
        assert_eq!(reasons, ["ERROR_REASON_UPSTREAM_UNREACHABLE"; 3]);
    }
}
