//! Standard output as a sink.

use std::io::{self, Write as _};

use rustix::{
    fs::{FileType, fstat},
    io::ioctl_fionread,
    pipe::fcntl_getpipe_size,
};

/// In a smaller pipe, a few bytes can take all pages.
const LEAST_PIPE: usize = 16 * 1024;

/// What standard output is, and with that, whether a write may take its time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stdout {
    /// A file. Like that of the log, it is written by whoever has something to write.
    File,
    /// A pipe of so many bytes, whose reader may be slow.
    Pipe(usize),
    /// Something else.
    Other,
}

impl Stdout {
    /// As it is now.
    pub fn find() -> Self {
        let stdout = io::stdout();
        let kind = fstat(&stdout).map(|found| FileType::from_raw_mode(found.st_mode));
        match (kind, fcntl_getpipe_size(&stdout)) {
            (Ok(FileType::RegularFile), _) => Self::File,
            (Ok(FileType::Fifo), Ok(size)) => Self::Pipe(size),
            _ => Self::Other,
        }
    }

    /// Would so many bytes be written without waiting for anybody? The disk of a file is trusted, as it is for the log. A
    /// pipe that is nearly empty has room for half of its size, however its pages are filled.
    pub fn is_quick(self, bytes: impl FnOnce() -> usize) -> bool {
        match self {
            Self::File => true,
            Self::Pipe(size) if size >= LEAST_PIPE && bytes() <= size / 2 => {
                let unread = ioctl_fionread(io::stdout());
                unread.is_ok_and(|unread| unread <= (size / 8) as u64)
            }
            Self::Pipe(_) | Self::Other => false,
        }
    }
}

/// Writes all of it.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
