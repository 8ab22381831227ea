//! The name filter of the HMC's list operations: a Java regular expression that must match the whole name.
//!
//! Only a subset of the syntax is supported: literals, `\` before a character that is not alphanumeric, `\Q..\E`, `.`
//! and `.*`. Any other construct is rejected as a bad value, so that a filter never matches the wrong users.

/// A parsed filter.
pub(super) struct NameFilter(Vec<Part>);

enum Part {
    Char(char),
    AnyOne,
    AnyRun,
}

impl NameFilter {
    /// Parses a pattern. Returns `None` if it contains a construct that is not supported.
    pub(super) fn parse(pattern: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            if let Some(quoted) = rest.strip_prefix("\\Q") {
                // As in Java, a missing \E quotes the rest of the pattern.
                let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                parts.extend(literal.chars().map(Part::Char));
                rest = after;
                continue;
            }
            let (part, length) = match first {
                '\\' => {
                    let escaped = rest
                        .chars()
                        .nth(1)
                        .filter(|next| !next.is_ascii_alphanumeric())?;
                    (Part::Char(escaped), 1 + escaped.len_utf8())
                }
                '.' if rest.starts_with(".*") => (Part::AnyRun, 2),
                '.' => (Part::AnyOne, 1),
                '*' | '+' | '?' | '^' | '$' | '|' | '(' | ')' | '[' | '{' => return None,
                literal => (Part::Char(literal), literal.len_utf8()),
            };
            parts.push(part);
            rest = rest.get(length..)?;
        }
        Some(Self(parts))
    }

    /// Returns whether the filter matches the whole name, ignoring case: HMC user names are case-insensitive.
    pub(super) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        // reached[n] is whether the parts so far can match the first n characters.
        let mut reachable = vec![false; name.len() + 1];
        if let Some(start) = reachable.first_mut() {
            *start = true;
        }
        for part in &self.0 {
            reachable = step(part, &reachable, &name);
        }
        reachable.last().copied().unwrap_or_default()
    }
}

/// Advances the match by one part. Item n of the result is whether the parts up to `part` can match the first n
/// characters of `name`.
fn step(part: &Part, reachable: &[bool], name: &[char]) -> Vec<bool> {
    if matches!(part, Part::AnyRun) {
        let from_here_on = reachable.iter().scan(false, |reached, &here| {
            *reached |= here;
            Some(*reached)
        });
        return from_here_on.collect();
    }
    let consumes = |character: char| match part {
        Part::Char(expected) => expected.to_lowercase().eq(character.to_lowercase()),
        Part::AnyOne | Part::AnyRun => true,
    };
    let shifted = reachable
        .iter()
        .zip(name)
        .map(|(&before, &character)| before && consumes(character));
    std::iter::once(false).chain(shifted).collect()
}

#[cfg(test)]
mod tests {
    use super::NameFilter;

    #[test]
    fn filter_matches_whole_names_and_rejects_unknown_syntax() {
        let full_match = |pattern: &str, name: &str| {
            NameFilter::parse(pattern).map(|filter| filter.matches(name))
        };
        let matching = [
            ("A.B", "AxB"),
            ("a\\.b", "A.B"),
            ("\\Qa.b\\E", "A.B"),
            (".*", ""),
            ("a.*e", "ALICE"),
            ("\\Qa.b", "a.B"),
        ];
        for (pattern, name) in matching {
            assert_eq!(full_match(pattern, name), Some(true), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("A\\.B", "AxB"),
            ("\\Qa.b\\E", "AxB"),
            ("ali", "alice"),
            ("lice", "alice"),
            (".", ""),
        ] {
            assert_eq!(full_match(pattern, name), Some(false), "{pattern} {name}");
        }
        for pattern in ["a*", "(a)", "[a]", "a|b", "^a$", "\\d", "a\\", ".+", "a{2}"] {
            assert_eq!(full_match(pattern, "a"), None, "{pattern}");
        }
    }
}
