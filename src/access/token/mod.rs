//! Bearer tokens of callers: JSON Web Tokens (RFC 7519) of configured issuers. The configuration pins issuer,
//! audience and algorithms; the header of a token only selects one of these algorithms and the keys of the issuer to
//! try.

mod issuer;
mod jwks_cache;
mod signature_verifier;

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{dangerous::insecure_decode_claims, decode_header};
use serde::Deserialize;

pub use self::jwks_cache::{Fetch, KeySource};
use self::{issuer::Issuer, jwks_cache::JwksCache};
use super::authentication_error::AuthenticationError;
use crate::{caller_token::CallerToken, config::JwtIssuer, identity::Identity, metrics::Metrics};

#[derive(Default)]
pub struct Issuers(Vec<Issuer>);

/// The claim that selects the issuer. It is trusted only after the signature has been verified.
#[derive(Deserialize)]
struct UnverifiedClaims {
    iss: String,
}

/// Returns a token that has been verified and has this identity, for targets that exchange it.
pub fn caller_token(text: String, identity: &Identity) -> Result<CallerToken, AuthenticationError> {
    let claims = insecure_decode_claims(&text).map_err(|_| AuthenticationError::TokenMalformed)?;
    Ok(CallerToken::new(text, &claims, identity.to_string().into()))
}

impl Issuers {
    /// Creates the issuers of a configuration. The keys of the same issuers in `before` are used until new keys have
    /// been read. Fails if `source` fails.
    pub fn new(
        settings: &[JwtIssuer],
        before: Option<&Self>,
        source: impl Fn(&JwtIssuer) -> Result<KeySource, String>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, String> {
        signature_verifier::install();
        let issuers = settings.iter().map(|settings| {
            let mut before = before.iter().flat_map(|before| &before.0);
            let before = before.find(|issuer| issuer.settings.issuer == settings.issuer);
            let jwks_cache = match before {
                Some(before) if before.settings.jwks == settings.jwks => {
                    Arc::clone(&before.jwks_cache)
                }
                _ => {
                    let before = before.map(|before| &*before.jwks_cache);
                    let source = source(settings)?;
                    Arc::new(JwksCache::start(&settings.issuer, source, before, metrics))
                }
            };
            Ok(Issuer::new(settings, jwks_cache))
        });
        issuers.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Verifies a token and returns its identity. Waits at most `limit` for keys that have yet to be read.
    pub async fn verify(
        &self,
        token: &str,
        limit: Duration,
    ) -> Result<Identity, AuthenticationError> {
        let malformed = |_| AuthenticationError::TokenMalformed;
        let header = decode_header(token).map_err(malformed)?;
        // RFC 7515, section 4.1.11: extensions that are not understood must be refused.
        if header.crit.is_some() {
            return Err(AuthenticationError::TokenMalformed);
        }
        let claimed: UnverifiedClaims = insecure_decode_claims(token).map_err(malformed)?;
        let mut issuers = self.0.iter();
        let issuer = issuers
            .find(|issuer| issuer.settings.issuer == claimed.iss)
            .ok_or(AuthenticationError::TokenIssuerUnknown)?;
        issuer.verify(token, &header, limit).await
    }
}
