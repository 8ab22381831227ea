//! One issuer: what its tokens must say, and the check of one.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{Algorithm, Header, Validation, decode, errors::ErrorKind};
use serde::Deserialize;

use super::{
    super::unidentified::Unidentified,
    keeper::{Keeper, KeySource},
};
use crate::{config::JwtIssuer, identity::Identity, jwks::KeySet, metrics::Metrics};

/// Clocks may differ by this much.
const LEEWAY: Duration = Duration::from_mins(1);

/// An issuer and its keys.
pub struct Issuer {
    settings: JwtIssuer,
    validations: Vec<(Algorithm, Validation)>,
    keeper: Keeper,
}

/// What is taken from a token that is valid.
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

impl Issuer {
    /// Begins to read the issuer's keys.
    pub fn start(settings: &JwtIssuer, source: KeySource, metrics: &Arc<Metrics>) -> Self {
        let algorithms = settings.algorithms.iter();
        Self {
            settings: settings.clone(),
            validations: algorithms
                .map(|algorithm| (*algorithm, validation(settings, *algorithm)))
                .collect(),
            keeper: Keeper::start(settings.issuer.clone(), source, metrics),
        }
    }

    /// As configured.
    pub const fn settings(&self) -> &JwtIssuer {
        &self.settings
    }

    /// The identity that a token of this issuer proves.
    pub async fn verify(
        &self,
        token: &str,
        header: &Header,
        patience: Duration,
    ) -> Result<Identity, Unidentified> {
        let mut validations = self.validations.iter();
        let (_, validation) = validations
            .find(|(algorithm, _)| *algorithm == header.alg)
            .ok_or(Unidentified::TokenAlgorithmRefused)?;
        let check = |keys: &KeySet| checked(token, header, keys, validation);
        let mut subject = self.keeper.keys().and_then(|keys| check(&keys));
        if let Err(Unidentified::TokenKeyUnknown | Unidentified::TokenKeysUnavailable) = subject {
            self.keeper.refresh(patience).await;
            subject = self.keeper.keys().and_then(|keys| check(&keys));
        }
        let subject = subject?;
        Identity::token(&self.settings.issuer, &subject).ok_or(Unidentified::TokenMalformed)
    }
}

/// The subject of a token that one of the keys has signed.
fn checked(
    token: &str,
    header: &Header,
    keys: &KeySet,
    validation: &Validation,
) -> Result<String, Unidentified> {
    let mut result = Err(Unidentified::TokenKeyUnknown);
    for key in keys.find(header.kid.as_deref(), header.alg) {
        result = decode::<Claims>(token, key, validation)
            .map(|token| token.claims.sub)
            .map_err(|error| cause(error.kind()));
        if result != Err(Unidentified::TokenSignatureInvalid) {
            break;
        }
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

fn cause(kind: &ErrorKind) -> Unidentified {
    match kind {
        ErrorKind::InvalidSignature => Unidentified::TokenSignatureInvalid,
        ErrorKind::ExpiredSignature => Unidentified::TokenExpired,
        ErrorKind::ImmatureSignature => Unidentified::TokenNotYetValid,
        ErrorKind::InvalidAudience => Unidentified::TokenAudienceWrong,
        ErrorKind::InvalidIssuer => Unidentified::TokenIssuerUnknown,
        _ => Unidentified::TokenMalformed,
    }
}
