//! Patterns of the configuration: `*` stands for any text, every other character for itself.

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    fold: bool,
}

impl Pattern {
    /// Case matters.
    #[must_use]
    pub fn exact(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            fold: false,
        }
    }

    /// Case does not matter, in any script.
    #[must_use]
    pub fn folded(text: &str) -> Self {
        Self {
            text: folded(text),
            fold: true,
        }
    }

    /// Does the whole of `text` fit?
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        if self.fold {
            glob(&self.text, &folded(text))
        } else {
            glob(&self.text, text)
        }
    }
}

/// Character by character: the lower case of a whole text depends on what follows (a final sigma does). Through the
/// upper case, which characters share that have one lower case too many; and through the lower case before it, which
/// the capital sharp s has, that no upper case leads to.
fn folded(text: &str) -> String {
    // Most names are ASCII, for which this is the same and takes a tenth of the time.
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let lower = text.chars().flat_map(char::to_lowercase);
    let upper = lower.flat_map(char::to_uppercase);
    upper.flat_map(char::to_lowercase).collect()
}

/// Greedy matching of the parts between the stars: the first part is a prefix, the last one a suffix.
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

#[cfg(test)]
mod tests {
    use super::{Pattern, folded};

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "anything", true),
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("abc", "ABC", false),
            ("render-*", "render-1", true),
            ("render-*", "xrender-1", false),
            ("*-prod", "eu-prod", true),
            ("*-prod", "eu-prod-2", false),
            ("a*b*c", "a--b--c", true),
            ("a*b*c", "a--c--b", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(
                Pattern::exact(pattern).matches(text),
                fits,
                "{pattern} {text}"
            );
        }
    }

    #[test]
    fn folded_patterns_ignore_case() {
        for (pattern, text) in [
            ("ACSADMIN", "acsadmin"),
            ("svc-*", "SVC-X"),
            ("JOSÉ", "josé"),
        ] {
            assert!(Pattern::folded(pattern).matches(text), "{pattern} {text}");
        }
    }

    #[test]
    fn every_case_of_a_character_is_the_same() {
        for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
            let same = folded(&c.to_string());
            let (upper, lower) = (c.to_uppercase().to_string(), c.to_lowercase().to_string());
            for other in [upper, lower, same.clone()] {
                assert_eq!(folded(&other), same, "{c:?} and {other:?}");
            }
        }
    }
}
