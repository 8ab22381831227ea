//! Removes secrets from texts of upstreams. Upstreams repeat requests in their errors, as they were or in a form that the
//! text around them requires.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};

use http::HeaderValue;

use super::path;
use crate::{
    config::secret::unprintable,
    error::status::{MAX_TEXT_BYTES, truncate},
};

/// Replaces a text that contains a secret.
pub const REDACTED: &str = "(redacted)";
/// Length of the shortest secret, in bytes. Shorter texts occur by chance.
const MIN_BYTES: usize = 4;

/// The secrets that a request was sent with.
pub struct Secrets<'a>(Vec<&'a str>);

unprintable!(Secrets<'static>);

impl<'a> Secrets<'a> {
    /// Creates the set of these texts.
    pub fn new(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter();
        Self(secrets.filter(|secret| secret.len() >= MIN_BYTES).collect())
    }

    /// Adds the secret part of an `Authorization` header: `TOKEN` of `Bearer TOKEN`, `SIGNATURE` of `SharedKey
    /// ACCOUNT:SIGNATURE`.
    pub fn with_authorization(mut self, header: Option<&'a HeaderValue>) -> Self {
        let text = header.and_then(|header| header.to_str().ok());
        let secret = text.and_then(|text| text.rsplit([' ', ':']).next());
        self.0
            .extend(secret.filter(|secret| secret.len() >= MIN_BYTES));
        self
    }

    /// Returns whether the text contains one of them.
    pub fn occur_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| repeats(text, secret))
    }

    /// Returns the text as callers and logs may see it: cut, and replaced if it contains a secret.
    pub fn redact(&self, text: &str) -> String {
        if self.occur_in(text) {
            REDACTED.to_owned()
        } else {
            truncate(text, MAX_TEXT_BYTES).to_owned()
        }
    }
}

/// Returns whether the text contains the secret as it is, as JSON, in a URL, or in base64.
fn repeats(text: &str, secret: &str) -> bool {
    // None of the forms is shorter than the secret; most texts are, and each success has one.
    if text.len() < secret.len() {
        return false;
    }
    let json = serde_json::Value::from(secret).to_string();
    let forms = [
        secret.to_owned(),
        json.trim_matches('"').to_owned(),
        path::encode(secret),
        BASE64_STANDARD_NO_PAD.encode(secret),
        BASE64_URL_SAFE_NO_PAD.encode(secret),
    ];
    forms.iter().any(|form| text.contains(form))
}
