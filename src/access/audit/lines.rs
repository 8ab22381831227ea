//! Reads a file line by line in bounded memory, and hashes each line on the way: the server when it takes up a
//! chain, and `verify`.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use sha2::{Digest as _, Sha256};

/// Bytes of a line that are kept; no record is as long. The hash is that of the whole line all the same.
const MAX_LINE: usize = 1 << 20;
const BUFFER: usize = 64 * 1024;

/// One line.
pub struct Line {
    /// Without its newline, and cut if it is longer than any record.
    pub text: Vec<u8>,
    /// Its length in the file, without its newline.
    pub len: u64,
    /// Does a newline end it?
    pub ended: bool,
    /// Nothing but NUL bytes: space that the file system gave and that was never written.
    pub blank: bool,
    /// SHA-256 of all its bytes without the newline, in hex.
    pub hash: String,
}

/// The lines of a file.
pub struct Lines<R>(BufReader<R>);

impl<R: Read> Lines<R> {
    /// From where the file stands.
    pub fn new(file: R) -> Self {
        Self(BufReader::with_capacity(BUFFER, file))
    }

    /// The next line; `None` at the end of the file.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Line {
            text: Vec::new(),
            len: 0,
            ended: false,
            blank: true,
            hash: String::new(),
        };
        let mut hash = Sha256::new();
        while !line.ended {
            let bytes = match self.0.fill_buf() {
                Ok([]) => break,
                Ok(bytes) => bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            let room = MAX_LINE.saturating_sub(line.text.len());
            line.text.extend(part.iter().take(room));
            line.len += part.len() as u64;
            line.blank &= part.iter().all(|byte| *byte == 0);
            line.ended = end.is_some();
            hash.update(part);
            let taken = part.len() + usize::from(line.ended);
            self.0.consume(taken);
        }
        if line.len == 0 && !line.ended {
            return Ok(None);
        }
        line.blank &= line.len > 0;
        line.hash = hex(&hash.finalize());
        Ok(Some(line))
    }
}

impl Line {
    /// All of it, unless it is longer than any record.
    pub fn whole(&self) -> Option<&[u8]> {
        (self.len == self.text.len() as u64).then_some(&*self.text)
    }
}

/// In lower case.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
    bytes.iter().flat_map(digits).map(char::from).collect()
}
