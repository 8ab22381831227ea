//! Authentication, permissions and quotas of callers. This module does not depend on upstreams.

pub mod authentication_error;
pub mod certificate;
pub(crate) mod policy;
pub mod quota;
pub mod refusals;
pub mod token;

use std::{sync::Arc, time::Duration};

use self::{
    authentication_error::AuthenticationError,
    certificate::PeerCertificate,
    policy::Policy,
    token::{Issuers, KeySource},
};
use crate::{
    caller_token::CallerToken,
    config::{Config, JwtIssuer},
    identity::Identity,
    metrics::Metrics,
};

/// Time limit for waiting for the keys of an issuer.
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Default)]
pub struct Credentials {
    /// The verified client certificate, or the reason why it is no longer accepted.
    pub certificate: Option<Result<Arc<PeerCertificate>, AuthenticationError>>,
    /// The bearer token, or the reason why it cannot be read.
    pub token: Option<Result<String, AuthenticationError>>,
}

/// The result of a successful authentication.
pub struct Authenticated {
    pub identity: Identity,
    /// The token that the identity was taken from, if a target may exchange it.
    pub token: Option<Arc<CallerToken>>,
}

impl From<Identity> for Authenticated {
    fn from(identity: Identity) -> Self {
        Self {
            identity,
            token: None,
        }
    }
}

/// Authentication and policy according to one configuration. A reload of the configuration replaces the whole value.
pub struct Access {
    pub(crate) policy: Policy,
    issuers: Issuers,
    /// Whether client certificates are requested.
    certificates: bool,
    identity_required: bool,
    /// Whether a target acts under the identities of its callers, and therefore needs their tokens.
    keeps_tokens: bool,
}

impl Access {
    /// Creates authentication and policy according to a configuration. `before` is the value to replace: issuers
    /// whose key source has not changed keep their keys. Fails if the source of an issuer's keys cannot be created.
    pub fn new(
        config: &Config,
        before: Option<&Self>,
        source: impl Fn(&JwtIssuer) -> Result<KeySource, String>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let issuers = before.map(|before| &before.issuers);
        let issuers = Issuers::new(&config.jwt_issuers, issuers, source, metrics)?;
        // A reload does not change whether TLS requests client certificates.
        let certificates = before.map_or_else(
            || config.accepts_certificates(),
            |before| before.certificates,
        );
        // A reload does not change the credentials of targets.
        let keeps_tokens =
            before.map_or_else(|| config.acts_for_callers(), |before| before.keeps_tokens);
        // Removing the last issuer must not admit anonymous callers.
        let before = before.is_some_and(|before| before.identity_required);
        let configured = certificates || !issuers.is_empty();
        if before && !configured {
            tracing::warn!("anonymous callers refused until restart; the last issuer was removed");
        }
        let identity_required = before || configured;
        Ok(Self {
            policy: Policy::new(&config.callers),
            issuers,
            certificates,
            identity_required,
            keeps_tokens,
        })
    }

    /// Returns the identity of a caller, or the reason why there is none. If issuers of tokens are configured, a
    /// token takes precedence over a certificate, because the certificate may be that of a gateway. An invalid token
    /// is an error even if there is a certificate. Waits at most `limit` for the keys of an issuer.
    pub async fn authenticate(
        &self,
        credentials: Credentials,
        limit: Duration,
    ) -> Result<Authenticated, AuthenticationError> {
        if let Some(token) = credentials.token
            && !self.issuers.is_empty()
        {
            let limit = limit.min(KEYS_TIMEOUT);
            // Boxed, because the future is large and is not needed for certificates.
            return Box::pin(self.verify(token?, limit)).await;
        }
        if let Some(certificate) = credentials.certificate {
            return self.name(certificate?.as_ref()).map(Into::into);
        }
        if self.identity_required {
            return Err(AuthenticationError::NoCredentials);
        }
        Ok(Identity::Anonymous.into())
    }

    async fn verify(
        &self,
        token: String,
        limit: Duration,
    ) -> Result<Authenticated, AuthenticationError> {
        let identity = self.issuers.verify(&token, limit).await?;
        let token = if self.keeps_tokens {
            Some(Arc::new(token::caller_token(token, &identity)?))
        } else {
            None
        };
        Ok(Authenticated { identity, token })
    }

    /// Returns the first name of the certificate that the policy lists. If the policy lists none, returns the first
    /// name of the certificate, and fails if the certificate has no usable name.
    fn name(&self, certificate: &PeerCertificate) -> Result<Identity, AuthenticationError> {
        let names = &certificate.names;
        let listed = names.iter().find(|name| self.policy.lists(name));
        let name = listed.or(names.first()).cloned();
        name.ok_or(AuthenticationError::CertificateUnnamed)
    }
}
