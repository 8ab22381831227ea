//! The shapes of names that stand in URLs, in the configuration and in requests alike.

/// 1-64 of `A-Z a-z 0-9 . _ -`.
#[must_use]
pub fn is_alias(text: &str) -> bool {
    (1..=64).contains(&text.len()) && is_made_of(text, b"._-")
}

/// An object ID of an HMC: an alias' characters, and one path segment.
#[must_use]
pub fn is_object_id(text: &str) -> bool {
    is_alias(text) && !is_dots(text)
}

/// Only ASCII letters, digits and these?
#[must_use]
pub fn is_made_of(text: &str, more: &[u8]) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
}

/// A dot segment, which URLs drop.
#[must_use]
pub fn is_dots(text: &str) -> bool {
    matches!(text, "." | "..")
}

/// A control character, a line or paragraph separator, or a bidirectional control (Unicode Standard Annex 9).
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{061C}' | '\u{200E}' | '\u{200F}'
                | '\u{202A}'..='\u{202E}'
                | '\u{2066}'..='\u{2069}'
        )
}
