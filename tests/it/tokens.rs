//! Access tokens: requested once for all calls, renewed once when refused, and the errors that responses of a token
//! endpoint cause.

mod backoff;
mod causes;
mod documents;
mod endpoint_outage;
mod requests;
mod responses;

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc};
use tonic::Code;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    App, ReceivedRequest, Reply, Upstream, batch_deleted, batch_document, batch_error,
    batch_request, batch_response, batch_section, batch_with_timeout, start_batch,
};

const ENDPOINT: &str = "/tenant-1/oauth2/v2.0/token";

/// Returns the response of the token endpoint to its n-th request.
fn token(number: usize) -> Reply {
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"kanari-token-{number}"}}"#
    );
    Reply::json(200, &body)
}

/// Starts an account whose token endpoint and service respond in this way.
async fn start_account(
    token: impl Fn(usize) -> Reply + Send + 'static,
    service: impl Fn(&ReceivedRequest) -> Reply + Send + 'static,
) -> (App, Upstream) {
    start_account_with(token, service, &|section| section).await
}

async fn start_account_with(
    token: impl Fn(usize) -> Reply + Send + 'static,
    service: impl Fn(&ReceivedRequest) -> Reply + Send + 'static,
    change: &dyn Fn(String) -> String,
) -> (App, Upstream) {
    let mut asked = 0;
    let upstream = Upstream::start(move |request| {
        if request.target != ENDPOINT {
            return service(request);
        }
        asked += 1;
        token(asked)
    })
    .await;
    let folder = App::folder();
    fs::write(
        folder.join("federated.jwt"),
        "\u{feff}kanari-assertion-1\r\n",
    )
    .unwrap();
    let section = change(batch_section(&folder, &upstream.url));
    (App::start_in(folder, &section).await, upstream)
}

fn token_requests(upstream: &Upstream) -> Vec<BTreeMap<String, String>> {
    let requests = upstream.requests("POST", ENDPOINT);
    let form = |request: &ReceivedRequest| {
        assert_eq!(
            request.header("content-type"),
            Some("application/x-www-form-urlencoded")
        );
        // The request allows no content coding, so the response need not be decoded.
        assert_eq!(request.header("accept-encoding"), None);
        url::form_urlencoded::parse(request.body.as_bytes())
            .into_owned()
            .collect()
    };
    requests.iter().map(form).collect()
}

/// Returns the tokens that were sent with the DELETEs.
fn sent_authorizations(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests("DELETE", "");
    let value = |request: &ReceivedRequest| request.header("authorization").unwrap().to_owned();
    requests.iter().map(value).collect()
}

#[tokio::test]
async fn concurrent_first_calls_share_one_token() {
    let (app, upstream) = start_account(token, |_| batch_deleted()).await;
    let names: Vec<_> = (0..50).map(|at| format!("user-{at}")).collect();
    let calls = names
        .iter()
        .map(|name| app.delete_batch_node_user(batch_request(name)));
    for response in join_all(calls).await {
        assert_eq!(response.unwrap().outcome(), DeleteOutcome::Deleted);
    }
    assert_eq!(token_requests(&upstream).len(), 1);
    assert_eq!(
        sent_authorizations(&upstream),
        vec!["Bearer kanari-token-1"; 50]
    );
}

/// Returns the refusals that concern the credentials of the service.
fn token_refusals() -> [Reply; 6] {
    let missing = [("HeaderName", "Authorization")];
    [
        batch_error(401, "AuthenticationFailed"),
        batch_error(403, "AuthenticationFailed"),
        batch_error(400, "InvalidAuthenticationInfo"),
        batch_response(400, &batch_document("MissingRequiredHeader", "x", &missing)),
        Reply::html(401).with_header("WWW-Authenticate", "Bearer error=\"invalid_token\""),
        Reply::empty(401),
    ]
}

#[tokio::test]
async fn refused_token_is_renewed() {
    let calls = token_refusals().map(|refusal| async move {
        let text = format!("{refusal:?}");
        let (app, upstream) = start_account(token, move |request| {
            match request.header("authorization") {
                Some("Bearer kanari-token-2") => batch_deleted(),
                _ => refusal.clone(),
            }
        })
        .await;
        let response = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap();
        assert_eq!(
            (response.outcome(), response.attempts),
            (DeleteOutcome::Deleted, 2),
            "{text}"
        );
        // The new token is kept.
        let response = app
            .delete_batch_node_user(batch_request("bob"))
            .await
            .unwrap();
        assert_eq!(response.attempts, 1, "{text}");
        let expected = [
            "Bearer kanari-token-1",
            "Bearer kanari-token-2",
            "Bearer kanari-token-2",
        ];
        assert_eq!(sent_authorizations(&upstream), expected, "{text}");
        assert_eq!(token_requests(&upstream).len(), 2, "{text}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn second_refusal_is_credentials_rejected() {
    let calls = token_refusals().map(|refusal| async move {
        let text = format!("{refusal:?}");
        let (app, upstream) = start_account(token, move |_| refusal.clone()).await;
        let failure = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            ("2", "not_deleted")
        );
        assert_eq!(failure.retry_delay, None, "{text}");
        assert_eq!(
            sent_authorizations(&upstream),
            ["Bearer kanari-token-1", "Bearer kanari-token-2"],
            "{text}"
        );
    });
    join_all(calls).await;
}

/// A token that is refused although it is new causes no more retries than any other failure.
#[tokio::test]
async fn refused_tokens_add_20_percent_requests() {
    let (app, upstream) = start_account(token, |_| batch_error(401, "AuthenticationFailed")).await;
    let started = Instant::now();
    for _ in 0..20 {
        let calls = (0..10).map(|_| app.delete_batch_node_user(batch_request("alice")));
        for refusal in join_all(calls).await {
            let refusal = refusal.unwrap_err();
            refusal.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
        }
    }
    let requests = upstream.requests("DELETE", "").len() as u64;
    // Calls that see the first refusal treat it as an expired token, so their retries do not use the budget.
    let max = 200 + 40 + 10 + 10 + started.elapsed().as_secs() + 1;
    assert!(requests <= max, "{requests}, not {max}");
}

#[tokio::test]
async fn concurrently_refused_calls_renew_once() {
    let (app, upstream) = start_account(token, |request| match request.header("authorization") {
        Some("Bearer kanari-token-1") => batch_error(401, "AuthenticationFailed"),
        _ => batch_deleted(),
    })
    .await;
    let calls = (0..50).map(|_| app.delete_batch_node_user(batch_request("alice")));
    for response in join_all(calls).await {
        assert_eq!(response.unwrap().outcome(), DeleteOutcome::Deleted);
    }
    assert_eq!(token_requests(&upstream).len(), 2);
}

#[tokio::test]
async fn late_refusal_of_old_token_keeps_new_one() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let refusal = batch_error(401, "AuthenticationFailed");
    let gate_for_reply = Reply::Gated(Arc::clone(&gate), Box::new(refusal.clone()));
    let (app, upstream) = start_account(token, move |request| {
        let has_old_credential = request.header("authorization") == Some("Bearer kanari-token-1");
        if has_old_credential && request.target.contains("/users/slow?") {
            arrived.send(()).unwrap();
            return gate_for_reply.clone();
        }
        if has_old_credential {
            refusal.clone()
        } else {
            batch_deleted()
        }
    })
    .await;
    let mut client = app.client();
    let slow =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("slow")).await });
    arrivals.recv().await.unwrap();
    // The other call renews the token meanwhile.
    let response = app
        .delete_batch_node_user(batch_request("fast"))
        .await
        .unwrap();
    assert_eq!(response.attempts, 2);
    gate.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().into_inner().attempts, 2);
    assert_eq!(token_requests(&upstream).len(), 2);
}

#[tokio::test]
async fn failed_renewal_is_reported() {
    let rows = [
        (503, Code::Unavailable, "UPSTREAM_UNREACHABLE"),
        (401, Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED"),
    ];
    let calls = rows.map(|(status, code, reason)| async move {
        let renewal = move |number| {
            if number == 1 {
                token(1)
            } else {
                Reply::html(status)
            }
        };
        let (app, upstream) =
            start_account(renewal, |_| batch_error(401, "AuthenticationFailed")).await;
        let failure = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        failure.expect(code, reason);
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            ("1", "not_deleted")
        );
        assert_eq!(sent_authorizations(&upstream), ["Bearer kanari-token-1"]);
    });
    join_all(calls).await;
}

#[tokio::test]
async fn refusal_without_time_to_renew_is_not_credentials_rejected() {
    let (arrived, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (notify, gate_for_reply) = (Arc::clone(&arrived), Arc::clone(&gate));
    let (app, _upstream) = start_batch(move |_| {
        notify.notify_one();
        Reply::Gated(Arc::clone(&gate_for_reply), Box::new(Reply::empty(401)))
    })
    .await;
    let call = batch_with_timeout(&app, batch_request("alice"), Duration::from_millis(600));
    let release = async {
        arrived.notified().await;
        // A real delay: the time left must be less than an attempt needs.
        tokio::time::sleep(Duration::from_millis(350)).await;
        gate.notify_one();
    };
    let (response, ()) = tokio::join!(call, release);
    let failure = response.unwrap_err();
    failure.expect(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("1", "not_deleted")
    );
}
