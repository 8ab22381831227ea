//! Errors and warnings of a configuration file, each with its position, its line and a caret.
//!
//! Secrets are never shown. All values, and keys that may be misplaced values, are hidden unless a reader has
//! revealed them.

use std::{fmt, io, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::schema::{Key, may_be_shown};
use crate::names;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration file cannot be used.
    Error,
    /// The content of a file that a key names cannot be used. A running server continues with the last valid content.
    ContentError,
    /// A likely mistake. The configuration file can be used.
    Warning,
}

/// An error or warning at a place in the file.
#[derive(Debug)]
pub struct Diagnostic {
    /// Byte range in the file.
    pub span: Range<usize>,
    pub text: String,
    severity: Severity,
}

#[derive(Debug)]
pub struct Diagnostics {
    file: Box<Path>,
    /// Text of the file; `None` if it could not be read.
    source: Option<Box<str>>,
    keys: &'static [Key],
    list: Vec<Diagnostic>,
    /// Byte ranges of the keys and values that may be secrets. `None` if the file is not valid TOML.
    hideable: Option<Vec<Range<usize>>>,
    /// Those of the `hideable` ranges that are known to contain no secrets.
    revealed: Vec<Range<usize>>,
}

impl Diagnostics {
    /// Creates an empty list for a file. `keys` are all keys that the file can have.
    pub(super) fn new(file: &Path, source: &str, keys: &'static [Key]) -> Self {
        Self {
            file: file.into(),
            source: Some(source.into()),
            keys,
            list: Vec::new(),
            hideable: None,
            revealed: Vec::new(),
        }
    }

    pub(super) fn unreadable(file: &Path, error: &io::Error, keys: &'static [Key]) -> Self {
        let mut diagnostics = Self::new(file, "", keys);
        diagnostics.source = None;
        diagnostics.push(Severity::Error, 0..0, &format!("cannot be read: {error}"));
        diagnostics
    }

    /// Adds the syntax errors of a file. An error at the end of an unclosed string is moved to the start of the
    /// value, because its column would show how long the string is.
    pub(super) fn syntax_errors(&mut self, errors: &[toml::de::Error]) {
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
            self.push(Severity::Error, span, error.message());
        }
    }

    /// Marks all values of the file, which is valid TOML, and the keys that may be misplaced values as hidden.
    pub(super) fn hide_values(&mut self, table: &DeTable<'_>) {
        hide_table(table, self.keys, self.hideable.get_or_insert_default());
    }

    /// Allows messages to show a key or value that is known to be no secret.
    pub(super) fn reveal(&mut self, span: Range<usize>) {
        let mut hideable = self.hideable.iter().flatten();
        if hideable.any(|hideable| *hideable == span) {
            self.revealed.push(span);
        }
    }

    pub(super) fn push(&mut self, severity: Severity, span: Range<usize>, text: &str) {
        self.list.push(Diagnostic {
            span,
            text: visible(text),
            severity,
        });
    }

    /// Returns the warnings in the order of their positions, each with its line and a caret.
    pub(super) fn warnings(&self) -> Vec<String> {
        let warnings = self.sorted(|severity| severity == Severity::Warning);
        let texts = warnings
            .into_iter()
            .map(|one| self.with_line(one, "warning: "));
        texts.collect()
    }

    /// Returns whether an error requires a running server to keep its present configuration.
    pub(super) fn reject_reload(&self) -> bool {
        self.list.iter().any(|one| one.severity == Severity::Error)
    }

    /// Returns whether there are no errors.
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// Returns the errors in the order of their positions.
    pub fn list(&self) -> Vec<&Diagnostic> {
        self.sorted(|severity| severity != Severity::Warning)
    }

    fn sorted(&self, is_wanted: impl Fn(Severity) -> bool) -> Vec<&Diagnostic> {
        let wanted = self.list.iter().filter(|one| is_wanted(one.severity));
        let mut sorted: Vec<_> = wanted.collect();
        sorted.sort_by_key(|one| one.span.start);
        sorted
    }

    /// Returns the errors in one line, without the lines of the file, for the log.
    pub fn brief(&self) -> String {
        let heads = self.list().into_iter().map(|error| self.head(error, ""));
        heads.collect::<Vec<_>>().join("; ")
    }

    /// Returns `FILE:LINE:COLUMN: text`.
    fn head(&self, diagnostic: &Diagnostic, kind: &str) -> String {
        let position = self.position(diagnostic.span.start);
        let (line, column) = (position.number, position.column);
        let file = self.file.display();
        format!("{file}:{line}:{column}: {kind}{}", diagnostic.text)
    }

    /// Returns the position and text, followed by the line of the file with a caret below it.
    fn with_line(&self, diagnostic: &Diagnostic, kind: &str) -> String {
        let head = self.head(diagnostic, kind);
        if self.source.is_none() {
            return head;
        }
        let position = self.position(diagnostic.span.start);
        let shown = self.shown_part(&position);
        let (mut line, mut width) = (visible(shown), position.column - 1);
        if shown.len() < position.line.len() {
            line = format!("{} ...", line.trim_end());
            // The caret is not placed to the right of the dots, where it would point at nothing.
            width = width.min(line.chars().count() - "...".len());
        }
        let above = line.chars().chain(std::iter::repeat(' ')).take(width);
        let indent: String = above.map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("{head}\n{line}\n{indent}^")
    }

    fn position(&self, offset: usize) -> Position<'_> {
        let source = self.source.as_deref().unwrap_or_default();
        let offset = source.floor_char_boundary(offset);
        let start = source[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line = source[start..].lines().next().unwrap_or_default();
        let before = &source[start..offset.min(start + line.len())];
        Position {
            number: source[..start].matches('\n').count() + 1,
            column: before.chars().count() + 1,
            start,
            line,
        }
    }

    /// Returns the part of a line that may be shown: the text up to a hidden key or value, a quote, or a comment. If
    /// the file is not valid TOML, only the beginning of a line with a known key is shown.
    fn shown_part<'a>(&self, Position { start, line, .. }: &Position<'a>) -> &'a str {
        let Some(hideable) = &self.hideable else {
            return &line[..known_key_len(line, self.keys)];
        };
        let hidden = hideable.iter().filter(|span| {
            span.start < start + line.len() && *start < span.end && !self.revealed.contains(span)
        });
        let hidden = hidden.map(|span| span.start.saturating_sub(*start));
        // A quoted name of a table may occur in several places, of which only one is revealed.
        let is_revealed = |at: usize| self.revealed.iter().any(|span| span.contains(&at));
        let quotes = line.match_indices(['"', '\'', '#']).map(|(at, _)| at);
        let quotes = quotes.filter(|at| !is_revealed(start + at));
        &line[..hidden.chain(quotes).min().unwrap_or(line.len())]
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.list() {
            writeln!(f, "{}", self.with_line(error, ""))?;
        }
        Ok(())
    }
}

struct Position<'a> {
    /// Number of the line, from 1.
    number: usize,
    /// Column in characters, from 1.
    column: usize,
    /// Offset of the start of the line in the file, in bytes.
    start: usize,
    line: &'a str,
}

/// Returns the text with invisible characters replaced. Tabs are kept, so that the caret is below its character.
fn visible(text: &str) -> String {
    names::replace_hidden(text, '\t')
}

/// Returns the delimiter of the unclosed string that an error message of the parser reports, if any.
fn delimiter(message: &str) -> Option<&'static str> {
    match message {
        "invalid basic string, expected `\"`" => Some("\""),
        "invalid literal string, expected `'`" => Some("'"),
        "invalid multi-line basic string, expected `\"`" => Some("\"\"\""),
        "invalid multi-line literal string, expected `'`" => Some("'''"),
        _ => None,
    }
}

/// Returns the start of the value whose unclosed string ends at `end`, or of its line if there is no `=`.
fn value_start(source: &str, end: usize, delimiter: &str) -> usize {
    let before = source.get(..end).unwrap_or_default();
    let string = before.rfind(delimiter).unwrap_or_default();
    let line = before[..string].rfind('\n').map_or(0, |at| at + 1);
    let key = before[line..string].find('=').map_or(0, |at| at + 1);
    let value = before[line + key..].trim_start_matches([' ', '\t']);
    end - value.len()
}

/// Adds the byte ranges of all values, and of the keys that may be misplaced values, to `spans`.
fn hide_table(table: &DeTable<'_>, keys: &[Key], spans: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        if !may_be_shown(keys, key.get_ref()) {
            spans.push(key.span());
        }
        hide_value(value, keys, spans);
    }
}

fn hide_value(value: &Spanned<DeValue<'_>>, keys: &[Key], spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        // The range of a table is not added, because it may be that of the name alone.
        DeValue::Table(table) => hide_table(table, keys, spans),
        DeValue::Array(list) => list.iter().for_each(|item| hide_value(item, keys, spans)),
        _ => spans.push(value.span()),
    }
}

/// Returns the length of the known table name, or of the known key and its `=`, at the beginning of a line, or 0.
fn known_key_len(line: &str, keys: &[Key]) -> usize {
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
