//! Writes JSON objects for the log and the audit log, with hidden characters escaped. Keys are plain ASCII names.

use std::fmt::{Display, Write as _};

use serde_json::{Map, Value};

use crate::escape::escape;

/// The members of a JSON object, without its braces.
#[derive(Clone, Default)]
pub struct Members(String);

impl Members {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(String::with_capacity(bytes))
    }

    /// Adds a string.
    pub fn string(&mut self, key: &'static str, value: &str) {
        if is_plain(value) {
            self.plain(key, value);
        } else {
            self.value(key, escape(&Value::from(value).to_string()));
        }
    }

    /// Adds a string that needs no escapes.
    pub fn plain(&mut self, key: &'static str, value: &str) {
        self.key(key);
        self.0.push('"');
        self.0.push_str(value);
        self.0.push('"');
    }

    /// Adds a value whose text is JSON: a number, a boolean or `null`.
    pub fn value(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{value}");
    }

    /// Adds the members of another object.
    pub fn extend(&mut self, others: &Self) {
        if !others.0.is_empty() {
            self.separate();
            self.0.push_str(&others.0);
        }
    }

    /// Adds an object, to which `add` adds the members.
    pub fn object(&mut self, key: &'static str, add: impl FnOnce(&mut Self)) {
        self.key(key);
        self.0.push('{');
        add(self);
        self.0.push('}');
    }

    /// Returns the members as text, separated by commas.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn key(&mut self, key: &'static str) {
        self.separate();
        self.0.push('"');
        self.0.push_str(key);
        self.0.push_str("\":");
    }

    /// Adds a comma, except before the first member of an object.
    fn separate(&mut self) {
        if !matches!(self.0.as_bytes().last(), None | Some(b'{')) {
            self.0.push(',');
        }
    }
}

impl From<Map<String, Value>> for Members {
    fn from(object: Map<String, Value>) -> Self {
        let text = Value::Object(object).to_string();
        Self(escape(&text[1..text.len() - 1]).into_owned())
    }
}

/// Returns whether a text is a string of JSON, without hidden characters, if it is put in quotes.
fn is_plain(text: &str) -> bool {
    let special = |byte: u8| {
        // Without branches, the compiler checks a chunk at once.
        let hidden = u8::from(byte < b' ') | u8::from(byte > b'~');
        hidden | u8::from(byte == b'"') | u8::from(byte == b'\\')
    };
    let (chunks, rest) = text.as_bytes().as_chunks::<8>();
    let any = |bytes: &[u8]| bytes.iter().fold(0, |found, byte| found | special(*byte)) != 0;
    !chunks.iter().any(|chunk| any(chunk)) && !any(rest)
}
