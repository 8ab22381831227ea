//! Patterns in the configuration, and escaping of log lines.

use serde_json::Value;
use useradmin::{
    escape::{escape as escaped, is_hidden},
    json::Members,
    pattern::Pattern,
};

/// Checks a pattern and a text, separated by a line break.
pub fn pattern(bytes: &[u8]) {
    let input = String::from_utf8_lossy(bytes);
    let (pattern, text) = input.split_once('\n').unwrap_or((&input, ""));
    // The reference implementation below needs time and memory for each pair of characters.
    if pattern.len().max(text.len()) > 128 {
        return;
    }
    let exact = matches_by_table(pattern, text);
    assert_eq!(Pattern::exact(pattern).matches(text), exact, "{input:?}");
    assert!(Pattern::exact("*").matches(text));
    assert!(pattern.contains('*') || exact == (pattern == text));
    // A pattern that protects a user also protects it in every other case of its name.
    let folded = Pattern::case_insensitive(pattern);
    let protected = folded.matches(text);
    assert!(protected || !exact, "{input:?}");
    let upper: String = text.chars().flat_map(char::to_uppercase).collect();
    let lower: String = text.chars().flat_map(char::to_lowercase).collect();
    assert_eq!(folded.matches(&upper), protected, "{input:?}");
    assert_eq!(folded.matches(&lower), protected, "{input:?}");
}

/// Matches the text with one row for each character of the pattern, which records the prefixes of the text that match
/// so far.
fn matches_by_table(pattern: &str, text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for expected in pattern.chars() {
        let mut next = vec![false; text.len() + 1];
        for at in 0..=text.len() {
            next[at] = if expected == '*' {
                row[at] || (at > 0 && next[at - 1])
            } else {
                at > 0 && row[at - 1] && text[at - 1] == expected
            };
        }
        row = next;
    }
    row[text.len()]
}

/// Checks the escaping of a text in a log line or an audit record.
pub fn escape(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let line = serde_json::to_string(&text).expect("a text is JSON");
    let printed = escaped(&line);
    let needs_escaping = |c: char| c < ' ' || is_hidden(c);
    assert!(!printed.contains(needs_escaping), "{printed:?}");
    let read: Value = serde_json::from_str(&printed).expect("a line stays JSON");
    assert_eq!(read.as_str(), Some(&*text), "{printed:?}");
    assert_eq!(escaped(&printed), printed);

    let mut members = Members::default();
    members.string("text", &text);
    assert_eq!(members.as_str(), format!("\"text\":{printed}"));
}
