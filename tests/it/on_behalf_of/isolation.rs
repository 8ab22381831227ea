//! The failures of one person or token do not affect others, and no failure leads to another identity.

use std::{path::Path, sync::Arc};

use futures_util::future::join_all;
use serde_json::json;
use tokio::sync::Notify;
use tonic::Code;
use useradmin_testkit::{Reply, batch_deleted, batch_error, batch_request};

use super::{
    ENDPOINT, Exchange, account, callers, issue, refusal, start, start_with, upstream, user_claims,
};
use crate::callers::{ISSUER, SecureServer};

const PERSONS: usize = 300;

#[tokio::test]
async fn failures_of_one_person_do_not_affect_another() {
    let refuse_alice = |exchange: &Exchange| match exchange.subject() {
        "alice" => refusal(400, "interaction_required", 50_076),
        "bob" => Reply::html(503),
        _ => issue(exchange),
    };
    let server = start(refuse_alice, |_| batch_deleted()).await;
    let tokens = ["alice", "bob", "carol"].map(|subject| server.user_token(subject));
    for _ in 0..5 {
        let [alice, bob, carol] = tokens.each_ref().map(|token| server.delete(token));
        let (alice, bob, carol) = tokio::join!(alice, bob, carol);
        alice
            .unwrap_err()
            .expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
        bob.unwrap_err()
            .expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
        assert_eq!(carol.unwrap().attempts, 1);
    }
    // A refused caller is no failure of the service's own credentials.
    let renewals = server.app.metrics("credential_renewals_total").await;
    let failed = renewals
        .iter()
        .find(|line| line.contains("result=\"failed\""));
    let failed: usize = failed.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    let subjects = server.exchanges().len();
    assert!(failed > 0 && failed < subjects, "{failed} of {subjects}");
}

/// The account refuses all tokens of Alice, which does not use up the retry budget that all callers of the account share.
#[tokio::test]
async fn refused_tokens_of_one_person_do_not_use_up_retries_of_another() {
    let server = start(issue, |request| {
        let authorization = request.header("authorization").unwrap();
        let refused = authorization.contains("-alice-") || authorization.ends_with("-bob-1");
        if refused {
            batch_error(401, "AuthenticationFailed")
        } else {
            batch_deleted()
        }
    })
    .await;
    let alice = server.user_token("alice");
    let bob = server.user_token("bob");
    server.delete(&bob).await.unwrap();
    for refused in join_all((0..60).map(|_| server.delete(&alice))).await {
        refused
            .unwrap_err()
            .expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    }
    let budget = server.app.metrics("useradmin_upstream_retry_budget{").await;
    assert!(budget[0].ends_with(" 10.0"), "{budget:?}");
    assert_eq!(server.delete(&bob).await.unwrap().attempts, 1);
}

/// After a refusal, the person signs in again and shows the new token at once, during the pause after the failure.
#[tokio::test]
async fn new_token_is_exchanged_at_once_after_refusal() {
    let refuse_weak = |exchange: &Exchange| match exchange.claims["acr"].as_str() {
        Some("weak") => refusal(400, "interaction_required", 50_076),
        _ => issue(exchange),
    };
    let server = start(refuse_weak, |_| batch_deleted()).await;
    let mut weak = user_claims("alice");
    weak["acr"] = json!("weak");
    let (weak, strong) = (server.signer.token(&weak), server.user_token("alice"));
    let refused = async || {
        let failure = server.delete(&weak).await.unwrap_err();
        assert_eq!(failure.metadata_value("cause"), "interaction_required");
    };
    refused().await;
    server.delete(&strong).await.unwrap();
    assert_eq!(server.authorizations().len(), 1);
}

/// A call that waits for the exchange of another token of the same person has its own token exchanged if that fails.
#[tokio::test]
async fn failed_exchange_of_another_token_is_not_the_end() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let refuse_weak = move |exchange: &Exchange| match exchange.claims["acr"].as_str() {
        Some("weak") => {
            let refused = refusal(400, "interaction_required", 50_076);
            Reply::Gated(Arc::clone(&held), Box::new(refused))
        }
        _ => issue(exchange),
    };
    let server = start(refuse_weak, |_| batch_deleted()).await;
    let mut weak = user_claims("alice");
    weak["acr"] = json!("weak");
    let (weak, strong) = (server.signer.token(&weak), server.user_token("alice"));
    let first = server.delete(&weak);
    let others = async {
        server.upstream.wait_for_requests("POST", ENDPOINT, 1).await;
        let calls = join_all((0..10).map(|_| server.delete(&strong)));
        let release = async {
            let in_progress = "useradmin_calls_in_progress 11";
            server.app.await_metric(in_progress).await;
            gate.notify_one();
        };
        tokio::join!(calls, release).0
    };
    let (first, others) = tokio::join!(first, others);
    let failure = first.unwrap_err();
    assert_eq!(failure.metadata_value("cause"), "interaction_required");
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!(server.exchanges().len(), 2);
}

/// Calls that wait for the exchange of a weak token do not fail with the refusal of another weak token.
#[tokio::test]
async fn strong_token_is_exchanged_although_two_weak_ones_are_refused() {
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let refuse_weak = move |exchange: &Exchange| match exchange.claims["acr"].as_str() {
        Some(_) => {
            let refused = refusal(400, "interaction_required", 50_076);
            Reply::Gated(Arc::clone(&held), Box::new(refused))
        }
        None => issue(exchange),
    };
    let server = start(refuse_weak, |_| batch_deleted()).await;
    let weak = ["1", "2"].map(|level| {
        let mut claims = user_claims("alice");
        claims["acr"] = json!(level);
        server.signer.token(&claims)
    });
    let strong = server.user_token("alice");
    let first = server.delete(&weak[0]);
    let others = async {
        server.upstream.wait_for_requests("POST", ENDPOINT, 1).await;
        let calls = join_all([&weak[1], &strong].map(|token| server.delete(token)));
        let release = async {
            server
                .app
                .await_metric("useradmin_calls_in_progress 3")
                .await;
            gate.notify_one();
            server.upstream.wait_for_requests("POST", ENDPOINT, 2).await;
            gate.notify_one();
        };
        tokio::join!(calls, release).0
    };
    let (first, others) = tokio::join!(first, others);
    assert!(first.is_err());
    assert!(others[1].is_ok(), "{others:?}");
}

/// The same person at another account is exchanged again.
#[tokio::test]
async fn accounts_do_not_share_tokens() {
    let server = start_with(
        issue,
        |_| batch_deleted(),
        |account| {
            let other = account.replace("batch_accounts.batch", "batch_accounts.other");
            account + &other
        },
    )
    .await;
    let client = server.client(None).with_token(&server.user_token("alice"));
    for account in ["batch", "other", "batch", "other"] {
        let mut request = batch_request("jdoe");
        account.clone_into(&mut request.account);
        client.delete_batch_node_user(request).await.unwrap();
    }
    assert_eq!(server.exchanges().len(), 2);
}

/// 300 exchanges, of which a third fail in different ways: no request is made with the identity of the service, or of
/// another person.
#[tokio::test]
async fn no_failure_leads_to_another_identity() {
    let some_fail = |exchange: &Exchange| match exchange.number % 15 {
        0 => Reply::html(503),
        3 => refusal(400, "interaction_required", 50_076),
        6 => refusal(400, "invalid_grant", 50_013),
        9 => refusal(401, "invalid_client", 7_000_215),
        12 => Reply::Close,
        _ => issue(exchange),
    };
    let name = |number: usize| format!("person-{number}");
    let identities = (0..PERSONS).map(|number| format!("{ISSUER}#{}", name(number)));
    let sections = |folder: &Path, url: &str| account(folder, url) + &callers(identities);
    let upstream = upstream(some_fail, |_| batch_deleted()).await;
    let server = SecureServer::start(upstream, sections, "").await;
    let calls = (0..PERSONS).map(name).map(async |subject| {
        let token = server.user_token(&subject);
        // The name of the user to delete shows for whom the DELETE was sent.
        server.delete_user(&token, &subject).await
    });
    let results = join_all(calls).await;
    let deleted = results.iter().filter(|result| result.is_ok()).count();
    for failure in results.into_iter().filter_map(Result::err) {
        assert_eq!(failure.metadata_value("outcome"), "not_sent");
    }
    // Transient failures are repeated, the others are not.
    assert!(
        (PERSONS / 2..PERSONS * 5 / 6).contains(&deleted),
        "{deleted}"
    );
    let exchanges = server.exchanges();
    let on_behalf_of = |form: &&super::Form| form["requested_token_use"] == "on_behalf_of";
    assert_eq!(
        exchanges.iter().filter(on_behalf_of).count(),
        exchanges.len()
    );
    let requests = server.upstream.requests("DELETE", "/");
    assert_eq!(requests.len(), deleted);
    for request in requests {
        let expected = format!("Bearer kanari-token-of-{}-", request.user());
        assert!(
            request
                .header("authorization")
                .unwrap()
                .starts_with(&expected)
        );
    }
}
