//! An access token, and the result of a token request.

use std::sync::Mutex;

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::{
    config::secret::unprintable,
    error::Failure,
    upstream::{client::sensitive_header, credential_cache::Lease},
};

/// Name of this kind of credential in the metrics.
pub const TOKEN: &str = "token";

/// An access token, and the value of the `Authorization` header with it.
pub struct Token {
    text: Zeroizing<String>,
    /// Not cleared when dropped, because a header value shares its bytes with the requests that are sent.
    header: HeaderValue,
}

unprintable!(Token, Lease<Token>);

impl Token {
    /// Creates a token from its text. Returns `None` if the text is not visible ASCII.
    pub fn new(text: &str) -> Option<Self> {
        let is_valid = text.bytes().all(|byte| byte.is_ascii_graphic());
        let header = Zeroizing::new(format!("Bearer {text}"));
        Some(Self {
            text: Zeroizing::new(text.to_owned()),
            header: is_valid.then(|| sensitive_header(&header).ok())??,
        })
    }

    /// Returns the value of the `Authorization` header, which may only be sent to Azure Batch.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    pub fn expose(&self) -> &str {
        &self.text
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
