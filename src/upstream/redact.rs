//! Removes secrets from texts of upstreams. Error texts of upstreams may repeat parts of the request, unchanged or
//! encoded for the format that contains them, such as JSON or a URL.

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

/// The text that replaces a text with a secret.
pub const REDACTED: &str = "(redacted)";
/// Minimum length of a secret that is searched for, in bytes. Shorter ones occur in texts by chance.
const MIN_BYTES: usize = 4;

/// The secrets that a request was sent with.
pub struct Secrets<'a>(Vec<&'a str>);

unprintable!(Secrets<'static>);

impl<'a> Secrets<'a> {
    /// Creates the set of these secrets. Texts of less than 4 bytes are ignored.
    pub fn new(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let secrets = secrets.into_iter();
        Self(secrets.filter(|secret| secret.len() >= MIN_BYTES).collect())
    }

    /// Adds the signature of an `Authorization` header, `SharedKey ACCOUNT:SIGNATURE`.
    pub fn with_signature(mut self, header: Option<&'a HeaderValue>) -> Self {
        let text = header.and_then(|header| header.to_str().ok());
        let signature = text.and_then(|text| text.rsplit_once(':'));
        let signature = signature.map(|(_, signature)| signature);
        self.0
            .extend(signature.filter(|signature| signature.len() >= MIN_BYTES));
        self
    }

    pub fn occur_in(&self, text: &str) -> bool {
        self.0.iter().any(|secret| repeats(text, secret))
    }

    /// Returns the text, truncated to 256 bytes, or [`REDACTED`] if it contains a secret.
    pub fn redact(&self, text: &str) -> String {
        if self.occur_in(text) {
            REDACTED.to_owned()
        } else {
            truncate(text, MAX_TEXT_BYTES).to_owned()
        }
    }
}

/// Returns whether the text contains the secret unchanged, or encoded for JSON, for a URL or in base64.
fn repeats(text: &str, secret: &str) -> bool {
    // No encoded form is shorter than the secret. Most texts are, and skipping them here saves the encodings, because
    // the request ID of each successful response is checked, too.
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
