//! The keys that the targets of all platforms have.

use std::collections::BTreeMap;

use toml::de::DeValue;
use url::Url;

use super::{
    table::{Kind, Table, table},
    values::{Roots, ca_file, flattened, matching, number, origin, patterns},
};
use crate::{client_tls::Trust, names, pattern::Pattern};

/// The keys that only the targets of one platform have.
pub trait PlatformSettings: Table + Clone + 'static {
    /// Example of the URL of a target, for the documentation.
    const URL: &'static str;
    /// Whether the authorities in `ca_file` are trusted in addition to the system's, or instead of them.
    const TRUST: Trust = Trust::AddToSystem;
    /// Default of `max_in_flight`.
    const MAX_IN_FLIGHT: u32 = 256;
    /// Name of the request field that selects the target.
    const REQUEST_FIELD: &'static str;

    /// Returns a description of how the service authenticates to the target, without secrets.
    fn authentication(&self) -> String;

    /// Returns the version of the target's API, or `None` if requests name none.
    fn api_version(&self) -> Option<&'static str> {
        None
    }

    /// Returns whether the target is called under the identities of callers, and not under that of the service.
    fn acts_for_callers(&self) -> bool {
        false
    }
}

table! {
    /// The table of a target, with the keys `S` of its platform.
    #[table(S::NAME)]
    pub struct Target<S: PlatformSettings> {
        /// The endpoint. http is allowed for a loopback host only.
        url: Url = origin().format(format!("https URL without path, such as `{}`", S::URL));
        /// The keys of the platform.
        own: S = flattened();
        /// Certificate authorities that can vouch for the target. Host name and dates are checked in any case.
        #[key("ca_file")]
        roots: Roots = ca_file(S::TRUST).format(match S::TRUST {
            Trust::AddToSystem => "path of a PEM file: authorities beside the system's",
            Trust::ReplaceSystem => "path of a PEM file: the only trusted authorities, or the target's own self-signed certificate",
        });
        /// Users that are never deleted. `*` stands for any text; case does not matter.
        protected_users: Vec<Pattern> = matching(patterns(Pattern::case_insensitive), "user name", is_user_pattern)
            .default_as("[]", Vec::new());
        /// Maximum number of requests in progress to the target. A deletion on an HMC sends two, one after the other.
        max_in_flight: u32 = number(1..=4096).default(S::MAX_IN_FLIGHT);
        /// Maximum number of requests that wait for a free slot. Calls beyond it are refused with `OVERLOADED`.
        max_queued: u32 = number(0..=65_536).default(MAX_QUEUED);
    }
}

const MAX_QUEUED: u32 = 256;

/// Returns whether a user name can match a pattern: names are not empty, and have no blanks at their ends.
fn is_user_pattern(text: &str) -> bool {
    !text.is_empty() && text.trim() == text
}

/// The properties of a target that a summary of the configuration shows.
pub struct TargetSummary {
    /// Name of the table, such as `hmcs.ALIAS`, with the alias of the target.
    pub table: String,
    pub url: Url,
    pub authentication: String,
    pub api_version: Option<&'static str>,
    /// Whether the target is called under the identities of callers.
    pub acts_for_callers: bool,
    /// Number of patterns of protected users.
    pub protected_users: usize,
    pub max_in_flight: u32,
}

impl<S: PlatformSettings> Target<S> {
    pub fn summary(&self, alias: &str) -> TargetSummary {
        TargetSummary {
            table: Self::table(alias),
            url: self.url.clone(),
            authentication: self.own.authentication(),
            api_version: self.own.api_version(),
            acts_for_callers: self.own.acts_for_callers(),
            protected_users: self.protected_users.len(),
            max_in_flight: self.max_in_flight,
        }
    }

    /// Returns the name of the table that configures the target with this alias.
    pub fn table(alias: &str) -> String {
        S::NAME.replace("ALIAS", alias)
    }

    /// Creates a target with the defaults of its platform.
    pub fn new(url: Url, own: S) -> Self {
        Self {
            url,
            own,
            roots: Roots::default(),
            protected_users: Vec::new(),
            max_in_flight: S::MAX_IN_FLIGHT,
            max_queued: MAX_QUEUED,
        }
    }
}

/// Returns the kind of the targets of one platform, by alias, without those that have errors.
pub fn targets<S: PlatformSettings>() -> Kind<BTreeMap<String, Target<S>>> {
    let kind = Kind::new("tables by alias", |reader, key| {
        let mut targets = BTreeMap::new();
        for (alias, value) in reader.typed(key, "a table", DeValue::as_table)? {
            let name = alias.get_ref().as_ref();
            if names::is_alias(name) {
                reader.reveal(alias.span());
            }
            let Some(table) = value.get_ref().as_table() else {
                reader.error(value.span(), format!("`{key}` holds tables only"));
                continue;
            };
            let reader = reader.inner(S::NAME, table, alias.span());
            if !names::is_alias(name) {
                let error = "an alias is 1-64 letters, digits, `.`, `_` or `-`";
                reader.error(alias.span(), error);
            }
            if let Some(target) = Target::read(&reader) {
                targets.insert(name.to_owned(), target);
            }
        }
        Some(targets)
    });
    kind.with_keys(Target::<S>::keys)
        .default_as("none", BTreeMap::new())
}
