//! The keys that `[batch_accounts.ALIAS]` has alone.

use std::path::{Path, PathBuf};

use super::{
    credential::{self, Credential, Entra, EntraKind},
    diagnostics::Faults,
    model::BulkheadLimits,
    reader::Section,
    secret::SecretSource,
    targets::Settings,
};
use crate::client_tls::Trust;

/// The keys of an Azure Batch account.
#[derive(Clone)]
pub struct BatchAccount {
    /// How this service shows who it is.
    pub credential: Credential,
}

impl Settings for BatchAccount {
    const TABLE: &'static str = "batch_accounts";
    const SECTION: &'static str = "batch_accounts.ALIAS";
    const TRUST: Trust = Trust::More;
    const BULKHEAD: BulkheadLimits = BulkheadLimits {
        in_flight: 256,
        queued: 256,
    };

    fn read(section: &Section, folder: &Path, faults: &mut Faults) -> Option<Self> {
        let credential = credential::credential(section, folder, faults)?;
        Some(Self { credential })
    }

    fn secrets(&self) -> Vec<SecretSource> {
        match &self.credential {
            Credential::SharedKey { key, .. } => vec![key.clone()],
            Credential::Entra(Entra {
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
