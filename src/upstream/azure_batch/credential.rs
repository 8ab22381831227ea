//! Authorizes requests to Azure Batch, with access tokens of Microsoft Entra or with the key of the account.

use std::sync::Arc;

use http::{HeaderValue, Uri};

use super::{
    entra::{OnBehalfOf, PersonTokens, TOKEN, Token, TokenSource},
    shared_key::SharedKey,
};
use crate::{
    caller_token::CallerToken,
    config::{
        self, Roots,
        secret::{Secret, unprintable},
    },
    error::Failure,
    metrics::{CredentialState, RequestMetrics},
    upstream::{
        call_limits::CallLimits,
        client::{Change, sensitive_header},
        credential_cache::{CredentialCache, Lease},
        platform::RequestCredential,
        redact::Secrets,
        retry_budget::RetryBudget,
    },
};

pub enum Credential {
    /// Access tokens of Microsoft Entra.
    Entra(CredentialCache<Token, TokenSource>),
    /// Signatures with the key of the account.
    SharedKey(SharedKey),
    /// Access tokens of the callers' own identities.
    OnBehalfOf(OnBehalfOf),
}

pub enum TokenOrKey {
    Token(Arc<Lease<Token>>),
    Key(Secret),
    /// A token of the caller's own identity, and the cache that it comes from.
    CallersToken(Arc<PersonTokens>, Arc<Lease<Token>>),
}

unprintable!(Credential, TokenOrKey);

impl RequestCredential for TokenOrKey {
    fn secrets<'a>(&'a self, authorization: Option<&'a HeaderValue>) -> Secrets<'a> {
        match self {
            Self::Token(lease) => Secrets::new([lease.value.expose()]),
            Self::Key(key) => Secrets::new([key.expose().trim()]).with_signature(authorization),
            Self::CallersToken(person, lease) => {
                Secrets::new([lease.value.expose(), person.callers_token()])
            }
        }
    }

    fn accepted(&self) {
        if let Self::Token(lease) | Self::CallersToken(_, lease) = self {
            lease.accepted();
        }
    }

    /// Drops the token of a caller, so that the next call of the person does not send it again.
    fn refused(&self) {
        if let Self::CallersToken(person, lease) = self {
            person.discard(lease);
        }
    }
}

impl Credential {
    /// Creates the configured credential. The client for its token endpoint trusts `roots`, too.
    pub fn new(
        config: &config::Credential,
        roots: &Roots,
        metrics: &RequestMetrics,
    ) -> Result<Self, String> {
        Ok(match config {
            config::Credential::Entra(entra) => {
                let source = TokenSource::new(entra, roots, metrics)?;
                Self::Entra(CredentialCache::new(source))
            }
            config::Credential::SharedKey { account, key } => {
                Self::SharedKey(SharedKey::new(account.clone(), key.clone()))
            }
            config::Credential::OnBehalfOf(settings) => {
                Self::OnBehalfOf(OnBehalfOf::new(settings, roots, metrics)?)
            }
        })
    }

    pub fn acts_for_caller(&self) -> bool {
        matches!(self, Self::OnBehalfOf(_))
    }

    /// Returns the state of the token in use, or `None` if there is no token, or one for each caller.
    pub fn state(&self) -> Option<CredentialState> {
        match self {
            Self::Entra(tokens) => tokens.state(TOKEN),
            Self::SharedKey(_) | Self::OnBehalfOf(_) => None,
        }
    }

    /// Returns the change that applies new certificate authorities to the client for the token endpoint.
    pub fn prepare_roots(&self, roots: &Roots) -> Result<Option<Change>, String> {
        match self {
            Self::Entra(tokens) => tokens.source.client.prepare_roots(roots),
            Self::SharedKey(_) => Ok(None),
            Self::OnBehalfOf(people) => people.prepare_roots(roots),
        }
    }

    /// Returns the credential for one request. Obtains it within the limits of the call if necessary.
    pub async fn obtain(
        &self,
        caller: Option<&Arc<CallerToken>>,
        limits: &CallLimits,
    ) -> Result<TokenOrKey, Failure> {
        match self {
            Self::OnBehalfOf(people) => {
                // Boxed, because the future is large and other kinds do not need it.
                let obtained = Box::pin(people.obtain(caller, limits)).await;
                obtained.map(|(tokens, lease)| TokenOrKey::CallersToken(tokens, lease))
            }
            Self::Entra(tokens) => tokens.get(limits).await.map(TokenOrKey::Token),
            Self::SharedKey(shared) => shared.key.get().map(TokenOrKey::Key),
        }
    }

    /// Cancels a token request in progress, because a process of the Azure CLI must not outlive the server.
    pub async fn close(&self) {
        if let Self::Entra(tokens) = self {
            tokens.cancel().await;
        }
    }

    /// Returns the value of the `Authorization` header of a request without a body. Fails if the key is not valid.
    pub fn authorization(
        &self,
        credential: &TokenOrKey,
        verb: &str,
        uri: &Uri,
        ocp_date: &str,
    ) -> Result<HeaderValue, Failure> {
        match (self, credential) {
            (_, TokenOrKey::Token(lease) | TokenOrKey::CallersToken(_, lease)) => {
                Ok(lease.value.header())
            }
            (Self::SharedKey(shared), TokenOrKey::Key(key)) => {
                sensitive_header(&shared.authorization(key, verb, uri, ocp_date)?)
            }
            (_, TokenOrKey::Key(_)) => Err(Failure::internal("mixed credentials")),
        }
    }

    /// Records a refused credential. Returns whether the request may be repeated with another one.
    pub fn refuse(&self, credential: &TokenOrKey, budget: &RetryBudget) -> bool {
        match (self, credential) {
            (Self::Entra(tokens), TokenOrKey::Token(lease)) => {
                tokens.discard_refused(lease, budget)
            }
            (Self::SharedKey(shared), TokenOrKey::Key(key)) => shared.key.renew(key),
            (_, TokenOrKey::CallersToken(person, lease)) => person.refuse(lease),
            _ => false,
        }
    }
}
