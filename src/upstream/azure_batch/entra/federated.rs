//! Workload identities: a federated token from a file is exchanged for a Microsoft Entra token. The credential that
//! `azure_identity` has for this purpose is not used, because it also sends byte order marks and line ends of the
//! file.

use std::{env, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use azure_core::{
    credentials::TokenCredential,
    error::{Error, ErrorKind},
    http::ClientMethodOptions,
};
use azure_identity::{
    ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions,
};
use tokio::task::spawn_blocking;

use crate::config::files;

/// The file that contains the federated token. It is read for each request of an Entra token.
#[derive(Debug)]
struct TokenFile(PathBuf);

#[async_trait]
impl ClientAssertion for TokenFile {
    async fn secret(&self, _: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        let path = self.0.clone();
        let read = spawn_blocking(move || files::read_secret(&path)).await;
        let failed = |error| Error::with_error(ErrorKind::Credential, error, "token_file");
        let mut token = read
            .map_err(|error| failed(error.into()))?
            .map_err(failed)?;
        Ok(std::mem::take(&mut *token))
    }
}

/// Returns a credential with these settings. Absent ones are read from the environment variables that Kubernetes
/// sets. Fails if such a variable is missing or a setting is invalid.
pub fn credential(
    tenant_id: Option<String>,
    client_id: Option<String>,
    token_file: Option<PathBuf>,
    options: ClientAssertionCredentialOptions,
) -> azure_core::Result<Arc<dyn TokenCredential>> {
    let setting = |value: Option<String>, name: &'static str| match value {
        Some(value) => Ok(value),
        None => {
            env::var(name).map_err(|error| Error::with_error(ErrorKind::Credential, error, name))
        }
    };
    let path = match token_file {
        Some(path) => path,
        None => setting(None, "AZURE_FEDERATED_TOKEN_FILE")?.into(),
    };
    let tenant_id = setting(tenant_id, "AZURE_TENANT_ID")?;
    let client_id = setting(client_id, "AZURE_CLIENT_ID")?;
    let credential =
        ClientAssertionCredential::new(tenant_id, client_id, TokenFile(path), Some(options))?;
    Ok(credential)
}
