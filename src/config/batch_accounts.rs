//! The keys that `[batch_accounts.ALIAS]` has alone.

use std::path::PathBuf;

use super::{
    credential::{Credential, CredentialKeys, Entra, EntraKind},
    secret::SecretSource,
    table::table,
    targets::Settings,
    values::subtable,
};
use crate::client_tls::Trust;

table! {
    /// The keys of an Azure Batch account.
    #[table("batch_accounts.ALIAS")]
    pub struct BatchAccount {
        /// How this service shows who it is.
        credential: Credential = subtable().then(|_, _, keys: CredentialKeys| keys.credential());
    }
}

impl Settings for BatchAccount {
    const URL: &'static str = "https://account.region.batch.azure.com";
    const TRUST: Trust = Trust::More;
    const MAX_IN_FLIGHT: u32 = 256;

    fn secrets(&self) -> Vec<SecretSource> {
        match &self.credential {
            Credential::SharedKey { key: secret, .. }
            | Credential::Entra(Entra {
                kind: EntraKind::ClientSecret { secret, .. },
                ..
            }) => vec![secret.clone()],
            Credential::Entra(_) => Vec::new(),
        }
    }

    fn token_files(&self) -> Vec<PathBuf> {
        match &self.credential {
            Credential::Entra(Entra {
                kind: EntraKind::WorkloadIdentity { token_file, .. },
                ..
            }) => token_file.iter().cloned().collect(),
            _ => Vec::new(),
        }
    }
}
