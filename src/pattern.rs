//! Patterns of the configuration: `*` stands for any text, every other character for itself.

use std::fmt;

/// A pattern, which either respects or ignores case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    fold: bool,
}

/// Formats the pattern as in the configuration, in lower case if its case does not matter.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Creates a pattern that matches case-sensitively.
    pub fn exact(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            fold: false,
        }
    }

    /// Creates a pattern that ignores case, in any script.
    pub fn case_insensitive(text: &str) -> Self {
        Self {
            text: fold_case(text),
            fold: true,
        }
    }

    /// Returns whether the pattern matches the whole text.
    pub fn matches(&self, text: &str) -> bool {
        if self.fold {
            glob(&self.text, &fold_case(text))
        } else {
            glob(&self.text, text)
        }
    }
}

/// Returns a text that is equal for all texts that differ only in case. Characters are converted one by one, since
/// the lower case of a whole text depends on context (final sigma). The conversion to upper case unites characters
/// with several lower-case forms. The conversion to lower case before it is for the capital sharp s, which is not the
/// upper case of any character.
fn fold_case(text: &str) -> String {
    // Most names are ASCII, for which this conversion has the same result and takes a tenth of the time.
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let lower = text.chars().flat_map(char::to_lowercase);
    let upper = lower.flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

/// Returns whether a pattern matches the whole text. Matches the parts between the stars from left to right: the
/// first part is a prefix, the last one a suffix.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    text.ends_with(last)
}
