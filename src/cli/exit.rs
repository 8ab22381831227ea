//! The last message of a command, and its exit code.

use std::{io::Write as _, process::ExitCode};

use crate::names;

/// Exit code of `serve` and `check-config` for an invalid configuration.
pub const BAD_CONFIGURATION: u8 = 2;

/// Writes a line to standard error. A failure is ignored, since no other output is left.
pub fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a text to standard output, without characters that control a terminal. A failure is ignored: the exit code is the
/// result.
pub fn print(text: &str) {
    let visible = text.replace(
        |c: char| c != '\n' && names::is_hidden_character(c),
        "\u{FFFD}",
    );
    let _ = writeln!(std::io::stdout(), "{visible}");
}

/// Writes a message to standard error and returns the exit code.
pub fn fail(text: &str, code: u8) -> ExitCode {
    print_error(text.trim_end());
    ExitCode::from(code)
}
