//! The keys of the configuration file as the documentation describes them, and the messages about unknown keys.

/// A key that can be in the file.
#[derive(Clone, Debug)]
pub struct Key {
    /// Name of the table that contains the key; empty for the top level. `ALIAS` stands for a name that the operator
    /// chooses.
    pub section: &'static str,
    pub name: &'static str,
    /// Type, unit and range of the values.
    pub format: String,
    /// Default value, or `required`.
    pub default: String,
    /// Description for operators.
    pub doc: String,
}

/// Returns whether a message may show a key: one that consists of lower-case letters and `_`, or is similar to a
/// known key. A secret that was written instead of a key is seldom like that.
pub(super) fn may_be_shown(keys: &[Key], name: &str) -> bool {
    let usual = |b: u8| b.is_ascii_lowercase() || b == b'_';
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let is_similar = |key: &Key| strsim::normalized_levenshtein(key.name, &plain) > 0.7;
    name.bytes().all(usual) || keys.iter().any(is_similar)
}

/// Returns the error for an unknown key of a table, with the most similar known key of that table, if there is one.
pub(super) fn unknown_key(keys: &[Key], section: &str, name: &str) -> String {
    let own = keys.iter().filter(|key| key.section == section);
    let nearest = own
        .map(|key| (strsim::jaro_winkler(key.name, name), key.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let mut text = "unknown key".to_owned();
    if may_be_shown(keys, name) {
        text = format!("{text} `{name}`");
    }
    match nearest {
        Some((_, near)) => format!("{text}; did you mean `{near}`?"),
        None => text,
    }
}
