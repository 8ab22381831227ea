//! The keys that `[hmcs.ALIAS]` has alone.

use std::{path::Path, time::Duration};

use super::{
    diagnostics::Faults,
    model::BulkheadLimits,
    reader::Section,
    references::secret,
    secret::{Form, SecretSource},
    targets::Settings,
};
use crate::client_tls::Trust;

/// The keys of an HMC.
#[derive(Clone)]
pub struct Hmc {
    /// The user that this service logs on with.
    pub userid: String,
    /// Its password.
    pub password: SecretSource,
    /// How long a logon may take.
    pub logon_timeout: Duration,
}

impl Hmc {
    /// How long a logon may take, unless the configuration says otherwise.
    pub const LOGON_TIMEOUT: Duration = Duration::from_secs(8);
}

impl Settings for Hmc {
    const TABLE: &'static str = "hmcs";
    const SECTION: &'static str = "hmcs.ALIAS";
    const TRUST: Trust = Trust::Only;
    /// HMCs are small machines.
    const BULKHEAD: BulkheadLimits = BulkheadLimits {
        in_flight: 8,
        queued: 256,
    };

    fn read(section: &Section, folder: &Path, faults: &mut Faults) -> Option<Self> {
        let userid = section.identifier("userid", faults);
        let password = secret(section, "password_file", Form::Text, folder, faults);
        let seconds = section.number("logon_timeout_seconds", 1..=60, faults);
        let logon_timeout = seconds.map(|seconds| Duration::from_secs(seconds.into()));
        Some(Self {
            userid: userid?.value,
            password: password?,
            logon_timeout: logon_timeout.unwrap_or(Self::LOGON_TIMEOUT),
        })
    }

    fn secrets(&self) -> Vec<SecretSource> {
        vec![self.password.clone()]
    }
}
