//! Who calls, as a verified name. Names of different kinds are different identities, even when their texts are
//! the same: a certificate's name is never taken for a token's subject.

use std::fmt;

use crate::names;

/// The longest identity: as much as the log and the audit log show of any text, so that they show all of it.
pub const MAX_BYTES: usize = 256;

/// Between issuer and subject. An issuer is a URL without a fragment (RFC 8414, section 2), so there is one way to
/// read the text.
pub const SUBJECT_MARK: char = '#';

/// A verified caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Nobody is asked for an identity: the connection is plaintext, or TLS without client certificates, and no
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
    /// The identity that `[[callers]]` names. A text that starts with a configured issuer and a `#` is a token's.
    pub fn parse<'a>(text: &str, mut issuers: impl Iterator<Item = &'a str>) -> Self {
        if text == "anonymous" {
            return Self::Anonymous;
        }
        let token = issuers.find_map(|issuer| {
            let subject = text.strip_prefix(issuer)?.strip_prefix(SUBJECT_MARK)?;
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

    /// The URI name of a certificate; case matters. One with a `#` could be read as a token's subject.
    #[must_use]
    pub fn uri(name: &str) -> Option<Self> {
        let fits = name.is_ascii() && name.contains(':') && !name.contains(SUBJECT_MARK);
        fits.then(|| Self::Certificate(name.to_owned()))?.fit()
    }

    /// The DNS name of a certificate; case does not matter. It never looks like a URI.
    #[must_use]
    pub fn dns(name: &str) -> Option<Self> {
        let fits = names::is_made_of(name, b"._-*");
        fits.then(|| Self::Certificate(name.to_ascii_lowercase()))?
            .fit()
    }

    /// The subject of a token.
    #[must_use]
    pub fn token(issuer: &str, subject: &str) -> Option<Self> {
        let (issuer, subject) = (issuer.to_owned(), subject.to_owned());
        let named = !subject.is_empty();
        Self::Token { issuer, subject }.fit().filter(|_| named)
    }

    /// Can people read it in a log, and is it nobody else's?
    fn fit(self) -> Option<Self> {
        let name = self.to_string();
        let fits = (1..=MAX_BYTES).contains(&name.len())
            && name != "anonymous"
            && !name.chars().any(names::is_unseen);
        fits.then_some(self)
    }

    /// How it was shown: `anonymous`, `certificate` or `token`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Certificate(_) => "certificate",
            Self::Token { .. } => "token",
        }
    }
}

/// As `[[callers]]` names it.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::Certificate(name) => f.write_str(name),
            Self::Token { issuer, subject } => write!(f, "{issuer}{SUBJECT_MARK}{subject}"),
        }
    }
}
