//! The cache of exchanged tokens: reuse, expiry, renewal, and its bound.

use std::{path::Path, sync::Arc};

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Notify;
use tonic::Code;
use useradmin_testkit::{ReceivedRequest, Reply, batch_deleted, batch_error, batch_request, now};

use super::{
    ENDPOINT, Exchange, account, callers, expired, issue, issued, start, upstream, user_claims,
};
use crate::callers::{ISSUER, SecureServer};

/// Number of persons whose tokens are cached.
const MAX_PERSONS: usize = 1_024;

#[tokio::test]
async fn exchanged_token_is_used_for_later_calls_of_same_person() {
    let server = start(issue, |_| batch_deleted()).await;
    let (alice, bob) = (server.user_token("alice"), server.user_token("bob"));
    for token in [&alice, &bob, &alice, &bob, &alice] {
        server.delete(token).await.unwrap();
    }
    assert_eq!(server.exchanges().len(), 2);
    let (alice, bob) = (issued("alice", 1), issued("bob", 2));
    let expected = [&alice, &bob, &alice, &bob, &alice].map(|token| format!("Bearer {token}"));
    assert_eq!(server.authorizations(), expected);
}

/// The cache is that of the person, so that an application can obtain a new token for each call.
#[tokio::test]
async fn exchanged_token_serves_other_tokens_of_same_person() {
    let server = start(issue, |_| batch_deleted()).await;
    let tokens = [(); 3].map(|()| server.user_token("alice"));
    for token in &tokens {
        server.delete(token).await.unwrap();
    }
    let exchanges = server.exchanges();
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0]["assertion"], tokens[0]);
}

/// When the token from which the exchanged one came has expired, the token of the call is exchanged.
#[tokio::test]
async fn next_token_of_person_is_exchanged_after_expiry() {
    let server = start(issue, |_| batch_deleted()).await;
    let (old, new) = (expired(&server, "alice"), server.user_token("alice"));
    for token in [&old, &new, &old, &new] {
        server.delete(token).await.unwrap();
    }
    let exchanges = server.exchanges();
    let assertions: Vec<_> = exchanges.iter().map(|form| &form["assertion"]).collect();
    assert_eq!(assertions, [&old, &new]);
}

/// The server accepts a token for a minute after its expiry, because clocks differ. The exchanged token is used
/// for the waiting calls only.
#[tokio::test]
async fn exchanged_token_does_not_outlive_token_of_caller() {
    let server = start(issue, |_| batch_deleted()).await;
    let token = expired(&server, "alice");
    for number in 1..=3 {
        server.delete(&token).await.unwrap();
        assert_eq!(server.exchanges().len(), number);
    }
}

#[tokio::test]
async fn exchanged_token_expires() {
    let short = |exchange: &Exchange| {
        let token = issued(exchange.subject(), exchange.number);
        let body = json!({ "access_token": token, "expires_in": 0.001 });
        Reply::json(200, &body.to_string())
    };
    let server = start(short, |_| batch_deleted()).await;
    let mut claims = user_claims("alice");
    claims["exp"] = json!(now() + 3_600);
    let token = server.signer.token(&claims);
    for number in 1..=3 {
        server.delete(&token).await.unwrap();
        assert_eq!(server.exchanges().len(), number);
    }
}

#[tokio::test]
async fn concurrent_calls_of_same_person_share_one_exchange() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let exchange =
        move |exchange: &Exchange| Reply::Gated(Arc::clone(&held), Box::new(issue(exchange)));
    let server = start(exchange, |_| batch_deleted()).await;
    let tokens = [(); 5].map(|()| server.user_token("alice"));
    let calls = join_all((0..50).map(|at| server.delete(&tokens[at % tokens.len()])));
    let release = async {
        server.upstream.wait_for_requests("POST", ENDPOINT, 1).await;
        gate.notify_one();
    };
    let (responses, ()) = tokio::join!(calls, release);
    assert!(responses.iter().all(Result::is_ok));
    assert_eq!(server.exchanges().len(), 1);
    let expected = format!("Bearer {}", issued("alice", 1));
    assert_eq!(server.authorizations(), vec![expected; 50]);
}

/// Refuses the first token of Alice.
fn refuse_first(request: &ReceivedRequest) -> Reply {
    let authorization = request.header("authorization").unwrap();
    if authorization == format!("Bearer {}", issued("alice", 1)) {
        batch_error(401, "AuthenticationFailed")
    } else {
        batch_deleted()
    }
}

#[tokio::test]
async fn refused_token_is_renewed_once() {
    let server = start(issue, refuse_first).await;
    let token = server.user_token("alice");
    assert_eq!(server.delete(&token).await.unwrap().attempts, 2);
    assert_eq!(server.delete(&token).await.unwrap().attempts, 1);
    let tokens = [1, 2, 2].map(|number| format!("Bearer {}", issued("alice", number)));
    assert_eq!(server.authorizations(), tokens);
    let renewals = server.app.metrics("credential_renewals_total").await;
    let ok = renewals.iter().find(|line| line.contains("result=\"ok\""));
    assert!(ok.unwrap().ends_with(" 2"), "{renewals:?}");
}

#[tokio::test]
async fn second_refusal_ends_the_call() {
    let server = start(issue, |_| batch_error(401, "AuthenticationFailed")).await;
    let failure = server
        .delete(&server.user_token("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(failure.metadata_value("attempts"), "2");
    assert_eq!(server.exchanges().len(), 2);
}

/// A token that the account refused is dropped, even if the call ends because of it, so that the next call of the person
/// does not send it again.
#[tokio::test]
async fn refused_token_is_not_sent_by_the_next_call() {
    let server = start(issue, |request| {
        let authorization = request.header("authorization").unwrap();
        let is_bad = [1, 2].map(|number| format!("Bearer {}", issued("alice", number)));
        if is_bad.iter().any(|bad| bad == authorization) {
            batch_error(401, "AuthenticationFailed")
        } else {
            batch_deleted()
        }
    })
    .await;
    let failure = server
        .delete(&server.user_token("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    let response = server.delete(&server.user_token("alice")).await.unwrap();
    assert_eq!(response.attempts, 1);
    assert_eq!(server.exchanges().len(), 3);
}

/// Beyond the bound, the least recently active person is forgotten.
#[tokio::test]
async fn number_of_persons_is_bounded() {
    let name = |number: usize| format!("person-{number}");
    let identities = (0..=MAX_PERSONS).map(|number| format!("{ISSUER}#{}", name(number)));
    let sections = |folder: &Path, url: &str| account(folder, url) + &callers(identities);
    let server =
        SecureServer::start(upstream(issue, |_| batch_deleted()).await, sections, "").await;
    let client = server.client(None);
    let tokens: Vec<_> = (0..=MAX_PERSONS)
        .map(|number| server.user_token(&name(number)))
        .collect();
    let call = async |number: usize| {
        let client = client.with_token(&tokens[number]);
        let response = client.delete_batch_node_user(batch_request("jdoe")).await;
        response.unwrap();
    };
    for number in 0..MAX_PERSONS {
        call(number).await;
    }
    // The first person becomes the most recently active one, and the last one takes the place of the second.
    call(0).await;
    assert_eq!(server.exchanges().len(), MAX_PERSONS);
    call(MAX_PERSONS).await;
    call(0).await;
    call(2).await;
    assert_eq!(server.exchanges().len(), MAX_PERSONS + 1);
    call(1).await;
    assert_eq!(server.exchanges().len(), MAX_PERSONS + 2);
}
