//! The `SharedKey` signature of the Authorization header ("Authenticate requests to the Azure Batch service").

use std::sync::Mutex;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::Uri;
use ring::hmac;
use url::form_urlencoded;
use zeroize::Zeroizing;

use super::entra::causes;
use crate::{
    config::secret::{Secret, SecretSource},
    error::Failure,
};

/// Headers whose values are signed, in this order. None of them is sent with a DELETE or GET without a body.
const EMPTY_HEADERS: usize = 11;

/// An account's key.
pub struct SharedKey {
    account: String,
    source: SecretSource,
    current: Mutex<Option<Secret>>,
}

impl SharedKey {
    /// Read at the first use.
    pub fn new(account: String, source: SecretSource) -> Self {
        Self {
            account,
            source,
            current: Mutex::new(None),
        }
    }

    /// The key that is in use.
    pub fn key(&self) -> Result<Secret, Failure> {
        if let Some(key) = crate::lock(&self.current).clone() {
            return Ok(key);
        }
        let key = self.read()?;
        *crate::lock(&self.current) = Some(key.clone());
        Ok(key)
    }

    /// Reads the file. One that holds no key never takes the place of a key: it will be read again.
    fn read(&self) -> Result<Secret, Failure> {
        let key = self
            .source
            .read()
            .map_err(|error| unusable(&error.to_string()))?;
        decode(&key)?;
        Ok(key)
    }

    /// Reads the file again after `refused` was refused. Is there another key now?
    pub fn changed(&self, refused: &Secret) -> bool {
        let Ok(key) = self.read() else {
            return false;
        };
        let changed = key.expose().trim() != refused.expose().trim();
        *crate::lock(&self.current) = Some(key);
        changed
    }

    /// The value of the Authorization header for a request without a body.
    pub fn authorization(
        &self,
        key: &Secret,
        verb: &str,
        uri: &Uri,
        ocp_date: &str,
    ) -> Result<Zeroizing<String>, Failure> {
        let key = decode(key)?;
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

fn decode(key: &Secret) -> Result<Zeroizing<Vec<u8>>, Failure> {
    BASE64_STANDARD
        .decode(key.expose().trim())
        .map(Zeroizing::new)
        .map_err(|_| unusable("not base64"))
}

fn unusable(context: &str) -> Failure {
    let context = format!("the shared key cannot be used: {context}");
    causes::rejected(causes::CREDENTIAL_UNUSABLE, context)
}
