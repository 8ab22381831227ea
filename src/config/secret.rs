//! Secrets: read from files, held in a type that cannot be printed.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    sync::Arc,
};

use zeroize::Zeroizing;

/// A larger file is not a secret.
const MAX_BYTES: u64 = 64 * 1024;

/// A secret text. It has no `Debug` and no `Display`, and is wiped when it is dropped; what is made of it for the
/// wire is not.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Takes up a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// The secret itself. Hand it to the wire only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Where a secret comes from.
#[derive(Clone)]
pub enum SecretSource {
    /// A file, read again each time the secret is needed.
    File(PathBuf),
    /// Made in this process: the sandbox's. No configuration file leads here.
    Memory(Secret),
}

impl SecretSource {
    /// Reads the secret; the line end of a file is not part of it.
    pub fn read(&self) -> io::Result<Secret> {
        match self {
            Self::Memory(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let mut bytes = Zeroizing::new(Vec::new());
                File::open(path)?
                    .take(MAX_BYTES + 1)
                    .read_to_end(&mut bytes)?;
                if bytes.len() as u64 > MAX_BYTES {
                    return Err(io::Error::other("the file is larger than 64 KiB"));
                }
                let text = std::str::from_utf8(&bytes)
                    .map_err(|_| io::Error::other("the file is not UTF-8 text"))?;
                let text = text.trim_end_matches(['\r', '\n']);
                if text.is_empty() {
                    return Err(io::Error::other("the file is empty"));
                }
                Ok(Secret::new(text.to_owned()))
            }
        }
    }
}
