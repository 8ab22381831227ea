//! Reads the text files that the operator names: the configuration itself, secrets, PEM files and key sets. All of them
//! follow the same rules for encodings and sizes.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::Path,
};

use zeroize::Zeroizing;

use crate::escape;

/// Maximum size of a file that is not a secret. The CA certificates of a system have about 250,000 bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// The byte order mark of UTF-8.
pub const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Returns the content of a regular file without its byte order mark. Fails if the file cannot be read, is too large
/// or empty, or is not text in UTF-8 judging by its byte order marks and NUL bytes.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    read_regular(path, MAX_BYTES)
}

/// Returns the content of a regular file. Fails like [`read`], and if the content is not valid UTF-8.
pub fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    text(read(path)?)
}

/// Returns the content of a regular file or a pipe without its byte order mark. Fails like [`read_text`].
pub fn read_piped_text(path: &Path) -> io::Result<Zeroizing<String>> {
    if fs::metadata(path)?.file_type().is_fifo() {
        return text(read_any(path, MAX_BYTES)?);
    }
    read_text(path)
}

fn read_regular(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    // Other files are refused: opening a FIFO would block, and a device may have no end.
    let kind = fs::metadata(path)?;
    if kind.is_dir() {
        return Err(io::Error::other("it is a directory, not a file"));
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    read_any(path, limit)
}

fn read_any(path: &Path, limit: u64) -> io::Result<Zeroizing<Vec<u8>>> {
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

fn text(mut bytes: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<String>> {
    let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        io::Error::other("the file is not UTF-8 text")
    })?;
    Ok(Zeroizing::new(text))
}

/// Returns the secret in a file of one line, without the byte order mark and the line ends after it. Fails like
/// [`read_text`], and if the file has several lines, control characters or invisible characters.
pub fn read_secret(path: &Path) -> io::Result<Zeroizing<String>> {
    let text = text(read_regular(path, MAX_SECRET_BYTES)?)?;
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
    if let Some(c) = line.chars().find(|c| is_invisible(*c)) {
        let code = u32::from(c);
        let fault = format!("the file contains an invisible character, U+{code:04X}; remove it");
        return Err(io::Error::other(fault));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// Returns whether a character is not displayed, or is a noncharacter (Unicode Standard, section 23.7). Editors and
/// web pages add such characters to a copied secret.
fn is_invisible(c: char) -> bool {
    let code = u32::from(c);
    escape::is_hidden(c) || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Returns the likely mistake in a secret that is valid but unusual, as the predicate of a sentence.
pub fn likely_mistake(secret: &str) -> Option<&'static str> {
    let quoted = |quote| secret.len() > 1 && secret.starts_with(quote) && secret.ends_with(quote);
    // The beginnings of a byte order mark in UTF-7 (RFC 2152).
    let marks = ["+/v8", "+/v9", "+/v+", "+/v/"];
    if secret.trim() != secret {
        Some("begins or ends with a blank")
    } else if ['"', '\'', '`'].into_iter().any(quoted) {
        Some("is in quotes, which are part of it")
    } else if marks.iter().any(|mark| secret.starts_with(mark)) {
        Some("begins with the byte order mark of UTF-7")
    } else {
        None
    }
}

/// Returns the text after the byte order mark. Errors are predicates that follow `the file`, such as `is empty`.
fn content(bytes: &[u8]) -> Result<&[u8], &'static str> {
    // UTF-32 is checked first, because its little-endian mark begins with that of UTF-16.
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
    // Concatenated files can have such marks, which would hide a line of PEM or become part of a secret.
    if windows.any(|window| window == BYTE_ORDER_MARK) {
        return Err("contains a byte order mark after its beginning; remove it");
    }
    if text.trim_ascii().is_empty() {
        return Err("is empty");
    }
    Ok(text)
}

/// Returns the path in parentheses for a message. If there is no such file, returns an empty text, because the path
/// may be a secret that was written by mistake.
pub fn display_path(path: &Path) -> String {
    if exists(path) {
        format!(" ({})", path.display())
    } else {
        String::new()
    }
}

/// Returns a warning, as the predicate of a sentence, if every user of the system can read a secret's file.
pub fn exposure(path: &Path) -> Option<String> {
    let mode = fs::metadata(path).ok()?.permissions().mode();
    let warning = format!(
        "can be read by every user of the system; run `chmod o-r`{}",
        display_path(path)
    );
    (mode & 0o004 != 0).then_some(warning)
}

/// Returns whether the path exists, including a dangling symbolic link.
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}
