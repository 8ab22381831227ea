//! Secrets, which are read from files and cannot be printed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::files;

/// Fails to compile if one of these types implements `Debug` or `Display`, because the `_` below is then ambiguous.
macro_rules! unprintable {
    ($($secret:ty),+) => {
        const _: fn() = || {
            trait Printable<Marker> {
                const CHECK: () = ();
            }
            struct ByDebug;
            struct ByDisplay;
            impl<T: ?Sized> Printable<()> for T {}
            impl<T: ?Sized + std::fmt::Debug> Printable<ByDebug> for T {}
            impl<T: ?Sized + std::fmt::Display> Printable<ByDisplay> for T {}
            $(let () = <$secret as Printable<_>>::CHECK;)+
        };
    };
}
pub(crate) use unprintable;

unprintable!(Secret, SecretSource);

/// A secret text. It implements neither `Debug` nor `Display`, and its memory is cleared when it is dropped. The
/// copies in sent requests are not cleared.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    pub fn new(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }

    /// Returns the text, which must be sent only to the upstream.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Encoding that a secret file must have.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SecretEncoding {
    Text,
    Base64,
}

/// A secret in a file, which is read again each time the secret is needed, or in memory (for the sandbox).
#[derive(Clone)]
pub struct SecretSource(Arc<Inner>);

struct Inner {
    path: Option<PathBuf>,
    encoding: SecretEncoding,
    /// The last valid secret that was read.
    last: Mutex<Option<Secret>>,
}

impl SecretSource {
    /// Creates a source for the secret file that a configuration key names. Called only by the reader of such keys,
    /// which also registers the file.
    pub(super) fn from_file(path: PathBuf, encoding: SecretEncoding) -> Self {
        Self(Arc::new(Inner {
            path: Some(path),
            encoding,
            last: Mutex::default(),
        }))
    }

    pub fn in_memory(secret: Secret) -> Self {
        Self(Arc::new(Inner {
            path: None,
            encoding: SecretEncoding::Text,
            last: Mutex::new(Some(secret)),
        }))
    }

    /// Reads the secret. If the file cannot be used, returns the last valid secret, or an error without one.
    pub fn read(&self) -> io::Result<Secret> {
        let Some(path) = &self.0.path else {
            return self
                .last_valid()
                .ok_or_else(|| io::Error::other("no secret"));
        };
        self.read_file(path)
            .or_else(|error| self.last_valid().ok_or(error))
    }

    /// Returns the last valid secret without reading the file again.
    pub fn last_valid(&self) -> Option<Secret> {
        crate::lock(&self.0.last).clone()
    }

    /// Reads the file and returns an error if it cannot be used, even if there is an earlier valid secret.
    pub fn check(&self) -> io::Result<()> {
        match &self.0.path {
            Some(path) => self.read_file(path).map(drop),
            None => Ok(()),
        }
    }

    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    fn read_file(&self, path: &Path) -> io::Result<Secret> {
        let text = files::read_secret(path)?;
        if self.0.encoding == SecretEncoding::Base64 && BASE64_STANDARD.decode(text.trim()).is_err()
        {
            return Err(io::Error::other("the file does not hold base64"));
        }
        let secret = Secret(Arc::new(text));
        *crate::lock(&self.0.last) = Some(secret.clone());
        Ok(secret)
    }
}
