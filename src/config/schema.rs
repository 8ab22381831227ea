//! The keys of the configuration file as operators see them, and what messages may say of an unknown key.

/// A key that can be in the file.
#[derive(Clone, Debug)]
pub struct Key {
    /// Table that contains it; empty for the top level. `ALIAS` stands for a name that the operator chooses.
    pub section: &'static str,
    /// Name.
    pub name: &'static str,
    /// Type, unit and range.
    pub format: String,
    /// Default, or `required`.
    pub default: String,
    /// Documentation.
    pub doc: String,
}

/// Whether a message may show a key. A secret that was written in the place of a key seldom looks like one.
pub(super) fn is_showable(keys: &[Key], name: &str) -> bool {
    let usual = |b: u8| b.is_ascii_lowercase() || b == b'_';
    let plain = name.to_ascii_lowercase().replace('-', "_");
    let is_similar = |key: &Key| strsim::normalized_levenshtein(key.name, &plain) > 0.7;
    name.bytes().all(usual) || keys.iter().any(is_similar)
}

/// Returns the error for a key that the table does not have, with the most similar one that it has.
pub(super) fn unknown_key(keys: &[Key], section: &str, name: &str) -> String {
    let own = keys.iter().filter(|key| key.section == section);
    let nearest = own
        .map(|key| (strsim::jaro_winkler(key.name, name), key.name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let mut text = "unknown key".to_owned();
    if is_showable(keys, name) {
        text = format!("{text} `{name}`");
    }
    match nearest {
        Some((_, near)) => format!("{text}; did you mean `{near}`?"),
        None => text,
    }
}
