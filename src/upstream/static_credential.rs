//! A credential that the server reads from a file and that does not expire, such as the key of an account.

use std::sync::Mutex;

use crate::{
    config::secret::{Secret, SecretSource},
    error::Failure,
    proto::ErrorReason,
};

/// The `cause` of a failure if a file or variable that the credential is read from is missing or invalid.
pub const CREDENTIAL_UNUSABLE: &str = "credential_unusable";

/// A secret that is read at its first use, and is read again when the upstream refuses it.
pub struct StaticCredential {
    name: &'static str,
    source: SecretSource,
    current: Mutex<Option<Secret>>,
}

impl StaticCredential {
    /// Creates a credential that log lines call `name`.
    pub fn new(name: &'static str, source: SecretSource) -> Self {
        Self {
            name,
            source,
            current: Mutex::new(None),
        }
    }

    /// Returns the secret, which is read at the first call. Fails if it cannot be read.
    pub fn get(&self) -> Result<Secret, Failure> {
        if let Some(secret) = crate::lock(&self.current).clone() {
            return Ok(secret);
        }
        let secret = self.read()?;
        *crate::lock(&self.current) = Some(secret.clone());
        Ok(secret)
    }

    /// Reads the secret again after the upstream refused `refused`. Returns whether the new secret differs from it.
    /// If the new secret cannot be read, the current one remains in use.
    pub fn renew(&self, refused: &Secret) -> bool {
        let Ok(secret) = self.read() else {
            return false;
        };
        let changed = secret.expose().trim() != refused.expose().trim();
        *crate::lock(&self.current) = Some(secret);
        changed
    }

    fn read(&self) -> Result<Secret, Failure> {
        self.source.read().map_err(|error| Failure {
            cause: Some(CREDENTIAL_UNUSABLE),
            ..Failure::new(
                ErrorReason::UpstreamCredentialsRejected,
                format!("the {} cannot be used: {error}", self.name),
            )
        })
    }
}
