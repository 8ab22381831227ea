//! Prints the faults of an audit log.

use super::exit::{display_path, print_error};
use crate::audit::{Finding, UnreadableLog};

/// Maximum number of faults that are printed. A single fault at the beginning of a file can cause thousands.
const MAX_FAULTS: u64 = 100;

/// Number of the faults so far. Notes are not counted.
#[derive(Default)]
pub struct Faults(u64);

impl Faults {
    /// Prints a note or one of the first faults to standard error.
    pub fn add(&mut self, finding: &Finding<'_>) {
        self.0 += u64::from(!finding.note);
        if finding.note || self.0 <= MAX_FAULTS {
            let note = if finding.note { "note: " } else { "" };
            let (log, line) = (display_path(finding.log), finding.line);
            print_error(&format!("{log}:{line}: {note}{}", finding.text));
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

/// Returns the message for a file or a database that cannot be read.
pub fn unreadable(log: &UnreadableLog<'_>) -> String {
    format!("{}: {}", display_path(log.log), log.error)
}
