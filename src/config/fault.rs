//! Faults of a configuration file: where, what, and how they are shown.

use std::{borrow::Cow, fmt, io, ops::Range, path::Path};

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

/// All faults of one file.
#[derive(Debug)]
pub struct Faults {
    file: String,
    /// `None` when the file could not be read.
    source: Option<String>,
    list: Vec<Fault>,
}

impl Faults {
    /// No fault yet in this file.
    #[must_use]
    pub fn new(file: &Path, source: &str) -> Self {
        Self {
            file: file.display().to_string(),
            source: Some(source.to_owned()),
            list: Vec::new(),
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
        self.push(span, text.into(), false);
    }

    /// Notes a fault of a file that a running server goes on without.
    pub fn add_of_content(&mut self, span: Range<usize>, text: impl Into<String>) {
        self.push(span, text.into(), true);
    }

    fn push(&mut self, span: Range<usize>, text: String, of_content: bool) {
        self.list.push(Fault {
            span,
            text,
            of_content,
        });
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

    /// Line and column (both from 1, the column in characters), and the line's text up to the column.
    fn place(&self, offset: usize) -> (usize, usize, &str, &str) {
        let source = self.source.as_deref().unwrap_or_default();
        let offset = source.floor_char_boundary(offset);
        let start = source[..offset].rfind('\n').map_or(0, |at| at + 1);
        let line = source[start..].lines().next().unwrap_or_default();
        let before = &source[start..offset.min(start + line.len())];
        let number = source[..start].matches('\n').count() + 1;
        (number, before.chars().count() + 1, line, before)
    }
}

impl Faults {
    /// The faults without the lines of the file: for the log, where nobody wants to find what somebody wrote there by
    /// mistake.
    #[must_use]
    pub fn brief(&self) -> String {
        let faults = self.list().into_iter().map(|fault| {
            let (line, column, ..) = self.place(fault.span.start);
            format!("{}:{line}:{column}: {}", self.file, fault.text)
        });
        faults.collect::<Vec<_>>().join("; ")
    }
}

/// The line of a fault without what may be a secret that somebody put there by mistake: the value of a key that is not
/// known, and a URL with a user.
fn shown<'a>(line: &'a str, fault: &str) -> Cow<'a, str> {
    let secret_from = if fault.starts_with("unknown key") {
        line.find('=').map(|at| at + 1)
    } else {
        let url = line.find("://").map(|at| at + 3);
        url.filter(|_| line.contains('@'))
    };
    match secret_from {
        Some(at) => format!("{} ...", &line[..at]).into(),
        None => line.into(),
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in self.list() {
            let (line, column, text, before) = self.place(fault.span.start);
            let text = shown(text, &fault.text);
            // Tabs stay tabs, so that the caret stands below its character.
            let indent: String = before
                .chars()
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            writeln!(f, "{}:{line}:{column}: {}", self.file, fault.text)?;
            if self.source.is_some() {
                writeln!(f, "{text}\n{indent}^")?;
            }
        }
        Ok(())
    }
}
