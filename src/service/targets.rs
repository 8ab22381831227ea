//! The configured targets, by alias.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use futures_util::future::join_all;

use crate::{
    config::Config,
    metrics::{Metrics, TargetName, TargetState},
    pattern::Pattern,
    upstream::{
        azure_batch::BatchAccount,
        ibm_hmc::{Hmc, logon_file::LogonFile, logon_guard::LogonGuards},
        trusted::Change,
    },
};

/// The names of the upstreams, in metadata and numbers.
pub const AZURE_BATCH: &str = "azure_batch";
/// See [`AZURE_BATCH`].
pub const IBM_HMC: &str = "ibm_hmc";

/// One upstream and the users that are never deleted there.
pub struct Target<U> {
    /// How it is called.
    pub upstream: U,
    protected: ArcSwap<Vec<Pattern>>,
}

impl<U> Target<U> {
    fn new(upstream: U, protected: &[Pattern]) -> Self {
        Self {
            upstream,
            protected: ArcSwap::from_pointee(protected.to_vec()),
        }
    }

    fn protect(&self, protected: &[Pattern]) {
        self.protected.store(Arc::new(protected.to_vec()));
    }

    /// Is the user on the list?
    #[must_use]
    pub fn protects(&self, user: &str) -> bool {
        self.protected
            .load()
            .iter()
            .any(|pattern| pattern.matches(user))
    }
}

/// All targets.
pub struct Targets {
    /// Azure Batch accounts.
    pub batch_accounts: BTreeMap<String, Target<BatchAccount>>,
    /// HMCs.
    pub hmcs: BTreeMap<String, Target<Hmc>>,
}

impl Targets {
    /// Makes the clients; nothing is sent.
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Self, String> {
        let mut targets = Self {
            batch_accounts: BTreeMap::new(),
            hmcs: BTreeMap::new(),
        };
        for (alias, account) in &config.batch_accounts {
            let numbers = metrics.upstreams.requests(AZURE_BATCH, alias);
            metrics.calls.expect(AZURE_BATCH, alias);
            let upstream = BatchAccount::new(account.clone(), &numbers)
                .map_err(|error| format!("batch_accounts.{alias}: {error}"))?;
            let target = Target::new(upstream, &account.protected_users);
            targets.batch_accounts.insert(alias.clone(), target);
        }
        let logons = LogonFile::beside(&config.audit.sink).filter(|_| !config.hmcs.is_empty());
        if let Some(file) = &logons {
            file.check_writable();
        }
        let mut guards = LogonGuards::new(logons);
        for (alias, hmc) in &config.hmcs {
            let numbers = metrics.upstreams.requests(IBM_HMC, alias);
            metrics.calls.expect(IBM_HMC, alias);
            let upstream = Hmc::new(alias, hmc.clone(), guards.guard(hmc), &numbers)
                .map_err(|error| format!("hmcs.{alias}: {error}"))?;
            let target = Target::new(upstream, &hmc.protected_users);
            targets.hmcs.insert(alias.clone(), target);
        }
        Ok(targets)
    }

    /// All targets as they are now.
    #[must_use]
    pub fn states(&self) -> Vec<(TargetName, TargetState)> {
        let name = |upstream, alias: &String| TargetName {
            upstream,
            target: alias.as_str().into(),
        };
        let accounts = self.batch_accounts.iter();
        let accounts =
            accounts.map(|(alias, target)| (name(AZURE_BATCH, alias), target.upstream.state()));
        let hmcs = self.hmcs.iter();
        let hmcs = hmcs.map(|(alias, target)| (name(IBM_HMC, alias), target.upstream.state()));
        accounts.chain(hmcs).collect()
    }

    /// Ready to take up the authorities of a changed configuration.
    pub fn trust(&self, config: &Config) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        for (alias, account) in &config.batch_accounts {
            if let Some(target) = self.batch_accounts.get(alias) {
                changes.extend(target.upstream.trust(&account.roots)?);
            }
        }
        for (alias, hmc) in &config.hmcs {
            if let Some(target) = self.hmcs.get(alias) {
                changes.extend(target.upstream.trust(&hmc.roots)?);
            }
        }
        Ok(changes)
    }

    /// Takes up the protected users of a changed configuration. The rest of a target changes at a restart.
    pub fn protect(&self, config: &Config) {
        for (alias, account) in &config.batch_accounts {
            if let Some(target) = self.batch_accounts.get(alias) {
                target.protect(&account.protected_users);
            }
        }
        for (alias, hmc) in &config.hmcs {
            if let Some(target) = self.hmcs.get(alias) {
                target.protect(&hmc.protected_users);
            }
        }
    }

    /// Ends the sessions of HMCs, and cancels token requests in progress.
    pub async fn close(&self) {
        let accounts = self.batch_accounts.values();
        let accounts = join_all(accounts.map(|account| account.upstream.close()));
        let hmcs = join_all(self.hmcs.values().map(|hmc| hmc.upstream.close()));
        tokio::join!(accounts, hmcs);
    }
}
