//! The last message of a command, and its exit code.

use std::{io::Write as _, process::ExitCode};

/// Writes a line to standard error. A failure is ignored, since no other output is left.
pub fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a message to standard error and returns the exit code.
pub fn fail(text: &str, code: u8) -> ExitCode {
    print_error(text.trim_end());
    ExitCode::from(code)
}
