//! The tables of targets. Each platform is listed here, and has a separate file for the keys that only it has.

use std::collections::BTreeMap;

use super::{
    table::table,
    targets::{PlatformSettings, Target, TargetSummary, targets},
};
use crate::proto;

/// Declares the platforms, each by the name of its table in the file and the type of the keys that only it has.
macro_rules! platforms {
    ($($(#[doc = $doc:literal])+ $field:ident: $keys:ty;)+) => {
        table! {
            /// All targets, by platform and alias.
            #[table("")]
            pub struct Targets {
                $($(#[doc = $doc])+ $field: BTreeMap<String, Target<$keys>> = targets();)+
            }
        }

        impl Targets {
            /// Names of the tables of targets in the file.
            pub const TABLES: &[&str] = &[$(stringify!($field)),+];

            /// Returns the number of targets in each table, for the log.
            pub fn summary(&self) -> String {
                let tables = [$((stringify!($field), self.$field.len())),+];
                tables.map(|(table, targets)| format!("{table}: {targets}")).join(", ")
            }

            pub fn list(&self) -> Vec<TargetSummary> {
                let mut all = Vec::new();
                $(all.extend(self.$field.iter().map(|(alias, target)| target.summary(alias)));)+
                all
            }

            /// Returns the name of the table that contains the targets of an rpc, or `None` if the rpc has no target.
            pub(super) fn table_of(rpc: &str) -> Option<&'static str> {
                let fields = [$((stringify!($field), <$keys as PlatformSettings>::REQUEST_FIELD)),+];
                let mut fields = fields.into_iter();
                let found = fields.find(|(_, field)| proto::has_field(rpc, field));
                found.map(|(table, _)| table)
            }
        }
    };
}

platforms! {
    /// The Azure Batch accounts that requests can name in `account`. An alias is 1-64 of `A-Z a-z 0-9 . _ -`.
    batch_accounts: super::batch_accounts::BatchAccount;
    /// The HMCs that requests can name in `hmc`. An alias is 1-64 of `A-Z a-z 0-9 . _ -`.
    hmcs: super::hmcs::Hmc;
}
