//! Bearer tokens, which are redacted in `Debug` output.

use std::{error::Error, fmt, fs, path::PathBuf, sync::Arc};

use tonic::metadata::{Ascii, MetadataValue};

/// An error of any type that can be sent between threads.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A bearer token, such as a JWT. Its `Debug` output does not contain the token.
#[derive(Clone)]
pub struct Token(MetadataValue<Ascii>);

impl Token {
    /// Creates a token from its text. Leading and trailing white space, such as the line break at the end of a file, is
    /// removed.
    ///
    /// # Errors
    ///
    /// Returns an error if the text is empty or contains a character that an HTTP header cannot carry.
    pub fn new(text: &str) -> Result<Self, InvalidToken> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken(()));
        }
        let value = format!("Bearer {text}").parse();
        let mut value: MetadataValue<Ascii> = value.map_err(|_| InvalidToken(()))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }

    /// Returns the value of the metadata key `authorization`.
    pub(crate) fn authorization(self) -> MetadataValue<Ascii> {
        self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// The error for a text that is not a valid bearer token. It does not contain the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidToken(());

impl fmt::Display for InvalidToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bearer token must consist of visible ASCII characters without white space")
    }
}

impl Error for InvalidToken {}

/// A function that returns the token for the next call.
pub(crate) type TokenSource = Arc<dyn Fn() -> Result<Token, BoxError> + Send + Sync>;

/// Returns a source that reads the token from a file for each call.
pub(crate) fn file(path: PathBuf) -> TokenSource {
    Arc::new(move || {
        let text = fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Token::new(&text)?)
    })
}
