//! Errors and warnings of a configuration file, each with its place, line and caret.
//!
//! No secret is shown. Every value, and every key that may be a misplaced value, is left out of the line unless a reader has
//! revealed it.

use std::{fmt, io, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::schema::{Key, is_showable};
use crate::names;

/// Replaces characters that a terminal would obey, or not show.
const UNSEEN: char = '\u{FFFD}';

/// What a diagnostic means for the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    /// The file cannot be used.
    Error,
    /// A file that a key names cannot be used. A running server continues with its last good content.
    ContentError,
    /// The file can be used.
    Warning,
}

/// An error or warning at a place in the file.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Byte range in the file.
    pub span: Range<usize>,
    /// Text.
    pub text: String,
    severity: Severity,
}

/// A key or value that may be a secret.
#[derive(Debug)]
struct Part {
    /// Byte range in the file.
    span: Range<usize>,
    /// Whether it is known to be no secret.
    is_revealed: bool,
}

/// All errors and warnings of a file.
#[derive(Debug)]
pub struct Diagnostics {
    file: String,
    /// `None` if the file could not be read.
    source: Option<String>,
    keys: &'static [Key],
    list: Vec<Diagnostic>,
    /// The keys and values that may be secrets. `None` while their places are not known.
    parts: Option<Vec<Part>>,
}

impl Diagnostics {
    /// Creates an empty list for a file that can have these keys.
    #[must_use]
    pub fn new(file: &Path, source: &str, keys: &'static [Key]) -> Self {
        Self {
            file: file.display().to_string(),
            source: Some(source.to_owned()),
            keys,
            list: Vec::new(),
            parts: None,
        }
    }

    /// Creates the error of a file that cannot be read.
    #[must_use]
    pub fn unreadable(file: &Path, error: &io::Error, keys: &'static [Key]) -> Self {
        let mut diagnostics = Self::new(file, "", keys);
        diagnostics.source = None;
        diagnostics.error(0..0, format!("cannot be read: {error}"));
        diagnostics
    }

    /// Adds the syntax errors of a file. An error at the end of an unclosed string moves to the start of the value:
    /// its column would show how long the string is.
    pub fn syntax_errors(&mut self, errors: &[toml::de::Error]) {
        let source = self.source.clone().unwrap_or_default();
        let unclosed: Vec<_> = errors
            .iter()
            .filter_map(|error| Some((error.span()?.start, delimiter(error.message())?)))
            .collect();
        for error in errors {
            let mut span = error.span().unwrap_or(0..0);
            if let Some((end, delimiter)) = unclosed.iter().find(|(end, _)| *end == span.start) {
                let start = value_start(&source, *end, delimiter);
                span = start..start;
            }
            self.error(span, error.message());
        }
    }

    /// Hides all values of the file, which is valid TOML, and the keys that may be misplaced values.
    pub fn hide_values(&mut self, table: &DeTable<'_>) {
        let mut spans = Vec::new();
        hideable(table, self.keys, &mut spans);
        let parts = spans.into_iter().map(|span| Part {
            span,
            is_revealed: false,
        });
        self.parts = Some(parts.collect());
    }

    /// Shows a key or value that is known to be no secret.
    pub fn reveal(&mut self, span: &Range<usize>) {
        for part in self.parts.iter_mut().flatten() {
            part.is_revealed |= part.span == *span;
        }
    }

    /// Adds an error.
    pub fn error(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.push(span, &text.into(), Severity::Error);
    }

    /// Adds an error in the content of a file that a key names. A running server continues with the last good content.
    pub fn content_error(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.push(span, &text.into(), Severity::ContentError);
    }

    /// Adds a warning about a likely mistake.
    pub fn warn(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.push(span, &text.into(), Severity::Warning);
    }

    fn push(&mut self, span: Range<usize>, text: &str, severity: Severity) {
        self.list.push(Diagnostic {
            span,
            text: visible(text),
            severity,
        });
    }

    /// Returns the warnings, each with its place.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.list.iter();
        let warnings = warnings.filter(|one| one.severity == Severity::Warning);
        warnings.map(|one| self.head(one, "warning: ")).collect()
    }

    /// Returns whether a running server must keep its present configuration.
    #[must_use]
    pub fn reject_reload(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// Returns whether there are no errors.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// Returns the errors in the order of the file.
    #[must_use]
    pub fn list(&self) -> Vec<&Diagnostic> {
        let errors = self.list.iter();
        let mut errors: Vec<_> = errors
            .filter(|one| one.severity != Severity::Warning)
            .collect();
        errors.sort_by_key(|error| error.span.start);
        errors
    }

    /// Returns the errors without the lines of the file, for the log.
    #[must_use]
    pub fn brief(&self) -> String {
        let heads = self.list().into_iter().map(|error| self.head(error, ""));
        heads.collect::<Vec<_>>().join("; ")
    }

    /// Returns `FILE:LINE:COLUMN: text`.
    fn head(&self, diagnostic: &Diagnostic, kind: &str) -> String {
        let place = self.place(diagnostic.span.start);
        let (line, column) = (place.number, place.column());
        format!("{}:{line}:{column}: {kind}{}", self.file, diagnostic.text)
    }

    fn place(&self, offset: usize) -> Place<'_> {
        let source = self.source.as_deref().unwrap_or_default();
        let offset = source.floor_char_boundary(offset);
        let start = source[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line = source[start..].lines().next().unwrap_or_default();
        Place {
            number: source[..start].matches('\n').count() + 1,
            start,
            line,
            before: &source[start..offset.min(start + line.len())],
        }
    }

    /// Whether an offset is within a value that is shown.
    fn is_revealed(&self, offset: usize) -> bool {
        let mut parts = self.parts.iter().flatten();
        parts.any(|part| part.is_revealed && part.span.contains(&offset))
    }

    /// Returns the line of a place up to the first part that may be a secret: a key or value, quotes, a comment, or,
    /// where the file is no valid TOML, everything that does not begin like one of the known keys. The second part is
    /// the number of characters that a caret can follow: those shown, and the blank before ` ...`.
    fn shown(&self, Place { start, line, .. }: &Place<'_>) -> (String, usize) {
        let end = start + line.len();
        let shown = match &self.parts {
            None => known_beginning(line, self.keys),
            Some(parts) => {
                let hidden = parts.iter().filter(|part| !part.is_revealed);
                let hidden = hidden.map(|part| &part.span);
                let hidden = hidden.filter(|span| span.start < end && *start < span.end);
                let hidden = hidden.map(|span| span.start.saturating_sub(*start));
                // A table's name in quotes may stand in several places, of which one is known.
                let quotes = line.match_indices(['"', '\'', '#']).map(|(at, _)| at);
                let quotes = quotes.filter(|at| !self.is_revealed(start + at));
                hidden.chain(quotes).min().unwrap_or(line.len())
            }
        };
        let beginning = visible(&line[..shown]);
        if shown == line.len() {
            return (beginning, usize::MAX);
        }
        let beginning = beginning.trim_end();
        (format!("{beginning} ..."), beginning.chars().count() + 1)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.list() {
            writeln!(f, "{}", self.head(error, ""))?;
            if self.source.is_some() {
                let place = self.place(error.span.start);
                // A caret beyond the shown part would point at nothing.
                let (line, limit) = self.shown(&place);
                let width = limit.min(place.column() - 1);
                let above = line.chars().chain(std::iter::repeat(' ')).take(width);
                let indent = above.map(|c| if c == '\t' { '\t' } else { ' ' });
                let indent: String = indent.collect();
                writeln!(f, "{line}\n{indent}^")?;
            }
        }
        Ok(())
    }
}

/// A place in the file.
struct Place<'a> {
    /// Number of the line, from 1.
    number: usize,
    /// Offset of the line in the file.
    start: usize,
    line: &'a str,
    /// The line up to the place.
    before: &'a str,
}

impl Place<'_> {
    /// Returns the column in characters, from 1.
    fn column(&self) -> usize {
        self.before.chars().count() + 1
    }
}

/// Returns the text with a mark for each character that cannot be seen. Tabs stay, so that the caret stands below its
/// character.
fn visible(text: &str) -> String {
    let unseen = |c: char| c != '\t' && names::is_unseen(c);
    text.replace(unseen, UNSEEN.encode_utf8(&mut [0; 4]))
}

/// Returns the delimiter of the string that an error of the parser calls unclosed.
fn delimiter(message: &str) -> Option<&'static str> {
    match message {
        "invalid basic string, expected `\"`" => Some("\""),
        "invalid literal string, expected `'`" => Some("'"),
        "invalid multi-line basic string, expected `\"`" => Some("\"\"\""),
        "invalid multi-line literal string, expected `'`" => Some("'''"),
        _ => None,
    }
}

/// Returns where the value starts that has an unclosed string up to `end`; without a `=`, where its line starts.
fn value_start(source: &str, end: usize, delimiter: &str) -> usize {
    let before = source.get(..end).unwrap_or_default();
    let string = before.rfind(delimiter).unwrap_or_default();
    let line = before[..string].rfind('\n').map_or(0, |at| at + 1);
    let key = before[line..string].find('=').map_or(0, |at| at + 1);
    let value = before[line + key..].trim_start_matches([' ', '\t']);
    end - value.len()
}

/// Collects the places of all values that are not tables or lists, and of the keys that may be misplaced values.
fn hideable(table: &DeTable<'_>, keys: &[Key], spans: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        if !is_showable(keys, key.get_ref()) {
            spans.push(key.span());
        }
        hideable_values(value, keys, spans);
    }
}

fn hideable_values(value: &Spanned<DeValue<'_>>, keys: &[Key], spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        // The place of a table may be that of its name alone.
        DeValue::Table(table) => hideable(table, keys, spans),
        DeValue::Array(list) => list
            .iter()
            .for_each(|value| hideable_values(value, keys, spans)),
        _ => spans.push(value.span()),
    }
}

/// Returns the length of the table's name, or of the key with its `=`, that a line begins with; 0 if no key has this name.
fn known_beginning(line: &str, keys: &[Key]) -> usize {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let begun = line.trim_start_matches([' ', '\t', '[']);
    let start = line.len() - begun.len();
    let name = begun.find(|c| !is_bare(c)).unwrap_or(begun.len());
    if !keys.iter().any(|key| key.name == &begun[..name]) {
        return 0;
    }
    let rest = &begun[name..];
    let more = if line.trim_start().starts_with('[') {
        rest.find(|c| !is_bare(c) && !matches!(c, '.' | ']'))
            .unwrap_or(rest.len())
    } else {
        let value = rest.trim_start_matches([' ', '\t']);
        value
            .strip_prefix('=')
            .map_or(0, |value| rest.len() - value.len())
    };
    start + name + more
}
