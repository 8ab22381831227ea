//! Escapes characters that are invisible or change the order of text, so that names and texts of upstreams cannot be
//! hidden in the logs, forge a log line, or reverse its text.

use std::{borrow::Cow, fmt::Write as _};

/// Ranges of invisible characters, first and last, in ascending order: the general categories
/// `Cf`, `Zl` and `Zp`, DEL and the C1 part of `Cc`, and the property `Default_Ignorable_Code_Point`
/// (Unicode Character Database 17.0, `UnicodeData.txt` and `DerivedCoreProperties.txt`).
const HIDDEN: [(char, char); 26] = [
    ('\u{7F}', '\u{9F}'),
    ('\u{AD}', '\u{AD}'),
    ('\u{34F}', '\u{34F}'),
    ('\u{600}', '\u{605}'),
    ('\u{61C}', '\u{61C}'),
    ('\u{6DD}', '\u{6DD}'),
    ('\u{70F}', '\u{70F}'),
    ('\u{890}', '\u{891}'),
    ('\u{8E2}', '\u{8E2}'),
    ('\u{115F}', '\u{1160}'),
    ('\u{17B4}', '\u{17B5}'),
    ('\u{180B}', '\u{180F}'),
    ('\u{200B}', '\u{200F}'),
    ('\u{2028}', '\u{202E}'),
    ('\u{2060}', '\u{206F}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{FE00}', '\u{FE0F}'),
    ('\u{FEFF}', '\u{FEFF}'),
    ('\u{FFA0}', '\u{FFA0}'),
    ('\u{FFF0}', '\u{FFFB}'),
    ('\u{110BD}', '\u{110BD}'),
    ('\u{110CD}', '\u{110CD}'),
    ('\u{13430}', '\u{1343F}'),
    ('\u{1BCA0}', '\u{1BCA3}'),
    ('\u{1D173}', '\u{1D17A}'),
    ('\u{E0000}', '\u{E0FFF}'),
];

/// Returns whether this character is invisible, breaks a line, or changes the order of the text around it. The C0
/// controls are not included: JSON always escapes them inside strings, and allows some as whitespace between them.
pub fn is_hidden(c: char) -> bool {
    HIDDEN
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&c))
}

/// Returns an equivalent line of JSON with every hidden character written as one or two `\uXXXX`.
pub fn escape(line: &str) -> Cow<'_, str> {
    // Almost every line is ASCII.
    if line.is_ascii() && !line.contains('\u{7F}') {
        return Cow::Borrowed(line);
    }
    escape_if(line, is_hidden)
}

/// Returns a text with every hidden or control character written as `\uXXXX`, and as a surrogate pair above U+FFFF.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    escape_if(text, |c| c.is_control() || is_hidden(c))
}

fn escape_if(text: &str, is_escaped: fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 32);
    for c in text.chars() {
        if is_escaped(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}
