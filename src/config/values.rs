//! Functions that return the kinds of values that keys can have, for the rows of [`super::table::table!`].

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf, time::Duration};

use rustls::pki_types::CertificateDer;
use toml::{Spanned, de::DeValue};
use url::Url;

use super::{
    files, pem,
    reader::Reader,
    secret::{SecretEncoding, SecretSource},
    table::{Kind, Table},
    urls::{self, AllowedComponents},
};
use crate::{client_tls::Trust, file_fingerprint::FileFingerprint, pattern::Pattern};

pub fn flag() -> Kind<bool> {
    Kind::new("true or false", |reader, key| {
        reader.reveal_unless_string(key);
        reader.typed(key, "true or false", DeValue::as_bool)
    })
}

pub fn number(range: RangeInclusive<u32>) -> Kind<u32> {
    let format = format!("{}-{}", range.start(), range.end());
    let wanted = format!("a whole number from {} to {}", range.start(), range.end());
    Kind::new(format, move |reader, key| {
        reader.reveal_unless_string(key);
        let number = reader.typed(key, &wanted, DeValue::as_integer)?;
        let number = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            reader.invalid(key, format!("must be {wanted}"));
        }
        number
    })
}

pub fn bytes(range: RangeInclusive<u32>) -> Kind<u32> {
    with_unit("bytes", range)
}

pub fn seconds(range: RangeInclusive<u32>) -> Kind<u32> {
    with_unit("seconds", range)
}

fn with_unit(unit: &str, range: RangeInclusive<u32>) -> Kind<u32> {
    let format = format!("{unit}, {}-{}", range.start(), range.end());
    number(range).format(format)
}

/// Converts the value of a key of the kind [`seconds`] to a duration.
pub fn duration(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// A number from 0 to 1.
pub fn ratio() -> Kind<f64> {
    Kind::new("0.0-1.0", |reader, key| {
        reader.reveal_unless_string(key);
        let wanted = "a number from 0.0 to 1.0";
        let text = reader.typed(key, wanted, |value| match value {
            DeValue::Float(number) => Some(number.as_str()),
            DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
            _ => None,
        })?;
        let number = text.parse().ok();
        let number = number.filter(|number| (0.0..=1.0).contains(number));
        if number.is_none() {
            reader.invalid(key, format!("must be {wanted}"));
        }
        number
    })
}

pub fn any_text() -> Kind<String> {
    Kind::new("text", |reader, key| {
        let text = reader.typed(key, "a string", DeValue::as_str)?;
        Some(text.to_owned())
    })
}

/// A string that is not empty. An empty string yields no value, so that no further check reports it.
pub fn text() -> Kind<String> {
    any_text().then(|reader, key, text| {
        if text.is_empty() {
            reader.invalid(key, "must not be empty");
        }
        Some(text).filter(|text| !text.is_empty())
    })
}

/// A text that is compared with others or sent, such as an issuer.
pub fn identifier() -> Kind<String> {
    text().check(|text| urls::check_identifier(text))
}

/// One of these names.
pub fn choice(names: Vec<&'static str>) -> Kind<&'static str> {
    let format = match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        names => names.concat(),
    };
    text().format(format).then(move |reader, key, text| {
        let known = names.iter().find(|name| **name == text).copied();
        match known {
            Some(_) => reader.reveal_value(key),
            None => reader.invalid(key, format!("must be one of {}", names.join(", "))),
        }
        known
    })
}

/// A list of strings, each with its position.
pub fn texts() -> Kind<Vec<Spanned<String>>> {
    Kind::new("list of text", |reader, key| {
        reader.list(key, "strings", |item| {
            let text = item.get_ref().as_str()?;
            Some(Spanned::new(item.span(), text.to_owned()))
        })
    })
}

/// A list of patterns, which `new` creates from strings.
pub fn patterns(new: fn(&str) -> Pattern) -> Kind<Vec<Pattern>> {
    texts()
        .format("list of patterns")
        .then(move |reader, key, texts| {
            for text in &texts {
                if let Err(error) = urls::check_template(text.get_ref()) {
                    reader.error(text.span(), format!("`{key}` {error}"));
                }
            }
            Some(texts.iter().map(|text| new(text.get_ref())).collect())
        })
}

/// A list of at least one pattern. The patterns are case-sensitive.
pub fn non_empty_patterns() -> Kind<Vec<Pattern>> {
    patterns(Pattern::exact).require("must not be empty", |patterns| !patterns.is_empty())
}

/// Adds a warning for each pattern that cannot match any `noun`, because `can_match` returns false for it.
pub fn matching(
    patterns: Kind<Vec<Pattern>>,
    noun: &'static str,
    can_match: fn(&str) -> bool,
) -> Kind<Vec<Pattern>> {
    patterns.then(move |reader, key, patterns| {
        for text in texts().read(reader, key).unwrap_or_default() {
            if !can_match(text.get_ref()) {
                let warning = format!("`{key}` has a pattern that no {noun} can match");
                reader.warn_at(text.span(), &warning);
            }
        }
        Some(patterns)
    })
}

pub fn address() -> Kind<SocketAddr> {
    text()
        .format("IP address and port")
        .then(|reader, key, text| parse_address(reader, key, &text))
}

/// An IP address with a port, or an empty text.
pub fn optional_address() -> Kind<Option<SocketAddr>> {
    let format = "IP address and port, or empty";
    any_text().format(format).then(|reader, key, text| {
        if text.is_empty() {
            return Some(None);
        }
        parse_address(reader, key, &text).map(Some)
    })
}

fn parse_address(reader: &Reader<'_>, key: &str, text: &str) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_some() {
        reader.reveal_value(key);
    } else {
        let error = "must be an IP address and a port, such as 127.0.0.1:50051";
        reader.invalid(key, error);
    }
    address
}

/// An https URL without path. http is allowed for loopback hosts only.
pub fn origin() -> Kind<Url> {
    url("https URL without path", AllowedComponents::Origin, |_| {
        false
    })
}

/// An https URL of this shape. http is allowed for loopback hosts, and for all hosts if `insecure` returns true.
pub fn url(
    format: &str,
    shape: AllowedComponents,
    insecure: impl Fn(&Reader<'_>) -> bool + 'static,
) -> Kind<Url> {
    text().format(format).then(move |reader, key, text| {
        if urls::may_be_shown(&text) {
            reader.reveal_value(key);
        }
        let url = urls::parse(&text, shape, insecure(reader));
        url.map_err(|error| reader.invalid(key, error)).ok()
    })
}

/// The path of a file, relative to the folder of the configuration file. The file is watched for changes.
pub fn path() -> Kind<PathBuf> {
    text().format("path").then(|reader, key, text| {
        let path = reader.folder().join(text);
        let fingerprint = FileFingerprint::of(&path);
        reader
            .source()
            .fingerprints
            .entry(path.clone())
            .or_insert(fingerprint);
        if files::exists(&path) {
            reader.reveal_value(key);
        }
        Some(path)
    })
}

/// The path of a file with certificates or keys.
pub fn pem_path() -> Kind<PathBuf> {
    path().format("path of a PEM file")
}

/// The file of a secret, which messages call `noun`. The file is watched for changes. It is read at once, so that a
/// wrong path is reported before a call needs the secret.
pub fn secret(noun: &'static str, encoding: SecretEncoding) -> Kind<SecretSource> {
    path().then(move |reader, key, path| {
        let (shown, exposure) = (files::display_path(&path), files::exposure(&path));
        if let Some(warning) = exposure {
            reader.warn(key, format!(" {warning}"));
        }
        let source = SecretSource::from_file(path, encoding);
        match source.check() {
            Err(error) => {
                reader.invalid_content(key, format!("cannot be used: {error}{shown}"));
            }
            // Blanks around base64 are dropped, and quotes are not valid in it.
            Ok(()) if encoding == SecretEncoding::Base64 => {}
            Ok(()) => {
                let secret = source.last_valid();
                let likely_mistake =
                    secret.and_then(|secret| files::likely_mistake(secret.expose()));
                if let Some(likely_mistake) = likely_mistake {
                    reader.warn(key, format!(": the {noun} {likely_mistake}{shown}"));
                }
            }
        }
        reader.source().secrets.push(source.clone());
        Some(source)
    })
}

/// Certificates with which servers are verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    pub file: Option<PathBuf>,
    /// Certificates in the file when it was read.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// A file of certificate authorities, which is optional.
pub fn ca_file(trust: Trust) -> Kind<Roots> {
    let absent = match trust {
        Trust::AddToSystem => "none",
        Trust::ReplaceSystem => "the system's authorities",
    };
    let roots = pem_path().then(move |reader, key, path| {
        let certificates = match pem::roots(&path, trust) {
            Ok((certificates, warnings)) => {
                for warning in warnings {
                    reader.warn(key, format!(" {warning}"));
                }
                certificates
            }
            Err(error) => {
                let folder = reader.folder_of_missing_file(key);
                reader.invalid(key, format!("{error}{folder}"));
                Vec::new()
            }
        };
        reader.source().ca_files.push(path.clone());
        Some(Roots {
            file: Some(path),
            certificates,
        })
    });
    roots.default_as(absent, Roots::default())
}

pub fn subtable<K: Table + 'static>() -> Kind<K> {
    let read = |reader: &Reader<'_>, key: &'static str| {
        let table = reader.typed(key, "a table", DeValue::as_table)?;
        K::read(&reader.inner(K::NAME, table, reader.key_span(key)))
    };
    Kind::new("table", read).with_keys(K::keys)
}

/// A table whose keys all have defaults, which are used if the table is absent.
pub fn subtable_or_defaults<K: Table + 'static>() -> Kind<K> {
    subtable().or_else("all defaults", |reader| K::read(&reader.absent()))
}

/// A list of tables, such as `[[callers]]`. Tables with errors are left out.
pub fn subtables<K: Table + 'static>() -> Kind<Vec<K>> {
    let read = |reader: &Reader<'_>, key: &'static str| {
        let list = reader.list(key, "tables", |item| {
            let table = item.get_ref().as_table()?;
            Some(K::read(&reader.inner(K::NAME, table, item.span())))
        })?;
        Some(list.into_iter().flatten().collect())
    };
    Kind::new("list of tables", read).with_keys(K::keys)
}

/// The keys of another declaration, which are read from the same table.
pub fn flattened<K: Table + 'static>() -> Kind<K> {
    Kind::derived(|reader| K::read(reader)).with_keys(K::keys)
}
