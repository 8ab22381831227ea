//! All configured targets, by platform. A new platform is added to the list in this module.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{
    Stream,
    future::{BoxFuture, FutureExt as _, join_all},
    stream::{self, StreamExt as _},
};

use super::{
    call_limits::CallLimits,
    client::Change,
    platform::{CredentialCheck, Platform},
    target::Target,
};
use crate::{
    config::{self, Config},
    error::{Failure, resource::ResourceNames, rule::Rule},
    metrics::{Metrics, TargetName, TargetState},
    postgres::Database,
};

/// Maximum number of credentials that are checked at the same time.
const MAX_CHECKS: usize = 8;

/// The name of a target's table in the configuration, and the result of the check of the target's credential.
pub type CheckedTarget = (String, Result<CredentialCheck, Failure>);

/// The names of a platform, the name of a request, and the rules for the responses to this request.
pub type Table = (&'static ResourceNames, &'static str, &'static [Rule]);

/// Lists the platforms. Each line has the name of a table of the configuration, and the type that implements
/// [`Platform`] for its targets. Every table of targets needs a line.
macro_rules! platforms {
    ($($field:ident: $platform:ty,)*) => {
        pub struct Targets {
            $($field: Group<$platform>,)*
        }

        impl Targets {
            /// Creates the targets of a configuration. Nothing is sent yet. `database` is that of `[store]`, or `None`
            /// for the kind `local`.
            pub fn new(
                config: &Config,
                metrics: &Metrics,
                database: Option<&Arc<Database>>,
            ) -> Result<Self, String> {
                let config::Targets { $($field,)* } = &config.targets;
                Ok(Self {
                    $($field: Group::new($field, config, metrics, database)
                        .map_err(|error| format!("{}.{error}", stringify!($field)))?,)*
                })
            }

            /// Returns closures that apply changed certificate authorities. Fails if they cannot be used.
            pub fn prepare_roots(&self, config: &Config) -> Result<Vec<Change>, String> {
                let mut changes = Vec::new();
                $(changes.extend(self.$field.prepare_roots(&config.targets.$field)?);)*
                Ok(changes)
            }

            /// Applies changed protected users. Changes of a target's other keys need a restart.
            pub fn set_protected_users(&self, config: &Config) {
                $(self.$field.set_protected_users(&config.targets.$field);)*
            }

            pub fn states(&self) -> Vec<(TargetName, TargetState)> {
                let mut states = Vec::new();
                $(states.extend(self.$field.states());)*
                states
            }

            /// Checks the credentials of all targets, 8 at the same time. Returns the results in the order of the
            /// targets.
            pub fn check_credentials(&self, limits: &CallLimits) -> impl Stream<Item = CheckedTarget> {
                let mut checks = Vec::new();
                $(checks.extend(self.$field.check_credentials(limits));)*
                stream::iter(checks).buffered(MAX_CHECKS)
            }

            /// Ends the sessions and cancels the token requests of all targets.
            pub async fn close(&self) {
                tokio::join!($(self.$field.close(),)*);
            }
        }

        /// Returns the tables of rules of all platforms.
        pub fn tables() -> Vec<Table> {
            let mut tables = Vec::new();
            $(
                let (names, rules) = (<$platform>::NAMES, <$platform>::RULES);
                tables.push((names, "deletion", rules));
                let others = <$platform>::OTHER_RULES.iter();
                tables.extend(others.map(|(request, rules)| (names, *request, *rules)));
            )*
            tables
        }

        $(impl Registered for $platform {
            fn group(targets: &Targets) -> &Group<Self> {
                &targets.$field
            }
        })*
    };
}

platforms! {
    batch_accounts: super::azure_batch::AzureBatch,
    hmcs: super::ibm_hmc::IbmHmc,
}

pub trait Registered: Platform {
    fn group(targets: &Targets) -> &Group<Self>;
}

/// The tables of one platform in the configuration, by alias.
type Tables<P> = BTreeMap<String, config::Target<<P as Platform>::Settings>>;

/// The targets of one platform, by alias.
pub struct Group<P>(BTreeMap<String, Arc<Target<P>>>);

impl<P: Platform> Group<P> {
    fn new(
        tables: &Tables<P>,
        config: &Config,
        metrics: &Metrics,
        database: Option<&Arc<Database>>,
    ) -> Result<Self, String> {
        let mut targets: BTreeMap<String, Arc<Target<P>>> = BTreeMap::new();
        let upstream = P::NAMES.upstream;
        for (alias, table) in tables {
            let requests = metrics.upstreams.requests(upstream, alias);
            let outcomes = metrics.calls.outcomes(upstream, alias);
            let others = targets.values().map(|other| &other.platform).collect();
            let audit = &config.audit.sink;
            let target = Target::new(table, others, audit, database, &requests, outcomes);
            let target = target.map_err(|error| format!("{alias}: {error}"))?;
            targets.insert(alias.clone(), Arc::new(target));
        }
        Ok(Self(targets))
    }

    pub fn get(&self, alias: &str) -> Option<&Arc<Target<P>>> {
        self.0.get(alias)
    }

    pub fn aliases(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    fn prepare_roots(&self, tables: &Tables<P>) -> Result<Vec<Change>, String> {
        let mut changes = Vec::new();
        for (alias, table) in tables {
            if let Some(target) = self.0.get(alias) {
                changes.extend(target.prepare_roots(&table.roots)?);
            }
        }
        Ok(changes)
    }

    fn set_protected_users(&self, tables: &Tables<P>) {
        for (alias, table) in tables {
            if let Some(target) = self.0.get(alias) {
                target.set_protected_users(&table.protected_users);
            }
        }
    }

    fn states(&self) -> impl Iterator<Item = (TargetName, TargetState)> {
        self.0.iter().map(|(alias, target)| {
            let name = TargetName {
                upstream: P::NAMES.upstream,
                target: alias.as_str().into(),
            };
            (name, target.state())
        })
    }

    fn check_credentials<'a>(
        &'a self,
        limits: &CallLimits,
    ) -> impl Iterator<Item = BoxFuture<'a, CheckedTarget>> {
        self.0.iter().map(|(alias, target)| {
            let limits = limits.clone();
            let check = async move {
                let result = target.platform.check_credential(&limits).await;
                (config::Target::<P::Settings>::table(alias), result)
            };
            check.boxed()
        })
    }

    async fn close(&self) {
        join_all(self.0.values().map(|target| target.platform.close())).await;
    }
}
