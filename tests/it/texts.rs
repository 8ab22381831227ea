//! Texts that others choose: they are escaped in the logs, compared with patterns, and searched for secrets.

use useradmin::{
    escape::{escape, is_hidden},
    pattern::Pattern,
    upstream::redact::{REDACTED, Secrets},
};

#[test]
fn hidden_characters_are_escaped_without_loss() {
    let planes = (0..=0x1_FFFF).chain(0xE_0000..=0xE_0FFF);
    for c in planes.filter_map(char::from_u32) {
        let text = format!("a{c}b");
        let line = serde_json::to_string(&text).unwrap();
        let escaped = escape(&line);
        assert!(!escaped.chars().any(|c| c < ' ' || is_hidden(c)), "{c:?}");
        let back: String = serde_json::from_str(&escaped).unwrap();
        assert_eq!(back, text);
        if !is_hidden(c) {
            assert_eq!(escaped, line);
        }
    }
    // A character beyond the first plane becomes a pair.
    assert_eq!(escape("\"\u{E0041}\u{7F}\""), "\"\\udb40\\udc41\\u007f\"");
}

#[test]
fn case_insensitive_pattern_folds_every_character() {
    for c in (0..=0x10_FFFF).filter_map(char::from_u32) {
        if c == '*' {
            continue;
        }
        let pattern = Pattern::case_insensitive(&c.to_string());
        for other in [c.to_uppercase().to_string(), c.to_lowercase().to_string()] {
            assert!(pattern.matches(&other), "{c:?} and {other:?}");
            assert!(
                Pattern::case_insensitive(&other).matches(&c.to_string()),
                "{c:?}"
            );
        }
    }
}

#[test]
fn secret_is_redacted_in_every_encoding() {
    let secrets = Secrets::new([r#"pass"wörd\1"#, "ab"]);
    for text in [
        r#"pass"wörd\1"#,
        r#"{"password":"pass\"wörd\\1"}"#,
        "?password=pass%22w%C3%B6rd%5C1&x",
        "cGFzcyJ3w7ZyZFwx",
    ] {
        let redacted = secrets.redact(&format!("it was {text}."));
        assert_eq!(redacted, REDACTED, "{text}");
    }
    assert_eq!(secrets.redact("about nothing"), "about nothing");
}
