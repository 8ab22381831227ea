//! Access to one TOML table of the file. Errors are reported with their positions, and reading continues after them.

use std::{
    cell::{RefCell, RefMut},
    fmt::Display,
    ops::Range,
    path::{self, Path},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    diagnostics::{Diagnostics, Severity},
    files,
    schema::{self, Key},
    source::Source,
};

/// State that the readers of all tables of a file share.
pub struct Context<'a> {
    /// Folder to which relative paths in the file are relative.
    folder: &'a Path,
    root: &'a DeTable<'a>,
    keys: &'static [Key],
    diagnostics: RefCell<Diagnostics>,
    source: RefCell<Source>,
}

impl<'a> Context<'a> {
    pub fn new(
        path: &'a Path,
        root: &'a DeTable<'a>,
        keys: &'static [Key],
        diagnostics: Diagnostics,
    ) -> Self {
        Self {
            folder: path.parent().unwrap_or(Path::new("")),
            root,
            keys,
            diagnostics: RefCell::new(diagnostics),
            source: RefCell::default(),
        }
    }

    /// Returns the errors and warnings, and the files that were read.
    pub fn into_results(self) -> (Diagnostics, Source) {
        (self.diagnostics.into_inner(), self.source.into_inner())
    }
}

pub struct Reader<'a> {
    context: &'a Context<'a>,
    /// `None` if the table is absent.
    table: Option<&'a DeTable<'a>>,
    span: Range<usize>,
}

impl<'a> Reader<'a> {
    /// Creates the reader of a table, which the documentation calls `name`, and reports its unknown keys.
    pub fn new(
        context: &'a Context<'a>,
        name: &str,
        table: &'a DeTable<'a>,
        span: Range<usize>,
    ) -> Self {
        let reader = Self {
            context,
            table: Some(table),
            span,
        };
        for (key, _) in table {
            let is_own = |own: &Key| own.section == name && own.name == key.get_ref();
            if !context.keys.iter().any(is_own) {
                let error = schema::unknown_key(context.keys, name, key.get_ref());
                reader.error(key.span(), error);
            }
        }
        reader
    }

    /// Creates the reader of an absent table inside this one. Its errors are reported at the position of this table.
    pub fn absent(&self) -> Self {
        Self {
            context: self.context,
            table: None,
            span: self.span(),
        }
    }

    /// Creates the reader of a table inside this one, and reports its unknown keys.
    pub fn inner(&self, name: &str, table: &'a DeTable<'a>, span: Range<usize>) -> Self {
        Self::new(self.context, name, table, span)
    }

    pub fn folder(&self) -> &'a Path {
        self.context.folder
    }

    /// Returns the record of the files that the configuration names.
    pub fn source(&self) -> RefMut<'a, Source> {
        self.context.source.borrow_mut()
    }

    /// Returns the strings that `key` has in the tables of the array `list` at the top level of the file.
    pub fn strings_in_array(
        &self,
        list: &str,
        key: &'static str,
    ) -> impl Iterator<Item = Spanned<&'a str>> + use<'a> {
        let list = self.context.root.get(list);
        let list = list.and_then(|list| list.get_ref().as_array());
        list.into_iter().flatten().filter_map(move |item| {
            let value = item.get_ref().as_table()?.get(key)?;
            Some(Spanned::new(value.span(), value.get_ref().as_str()?))
        })
    }

    /// Returns the names in a table at the top level of the file, such as the aliases of targets.
    pub fn names_in(&self, table: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let table = self.context.root.get(table);
        let table = table.and_then(|table| table.get_ref().as_table());
        let names = table.into_iter().flat_map(|table| table.keys());
        names.map(|name| name.get_ref().as_ref())
    }

    /// Returns whether an error was reported in any table.
    pub fn has_errors(&self) -> bool {
        !self.context.diagnostics.borrow().is_empty()
    }

    /// Returns the position of the table's name.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns the position of a key's name, or that of the table if the key is absent.
    pub fn key_span(&self, key: &str) -> Range<usize> {
        let mut keys = self.table.into_iter().flat_map(|table| table.keys());
        keys.find(|own| own.get_ref() == key)
            .map_or(self.span(), Spanned::span)
    }

    /// Returns the position of a key's value, or that of the table if the key is absent.
    pub fn value_span(&self, key: &str) -> Range<usize> {
        self.raw(key).map_or(self.span(), Spanned::span)
    }

    /// Returns whether the key is present, with any value.
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    pub fn is_true(&self, key: &str) -> bool {
        self.raw(key).and_then(|value| value.get_ref().as_bool()) == Some(true)
    }

    fn raw(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    /// Returns the value of a key if `read` accepts it. Otherwise reports that the value must be `wanted`.
    pub fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<T> {
        let raw = self.raw(key)?.get_ref();
        let value = read(raw);
        if value.is_none() {
            self.invalid(key, format!("must be {wanted}, not {}", raw.type_str()));
        }
        value
    }

    /// Returns the items of a list. Reports an item that `read` does not accept. `items` names their type.
    pub fn list<T>(
        &self,
        key: &str,
        items: &str,
        read: impl Fn(&'a Spanned<DeValue<'a>>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let list = self.typed(key, &format!("a list of {items}"), DeValue::as_array)?;
        let mut found = Vec::new();
        for item in list {
            match read(item) {
                Some(item) => found.push(item),
                None => self.error(item.span(), format!("`{key}` holds {items} only")),
            }
        }
        (found.len() == list.len()).then_some(found)
    }

    /// Reports that a key or a table (`noun`) is missing in this table.
    pub fn missing(&self, noun: &str, key: &str) {
        self.error(self.span(), format!("missing {noun} `{key}`"));
    }

    /// Reports an error in the value of a key. `error` is the predicate of a sentence, such as `must not be empty`.
    pub fn invalid(&self, key: &str, error: impl Display) {
        self.error(self.value_span(key), format!("`{key}` {error}"));
    }

    /// Reports an error in the content of a file. A running server continues with the last valid content.
    pub fn invalid_content(&self, key: &str, error: impl Display) {
        let text = format!("`{key}` {error}{}", self.folder_of_missing_file(key));
        self.report(Severity::ContentError, self.value_span(key), &text);
    }

    /// Returns the folder of relative paths, for a message about the file that a key names. Returns an empty text if
    /// the file exists, or if its path is absolute.
    pub fn folder_of_missing_file(&self, key: &str) -> String {
        let value = self.raw(key).and_then(|value| value.get_ref().as_str());
        let path = value.map(Path::new).filter(|path| path.is_relative());
        if path.is_none_or(|path| files::exists(&self.folder().join(path))) {
            return String::new();
        }
        // An empty path has no absolute form.
        let folder = path::absolute(self.folder().join("."));
        let folder = folder.unwrap_or_else(|_| self.folder().to_owned());
        format!(" (relative paths start at {})", folder.display())
    }

    pub fn error(&self, span: Range<usize>, text: impl AsRef<str>) {
        self.report(Severity::Error, span, text.as_ref());
    }

    /// Reports a warning for the value of a key. `text` follows the name of the key without a space.
    pub fn warn(&self, key: &str, text: impl Display) {
        self.warn_at(self.value_span(key), &format!("`{key}`{text}"));
    }

    pub fn warn_at(&self, span: Range<usize>, text: &str) {
        self.report(Severity::Warning, span, text);
    }

    fn report(&self, severity: Severity, span: Range<usize>, text: &str) {
        self.context
            .diagnostics
            .borrow_mut()
            .push(severity, span, text);
    }

    /// Allows messages to show a key or value that is known to be no secret.
    pub fn reveal(&self, span: Range<usize>) {
        self.context.diagnostics.borrow_mut().reveal(span);
    }

    pub fn reveal_value(&self, key: &str) {
        self.reveal(self.value_span(key));
    }

    /// Allows messages to show the value of a key unless it is a string, which could be a misplaced secret.
    pub fn reveal_unless_string(&self, key: &str) {
        if self
            .raw(key)
            .is_some_and(|value| value.get_ref().as_str().is_none())
        {
            self.reveal_value(key);
        }
    }
}
