//! Exchanges the access token of a caller for one with which Azure Batch is called under the caller's identity
//! ("Microsoft identity platform and OAuth 2.0 On-Behalf-Of flow"). `azure_identity` has no credential for this flow.

use http::{
    HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
    uri::PathAndQuery,
};
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;
use url::form_urlencoded;

use super::{
    causes::{
        ASSERTION_REJECTED, CONSENT_REQUIRED, INTERACTION_REQUIRED, INVALID_GRANT, LOGIN_REQUIRED,
        TOKEN_RESPONSE_NOT_UNDERSTOOD, rejected, unreachable,
    },
    endpoint::{REQUEST_TOKEN, Refusal, failed, read},
    source::token_client,
    token::Token,
};
use crate::{
    caller_token::CallerToken,
    config::{self, ClientProof, Roots, files, secret::Secret},
    error::Failure,
    metrics::RequestMetrics,
    proto::ErrorReason,
    upstream::{
        client::{self, Client, Request},
        credential_cache::Lease,
        deadline::Deadline,
        path,
        redact::Secrets,
        response::Response,
        static_credential::CREDENTIAL_UNUSABLE,
    },
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const CLIENT_ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const FORM: &str = "application/x-www-form-urlencoded";

/// `AADSTS` errors that only the user can resolve: a second factor, another device or network, or consent to the
/// permissions of the application ("Microsoft Entra authentication and authorization error codes").
const USER_NEEDED: [u32; 9] = [
    50_076, 50_079, 50_158, 53_000, 53_001, 53_002, 53_003, 53_004, 65_001,
];
/// Maximum length of the claims that are passed on to the caller, in bytes. Longer ones are left out.
const MAX_CLAIMS_BYTES: usize = 1_024;

/// The token endpoint of one account, and the application that this service is registered as.
pub struct TokenExchange {
    pub settings: config::OnBehalfOf,
    pub client: Client,
    pub metrics: RequestMetrics,
    path: PathAndQuery,
}

impl TokenExchange {
    pub fn new(
        settings: &config::OnBehalfOf,
        roots: &Roots,
        metrics: &RequestMetrics,
    ) -> Result<Self, String> {
        let path = path::build(&[&settings.tenant_id, "oauth2", "v2.0", "token"], "");
        Ok(Self {
            settings: settings.clone(),
            client: token_client(settings.authority.as_ref(), roots, metrics)?,
            metrics: metrics.clone(),
            path: path.map_err(|failure| failure.context)?,
        })
    }

    /// Exchanges the token of a caller. The new token is used no longer than the caller's token is valid.
    pub async fn exchange(&self, caller: &CallerToken) -> Result<Lease<Token>, Failure> {
        let proof = self.proof().await?;
        let request = self.request(caller, &proof);
        let limits = Deadline::after(self.settings.token_timeout).into();
        let sent = self.client.send(&REQUEST_TOKEN, request, None, &limits);
        let response = sent.await.map_err(failed)?;
        let secrets = Secrets::new([caller.expose(), proof.expose()]);
        let lease = read(&response).map_err(|failure| refusal(failure, &response, &secrets))?;
        if lease.value.expose() == caller.expose() {
            let context = "token endpoint: the token of the caller came back";
            return Err(unreachable(TOKEN_RESPONSE_NOT_UNDERSTOOD, context));
        }
        Ok(lease.limited_to(caller.remaining()))
    }

    /// Reads the secret or the federated token with which the service authenticates.
    async fn proof(&self) -> Result<Secret, Failure> {
        let (name, read) = match &self.settings.proof {
            ClientProof::Secret(secret) => ("secret_file", secret.read()),
            ClientProof::TokenFile(path) => {
                let path = path.clone();
                let read = spawn_blocking(move || files::read_secret(&path)).await;
                let read = read.unwrap_or_else(|error| Err(error.into()));
                let text = read.map(|mut text| std::mem::take(&mut *text));
                ("token_file", text.map(Secret::new))
            }
        };
        read.map_err(|error| rejected(CREDENTIAL_UNUSABLE, format!("no token: {name}: {error}")))
    }

    fn request(&self, caller: &CallerToken, proof: &Secret) -> Request {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", GRANT_TYPE)
            .append_pair("client_id", &self.settings.client_id);
        match self.settings.proof {
            ClientProof::Secret(_) => form.append_pair("client_secret", proof.expose()),
            ClientProof::TokenFile(_) => form
                .append_pair("client_assertion_type", CLIENT_ASSERTION_TYPE)
                .append_pair("client_assertion", proof.expose()),
        };
        form.append_pair("assertion", caller.expose())
            .append_pair("scope", &self.settings.scope)
            .append_pair("requested_token_use", "on_behalf_of");
        let mut request = client::request(Method::POST, self.path.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(FORM));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        *request.body_mut() = form.finish().into();
        request
    }
}

/// Returns the failure of an exchange. `failure` is the meaning of the response for the credentials of the service. Some
/// refusals concern the token of the caller instead, and only the caller can get another one.
fn refusal(failure: Failure, response: &Response, secrets: &Secrets<'_>) -> Failure {
    let is_refusal = failure.reason == ErrorReason::UpstreamCredentialsRejected;
    if !is_refusal && response.status != 403 {
        return failure;
    }
    let claims = Refusal::of(response).claims;
    let error = failure.cause.unwrap_or_default();
    let needs_user = !(claims.is_null() || claims == "")
        || [INTERACTION_REQUIRED, CONSENT_REQUIRED, LOGIN_REQUIRED].contains(&error)
        || failure
            .aadsts_code()
            .is_some_and(|code| USER_NEEDED.contains(&code));
    let cause = if needs_user {
        INTERACTION_REQUIRED
    } else if error == INVALID_GRANT {
        ASSERTION_REJECTED
    } else {
        return failure;
    };
    let code = failure.aadsts_code();
    let refused = Failure {
        cause: Some(cause),
        ..Failure::new(ErrorReason::CallerUnauthenticated, failure.context)
    };
    let claims = claims.as_str().filter(|claims| is_usable(claims, secrets));
    refused
        .with_aadsts_code(code)
        .with_claims(claims.map(str::to_owned))
}

/// Returns whether claims can be passed on to the caller: short, printable ASCII, a JSON object, and without secrets.
fn is_usable(claims: &str, secrets: &Secrets<'_>) -> bool {
    claims.len() <= MAX_CLAIMS_BYTES
        && claims.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && serde_json::from_str::<Map<String, Value>>(claims).is_ok()
        && !secrets.occur_in(claims)
}
