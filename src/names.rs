//! Formats of names in URLs, in the configuration and in requests.

/// Returns whether a text has 1-64 characters of `A-Z a-z 0-9 . _ -`.
pub fn is_alias(text: &str) -> bool {
    (1..=64).contains(&text.len()) && is_alphanumeric_or(text, b"._-")
}

/// Returns whether a text is an object ID of an HMC: an alias that forms one path segment.
pub fn is_object_id(text: &str) -> bool {
    is_alias(text) && !is_dot_segment(text)
}

/// Returns whether a text consists of ASCII letters, digits and `more`.
pub fn is_alphanumeric_or(text: &str, more: &[u8]) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
}

/// Returns whether a text is a dot segment (`.` or `..`), which URL parsers remove.
pub fn is_dot_segment(text: &str) -> bool {
    matches!(text, "." | "..")
}

/// Returns a text with hidden characters, except `kept`, replaced by U+FFFD.
pub fn replace_hidden(text: &str, kept: char) -> String {
    text.replace(|c| c != kept && is_hidden_character(c), "\u{FFFD}")
}

/// Returns whether a character is a control character, a line or paragraph separator, or a bidirectional control
/// (Unicode Standard Annex 9).
pub fn is_hidden_character(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{061C}' | '\u{200E}' | '\u{200F}'
                | '\u{202A}'..='\u{202E}'
                | '\u{2066}'..='\u{2069}'
        )
}
