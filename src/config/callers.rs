//! `[[callers]]`.

use std::collections::BTreeSet;

use toml::Spanned;

use super::{
    jwt_issuers::JwtIssuer,
    reader::Reader,
    table::table,
    urls,
    values::{choice, number, some_patterns, subtables, text},
};
use crate::{
    identity::{Identity, MAX_BYTES},
    names,
    pattern::Pattern,
    proto::rpcs,
};

table! {
    /// `[[callers]]`
    #[table("callers")]
    pub struct CallerKeys {
        /// Who calls: a URI (such as a SPIFFE ID) or DNS name of the client certificate; `ISSUER#SUBJECT` of a token; or
        /// `anonymous`, who is everybody while neither `client_ca_file` nor `[[jwt_issuers]]` is there.
        identity: Spanned<String> = text().check(|text| check_identity(text)).spanned();
        /// What this caller may do.
        allow: Vec<Allow> = subtables();
        /// Maximum number of deletions of this caller in any period of 60 seconds, over all targets. Calls with
        /// `validate_only` and calls that end as `not_sent` do not count; a changed figure takes the deletions of the last
        /// minute into account, except those that were made without any limit.
        deletes_per_minute: Option<u32> = number(1..=1_000_000).optional("no limit");
    }
}

table! {
    /// One entry of `allow`.
    #[table("callers.allow", check = check_pools)]
    pub struct Allow {
        /// The rpc.
        rpc: &'static str = choice(rpcs().collect());
        /// Aliases; `*` stands for any text; case matters.
        targets: Vec<Pattern> = some_patterns();
        /// Pools, for `DeleteBatchNodeUser` alone; `*` stands for any text; case matters.
        pools: Option<Vec<Pattern>> = some_patterns().optional("all pools");
    }
}

/// A caller with its permissions.
#[derive(Clone)]
pub struct Caller {
    /// Who it is.
    pub identity: Identity,
    /// What it may do.
    pub allow: Vec<Allow>,
    /// Maximum number of deletions in any 60 seconds.
    pub deletes_per_minute: Option<u32>,
}

fn check_identity(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX_BYTES {
        return Err("is longer than 256 bytes");
    }
    if text.chars().any(names::is_unseen) {
        return Err("holds characters that cannot be seen");
    }
    Ok(())
}

fn check_pools(allow: &Allow, reader: &Reader<'_>) {
    if allow.pools.is_some() && allow.rpc != "DeleteBatchNodeUser" {
        reader.error(reader.key_span("pools"), "an HMC has no pools");
    }
}

/// Returns the callers, whose identities depend on the issuers of tokens.
pub fn callers(list: Vec<CallerKeys>, issuers: &[JwtIssuer], reader: &Reader<'_>) -> Vec<Caller> {
    let mut seen = BTreeSet::new();
    let mut callers = Vec::new();
    for keys in list {
        let (span, text) = (keys.identity.span(), keys.identity.into_inner());
        let names = issuers.iter().map(|issuer| issuer.issuer.as_str());
        let identity = Identity::parse(&text, names);
        let checked = match &identity {
            Identity::Certificate(name) => urls::check_certificate_name(name),
            Identity::Token { subject, .. } => urls::check_template(subject),
            Identity::Anonymous => Ok(()),
        };
        if let Err(error) = checked {
            reader.error(span.clone(), format!("`identity` {error}"));
        }
        if !seen.insert(identity.to_string()) {
            let remedy = "put all that it may do into one `allow`";
            reader.error(span, format!("this caller is listed twice; {remedy}"));
        }
        callers.push(Caller {
            identity,
            allow: keys.allow,
            deletes_per_minute: keys.deletes_per_minute,
        });
    }
    callers
}
