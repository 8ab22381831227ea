//! Tables of the configuration file. [`table!`] declares each key once. Its row defines the field of the checked
//! configuration, the entry in `docs/configuration.md`, and the reader.

use std::fmt::Display;

use super::{reader::Reader, schema::Key};

/// A table whose keys are declared by [`table!`].
pub trait Table: Sized {
    /// Name of the table, as in [`Key::section`].
    const NAME: &'static str;

    /// Returns the keys of the table, followed by those of the tables inside it.
    fn keys() -> Vec<Key>;

    /// Reads all keys. Returns `None` if a required key is missing or invalid, after that was reported.
    fn read(reader: &Reader<'_>) -> Option<Self>;
}

/// Declares a table: a struct with a field for each key.
///
/// The comment of a field documents its key for operators. The key has the name of the field unless `#[key("name")]`
/// specifies another one. The expression is the [`Kind`] of the values: type, range, default and reader.
/// `#[table("name", check = function)]` names the function that reports errors that concern several keys.
macro_rules! table {
    (
        $(#[doc = $about:literal])+
        #[table($name:expr $(, check = $check:path)?)]
        $visibility:vis struct $table:ident $(<$own:ident: $bound:ident>)? {
            $(
                $(#[doc = $doc:literal])+
                $(#[key($key:literal)])?
                $field:ident: $type:ty = $kind:expr;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone)]
        #[allow(clippy::struct_field_names, reason = "fields have the names of keys")]
        $visibility struct $table $(<$own: $bound>)? {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl $(<$own: $bound>)? $crate::config::table::Table for $table $(<$own>)? {
            const NAME: &'static str = $name;

            fn keys() -> Vec<$crate::config::schema::Key> {
                let mut keys = Vec::new();
                $(
                    let kind: $crate::config::table::Kind<$type> = $kind;
                    let name = $crate::config::table::table!(@name $field $($key)?);
                    kind.describe($name, name, concat!($($doc),+), &mut keys);
                )+
                // The keys of inner tables come last.
                keys.sort_by_key(|key| key.section != $name);
                keys
            }

            fn read(reader: &$crate::config::reader::Reader<'_>) -> Option<Self> {
                $(
                    let kind: $crate::config::table::Kind<$type> = $kind;
                    let $field = kind.read(reader, $crate::config::table::table!(@name $field $($key)?));
                )+
                let table = Self { $($field: $field?,)+ };
                $($check(&table, reader);)?
                Some(table)
            }
        }
    };
    (@name $field:ident $key:literal) => { $key };
    (@name $field:ident) => { stringify!($field) };
}
pub(crate) use table;

type Read<T> = Box<dyn Fn(&Reader<'_>, &'static str) -> Option<T>>;

/// The values that a key can have, and how they are read and reported.
pub struct Kind<T> {
    format: String,
    default: String,
    read: Read<T>,
    inner: fn() -> Vec<Key>,
    /// Whether the field is a key. If not, the field consists of the keys of `inner`, or is derived from other keys.
    is_key: bool,
}

impl<T: 'static> Kind<T> {
    /// Creates the kind of a required key. `read` is called only if the key is present.
    pub fn new(
        format: impl Into<String>,
        read: impl Fn(&Reader<'_>, &'static str) -> Option<T> + 'static,
    ) -> Self {
        let format = format.into();
        let noun = if format == "table" { "table" } else { "key" };
        Self {
            format,
            default: "required".to_owned(),
            read: Box::new(move |reader, key| {
                if !reader.has(key) {
                    reader.missing(noun, key);
                    return None;
                }
                read(reader, key)
            }),
            inner: Vec::new,
            is_key: true,
        }
    }

    /// Creates the kind of a field that is not a key.
    pub fn derived(read: impl Fn(&Reader<'_>) -> Option<T> + 'static) -> Self {
        Self {
            read: Box::new(move |reader, _| read(reader)),
            is_key: false,
            ..Self::new("", |_, _| None)
        }
    }

    /// Sets the function that returns the keys of the tables inside.
    pub fn with_keys(self, inner: fn() -> Vec<Key>) -> Self {
        Self { inner, ..self }
    }

    /// Replaces the documented format.
    pub fn format(self, format: impl Into<String>) -> Self {
        Self {
            format: format.into(),
            ..self
        }
    }

    /// Makes the key optional. If it is absent, it has this value.
    pub fn default(self, value: T) -> Self
    where
        T: Clone + Display,
    {
        self.default_as(value.to_string(), value)
    }

    /// Makes the key optional. If it is absent, it has this value, which the documentation describes as `text`.
    pub fn default_as(self, text: impl Into<String>, value: T) -> Self
    where
        T: Clone,
    {
        self.or_else(text, move |_| Some(value.clone()))
    }

    /// Makes the key optional. If it is absent or invalid, the result of `value` is used. The documentation describes
    /// the default as `text`.
    pub fn or_else(
        self,
        text: impl Into<String>,
        value: impl Fn(&Reader<'_>) -> Option<T> + 'static,
    ) -> Self {
        let read = self.read;
        Self {
            default: text.into(),
            read: Box::new(move |reader, key| {
                let found = reader.has(key).then(|| read(reader, key)).flatten();
                found.or_else(|| value(reader))
            }),
            ..self
        }
    }

    /// Makes the key optional. The documentation describes the meaning of its absence as `text`.
    pub fn optional(self, text: impl Into<String>) -> Kind<Option<T>>
    where
        T: Clone,
    {
        self.map(Some).default_as(text, None)
    }

    /// Converts valid values. `convert` reports a value that is not valid, and returns `None`.
    pub fn then<U: 'static>(
        self,
        convert: impl Fn(&Reader<'_>, &'static str, T) -> Option<U> + 'static,
    ) -> Kind<U> {
        let read = self.read;
        Kind {
            format: self.format,
            default: self.default,
            read: Box::new(move |reader, key| convert(reader, key, read(reader, key)?)),
            inner: self.inner,
            is_key: self.is_key,
        }
    }

    pub fn map<U: 'static>(self, convert: impl Fn(T) -> U + 'static) -> Kind<U> {
        self.then(move |_, _, value| Some(convert(value)))
    }

    /// Reports values for which `check` returns an error, which is the predicate of a sentence.
    pub fn check<E: Display>(self, check: impl Fn(&T) -> Result<(), E> + 'static) -> Self {
        self.then(move |reader, key, value| {
            if let Err(error) = check(&value) {
                reader.invalid(key, error);
            }
            Some(value)
        })
    }

    /// Reports values for which `has_property` returns false. `error` is the predicate of a sentence.
    pub fn require(self, error: &'static str, has_property: impl Fn(&T) -> bool + 'static) -> Self {
        self.check(move |value| has_property(value).then_some(()).ok_or(error))
    }

    /// Returns the value of a key, or `None` if it is missing or invalid, after that was reported.
    pub fn read(&self, reader: &Reader<'_>, key: &'static str) -> Option<T> {
        (self.read)(reader, key)
    }

    /// Adds the key of this kind, followed by those of the tables inside, to `keys`.
    pub fn describe(
        self,
        section: &'static str,
        name: &'static str,
        doc: &str,
        keys: &mut Vec<Key>,
    ) {
        if self.is_key {
            keys.push(Key {
                section,
                name,
                format: self.format,
                default: self.default,
                doc: doc.trim().to_owned(),
            });
        }
        keys.extend((self.inner)());
    }
}
