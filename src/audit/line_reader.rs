//! Reads a file line by line in bounded memory, and hashes each line.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use ring::digest::{Context, SHA256};

use super::{chain::hex, record::PREFIX};

/// Bytes of a line that are kept; records are shorter. The hash covers the whole line.
const MAX_LINE: usize = 1 << 20;
const BUFFER: usize = 64 * 1024;

pub(super) struct Line {
    /// The line without its newline, at most [`MAX_LINE`] bytes.
    text: Vec<u8>,
    /// Length in the file without the newline.
    pub(super) len: u64,
    /// Whether a newline ends the line.
    pub(super) ended: bool,
    /// Whether all bytes are NUL: space that the file system allocated and that was never written.
    pub(super) blank: bool,
    /// SHA-256 of all bytes without the newline, in hex.
    pub(super) hash: String,
}

impl Line {
    /// Returns the text, or `None` if it is longer than any record.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.len == self.text.len() as u64).then_some(&*self.text)
    }

    /// Whether the line starts like a record, as far as it goes.
    pub(super) fn starts_as_record(&self) -> bool {
        let common = self.text.len().min(PREFIX.len());
        self.text[..common] == PREFIX[..common]
    }
}

pub(super) struct LineReader<R>(BufReader<R>);

impl<R: Read> LineReader<R> {
    /// Reads from the current position of `file`.
    pub(super) fn new(file: R) -> Self {
        Self(BufReader::with_capacity(BUFFER, file))
    }

    /// Returns the next line, or `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Line {
            text: Vec::new(),
            len: 0,
            ended: false,
            blank: true,
            hash: String::new(),
        };
        let mut hash = Context::new(&SHA256);
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
        line.hash = hex(hash.finish().as_ref());
        Ok(Some(line))
    }
}
