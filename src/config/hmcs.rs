//! The keys of `[hmcs.ALIAS]` that other targets do not have.

use std::time::Duration;

use super::{
    secret::{SecretEncoding, SecretSource},
    table::table,
    targets::PlatformSettings,
    values::{duration, identifier, seconds, secret},
};
use crate::client_tls::Trust;

table! {
    /// The keys of an HMC.
    #[table("hmcs.ALIAS")]
    pub struct Hmc {
        /// The HMC user that the service logs on as. It is never deleted.
        userid: String = identifier();
        /// Its password; read again at each logon.
        #[key("password_file")]
        password: SecretSource = secret("secret", SecretEncoding::Text);
        /// Time limit for a logon. It is then abandoned, and the next call starts another one.
        #[key("logon_timeout_seconds")]
        logon_timeout: Duration = seconds(1..=60).default(Self::LOGON_TIMEOUT).map(duration);
    }
}

impl Hmc {
    /// Default of `logon_timeout_seconds`.
    pub const LOGON_TIMEOUT: u32 = 8;
}

impl PlatformSettings for Hmc {
    const URL: &'static str = "https://hmc.example:6794";
    const TRUST: Trust = Trust::ReplaceSystem;
    /// The value is low, because HMCs are small machines.
    const MAX_IN_FLIGHT: u32 = 8;
    const REQUEST_FIELD: &'static str = "hmc";

    fn authentication(&self) -> String {
        format!("user {} with a password", self.userid)
    }
}
