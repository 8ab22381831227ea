//! Faults of a configuration file: where, what, and how they are shown.

use std::{fmt, io, ops::Range, path::Path};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::keys;
use crate::names;

/// Stands for what a terminal would not show, or obey.
const UNSEEN: char = '\u{FFFD}';

/// One fault, at a place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte range in the file.
    pub span: Range<usize>,
    /// What is wrong.
    pub text: String,
    /// It is the content of a file that is read again by itself, and whose last good content stays in use.
    pub of_content: bool,
}

/// A key or value that may be a secret.
#[derive(Debug)]
struct Part {
    /// Byte range in the file.
    span: Range<usize>,
    /// It is known to be no secret.
    is_revealed: bool,
}

/// All faults of one file.
#[derive(Debug)]
pub struct Faults {
    file: String,
    /// `None` when the file could not be read.
    source: Option<String>,
    list: Vec<Fault>,
    /// Warnings; they do not invalidate the file.
    warnings: Vec<Fault>,
    /// The keys and values that are not shown unless they are revealed, since each may be a secret that was written
    /// there by mistake. `None` while their places are not known.
    parts: Option<Vec<Part>>,
}

impl Part {
    fn new(span: Range<usize>) -> Self {
        Self {
            span,
            is_revealed: false,
        }
    }
}

impl Faults {
    /// No fault yet in this file.
    #[must_use]
    pub fn new(file: &Path, source: &str) -> Self {
        Self {
            file: file.display().to_string(),
            source: Some(source.to_owned()),
            list: Vec::new(),
            warnings: Vec::new(),
            parts: None,
        }
    }

    /// Adds the syntax errors of a file. An error at the end of an unclosed string moves to the start of the value:
    /// its column would show how long the string is.
    pub fn add_syntax_errors(&mut self, errors: &[toml::de::Error]) {
        let source = self.source.clone().unwrap_or_default();
        let unclosed: Vec<_> = errors
            .iter()
            .filter_map(|error| Some((error.span()?.start, delimiter(error.message())?)))
            .collect();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let string = unclosed.iter().find(|(end, _)| *end == span.start);
            let span = match string {
                Some((end, delimiter)) => {
                    let start = value_start(&source, *end, delimiter);
                    start..start
                }
                None => span,
            };
            self.add(span, error.message());
        }
    }

    /// Hides all values of the file, which is valid TOML, and the keys that may be misplaced values.
    pub fn hide_values(&mut self, table: &DeTable<'_>) {
        let mut parts = Vec::new();
        hideable(table, &mut parts);
        self.parts = Some(parts);
    }

    /// Shows a key or value that is known to be no secret.
    pub fn reveal(&mut self, span: &Range<usize>) {
        for part in self.parts.iter_mut().flatten() {
            part.is_revealed |= part.span == *span;
        }
    }

    /// The one fault of a file that cannot be read.
    #[must_use]
    pub fn unreadable(file: &Path, error: &io::Error) -> Self {
        let mut faults = Self::new(file, "");
        faults.source = None;
        faults.add(0..0, format!("cannot be read: {error}"));
        faults
    }

    /// Notes a fault.
    pub fn add(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.push(span, &text.into(), false);
    }

    /// Notes a fault of a file that a running server goes on without.
    pub fn add_of_content(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.push(span, &text.into(), true);
    }

    /// Adds a warning about a likely mistake.
    pub fn warn(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.warnings.push(Fault {
            span,
            text: seen(&text.into()),
            of_content: true,
        });
    }

    fn push(&mut self, span: Range<usize>, text: &str, of_content: bool) {
        self.list.push(Fault {
            span,
            text: seen(text),
            of_content,
        });
    }

    /// Returns the warnings, each with its place.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let warnings = self.warnings.iter();
        let head = |warning: &Fault| self.head(warning, "warning: ");
        warnings.map(head).collect()
    }

    /// `FILE:LINE:COLUMN: text`
    fn head(&self, fault: &Fault, kind: &str) -> String {
        let place = self.place(fault.span.start);
        let (line, column) = (place.line, place.column());
        format!("{}:{line}:{column}: {kind}{}", self.file, fault.text)
    }

    /// Faults that keep a running server from taking up the file.
    #[must_use]
    pub fn barring(&self) -> usize {
        self.list.iter().filter(|fault| !fault.of_content).count()
    }

    /// Is the file without fault?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The faults, in the order of the file.
    #[must_use]
    pub fn list(&self) -> Vec<&Fault> {
        let mut list: Vec<_> = self.list.iter().collect();
        list.sort_by_key(|fault| fault.span.start);
        list
    }

    /// Where an offset is.
    fn place(&self, offset: usize) -> Place<'_> {
        let source = self.source.as_deref().unwrap_or_default();
        let offset = source.floor_char_boundary(offset);
        let start = source[..offset].rfind('\n').map_or(0, |at| at + 1);
        let text = source[start..].lines().next().unwrap_or_default();
        Place {
            line: source[..start].matches('\n').count() + 1,
            start,
            text,
            before: &source[start..offset.min(start + text.len())],
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
    fn shown(&self, Place { start, text, .. }: &Place<'_>) -> (String, usize) {
        let line = *start..start + text.len();
        let end = match &self.parts {
            None => known_beginning(text),
            Some(parts) => {
                let hidden = parts.iter().filter(|part| !part.is_revealed);
                let hidden = hidden.map(|part| &part.span);
                let hidden = hidden.filter(|span| span.start < line.end && line.start < span.end);
                let hidden = hidden.map(|span| span.start.saturating_sub(line.start));
                // A table's name in quotes may stand in several places, of which one is known.
                let quotes = text.match_indices(['"', '\'', '#']);
                let quotes = quotes.map(|(at, _)| at);
                let quotes = quotes.filter(|at| !self.is_revealed(start + at));
                hidden.chain(quotes).min().unwrap_or(text.len())
            }
        };
        let beginning = seen(&text[..end]);
        if end == text.len() {
            return (beginning, usize::MAX);
        }
        let beginning = beginning.trim_end();
        (format!("{beginning} ..."), beginning.chars().count() + 1)
    }
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
fn hideable(table: &DeTable<'_>, parts: &mut Vec<Part>) {
    for (key, value) in table {
        if !keys::is_showable(key.get_ref()) {
            parts.push(Part::new(key.span()));
        }
        hideable_values(value, parts);
    }
}

fn hideable_values(value: &Spanned<DeValue<'_>>, parts: &mut Vec<Part>) {
    match value.get_ref() {
        // The place of a table may be that of its name alone.
        DeValue::Table(table) => hideable(table, parts),
        DeValue::Array(list) => list.iter().for_each(|value| hideable_values(value, parts)),
        _ => parts.push(Part::new(value.span())),
    }
}

/// Returns the length of the table's name, or of the key with its `=`, that a line begins with; 0 if no key has this name.
fn known_beginning(line: &str) -> usize {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let begun = line.trim_start_matches([' ', '\t', '[']);
    let start = line.len() - begun.len();
    let name = begun.find(|c| !is_bare(c)).unwrap_or(begun.len());
    if !keys::KEYS.iter().any(|key| key.name == &begun[..name]) {
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

/// A place in the file.
struct Place<'a> {
    /// From 1.
    line: usize,
    /// Where the line starts.
    start: usize,
    /// The line.
    text: &'a str,
    /// The line up to the place.
    before: &'a str,
}

impl Place<'_> {
    /// In characters, from 1.
    fn column(&self) -> usize {
        self.before.chars().count() + 1
    }
}

/// The text, with a mark for each character that cannot be seen. Tabs stay tabs, so that the caret stands below its
/// character.
fn seen(text: &str) -> String {
    let unseen = |c: char| c != '\t' && names::is_unseen(c);
    text.replace(unseen, UNSEEN.encode_utf8(&mut [0; 4]))
}

impl Faults {
    /// The faults without the lines of the file: for the log, where nobody wants to find what somebody wrote there by
    /// mistake.
    #[must_use]
    pub fn brief(&self) -> String {
        let faults = self.list().into_iter().map(|fault| self.head(fault, ""));
        faults.collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in self.list() {
            let place = self.place(fault.span.start);
            writeln!(f, "{}", self.head(fault, ""))?;
            if self.source.is_some() {
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
