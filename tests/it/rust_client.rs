//! Tests of `useradmin-client` against the real server: typed errors, TLS, identities and deadlines.

mod complete;
mod transport;

use std::{fs, path::Path, time::Duration};

use rcgen::SanType;
use tonic::{Code, Request};
use useradmin_client::{
    Client, Error, ErrorReason, Outcome, ServiceError, Token, UpstreamError,
    proto::{
        DeleteBatchNodeUserRequest, DeleteHmcUserRequest, DeleteOutcome,
        delete_hmc_user_request::User,
    },
};
use useradmin_testkit::{
    App, REQUEST_ID, Reply, Upstream, batch_deleted, batch_error, batch_section, default_claims,
    error_reply, hmc_reply_or, hmc_section,
    pki::{Authority, Validity},
    token_reply_or,
};

use crate::callers::{ISSUER, SecureServer, uri};

const CLIENT_REQUEST_ID: &str = "9C4D50EE-2D56-4CD3-8152-34347DC9F2B0";

fn batch_user(user_name: &str) -> DeleteBatchNodeUserRequest {
    DeleteBatchNodeUserRequest {
        pool_id: "pool-1".to_owned(),
        node_id: "node-1".to_owned(),
        user_name: user_name.to_owned(),
        client_request_id: CLIENT_REQUEST_ID.to_owned(),
        ..DeleteBatchNodeUserRequest::default()
    }
}

fn hmc_user(user_name: &str) -> DeleteHmcUserRequest {
    DeleteHmcUserRequest {
        user: Some(User::UserName(user_name.to_owned())),
        ..DeleteHmcUserRequest::default()
    }
}

/// Starts an upstream of both kinds. The user of a Batch request determines the response, and the HMC always refuses.
async fn upstream() -> Upstream {
    Upstream::start(|request| {
        let delete = || match request.user().as_str() {
            "alice" => batch_deleted(),
            "lost" => Reply::Close,
            "busy-node" => batch_error(409, "NodeBeingRebooted"),
            "absent" => batch_error(404, "NodeUserNotFound"),
            _ => error_reply(request, 409, 317),
        };
        token_reply_or(request, || hmc_reply_or(request, delete))
    })
    .await
}

async fn start() -> (App, Upstream, Client) {
    let (folder, upstream) = (App::folder(), upstream().await);
    let sections = batch_section(&folder, &upstream.url) + &hmc_section(&folder, &upstream.url);
    let app = App::start_in(folder, &sections).await;
    let client = Client::builder(format!("http://{}", app.address)).build();
    (app, upstream, client.unwrap())
}

fn service(error: Error) -> ServiceError {
    match error {
        Error::Service(error) => *error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn deletion_returns_response_and_request_id() {
    let (_app, _upstream, client) = start().await;
    let response = client.delete_batch_node_user(batch_user("alice")).await;
    let response = response.unwrap();
    assert!(response.metadata().contains_key("x-request-id"));
    let response = response.into_inner();
    assert_eq!(response.outcome(), DeleteOutcome::Deleted);
    assert_eq!(response.client_request_id, CLIENT_REQUEST_ID);
}

#[tokio::test]
async fn batch_conflict_is_decoded() {
    let (_app, _upstream, client) = start().await;
    let failure = client.delete_batch_node_user(batch_user("busy-node")).await;
    let error = service(failure.unwrap_err());
    assert_eq!(error.reason, ErrorReason::NodeNotReady);
    assert_eq!(error.reason_name, "ERROR_REASON_NODE_NOT_READY");
    assert_eq!(error.code, Code::FailedPrecondition);
    assert_eq!(
        error.message,
        "the compute node is neither idle nor running"
    );
    assert_eq!((error.outcome, error.attempts), (Outcome::NotDeleted, 1));
    assert_eq!(error.retry_after, None);
    let id = error.status.metadata().get("x-request-id").unwrap();
    assert_eq!(error.request_id, id.to_str().unwrap());
    assert_eq!(error.upstream_request_id.as_deref(), Some(REQUEST_ID));
    assert_eq!(error.client_request_id.as_deref(), Some(CLIENT_REQUEST_ID));
    assert_eq!(error.precondition_violations[0].r#type, "NODE_STATE");
    assert_eq!(error.metadata["node_id"], "node-1");
    let Some(UpstreamError::Batch(batch)) = error.upstream else {
        panic!("{error:?}");
    };
    assert_eq!(
        (batch.http_status, batch.code.as_str()),
        (409, "NodeBeingRebooted")
    );
    assert_eq!(batch.message.unwrap().value, "What went wrong.");
}

#[tokio::test]
async fn hmc_conflict_is_decoded() {
    let (_app, _upstream, client) = start().await;
    let failure = client.delete_hmc_user(hmc_user("alice")).await;
    let error = service(failure.unwrap_err());
    assert_eq!(error.reason, ErrorReason::TemplateUserInUse);
    assert_eq!((error.outcome, error.attempts), (Outcome::NotDeleted, 1));
    assert_eq!(
        (&error.upstream_request_id, &error.client_request_id),
        (&None, &None)
    );
    assert_eq!(
        error.to_string(),
        format!(
            "FailedPrecondition: users or user patterns refer to this template user \
             (ERROR_REASON_TEMPLATE_USER_IN_USE, outcome not_deleted, request {})",
            error.request_id
        )
    );
    let Some(UpstreamError::Hmc(hmc)) = error.upstream else {
        panic!("{error:?}");
    };
    assert_eq!((hmc.http_status, hmc.reason), (409, 317));
}

#[tokio::test]
async fn missing_user_and_invalid_fields_are_decoded() {
    let (_app, _upstream, client) = start().await;
    let failure = client.delete_batch_node_user(batch_user("absent")).await;
    let error = service(failure.unwrap_err());
    assert_eq!(error.reason, ErrorReason::UserNotFound);
    let resource = error.resource.unwrap();
    assert_eq!(resource.resource_type, "useradmin/BatchNodeUser");
    let invalid = DeleteBatchNodeUserRequest {
        pool_id: String::new(),
        ..batch_user("..")
    };
    let error = client.delete_batch_node_user(invalid).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert_eq!(error.retry_after(), None);
    let error = service(error);
    assert_eq!(
        (error.reason, error.attempts),
        (ErrorReason::InvalidRequest, 0)
    );
    let fields = error.field_violations.iter();
    let fields: Vec<_> = fields.map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields, ["pool_id", "user_name"]);
}

#[tokio::test]
async fn unknown_outcome_and_retry_delay_are_decoded() {
    let (_app, _upstream, client) = start().await;
    let failure = client.delete_batch_node_user(batch_user("lost")).await;
    let error = failure.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::OutcomeUnknown));
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.retry_after().is_some());
    assert_eq!(service(error).attempts, 3);
}

/// Azure Batch receives the whole seconds that remain until 100 ms before the deadline of the caller.
#[tokio::test]
async fn default_deadline_applies_without_own_deadline() {
    let (app, upstream, client) = start().await;
    let builder = Client::builder(format!("http://{}", app.address));
    let builder = builder.default_deadline(Duration::from_secs(9));
    let short = builder.build().unwrap();
    let mut timed = Request::new(batch_user("alice"));
    timed.set_timeout(Duration::from_secs(20));
    short.delete_batch_node_user(timed).await.unwrap();
    for client in [short, client] {
        let sent = client.delete_batch_node_user(batch_user("alice")).await;
        sent.unwrap();
    }
    let deletes = upstream.requests("DELETE", "/pools/");
    let timeouts = deletes.iter().map(|delete| {
        let (_, timeout) = delete.target.split_once("timeout=").unwrap();
        timeout.split('&').next().unwrap()
    });
    assert_eq!(timeouts.collect::<Vec<_>>(), ["19", "8", "29"]);
}

const CALLERS: &str = r#"
[[callers]]
identity = "spiffe://corp/offboarding"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
[[callers]]
identity = "https://login.corp.example#offboarding"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
"#;

async fn start_server() -> SecureServer {
    let sections = |folder: &Path, url: &str| batch_section(folder, url) + CALLERS;
    SecureServer::start(upstream().await, sections, "").await
}

fn authenticated_client(server: &SecureServer) -> useradmin_client::ClientBuilder {
    let port = server.app.address.port();
    Client::builder(format!("https://localhost:{port}")).ca_certificate(server.authority.pem())
}

#[tokio::test]
async fn authenticates_with_client_certificate() {
    let server = start_server().await;
    let names: Vec<SanType> = vec![uri("spiffe://corp/offboarding")];
    let identity = server.authority.issue_to(names, Validity::Now);
    let client =
        authenticated_client(&server).client_certificate(identity.pem(), identity.key_pem());
    let client = client.build().unwrap();
    let response = client.delete_batch_node_user(batch_user("alice")).await;
    assert_eq!(
        response.unwrap().get_ref().outcome(),
        DeleteOutcome::Deleted
    );
    let denied = DeleteHmcUserRequest {
        hmc: "dallas1".to_owned(),
        ..hmc_user("alice")
    };
    let error = client.delete_hmc_user(denied).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::CallerNotAuthorized));

    let failure = authenticated_client(&server)
        .build()
        .unwrap()
        .delete_hmc_user(hmc_user("alice"))
        .await;
    let error = service(failure.unwrap_err());
    assert_eq!(error.reason, ErrorReason::CallerUnauthenticated);
    assert_eq!(error.metadata["cause"], "nothing_shown");
}

#[tokio::test]
async fn authenticates_with_renewed_bearer_token() {
    let server = start_server().await;
    let file = server.app.folder.join("token");
    let client = authenticated_client(&server)
        .bearer_token_file(&file)
        .build()
        .unwrap();
    let call = || client.delete_batch_node_user(batch_user("alice"));

    let error = call().await.unwrap_err();
    assert!(matches!(error, Error::Token(_)), "{error:?}");
    assert_eq!((error.outcome(), error.reason()), (Outcome::NotSent, None));

    fs::write(&file, "stale\n").unwrap();
    let error = service(call().await.unwrap_err());
    assert_eq!(error.reason, ErrorReason::CallerUnauthenticated);
    assert_eq!(error.metadata["cause"], "token_malformed");

    let token = server.signer.token(&default_claims(ISSUER, "offboarding"));
    fs::write(&file, format!("{token}\n")).unwrap();
    call().await.unwrap();

    let fixed = authenticated_client(&server).bearer_token(Token::new(&token).unwrap());
    let fixed = fixed.build().unwrap();
    fixed
        .delete_batch_node_user(batch_user("alice"))
        .await
        .unwrap();
}

#[tokio::test]
async fn untrusted_server_is_rejected() {
    let server = start_server().await;
    let port = server.app.address.port();
    for builder in [
        Client::builder(format!("https://localhost:{port}")),
        Client::builder(format!("https://localhost:{port}")).ca_certificate(Authority::new().pem()),
    ] {
        let failure = builder
            .build()
            .unwrap()
            .delete_hmc_user(hmc_user("alice"))
            .await;
        let error = failure.unwrap_err();
        assert!(matches!(error, Error::Transport(_)), "{error:?}");
        assert_eq!(
            (error.code(), error.outcome()),
            (Code::Unavailable, Outcome::NotSent)
        );
    }
}
