//! How a request to Azure Batch shows who sends it: an Entra token, or the account's key.

use std::sync::Arc;

use http::{HeaderValue, Uri};

use super::{
    entra::{TOKEN, Token, TokenSource},
    shared_key::SharedKey,
};
use crate::{
    config::{
        self, Entra,
        secret::{Secret, unprintable},
    },
    error::Failure,
    metrics::{CredentialState, Requests},
    upstream::{
        call_limits::CallLimits,
        client::Client,
        credential_cache::{CredentialCache, Lease},
        redact::Secrets,
        retry_budget::RetryBudget,
    },
};

/// A credential of an account.
pub enum Credential {
    /// Tokens.
    Entra(CredentialCache<Token, TokenSource>),
    /// Signatures.
    SharedKey(SharedKey),
}

/// What a request was authorized with.
pub enum Used {
    /// This token.
    Token(Arc<Lease<Token>>),
    /// This key.
    Key(Secret),
}

unprintable!(Credential, Used);

impl Used {
    /// Tells that the upstream has accepted it.
    pub fn accepted(&self) {
        if let Self::Token(lease) = self {
            lease.accepted();
        }
    }

    /// Returns the token or key, and what was `shown` of it in the request.
    pub fn secrets<'a>(&'a self, shown: &'a HeaderValue) -> Secrets<'a> {
        let secret = match self {
            Self::Token(lease) => lease.value.bare(),
            Self::Key(key) => key.expose().trim(),
        };
        // `Bearer TOKEN`, or `SharedKey ACCOUNT:SIGNATURE`.
        let shown = shown.to_str().unwrap_or_default();
        let shown = shown.rsplit([' ', ':']).next().unwrap_or_default();
        Secrets::new([secret, shown])
    }
}

impl Credential {
    /// From the configuration. `token_client` makes the client for an authority.
    pub fn new(
        config: config::Credential,
        numbers: &Requests,
        token_client: impl FnOnce(&Entra) -> Result<Client, String>,
    ) -> Result<Self, String> {
        Ok(match config {
            config::Credential::Entra(entra) => {
                let client = token_client(&entra)?;
                let source = TokenSource::new(entra, client, numbers.clone());
                Self::Entra(CredentialCache::new(source))
            }
            config::Credential::SharedKey { account, key } => {
                Self::SharedKey(SharedKey::new(account, key))
            }
        })
    }

    /// The token in use.
    pub fn state(&self) -> Option<CredentialState> {
        let Self::Entra(tokens) = self else {
            return None;
        };
        let (age, left) = tokens.age()?;
        Some(CredentialState {
            kind: TOKEN,
            age,
            left,
        })
    }

    /// Obtains what a request will be authorized with.
    pub async fn obtain(&self, limits: &CallLimits) -> Result<Used, Failure> {
        match self {
            Self::Entra(tokens) => tokens.get(limits).await.map(Used::Token),
            Self::SharedKey(shared) => shared.key().map(Used::Key),
        }
    }

    /// Cancels a token request in progress, since the Azure CLI must not outlive the server.
    pub async fn close(&self) {
        if let Self::Entra(tokens) = self {
            tokens.cancel().await;
        }
    }

    /// The value of the Authorization header for a request without a body.
    pub fn authorization(
        &self,
        used: &Used,
        verb: &str,
        uri: &Uri,
        ocp_date: &str,
    ) -> Result<HeaderValue, Failure> {
        match (self, used) {
            (_, Used::Token(lease)) => sensitive(lease.value.expose()),
            (Self::SharedKey(shared), Used::Key(key)) => {
                sensitive(&shared.authorization(key, verb, uri, ocp_date)?)
            }
            (Self::Entra(_), Used::Key(_)) => Err(Failure::internal("mixed credentials")),
        }
    }

    /// Tells that the upstream refused it. Is there any point in trying again?
    pub fn refuse(&self, used: &Used, budget: &RetryBudget) -> bool {
        match (self, used) {
            (Self::Entra(tokens), Used::Token(lease)) => tokens.refuse(lease, budget),
            (Self::SharedKey(shared), Used::Key(key)) => shared.changed(key),
            _ => false,
        }
    }
}

/// A header's value that no `Debug` shows.
fn sensitive(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Failure::internal("an Authorization header that is no header"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::sensitive;

    #[test]
    fn no_debug_of_a_request_shows_what_it_is_authorized_with() {
        let shown = sensitive("Bearer token-1").map(|value| format!("{value:?}"));
        assert_eq!(shown.ok().as_deref(), Some("Sensitive"));
    }
}
