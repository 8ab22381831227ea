//! One issuer: what its tokens must say, and the check of one.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header, Validation, decode, errors::ErrorKind};
use serde::Deserialize;

use super::{super::authentication_error::AuthenticationError, jwks_cache::JwksCache};
use crate::{
    config::{Jwks, JwtIssuer},
    identity::Identity,
    jwks::KeySet,
};

/// Clocks may differ by this much.
const LEEWAY: Duration = Duration::from_mins(1);

/// An issuer and its keys.
pub struct Issuer {
    settings: JwtIssuer,
    validations: Vec<(Algorithm, Validation)>,
    jwks_cache: Arc<JwksCache>,
}

/// What is taken from a token that is valid.
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Issuer {
    /// With keys from this jwks_cache.
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

    /// Who reads the keys.
    pub const fn jwks_cache(&self) -> &Arc<JwksCache> {
        &self.jwks_cache
    }

    /// What `iss` must be.
    pub fn name(&self) -> &str {
        &self.settings.issuer
    }

    /// Are these the place where its keys are, and the authorities?
    pub fn reads(&self, jwks: &Jwks) -> bool {
        self.settings.jwks == *jwks
    }

    /// The identity that a token of this issuer proves.
    pub async fn verify(
        &self,
        token: &str,
        header: &Header,
        patience: Duration,
    ) -> Result<Identity, AuthenticationError> {
        let mut validations = self.validations.iter();
        let (_, validation) = validations
            .find(|(algorithm, _)| *algorithm == header.alg)
            .ok_or(AuthenticationError::TokenAlgorithmRefused)?;
        let check = |keys: &KeySet| checked(token, header, keys, validation);
        let mut subject = self.jwks_cache.keys().and_then(|keys| check(&keys));
        if subject.as_ref().is_err_and(|why| may_be_new(*why, header)) {
            self.jwks_cache.refresh(patience).await;
            subject = self.jwks_cache.keys().and_then(|keys| check(&keys));
        }
        let subject = subject?;
        Identity::token(&self.settings.issuer, &subject).ok_or(AuthenticationError::TokenMalformed)
    }
}

/// May keys that are read now know the token?
fn may_be_new(why: AuthenticationError, header: &Header) -> bool {
    match why {
        AuthenticationError::TokenKeyUnknown | AuthenticationError::TokenKeysUnavailable => true,
        // A key without an ID is changed without a sign.
        AuthenticationError::TokenSignatureInvalid => header.kid.is_none(),
        _ => false,
    }
}

/// The subject of a token that one of the keys has signed.
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
    // A key without an ID has not signed it; one with the token's ID may come.
    if result == Err(AuthenticationError::TokenSignatureInvalid)
        && header.kid.is_some()
        && !keys.knows(header.kid.as_deref())
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
