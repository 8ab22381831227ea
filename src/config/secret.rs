//! Secrets: read from files, held in a type that cannot be printed.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use super::files;

/// Fails to compile when one of these types can be printed: for one that can, `_` below has two meanings.
macro_rules! unprintable {
    ($($secret:ty),+) => {
        const _: fn() = || {
            trait Printable<How> {
                const HOW: () = ();
            }
            struct ByDebug;
            struct ByDisplay;
            impl<T: ?Sized> Printable<()> for T {}
            impl<T: ?Sized + std::fmt::Debug> Printable<ByDebug> for T {}
            impl<T: ?Sized + std::fmt::Display> Printable<ByDisplay> for T {}
            $(let () = <$secret as Printable<_>>::HOW;)+
        };
    };
}
pub(crate) use unprintable;

unprintable!(Secret, SecretSource);

/// A secret text. It has no `Debug` and no `Display`, and is wiped when it is dropped; what is made of it for the
/// wire is not.
#[derive(Clone, PartialEq, Eq)]
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
    File(Arc<SecretFile>),
    /// Made in this process: the sandbox's. No configuration file leads here.
    Memory(Secret),
}

/// What a secret must look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Any text.
    Text,
    /// Bytes in base64.
    Base64,
}

/// A file that holds a secret, and the last good content of it.
pub struct SecretFile {
    path: PathBuf,
    form: Form,
    last: Mutex<Option<Secret>>,
}

impl SecretSource {
    /// A file that is named in the configuration.
    #[must_use]
    pub fn file(path: PathBuf, form: Form) -> Self {
        Self::File(Arc::new(SecretFile {
            path,
            form,
            last: Mutex::default(),
        }))
    }

    /// Reads the secret; the line end of a file is not part of it. While the file cannot be used, it is the last
    /// one that could.
    pub fn read(&self) -> io::Result<Secret> {
        match self {
            Self::Memory(secret) => Ok(secret.clone()),
            Self::File(file) => file.read().or_else(|error| {
                let last = crate::lock(&file.last).clone();
                last.ok_or(error)
            }),
        }
    }

    /// The secret that was read last, without reading it again.
    #[must_use]
    pub fn known(&self) -> Option<Secret> {
        match self {
            Self::Memory(secret) => Some(secret.clone()),
            Self::File(file) => crate::lock(&file.last).clone(),
        }
    }

    /// Can the file be used as it is now?
    pub fn check(&self) -> io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::File(file) => file.read().map(|_| ()),
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Memory(_) => None,
            Self::File(file) => Some(&file.path),
        }
    }
}

impl SecretFile {
    fn read(&self) -> io::Result<Secret> {
        let text = files::read_secret(&self.path)?;
        if self.form == Form::Base64 && BASE64_STANDARD.decode(text.trim()).is_err() {
            return Err(io::Error::other("the file does not hold base64"));
        }
        let secret = Secret(Arc::new(text));
        *crate::lock(&self.last) = Some(secret.clone());
        Ok(secret)
    }
}
