//! The `SharedKey` signature of the Authorization header ("Authenticate requests to the Azure Batch service").

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Uri;
use ring::hmac;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::{
    config::secret::{Secret, SecretSource},
    error::Failure,
    upstream::static_credential::StaticCredential,
};

/// Number of signed headers, from `Content-Encoding` to `Range`, that are empty in a GET or DELETE without a body.
const EMPTY_HEADERS: usize = 11;

/// Signs requests with the key of an account.
pub struct SharedKey {
    account: String,
    /// The key in base64.
    pub key: StaticCredential,
}

impl SharedKey {
    /// Creates the signer for an account. The key is read at its first use.
    pub fn new(account: String, source: SecretSource) -> Self {
        Self {
            account,
            key: StaticCredential::new("shared key", source),
        }
    }

    /// Returns the value of the `Authorization` header of a request without a body. Fails if the key is not base64.
    pub fn authorization(
        &self,
        key: &Secret,
        verb: &str,
        uri: &Uri,
        ocp_date: &str,
    ) -> Result<Zeroizing<String>, Failure> {
        let key = BASE64_STANDARD
            .decode(key.expose().trim())
            .map(Zeroizing::new);
        let key = key.map_err(|_| Failure::internal("the shared key is not base64"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let text = self.string_to_sign(verb, uri, ocp_date);
        let signature = BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        Ok(Zeroizing::new(format!(
            "SharedKey {}:{signature}",
            self.account
        )))
    }

    fn string_to_sign(&self, verb: &str, uri: &Uri, ocp_date: &str) -> String {
        let empty = "\n".repeat(EMPTY_HEADERS);
        let (account, path) = (&self.account, uri.path());
        let mut text = format!("{verb}\n{empty}ocp-date:{ocp_date}\n/{account}{path}");
        let query = uri.query().unwrap_or_default().as_bytes();
        let mut parameters: Vec<_> = form_urlencoded::parse(query).collect();
        parameters.sort();
        for (name, value) in parameters {
            let line = ["\n", &name.to_lowercase(), ":", &value];
            text.extend(line);
        }
        text
    }
}
