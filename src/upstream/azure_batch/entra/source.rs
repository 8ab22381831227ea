//! Obtains access tokens of Microsoft Entra with `azure_identity`, whose requests use the HTTP client of this server,
//! or from the Azure CLI.

use std::{sync::Arc, time::Duration};

use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{Secret as AzureSecret, TokenCredential},
    error::ErrorKind,
    http::{ClientOptions, HttpClient, RetryOptions, Transport},
};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
};
use url::Url;

use super::{
    azure_cli,
    causes::{TOKEN_TIMED_OUT, rejected, unreachable},
    endpoint::TokenHttpClient,
    federated,
    token::{Outcome, TOKEN, Token},
};
use crate::{
    client_tls::Trust,
    config::{Entra, EntraKind, Roots, secret::SecretSource},
    error::Failure,
    metrics::RequestMetrics,
    upstream::{
        client::{Client, HTTP_2_OR_1},
        credential_cache::{CredentialSource, Lease, ObtainFuture},
        response::describe,
        static_credential::CREDENTIAL_UNUSABLE,
    },
};

const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";
const AZURE_CLI_LIMIT: Duration = Duration::from_mins(1);

/// Obtains the access tokens of one account.
pub struct TokenSource {
    entra: Entra,
    pub client: Client,
    metrics: RequestMetrics,
}

impl TokenSource {
    /// Creates a source whose requests are sent to the configured authority, or to that of the public cloud.
    pub fn new(entra: &Entra, roots: &Roots, metrics: &RequestMetrics) -> Result<Self, String> {
        let client = token_client(entra.authority.as_ref(), roots, metrics)?;
        Ok(Self {
            entra: entra.clone(),
            client,
            metrics: metrics.clone(),
        })
    }

    async fn token(&self) -> Result<Lease<Token>, Failure> {
        // A new credential is created for each token, because `azure_identity` caches tokens and has no way to
        // discard a refused one. The credential only builds the requests; `TokenHttpClient` parses the responses.
        let outcome = Arc::new(Outcome::default());
        let client_options = self.client_options(&outcome);
        let credential = match self.entra.kind.clone() {
            EntraKind::AzureCli { tenant_id } => {
                return azure_cli::token(&self.entra.scope, tenant_id.as_deref()).await;
            }
            EntraKind::ClientSecret {
                tenant_id,
                client_id,
                secret,
            } => client_secret(&tenant_id, client_id, &secret, client_options),
            EntraKind::WorkloadIdentity {
                tenant_id,
                client_id,
                token_file,
            } => {
                let options = ClientAssertionCredentialOptions { client_options };
                federated::credential(tenant_id, client_id, token_file, options)
            }
            EntraKind::ManagedIdentity { client_id } => managed_identity(client_id, client_options),
        };
        let asked = match credential {
            Ok(credential) => credential.get_token(&[&self.entra.scope], None).await,
            Err(error) => Err(error),
        };
        match (outcome.take(), asked) {
            (Some(outcome), _) => outcome,
            (None, Err(error)) => Err(rejected(
                CREDENTIAL_UNUSABLE,
                format!("no token: {}", describe(&error)),
            )),
            (None, Ok(_)) => Err(Failure::internal("a token without a request")),
        }
    }

    fn client_options(&self, outcome: &Arc<Outcome>) -> ClientOptions {
        let authority = self.entra.authority.as_ref().map(Url::as_str);
        let http_client = TokenHttpClient {
            client: self.client.clone(),
            plain: authority.is_some_and(|url| url.starts_with("http://")),
            timeout: self.entra.token_timeout,
            outcome: Arc::clone(outcome),
        };
        // Only workload identities read the authority from the environment, where Kubernetes sets it.
        let cloud = match (authority, &self.entra.kind) {
            (None, EntraKind::WorkloadIdentity { .. }) => None,
            (None, _) => Some(CloudConfiguration::AzurePublic),
            (Some(authority), _) => {
                let mut custom = CustomConfiguration::default();
                custom.authority_host = authority.replacen("http://", "https://", 1);
                Some(custom.into())
            }
        };
        ClientOptions {
            transport: Some(Transport::new(Arc::new(http_client) as Arc<dyn HttpClient>)),
            retry: RetryOptions::none(),
            cloud: cloud.map(Arc::new),
            ..ClientOptions::default()
        }
    }
}

/// Creates the client for the token endpoints of an authority, or of the public cloud, and the counters of its tokens.
pub fn token_client(
    authority: Option<&Url>,
    roots: &Roots,
    metrics: &RequestMetrics,
) -> Result<Client, String> {
    let public = || Url::parse(PUBLIC_AUTHORITY).map_err(|error| error.to_string());
    let authority = authority.cloned().map_or_else(public, Ok)?;
    let client = Client::new(
        &authority,
        Trust::AddToSystem,
        roots,
        HTTP_2_OR_1,
        metrics.clone(),
    )?;
    metrics.init_renewal_counters(TOKEN);
    Ok(client)
}

impl CredentialSource<Token> for TokenSource {
    fn obtain(self: Arc<Self>) -> ObtainFuture<Token> {
        Box::pin(async move { self.token().await })
    }

    fn timeout(&self) -> Duration {
        match self.entra.kind {
            EntraKind::AzureCli { .. } => AZURE_CLI_LIMIT,
            _ => self.entra.token_timeout,
        }
    }

    /// After this time the call fails, but the Azure CLI continues, since another run would take as long.
    fn call_timeout(&self) -> Option<Duration> {
        let is_cli = matches!(self.entra.kind, EntraKind::AzureCli { .. });
        is_cli.then_some(self.entra.token_timeout)
    }

    fn timeout_failure(&self) -> Failure {
        unreachable(TOKEN_TIMED_OUT, "there was no token in time")
    }

    fn on_renewal_finished(&self, failure: Option<&Failure>) {
        record_token_request(&self.metrics, failure);
    }
}

/// Counts a token request, and logs its failure.
pub fn record_token_request(metrics: &RequestMetrics, failure: Option<&Failure>) {
    metrics.record_renewal(TOKEN, failure.is_none());
    if let Some(failure) = failure {
        let target = &*metrics.target().target;
        let (cause, context) = (failure.cause, failure.context.as_str());
        tracing::warn!(target, cause, context, "access token request failed");
    }
}

fn client_secret(
    tenant_id: &str,
    client_id: String,
    secret: &SecretSource,
    client_options: ClientOptions,
) -> azure_core::Result<Arc<dyn TokenCredential>> {
    let secret = secret.read().map_err(|error| {
        azure_core::Error::with_error(ErrorKind::Credential, error, "secret_file")
    })?;
    let secret = AzureSecret::new(secret.expose().to_owned());
    let options = ClientSecretCredentialOptions { client_options };
    let credential = ClientSecretCredential::new(tenant_id, client_id, secret, Some(options))?;
    Ok(credential)
}

fn managed_identity(
    client_id: Option<String>,
    client_options: ClientOptions,
) -> azure_core::Result<Arc<dyn TokenCredential>> {
    let credential = ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
        user_assigned_id: client_id.map(UserAssignedId::ClientId),
        client_options,
    }))?;
    Ok(credential)
}
