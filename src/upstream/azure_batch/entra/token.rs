//! An access token, and the result of a token request.

use std::sync::Mutex;

use zeroize::Zeroizing;

use crate::{config::secret::unprintable, error::Failure, upstream::credential_cache::Lease};

/// Name of this kind of credential in the metrics.
pub const TOKEN: &str = "token";

const SCHEME: &str = "Bearer ";

/// An access token, stored as the value of the `Authorization` header.
pub struct Token(Zeroizing<String>);

unprintable!(Token, Lease<Token>);

impl Token {
    /// Creates a token from its text, which must be visible ASCII.
    pub fn new(bare: &str) -> Self {
        Self(Zeroizing::new(format!("{SCHEME}{bare}")))
    }

    /// Returns the value of the `Authorization` header, which may only be sent to Azure Batch.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn without_scheme(&self) -> &str {
        self.0.strip_prefix(SCHEME).unwrap_or_default()
    }
}

/// Result of the last request to a token endpoint, or `None` if no request was sent.
#[derive(Default)]
pub struct Outcome(Mutex<Option<Result<Lease<Token>, Failure>>>);

unprintable!(Outcome);

impl Outcome {
    pub fn set(&self, outcome: Result<Lease<Token>, Failure>) {
        *crate::lock(&self.0) = Some(outcome);
    }

    pub fn take(&self) -> Option<Result<Lease<Token>, Failure>> {
        crate::lock(&self.0).take()
    }
}
