//! The keys that `[batch_accounts.ALIAS]` has alone.

use super::{
    credential::{Credential, CredentialKeys},
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
}
