//! Estimates whether a write to standard output would block.

use std::fs::File;

use rustix::{
    fs::{FileType, fstat},
    io::ioctl_fionread,
    pipe::fcntl_getpipe_size,
};

/// In a smaller pipe, a few bytes can occupy all pages.
const MIN_PIPE: usize = 16 * 1024;

/// Whether a write of so many bytes would not block: to a file, as the log on standard error is written, or to a pipe that
/// is nearly empty, which has room for half of its size however its pages are filled.
pub(super) fn is_quick(stdout: &File, bytes: impl FnOnce() -> usize) -> bool {
    let kind = fstat(stdout).map(|found| FileType::from_raw_mode(found.st_mode));
    match (kind, fcntl_getpipe_size(stdout)) {
        (Ok(FileType::RegularFile), _) => true,
        (Ok(FileType::Fifo), Ok(size)) if size >= MIN_PIPE && bytes() <= size / 2 => {
            let unread = ioctl_fionread(stdout);
            unread.is_ok_and(|unread| unread <= (size / 8) as u64)
        }
        _ => false,
    }
}
