//! Prints the faults of files of the audit log.

use super::exit::{display_path, print_error};
use crate::audit::{Finding, UnreadableFile};

/// Maximum number of faults that are printed. A single fault at the beginning of a file can cause thousands.
const MAX_FAULTS: u64 = 100;

/// Number of the faults of the files so far. Notes are not counted.
#[derive(Default)]
pub struct Faults(u64);

impl Faults {
    /// Prints a note or one of the first faults to standard error.
    pub fn add(&mut self, finding: &Finding<'_>) {
        self.0 += u64::from(!finding.note);
        if finding.note || self.0 <= MAX_FAULTS {
            let note = if finding.note { "note: " } else { "" };
            let (file, line) = (display_path(finding.file), finding.line);
            print_error(&format!("{file}:{line}: {note}{}", finding.text));
        }
    }

    /// Prints how many faults were not printed. Returns the number of all faults.
    pub fn finish(self) -> u64 {
        if self.0 > MAX_FAULTS {
            print_error(&format!("and {} more", self.0 - MAX_FAULTS));
        }
        self.0
    }
}

/// Returns the message for a file that cannot be read.
pub fn unreadable(file: &UnreadableFile<'_>) -> String {
    format!("{}: {}", display_path(file.file), file.error)
}
