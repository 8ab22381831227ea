//! The verified identity of a caller. Names of different kinds are different identities, even if their texts are
//! equal: the name in a certificate is never taken for the subject of a token.

use std::fmt;

use crate::names;

/// Maximum length of an identity in bytes, at which the logs truncate texts, so that they show it completely.
pub const MAX_BYTES: usize = 256;

/// Separates issuer and subject. No issuer contains it (RFC 8414, section 2), so the text is unambiguous.
pub const SUBJECT_SEPARATOR: char = '#';

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A caller that does not need an identity: the connection is plaintext, or TLS without client certificates, and no
    /// issuer of tokens is configured.
    Anonymous,
    /// A URI or DNS name of a client certificate.
    Certificate(String),
    /// The subject of a token.
    Token {
        /// `iss`
        issuer: String,
        /// `sub`
        subject: String,
    },
}

impl Identity {
    /// Parses an identity of `[[callers]]`. A configured issuer and `#` precede the subject of a token.
    pub fn parse<'a>(text: &str, mut issuers: impl Iterator<Item = &'a str>) -> Self {
        if text == "anonymous" {
            return Self::Anonymous;
        }
        let token = issuers.find_map(|issuer| {
            let subject = text.strip_prefix(issuer)?.strip_prefix(SUBJECT_SEPARATOR)?;
            Some((issuer, subject))
        });
        match token {
            Some((issuer, subject)) => Self::Token {
                issuer: issuer.to_owned(),
                subject: subject.to_owned(),
            },
            None if text.contains(':') => Self::Certificate(text.to_owned()),
            None => Self::Certificate(text.to_ascii_lowercase()),
        }
    }

    /// Returns the identity for a URI name in a certificate; case matters. Returns `None` if the name cannot be used,
    /// for example because it has a `#` and could be read as the subject of a token.
    pub fn uri(name: &str) -> Option<Self> {
        let fits = name.is_ascii() && name.contains(':') && !name.contains(SUBJECT_SEPARATOR);
        fits.then(|| Self::Certificate(name.to_owned()))?
            .filter_usable()
    }

    /// Returns the identity for a DNS name in a certificate; case does not matter. Returns `None` if the name cannot
    /// be used. The permitted characters exclude `:`, so the name never looks like a URI.
    pub fn dns(name: &str) -> Option<Self> {
        let fits = names::is_alphanumeric_or(name, b"._-*");
        fits.then(|| Self::Certificate(name.to_ascii_lowercase()))?
            .filter_usable()
    }

    /// Returns the identity for the subject of a token, or `None` if the subject cannot be used.
    pub fn token(issuer: &str, subject: &str) -> Option<Self> {
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        let named = !subject.is_empty();
        Self::Token { issuer, subject }
            .filter_usable()
            .filter(|_| named)
    }

    /// Returns the identity if it is readable in a log and cannot be mistaken for `anonymous`, and otherwise `None`.
    fn filter_usable(self) -> Option<Self> {
        let name = self.to_string();
        let fits = (1..=MAX_BYTES).contains(&name.len())
            && name != "anonymous"
            && !name.chars().any(names::is_hidden_character);
        fits.then_some(self)
    }

    /// Returns how the caller was authenticated: `anonymous`, `certificate` or `token`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Certificate(_) => "certificate",
            Self::Token { .. } => "token",
        }
    }
}

/// Formats the identity as in `[[callers]]`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Certificate(name) => f.write_str(name),
            Self::Token { issuer, subject } => write!(f, "{issuer}{SUBJECT_SEPARATOR}{subject}"),
        }
    }
}
