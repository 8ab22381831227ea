//! Faults of a configuration file: where, what, and how they are shown.

use std::{fmt, ops::Range, path::Path};

/// One fault, at a place in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Byte range in the file.
    pub span: Range<usize>,
    /// What is wrong.
    pub text: String,
}

/// All faults of one file.
#[derive(Debug)]
pub struct Faults {
    file: String,
    source: String,
    list: Vec<Fault>,
}

impl Faults {
    /// No fault yet in this file.
    #[must_use]
    pub fn new(file: &Path, source: &str) -> Self {
        Self {
            file: file.display().to_string(),
            source: source.to_owned(),
            list: Vec::new(),
        }
    }

    /// Notes a fault.
    pub fn add(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.list.push(Fault {
            span,
            text: text.into(),
        });
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

    /// Line and column (both from 1, the column in characters), and the line's text up to the column.
    fn place(&self, offset: usize) -> (usize, usize, &str, &str) {
        let offset = self.source.floor_char_boundary(offset);
        let start = self.source[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line = self.source[start..].lines().next().unwrap_or_default();
        let before = &self.source[start..offset.min(start + line.len())];
        let number = self.source[..start].matches('\n').count() + 1;
        (number, before.chars().count() + 1, line, before)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in self.list() {
            let (line, column, text, before) = self.place(fault.span.start);
            // Tabs stay tabs, so that the caret stands below its character.
            let indent: String = before
                .chars()
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            writeln!(f, "{}:{line}:{column}: {}", self.file, fault.text)?;
            writeln!(f, "{text}\n{indent}^")?;
        }
        Ok(())
    }
}
