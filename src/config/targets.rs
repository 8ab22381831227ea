//! Reads the tables of targets. The keys that a kind of target has alone are in a file of their own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    diagnostics::Faults,
    model::{BulkheadLimits, Roots, Target},
    reader::{Placed, Section},
    references::roots,
    secret::SecretSource,
    urls::Shape,
};
use crate::{client_tls::Trust, names, pattern::Pattern};

/// The keys of one kind of target, beside those that all targets have.
pub trait Settings: Sized {
    /// Name of the table in the file.
    const TABLE: &'static str;
    /// Name of the table in the documentation of the keys.
    const SECTION: &'static str;
    /// Which authorities `ca_file` adds to, or replaces.
    const TRUST: Trust;
    /// Bulkhead limits unless they are configured.
    const BULKHEAD: BulkheadLimits;

    /// Reads the keys. Returns `None` if a required one is missing or wrong.
    fn read(section: &Section, folder: &Path, faults: &mut Faults) -> Option<Self>;

    /// Returns the sources of secrets.
    fn secrets(&self) -> Vec<SecretSource>;

    /// Returns the files that a library reads by itself.
    fn token_files(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}

/// A table of targets, of any kind.
pub trait Table {
    /// Returns the name of the table.
    fn name(&self) -> &'static str;
    /// Returns whether no target is configured.
    fn is_empty(&self) -> bool;
    /// Returns the authorities of each target.
    fn roots(&self) -> Vec<&Roots>;
    /// Returns the bulkhead limits of each target.
    fn bulkheads(&self) -> Vec<BulkheadLimits>;
    /// Returns the sources of secrets.
    fn secrets(&self) -> Vec<SecretSource>;
    /// Returns the files that a library reads by itself.
    fn token_files(&self) -> Vec<PathBuf>;
}

impl<S: Settings> Table for BTreeMap<String, Target<S>> {
    fn name(&self) -> &'static str {
        S::TABLE
    }

    fn is_empty(&self) -> bool {
        Self::is_empty(self)
    }

    fn roots(&self) -> Vec<&Roots> {
        self.values().map(|target| &target.roots).collect()
    }

    fn bulkheads(&self) -> Vec<BulkheadLimits> {
        self.values().map(|target| target.bulkhead).collect()
    }

    fn secrets(&self) -> Vec<SecretSource> {
        let secrets = self.values().map(|target| target.own.secrets());
        secrets.flatten().collect()
    }

    fn token_files(&self) -> Vec<PathBuf> {
        let files = self.values().map(|target| target.own.token_files());
        files.flatten().collect()
    }
}

/// Reads the tables `[TABLE.ALIAS]` of one kind of target.
pub fn read<S: Settings>(
    file: &Section,
    folder: &Path,
    faults: &mut Faults,
) -> BTreeMap<String, Target<S>> {
    let mut targets = BTreeMap::new();
    for (alias, section) in file.named_tables(S::TABLE, S::SECTION, faults) {
        check_alias(&alias, faults);
        let url = section.url("url", Shape::Origin, false, faults);
        let own = S::read(&section, folder, faults);
        let roots = roots(&section, S::TRUST, folder, faults);
        let protected_users = protected(&section, faults);
        let bulkhead = bulkhead(&section, S::BULKHEAD, faults);
        if let (Some(url), Some(own)) = (url, own) {
            let target = Target {
                url,
                roots,
                protected_users,
                bulkhead,
                own,
            };
            targets.insert(alias.value, target);
        }
    }
    targets
}

fn check_alias(alias: &Placed<String>, faults: &mut Faults) {
    if !names::is_alias(&alias.value) {
        faults.add(
            alias.span.clone(),
            "an alias is 1-64 letters, digits, `.`, `_` or `-`",
        );
    }
}

fn bulkhead(section: &Section, usual: BulkheadLimits, faults: &mut Faults) -> BulkheadLimits {
    let mut number = |key, range, usual| section.number(key, range, faults).unwrap_or(usual);
    BulkheadLimits {
        in_flight: number("max_in_flight", 1..=4096, usual.in_flight),
        queued: number("max_queued", 0..=65_536, usual.queued),
    }
}

fn protected(section: &Section, faults: &mut Faults) -> Vec<Pattern> {
    let Some(list) = section.patterns("protected_users", faults) else {
        return Vec::new();
    };
    let texts = list.value.iter();
    texts.map(|text| Pattern::folded(&text.value)).collect()
}
