//! Output of messages, and the exit codes of commands.

use std::{io::Write as _, path::Path, process::ExitCode};

use crate::{escape::is_hidden, names};

/// Exit code of `serve` and `check-config` for an invalid configuration.
pub const BAD_CONFIGURATION: u8 = 2;

/// Writes a line to standard error. A failure is ignored, because it cannot be reported anywhere else.
pub fn print_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes a text to standard output, with characters that could control a terminal replaced. A failure is ignored,
/// because the exit code is the result.
pub fn print(text: &str) {
    let visible = names::replace_hidden(text, '\n');
    let _ = writeln!(std::io::stdout(), "{visible}");
}

/// Returns a text with control characters and invisible characters escaped, because they could control a terminal or
/// hide parts of a name.
pub fn escape_control(text: &str) -> String {
    let shown = text.chars().map(|character| match character {
        // `escape_debug` escapes these characters only for use within quotes.
        '\'' | '"' | '\\' => character.to_string(),
        // Some invisible characters are letters, which `escape_debug` does not escape.
        _ if is_hidden(character) => character.escape_unicode().to_string(),
        _ => character.escape_debug().to_string(),
    });
    shown.collect()
}

/// Returns a text as one column, without spaces.
pub fn column(text: &str) -> String {
    if text.is_empty() {
        return "-".to_owned();
    }
    escape_control(text).replace(' ', "\\u{20}")
}

/// Returns a path with control characters escaped.
pub fn display_path(file: &Path) -> String {
    escape_control(&file.display().to_string())
}

/// Writes a message to standard error and returns `code` as the exit code.
pub fn fail(text: &str, code: u8) -> ExitCode {
    print_error(text.trim_end());
    ExitCode::from(code)
}
