//! Reads the text files that the operator names: the configuration itself, secrets, PEM files and key sets. One place
//! decides what counts as text, so that every kind of file is treated alike.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

use zeroize::Zeroizing;

/// Largest size of a file that is not a secret, in bytes. The bundle of a whole system has about 250,000.
pub const MAX_BYTES: u64 = 4 * 1024 * 1024;
/// Largest size of a secret, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Returns the content of a regular file without its byte order mark.
pub fn read(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // A FIFO would block the open, and a device may have no end.
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::Error::other("it is a directory, not a file"));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let limit = limit / 1024;
        let fault = format!("the file is larger than {limit} KiB");
        return Err(io::Error::other(fault));
    }
    let text = content(&bytes).map_err(|fault| io::Error::other(format!("the file {fault}")))?;
    Ok(Zeroizing::new(text.to_vec()))
}

/// Returns the content of a file in UTF-8 without its byte order mark.
pub fn read_text(path: &Path, limit: u64) -> io::Result<Zeroizing<String>> {
    let mut bytes = read(path, limit)?;
    let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        io::Error::other("the file is not UTF-8 text")
    })?;
    Ok(Zeroizing::new(text))
}

/// Returns the secret in a file of one line, without the byte order mark and the line ends after it.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<String>> {
    let text = read_text(path, MAX_SECRET_BYTES)?;
    let line = text.trim_end_matches(['\r', '\n']);
    if line.contains(['\r', '\n']) {
        return Err(io::Error::other(
            "the file has several lines; a secret is one line",
        ));
    }
    if line.contains(|c: char| c.is_control() && c != '\t' || matches!(c, '\u{2028}' | '\u{2029}'))
    {
        return Err(io::Error::other("the file contains control characters"));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Returns what follows the byte order mark of a text. The fault of a text that cannot be used is a verb with its
/// object.
pub fn content(bytes: &[u8]) -> Result<&[u8], &'static str> {
    // UTF-32 first: its little-endian mark begins with that of UTF-16.
    if bytes.starts_with(b"\xFF\xFE\0\0") || bytes.starts_with(b"\0\0\xFE\xFF") {
        return Err("is UTF-32 text; save it as UTF-8");
    }
    if bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF") {
        return Err("is UTF-16 text; save it as UTF-8");
    }
    let mut text = bytes;
    while let Some(rest) = text.strip_prefix(BYTE_ORDER_MARK) {
        text = rest;
    }
    if text.contains(&0) {
        return Err("contains NUL bytes: it is binary or UTF-16 text; save it as UTF-8");
    }
    let mut windows = text.windows(BYTE_ORDER_MARK.len());
    // Files that were joined. The mark would hide a line of PEM, and become part of a secret.
    if windows.any(|window| window == BYTE_ORDER_MARK) {
        return Err("contains a byte order mark after its beginning; remove it");
    }
    if text.trim_ascii().is_empty() {
        return Err("is empty");
    }
    Ok(text)
}

/// Returns the path in parentheses for a message, or nothing if there is no such file: what does not name a file may
/// be a secret that was written in the place of a path.
#[must_use]
pub fn shown(path: &Path) -> String {
    if exists(path) {
        format!(" ({})", path.display())
    } else {
        String::new()
    }
}

/// Whether the path names something.
#[must_use]
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
