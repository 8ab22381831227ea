//! Reads typed values out of one TOML table and notes every fault, instead of stopping at the first.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};
use url::Url;

use super::{
    diagnostics::Faults,
    files, keys,
    urls::{self, Shape},
};
use crate::names;

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Its byte range.
    pub span: Range<usize>,
}

/// One table of the file, known to [`keys`] under `name`.
pub struct Section<'a> {
    name: &'static str,
    table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Section<'a> {
    /// Takes up a table, and notes the keys that nobody knows.
    pub fn new(
        name: &'static str,
        table: &'a DeTable<'a>,
        span: Range<usize>,
        faults: &mut Faults,
    ) -> Self {
        for (key, _) in table {
            if !keys::known(name, key.get_ref()) {
                faults.add(key.span(), keys::unknown_text(name, key.get_ref()));
            }
        }
        Self { name, table, span }
    }

    /// Where the table starts.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where a key stands.
    #[must_use]
    pub fn key_span(&self, key: &str) -> Range<usize> {
        self.table
            .keys()
            .find(|k| k.get_ref() == key)
            .map_or(self.span(), Spanned::span)
    }

    /// Is the key there, whatever its value?
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    fn raw(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        debug_assert!(keys::known(self.name, key), "{}.{key}", self.name);
        self.table.get(key)
    }

    fn typed<T>(
        &self,
        key: &str,
        wanted: &str,
        faults: &mut Faults,
        read: impl FnOnce(&'a DeValue<'a>) -> Option<T>,
    ) -> Option<Placed<T>> {
        let raw = self.raw(key)?;
        let Some(value) = read(raw.get_ref()) else {
            let found = raw.get_ref().type_str();
            faults.add(raw.span(), format!("`{key}` must be {wanted}, not {found}"));
            return None;
        };
        Some(Placed {
            value,
            span: raw.span(),
        })
    }

    /// A string that may be absent.
    pub fn text(&self, key: &str, faults: &mut Faults) -> Option<Placed<String>> {
        self.typed(key, "a string", faults, |value| {
            value.as_str().map(str::to_owned)
        })
    }

    /// A string that must be there and not be empty.
    pub fn required(&self, key: &str, faults: &mut Faults) -> Option<Placed<String>> {
        if !self.has(key) {
            faults.add(self.span(), format!("missing key `{key}`"));
            return None;
        }
        let text = self.text(key, faults)?;
        if text.value.is_empty() {
            faults.add(text.span, format!("`{key}` must not be empty"));
            return None;
        }
        Some(text)
    }

    /// The path of a file, which is relative to `folder`.
    pub fn path(&self, key: &str, folder: &Path, faults: &mut Faults) -> Option<Placed<PathBuf>> {
        let text = self.required(key, faults)?;
        let path = folder.join(text.value);
        if files::exists(&path) {
            faults.reveal(&text.span);
        }
        Some(Placed {
            value: path,
            span: text.span,
        })
    }

    /// The URL of a required key. `insecure` allows http for every host.
    pub fn url(&self, key: &str, shape: Shape, insecure: bool, faults: &mut Faults) -> Option<Url> {
        let text = self.required(key, faults)?;
        if urls::is_harmless(&text.value) {
            faults.reveal(&text.span);
        }
        match urls::parse(&text.value, shape, insecure) {
            Ok(url) => Some(url),
            Err(fault) => {
                faults.add(text.span, format!("`{key}` {fault}"));
                None
            }
        }
    }

    /// The text of a required key that is compared or sent, such as an issuer.
    pub fn identifier(&self, key: &str, faults: &mut Faults) -> Option<Placed<String>> {
        let text = self.required(key, faults)?;
        if let Err(fault) = urls::check_identifier(&text.value) {
            faults.add(text.span.clone(), format!("`{key}` {fault}"));
        }
        Some(text)
    }

    /// Reveals the value in messages unless it is a string, which could be a misplaced secret.
    fn reveal_unless_string(&self, key: &str, faults: &mut Faults) {
        if let Some(value) = self.raw(key)
            && value.get_ref().as_str().is_none()
        {
            faults.reveal(&value.span());
        }
    }

    /// A truth value with a default.
    pub fn flag(&self, key: &str, default: bool, faults: &mut Faults) -> bool {
        self.reveal_unless_string(key, faults);
        self.typed(key, "true or false", faults, DeValue::as_bool)
            .map_or(default, |placed| placed.value)
    }

    /// A whole number within bounds.
    pub fn number(
        &self,
        key: &str,
        range: std::ops::RangeInclusive<u32>,
        faults: &mut Faults,
    ) -> Option<u32> {
        self.reveal_unless_string(key, faults);
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        let placed = self.typed(key, &wanted, faults, DeValue::as_integer)?;
        let (digits, radix) = (placed.value.as_str(), placed.value.radix());
        let number = u32::from_str_radix(digits, radix).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            faults.add(placed.span, format!("`{key}` must be {wanted}"));
        }
        number
    }

    /// A part of a whole: a number from 0 to 1.
    pub fn part(&self, key: &str, faults: &mut Faults) -> Option<f64> {
        self.reveal_unless_string(key, faults);
        let wanted = "a number from 0.0 to 1.0";
        let placed = self.typed(key, wanted, faults, |value| match value {
            DeValue::Float(number) => Some(number.as_str()),
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
            _ => None,
        })?;
        let number = placed.value.parse().ok();
        let number = number.filter(|number| (0.0..=1.0).contains(number));
        if number.is_none() {
            faults.add(placed.span, format!("`{key}` must be {wanted}"));
        }
        number
    }

    /// A list of strings that may be absent. It counts as absent when something else is in it.
    pub fn texts(&self, key: &str, faults: &mut Faults) -> Option<Placed<Vec<Placed<String>>>> {
        let list = self.typed(key, "a list of strings", faults, DeValue::as_array)?;
        let mut texts = Vec::new();
        for item in list.value {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Placed {
                    value: text.to_owned(),
                    span: item.span(),
                }),
                None => faults.add(item.span(), format!("`{key}` holds strings only")),
            }
        }
        (texts.len() == list.value.len()).then_some(Placed {
            value: texts,
            span: list.span,
        })
    }

    /// A list of patterns that may be absent.
    pub fn patterns(&self, key: &str, faults: &mut Faults) -> Option<Placed<Vec<Placed<String>>>> {
        let list = self.texts(key, faults)?;
        for text in &list.value {
            if let Err(fault) = urls::check_template(&text.value) {
                faults.add(text.span.clone(), format!("`{key}` {fault}"));
            }
        }
        Some(list)
    }

    /// A table inside this one.
    pub fn table(&self, key: &str, name: &'static str, faults: &mut Faults) -> Option<Section<'a>> {
        let table = self.typed(key, "a table", faults, DeValue::as_table)?;
        Some(Section::new(name, table.value, self.key_span(key), faults))
    }

    /// Tables with names of the operator's choice, such as `[hmcs.ALIAS]`.
    pub fn named_tables(
        &self,
        key: &str,
        name: &'static str,
        faults: &mut Faults,
    ) -> Vec<(Placed<String>, Section<'a>)> {
        let Some(outer) = self.typed(key, "a table", faults, DeValue::as_table) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for (alias, value) in outer.value {
            let placed = Placed {
                value: alias.get_ref().to_string(),
                span: alias.span(),
            };
            if names::is_alias(&placed.value) {
                faults.reveal(&placed.span);
            }
            match value.get_ref().as_table() {
                Some(table) => {
                    found.push((placed, Section::new(name, table, alias.span(), faults)));
                }
                None => faults.add(value.span(), format!("`{key}` holds tables only")),
            }
        }
        found
    }

    /// A list of tables, such as `[[callers]]`.
    pub fn tables(&self, key: &str, name: &'static str, faults: &mut Faults) -> Vec<Section<'a>> {
        let Some(list) = self.typed(key, "a list of tables", faults, DeValue::as_array) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        for item in list.value {
            match item.get_ref().as_table() {
                Some(table) => found.push(Section::new(name, table, item.span(), faults)),
                None => faults.add(item.span(), format!("`{key}` holds tables only")),
            }
        }
        found
    }
}
