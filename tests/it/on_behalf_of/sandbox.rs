//! The on-behalf-of grant of the embedded sandbox, through the real server.

use tonic::Code;
use useradmin::{
    cli::sandbox_config,
    config::{
        ClientProof, Credential, DEFAULT_SCOPE, Entra, EntraKind, Jwks, JwtIssuer, OnBehalfOf,
    },
    identity::Identity,
    proto::{DeleteBatchNodeUserRequest, DeleteOutcome},
    sandbox::Sandbox,
};
use useradmin_testkit::{App, SecureClient, Signer, batch_request, write_secret};

use super::user_claims;
use crate::callers::{ISSUER, issuer_section};

/// Starts a server whose account `sandbox` has a credential of this kind, with this federated token or the secret.
async fn serve(sandbox: &Sandbox, signer: &Signer, scope: &str, federated: bool) -> App {
    let folder = App::folder();
    issuer_section(&folder, signer);
    let mut config = sandbox_config(sandbox, "127.0.0.1:0".parse().unwrap()).unwrap();
    let account = config.targets.batch_accounts.get_mut("sandbox").unwrap();
    let Credential::Entra(Entra {
        kind, authority, ..
    }) = account.own.credential.clone()
    else {
        panic!("the credential of the sandbox");
    };
    let EntraKind::ClientSecret {
        tenant_id,
        client_id,
        secret,
    } = kind
    else {
        panic!("the kind of the sandbox");
    };
    let file = folder.join("federated.jwt");
    write_secret(&file, "kanari-assertion-1");
    account.own.credential = Credential::OnBehalfOf(OnBehalfOf {
        tenant_id,
        client_id,
        proof: if federated {
            ClientProof::TokenFile(file)
        } else {
            ClientProof::Secret(secret)
        },
        authority,
        scope: scope.to_owned(),
        token_timeout: Entra::TOKEN_TIMEOUT,
    });
    config.jwt_issuers = vec![JwtIssuer {
        issuer: ISSUER.to_owned(),
        audience: "useradmin".to_owned(),
        algorithms: vec![jsonwebtoken::Algorithm::ES256],
        jwks: Jwks::File(folder.join("issuer.jwks")),
    }];
    config.callers[0].identity = Identity::token(ISSUER, "alice").unwrap();
    App::run(folder, &config).await
}

#[tokio::test]
async fn sandbox_exchanges_tokens_of_callers() {
    let sandbox = Sandbox::start().await.unwrap();
    let signer = Signer::es256("key-1");
    let impersonation = "https://batch.core.windows.net//user_impersonation";
    for (scope, user) in [(DEFAULT_SCOPE, "alice"), (impersonation, "bob")] {
        let app = serve(&sandbox, &signer, scope, false).await;
        let client =
            SecureClient::plain(app.address).with_token(&signer.token(&user_claims("alice")));
        let request = DeleteBatchNodeUserRequest {
            node_id: "node-idle".to_owned(),
            ..batch_request(user)
        };
        let response = client.delete_batch_node_user(request).await.unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Deleted);
    }
    assert_eq!(sandbox.traffic().token_requests, 2);
    // The sandbox knows no federated tokens.
    let app = serve(&sandbox, &signer, DEFAULT_SCOPE, true).await;
    let client = SecureClient::plain(app.address).with_token(&signer.token(&user_claims("alice")));
    let failure = client.delete_batch_node_user(batch_request("alice")).await;
    let failure = failure.unwrap_err();
    failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(failure.metadata_value("cause"), "invalid_client");
}
