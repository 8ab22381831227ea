//! `[[callers]]`.

use toml::Spanned;

use super::{
    platforms::Targets,
    reader::Reader,
    table::{Kind, table},
    urls,
    values::{choice, matching, non_empty_patterns, number, subtables, text, texts},
};
use crate::{
    identity::{Identity, MAX_BYTES},
    names,
    pattern::Pattern,
    proto,
};

table! {
    /// A caller with its permissions.
    #[table("callers")]
    pub struct Caller {
        /// The caller: a URI (such as a SPIFFE ID) or DNS name of the client certificate; `ISSUER#SUBJECT` of a token; or
        /// `anonymous`, which is every caller if neither `client_ca_file` nor `[[jwt_issuers]]` is configured.
        identity: Identity = identity();
        /// The permissions of this caller.
        allow: Vec<Allow> = subtables();
        /// Maximum number of deletions of this caller in any period of 60 seconds, over all targets. Calls with
        /// `validate_only` and calls that end as `not_sent` do not count. After a change of the limit, deletions of the last
        /// 60 seconds still count, unless there was no limit at that time.
        deletes_per_minute: Option<u32> = number(1..=1_000_000).optional("no limit");
    }
}

table! {
    /// One entry of `allow`.
    #[table("callers.allow", check = check_allow)]
    pub struct Allow {
        /// The rpc.
        rpc: &'static str = choice(proto::rpcs().collect());
        /// Aliases; `*` stands for any text; case matters.
        targets: Vec<Pattern> = non_empty_patterns();
        /// Pools, for `DeleteBatchNodeUser` alone; `*` stands for any text; case matters.
        pools: Option<Vec<Pattern>> = matching(non_empty_patterns(), "pool ID", is_pool_pattern).optional("all pools");
    }
}

/// Returns whether a pool ID can match a pattern.
fn is_pool_pattern(text: &str) -> bool {
    !text.is_empty() && names::is_alphanumeric_or(text, b"_-*")
}

fn identity() -> Kind<Identity> {
    let text = text().check(|text| check_characters(text));
    text.then(|reader, key, text| {
        let identity = parse_identity(reader, &text);
        let checked = match &identity {
            Identity::Certificate(name) => urls::check_certificate_name(name),
            Identity::Token { subject, .. } => urls::check_template(subject),
            Identity::Anonymous => Ok(()),
        };
        if let Err(error) = checked {
            reader.invalid(key, error);
        }
        Some(identity)
    })
}

/// Returns the caller that a text identifies. The result depends on the issuers of tokens in the file.
pub fn parse_identity(reader: &Reader<'_>, text: &str) -> Identity {
    let issuers = reader.strings_in_array("jwt_issuers", "issuer");
    Identity::parse(text, issuers.map(Spanned::into_inner))
}

fn check_characters(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_BYTES {
        return Err("is longer than 256 bytes");
    }
    if text.chars().any(names::is_hidden_character) {
        return Err("holds characters that cannot be seen");
    }
    Ok(())
}

/// Reports a warning for each pattern that matches no target, and an error if `pools` is set for an rpc whose request
/// has no pool.
fn check_allow(allow: &Allow, reader: &Reader<'_>) {
    let table = Targets::table_of(allow.rpc).unwrap_or_default();
    for text in texts().read(reader, "targets").unwrap_or_default() {
        let pattern = Pattern::exact(text.get_ref());
        if !reader.names_in(table).any(|alias| pattern.matches(alias)) {
            let warning = format!("`targets` has a pattern that matches no alias in [{table}]");
            reader.warn_at(text.span(), &warning);
        }
    }
    if allow.pools.is_some() && !proto::has_field(allow.rpc, "pool_id") {
        let error = match allow.rpc {
            "DeleteHmcUser" => "an HMC has no pools".to_owned(),
            rpc => format!("the targets of {rpc} have no pools"),
        };
        reader.error(reader.key_span("pools"), error);
    }
}
