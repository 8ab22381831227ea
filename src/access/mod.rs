//! Who calls, who may do what, and how often. Knows no upstream.

pub mod authentication_error;
pub mod certificate;
pub mod policy;
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
    config::{Caller, Config, JwtIssuer},
    identity::{Identity, SUBJECT_MARK},
    metrics::Metrics,
};

/// Keys that are not there yet are waited for no longer than this.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);

/// The credentials of a call.
#[derive(Default)]
pub struct Credentials {
    /// The verified client certificate, or why it is no longer accepted.
    pub certificate: Option<Result<Arc<PeerCertificate>, AuthenticationError>>,
    /// The bearer token, or why it cannot be read.
    pub token: Option<Result<String, AuthenticationError>>,
}

/// The part of the configuration that is taken up again when its file changes.
pub struct Access {
    /// Who may do what.
    pub policy: Policy,
    issuers: Issuers,
    /// Are client certificates asked for?
    certificates: bool,
    /// Must callers show who they are?
    asked: bool,
}

impl Access {
    /// From the configuration. Keys of issuers that have not changed go on as they are.
    pub fn new(
        config: &Config,
        before: Option<&Self>,
        source: impl Fn(&JwtIssuer) -> Result<KeySource, String>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        let issuers = before.map(|before| &before.issuers);
        let issuers = Issuers::new(&config.jwt_issuers, issuers, source, metrics)?;
        // TLS itself is set up once.
        let certificates = before.map_or_else(
            || {
                let tls = config.server.tls.as_ref();
                tls.is_some_and(|tls| tls.client_ca_file.is_some())
            },
            |before| before.certificates,
        );
        // Whoever takes the last issuer away wants to believe nobody, not everybody: that would take a restart.
        let asked = before.is_some_and(|before| before.asked);
        let asked = asked || certificates || !issuers.is_empty();
        let access = Self {
            policy: Policy::new(&config.callers),
            issuers,
            certificates,
            asked,
        };
        access.tell_odd_entries(config);
        Ok(access)
    }

    /// Entries of `[[callers]]` that are allowed, but seldom meant.
    fn tell_odd_entries(&self, config: &Config) {
        // The sandbox's are its own.
        let told = config.callers.iter().filter(|_| config.file.is_some());
        for Caller { identity, .. } in told {
            let why = match identity {
                Identity::Anonymous if self.asked => {
                    "nobody can be this caller: an identity is asked for"
                }
                Identity::Anonymous if !config.server.listen.ip().is_loopback() => {
                    "this caller is everybody who can reach the address"
                }
                Identity::Certificate(name)
                    if !self.certificates || name.contains(SUBJECT_MARK) =>
                {
                    "nobody can be this caller: it is neither `ISSUER#SUBJECT` of a configured issuer, nor are client \
                     certificates with such a name accepted"
                }
                Identity::Certificate(name) if name.contains('*') => {
                    "an identity is no pattern: only a certificate with this very name is this caller"
                }
                _ => continue,
            };
            tracing::warn!(%identity, why, "an odd entry in [[callers]]");
        }
    }

    /// Returns the identity of a caller. If issuers of tokens are configured, a token takes precedence over a
    /// certificate, which may be that of a gateway. An invalid token is an error even if there is a certificate.
    pub async fn authenticate(
        &self,
        credentials: Credentials,
        patience: Duration,
    ) -> Result<Identity, AuthenticationError> {
        if let Some(token) = credentials.token
            && !self.issuers.is_empty()
        {
            let patience = patience.min(KEYS_PATIENCE);
            return self.issuers.verify(&token?, patience).await;
        }
        if let Some(certificate) = credentials.certificate {
            return self.name(certificate?.as_ref());
        }
        if self.asked {
            return Err(AuthenticationError::NoCredentials);
        }
        Ok(Identity::Anonymous)
    }

    /// The first name of the certificate that the policy lists; the first of all if there is none.
    fn name(&self, certificate: &PeerCertificate) -> Result<Identity, AuthenticationError> {
        let names = certificate.names();
        let listed = names.iter().find(|name| self.policy.lists(name));
        let name = listed.or(names.first()).cloned();
        name.ok_or(AuthenticationError::CertificateUnnamed)
    }
}
