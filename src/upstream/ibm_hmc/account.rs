//! The account that a target logs on with.

use std::sync::Arc;

use super::{
    local_guard::LocalGuard, logon_file::LogonFile, logon_guard::LogonGuard,
    store_guard::StoreGuard,
};
use crate::{
    config::{self, AuditSink},
    postgres::Database,
};

/// An account of an HMC, which all targets with this HMC and this user share.
#[derive(Clone)]
pub struct Account {
    /// `user@host:port`. The case of users does not matter.
    name: String,
    pub guard: Arc<dyn LogonGuard>,
    /// The file that the local guards of all accounts share.
    file: Option<Arc<LogonFile>>,
}

impl Account {
    /// Returns the account of this HMC, which may be one of the existing ones.
    pub fn for_target(
        hmc: &config::Target<config::Hmc>,
        existing: &[&Self],
        audit: &AuditSink,
        database: Option<&Arc<Database>>,
    ) -> Self {
        let name = name(hmc);
        if let Some(same) = existing.iter().find(|account| account.name == name) {
            return (*same).clone();
        }
        if let Some(database) = database {
            let guard = StoreGuard::new(name.clone(), Arc::clone(database));
            return Self {
                name,
                guard: Arc::new(guard),
                file: None,
            };
        }
        let new_file = || LogonFile::for_audit_log(audit).map(Arc::new);
        let file = existing
            .first()
            .map_or_else(new_file, |account| account.file.clone());
        let guard = LocalGuard::new(name.clone(), file.clone());
        Self {
            name,
            guard: Arc::new(guard),
            file,
        }
    }
}

fn name(hmc: &config::Target<config::Hmc>) -> String {
    let host = hmc.url.host_str().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    let port = hmc.url.port_or_known_default().unwrap_or_default();
    format!("{}@{host}:{port}", hmc.own.userid.to_lowercase())
}
