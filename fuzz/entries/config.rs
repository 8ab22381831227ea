//! The text of a configuration file.

use std::{ops::RangeInclusive, path::Path, sync::LazyLock};

use toml::de::{DeTable, DeValue};
use url::Url;
use useradmin::{
    config::{Config, Diagnostics, parse},
    names::is_alias,
};

use super::fuzz_path;

/// A secret that an operator has put into the file by mistake ...
const SECRET: &str = "SeCrEt-4711";
/// ... as the value of a key that does not exist.
const UNKNOWN_KEY: &str = "password";

/// The configuration file. The files that the text can name are in the same folder.
static FILE: LazyLock<String> = LazyLock::new(|| {
    let file = fuzz_path("files/useradmin.toml");
    file.to_str().expect("a path in UTF-8").to_owned()
});

/// Checks the text of a configuration file.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match parse(Path::new(&*FILE), &text) {
        Ok(config) => check(&config),
        Err(errors) => check_faults(&errors, &text),
    }
}

/// Asserts that an accepted configuration is usable.
fn check(config: &Config) {
    assert!(!config.targets.list().is_empty());
    let accounts = config.targets.batch_accounts.iter();
    let accounts = accounts.map(|(alias, account)| (alias, &account.url));
    let hmcs = config
        .targets
        .hmcs
        .iter()
        .map(|(alias, hmc)| (alias, &hmc.url));
    for (alias, url) in accounts.chain(hmcs) {
        assert!(is_alias(alias), "{alias:?}");
        check_url(url);
    }
    let limits = &config.server.limits;
    let assert_within =
        |range: RangeInclusive<u64>, value: u64| assert!(range.contains(&value), "{value}");
    assert_within(1_024..=4_194_304, limits.max_request_bytes.into());
    assert_within(1_024..=65_536, limits.max_metadata_bytes.into());
    assert_within(1..=1_000_000, limits.max_concurrent_calls.into());
    assert_within(1..=86_400, limits.max_connection_age.as_secs());
    assert_within(1..=300, limits.drain.as_secs());
    let mut identities: Vec<_> = config
        .callers
        .iter()
        .map(|caller| caller.identity.to_string())
        .collect();
    identities.sort();
    identities.dedup();
    assert_eq!(identities.len(), config.callers.len());
    for issuer in &config.jwt_issuers {
        assert!(!issuer.algorithms.is_empty() && !issuer.issuer.contains('#'));
    }
}

/// Asserts that the URL is an origin without user information, and without plaintext on a network.
fn check_url(url: &Url) {
    let local = matches!(url.host_str(), Some("localhost" | "[::1]"))
        || url.host_str().is_some_and(|host| host.starts_with("127."));
    assert!(
        url.scheme() == "https" || url.scheme() == "http" && local,
        "{url}"
    );
    assert!(url.path() == "/" && url.query().is_none() && url.fragment().is_none());
    assert!(url.username().is_empty() && url.password().is_none());
}

/// Asserts that every fault is shown at its position, and that no secret is shown.
fn check_faults(errors: &Diagnostics, text: &str) {
    let list = errors.list();
    assert!(!list.is_empty());
    let (printed, brief) = (errors.to_string(), errors.brief());
    let mut rest = &*printed;
    for error in list {
        assert!(error.span.start <= text.len(), "{error:?}");
        assert!(!error.text.contains(is_hidden_control), "{error:?}");
        let (line, column) = line_and_column(text, error.span.start);
        let head = format!("{}:{line}:{column}: {}", *FILE, error.text);
        assert!(brief.contains(&head), "{brief}");
        let [first, source, caret, after] = split_diagnostic(rest);
        assert_eq!(first, head);
        check_line(source, text, line);
        assert_eq!(caret.trim_start(), "^");
        // Below the dots if the position is in the hidden part of the line.
        let dots = source
            .strip_suffix(" ...")
            .map(|line| line.chars().count() + 2);
        let limit = dots.unwrap_or(column);
        assert_eq!(caret.chars().count(), column.min(limit), "{printed}");
        rest = after;
    }
    assert_eq!(rest, "");
    if only_misplaced(text) {
        assert!(
            !printed.contains(SECRET) && !brief.contains(SECRET),
            "{printed}"
        );
    }
}

/// Returns three lines and the rest of the text.
fn split_diagnostic(text: &str) -> [&str; 4] {
    let parts: Vec<&str> = text.splitn(4, '\n').collect();
    parts.try_into().expect("three lines and their ends")
}

/// Returns the line and the column of an offset, both counted from 1.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line = before.split('\n').count();
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let complete = text[start..].lines().next().unwrap_or_default();
    let column = before[start..]
        .chars()
        .count()
        .min(complete.chars().count());
    (line, column + 1)
}

/// Asserts that a line of the file is shown, or only its beginning if the rest may be a secret.
fn check_line(printed: &str, text: &str, line: usize) {
    let complete = text.split('\n').nth(line - 1).expect("a line of the file");
    // U+FFFD replaces characters that a terminal would not show.
    let is_same_character = |(printed, is): (char, char)| {
        printed == is && !is_hidden_control(is) || printed == '\u{FFFD}'
    };
    let is_prefix = |printed: &str| {
        printed.chars().zip(complete.chars()).all(is_same_character)
            && printed.chars().count() <= complete.chars().count()
    };
    let truncated = printed.strip_suffix(" ...").is_some_and(is_prefix);
    let length = |text: &str| text.chars().count();
    let ends = [
        length(complete),
        length(complete.strip_suffix('\r').unwrap_or(complete)),
    ];
    let all = is_prefix(printed) && ends.contains(&length(printed));
    assert!(all || truncated, "{printed:?}");
}

fn is_hidden_control(c: char) -> bool {
    c.is_control() && c != '\t'
}

/// Returns whether the secret occurs in the text, and only in values of an unknown key.
fn only_misplaced(text: &str) -> bool {
    let there = text.matches(SECRET).count();
    let table = DeTable::parse(text).ok();
    there > 0 && table.is_some_and(|table| count_misplaced(table.get_ref(), false) == there)
}

/// Counts the secrets in values of the unknown key. In the tables of the targets, a key is a name that the operator has
/// chosen.
fn count_misplaced(table: &DeTable<'_>, is_alias_table: bool) -> usize {
    let found = table.iter().map(|(key, value)| match value.get_ref() {
        DeValue::String(text) if key.get_ref() == UNKNOWN_KEY && !is_alias_table => {
            text.matches(SECRET).count()
        }
        DeValue::Table(inner) => count_misplaced(
            inner,
            matches!(key.get_ref().as_ref(), "hmcs" | "batch_accounts"),
        ),
        DeValue::Array(list) => {
            let inner = list.iter().filter_map(|item| item.get_ref().as_table());
            inner.map(|inner| count_misplaced(inner, false)).sum()
        }
        _ => 0,
    });
    found.sum()
}
