//! One issuer of tokens: the required claims, and the verification of a token.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header, Validation, decode, errors::ErrorKind};
use serde::Deserialize;

use super::{super::authentication_error::AuthenticationError, jwks_cache::JwksCache};
use crate::{config::JwtIssuer, identity::Identity, jwks::KeySet};

/// Permitted difference between the clocks of the issuer and of this server.
const LEEWAY: Duration = Duration::from_mins(1);

pub struct Issuer {
    pub(super) settings: JwtIssuer,
    validations: Vec<(Algorithm, Validation)>,
    pub(super) jwks_cache: Arc<JwksCache>,
}

/// Claims of a valid token that the server uses.
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Issuer {
    pub fn new(settings: &JwtIssuer, jwks_cache: Arc<JwksCache>) -> Self {
        let algorithms = settings.algorithms.iter();
        Self {
            settings: settings.clone(),
            validations: algorithms
                .map(|algorithm| (*algorithm, validation(settings, *algorithm)))
                .collect(),
            jwks_cache,
        }
    }

    /// Verifies a token of this issuer and returns its identity. If the issuer may have published a new key, first
    /// waits at most `limit` until the keys have been read again.
    pub async fn verify(
        &self,
        token: &str,
        header: &Header,
        limit: Duration,
    ) -> Result<Identity, AuthenticationError> {
        let mut validations = self.validations.iter();
        let (_, validation) = validations
            .find(|(algorithm, _)| *algorithm == header.alg)
            .ok_or(AuthenticationError::TokenAlgorithmRefused)?;
        let check = |keys: &KeySet| checked(token, header, keys, validation);
        let mut subject = self.jwks_cache.keys().and_then(|keys| check(&keys));
        if subject
            .as_ref()
            .is_err_and(|why| may_be_new_key(*why, header))
        {
            self.jwks_cache.refresh(limit).await;
            subject = self.jwks_cache.keys().and_then(|keys| check(&keys));
        }
        let subject = subject?;
        Identity::token(&self.settings.issuer, &subject).ok_or(AuthenticationError::TokenMalformed)
    }
}

/// Returns whether the issuer may have published the key of the token since its keys were read.
fn may_be_new_key(why: AuthenticationError, header: &Header) -> bool {
    match why {
        AuthenticationError::TokenKeyUnknown | AuthenticationError::TokenKeysUnavailable => true,
        // If the token names no key ID, a replaced key shows only as an invalid signature.
        AuthenticationError::TokenSignatureInvalid => header.kid.is_none(),
        _ => false,
    }
}

/// Returns the subject of a token if one of the keys has signed the token and its claims are valid.
fn checked(
    token: &str,
    header: &Header,
    keys: &KeySet,
    validation: &Validation,
) -> Result<String, AuthenticationError> {
    let mut result = Err(AuthenticationError::TokenKeyUnknown);
    for key in keys.find(header.kid.as_deref(), header.alg) {
        result = decode::<Claims>(token, key, validation)
            .map(|token| token.claims.sub)
            .map_err(|error| cause(error.kind()));
        if result != Err(AuthenticationError::TokenSignatureInvalid) {
            break;
        }
    }
    // Only keys without an ID were tried. Since then, the issuer may have published the key that the token names.
    if result == Err(AuthenticationError::TokenSignatureInvalid)
        && header.kid.is_some()
        && !keys.contains_id(header.kid.as_deref())
    {
        result = Err(AuthenticationError::TokenKeyUnknown);
    }
    result
}

fn validation(settings: &JwtIssuer, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.set_issuer(&[&settings.issuer]);
    validation.set_audience(&[&settings.audience]);
    validation.set_required_spec_claims(&["aud", "exp", "iss", "sub"]);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY.as_secs();
    validation
}

fn cause(kind: &ErrorKind) -> AuthenticationError {
    match kind {
        ErrorKind::InvalidSignature => AuthenticationError::TokenSignatureInvalid,
        ErrorKind::ExpiredSignature => AuthenticationError::TokenExpired,
        ErrorKind::ImmatureSignature => AuthenticationError::TokenNotYetValid,
        ErrorKind::InvalidAudience => AuthenticationError::TokenAudienceWrong,
        ErrorKind::InvalidIssuer => AuthenticationError::TokenIssuerUnknown,
        _ => AuthenticationError::TokenMalformed,
    }
}
