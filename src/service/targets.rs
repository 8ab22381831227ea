//! The configured targets, by alias.

use std::collections::BTreeMap;

use crate::{
    config::Config,
    pattern::Pattern,
    upstream::{azure_batch::BatchAccount, ibm_hmc::Hmc},
};

/// One upstream and the users that are never deleted there.
pub struct Target<U> {
    /// How it is called.
    pub upstream: U,
    protected: Vec<Pattern>,
}

impl<U> Target<U> {
    /// Is the user on the list?
    #[must_use]
    pub fn protects(&self, user: &str) -> bool {
        self.protected.iter().any(|pattern| pattern.matches(user))
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
    pub fn new(config: &Config) -> Result<Self, String> {
        let mut targets = Self {
            batch_accounts: BTreeMap::new(),
            hmcs: BTreeMap::new(),
        };
        for (alias, account) in &config.batch_accounts {
            let upstream = BatchAccount::new(account.clone())
                .map_err(|error| format!("batch_accounts.{alias}: {error}"))?;
            let protected = account.protected_users.clone();
            let target = Target {
                upstream,
                protected,
            };
            targets.batch_accounts.insert(alias.clone(), target);
        }
        for (alias, hmc) in &config.hmcs {
            let upstream =
                Hmc::new(hmc.clone()).map_err(|error| format!("hmcs.{alias}: {error}"))?;
            let protected = hmc.protected_users.clone();
            let target = Target {
                upstream,
                protected,
            };
            targets.hmcs.insert(alias.clone(), target);
        }
        Ok(targets)
    }

    /// Ends what is open on the upstreams.
    pub async fn close(&self) {
        let hmcs = self.hmcs.values();
        futures_util::future::join_all(hmcs.map(|hmc| hmc.upstream.close())).await;
    }
}
