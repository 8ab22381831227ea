//! Checks of URLs and identifiers. URL parsers correct many mistakes silently. Therefore the parsed URL must equal
//! the text in the file, apart from the case of scheme and host, a default port, a `/` at the end, and the notation
//! of an IPv6 address.

use std::net::{IpAddr, Ipv4Addr};

use http::Uri;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use url::{Host, Position, Url};

use crate::names;

/// Components of a URL that are allowed after the authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllowedComponents {
    /// No components.
    Origin,
    /// A path and a query.
    Resource,
}

const MAX_BYTES: usize = 2_048;
const MAX_LABEL_BYTES: usize = 63;
const MAX_NAME_BYTES: usize = 253;

/// Characters that occur in placeholders, but in no URI or DNS name.
const PLACEHOLDER_DELIMITERS: [char; 4] = ['{', '}', '<', '>'];
const PLACEHOLDER: &str = "holds a placeholder, such as `${NAME}`, that was not replaced";

/// Returns the URL if requests can be sent to it. With `insecure`, http is allowed for all hosts. The error never
/// quotes the text, which may contain a secret.
pub fn parse(text: &str, shape: AllowedComponents, insecure: bool) -> Result<Url, String> {
    check_placeholders(text)?;
    check_characters(text)?;
    reject_if(text.starts_with('\''), "has a `'` before its scheme")?;
    if text.len() > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if insecure || is_loopback(&url) => {}
        "http" => return Err("must be https; http is for loopback hosts only".into()),
        _ => return Err("must be an https URL".into()),
    }
    let rest = text.get(url.scheme().len()..).unwrap_or_default();
    let Some(rest) = rest.strip_prefix("://") else {
        return Err("must have `://` after the scheme".into());
    };
    let (authority, resource) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    check_authority(authority, &url)?;
    match shape {
        AllowedComponents::Origin => {
            let has_resource = !matches!(resource, "" | "/");
            reject_if(has_resource, "must have no path, query or fragment")?;
        }
        AllowedComponents::Resource => {
            reject_if(url.fragment().is_some(), "must have no fragment")?;
        }
    }
    let has_brackets = resource.contains(['[', ']']);
    reject_if(has_brackets, "has a `[` or `]` outside of an IPv6 address")?;
    let used = &url[Position::BeforePath..];
    let is_changed = used != resource && used.strip_prefix('/') != Some(resource);
    reject_if(
        is_changed,
        "would be changed before it is used: it must have no `.` or `..` between slashes, and `%27` instead of `'` in a query",
    )?;
    // The URL must also be valid for the type that HTTP clients use.
    let uri = Uri::try_from(url.as_str()).map_err(|error| format!("cannot be used: {error}"))?;
    reject_if(
        uri.host() != url.host_str(),
        "has a host that cannot be used",
    )?;
    Ok(url)
}

fn reject_if(is_invalid: bool, error: &str) -> Result<(), String> {
    if is_invalid {
        return Err(error.to_owned());
    }
    Ok(())
}

/// Checks that a text contains no placeholder and, if it is a URL, only characters of URLs.
pub(super) fn check_identifier(text: &str) -> Result<(), String> {
    check_placeholders(text)?;
    check_characters_of_url(text)
}

/// Checks the name in a client certificate. URIs in certificates can contain some texts that look like placeholders,
/// so fewer kinds of placeholders are rejected in them.
pub(super) fn check_certificate_name(name: &str) -> Result<(), String> {
    if !name.contains(':') {
        return check_identifier(name);
    }
    reject_if(name.contains(PLACEHOLDER_DELIMITERS), PLACEHOLDER)?;
    check_characters_of_url(name)
}

/// Checks a text of almost any characters, such as the subject of a token, for the placeholders `${` and `{{`.
pub(super) fn check_template(text: &str) -> Result<(), String> {
    reject_if(text.contains("${") || text.contains("{{"), PLACEHOLDER)
}

/// Returns an error if the text contains one of the usual placeholders of templates, also percent-encoded.
fn check_placeholders(text: &str) -> Result<(), String> {
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    reject_if(
        has_placeholder(text) || has_placeholder(&decoded),
        PLACEHOLDER,
    )
}

fn check_characters_of_url(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return check_characters(text);
    }
    Ok(())
}

/// Returns whether a text contains a placeholder such as `{NAME}`, `<NAME>`, `[NAME]`, `$NAME`, `$(NAME)`, `@NAME@`,
/// `__NAME__` or `%NAME%`.
fn has_placeholder(text: &str) -> bool {
    let brackets = text.split('[').skip(1);
    let mut brackets = brackets.filter_map(|rest| Some(rest.split_once(']')?.0));
    // Text in brackets with a colon is an IPv6 address.
    if text.contains(PLACEHOLDER_DELIMITERS) || brackets.any(|name| !name.contains(':')) {
        return true;
    }
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let names_variable =
        |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic() || "_({".contains(c));
    // In a query, OData has options such as `$filter`, so lower-case names are allowed there.
    let names_upper =
        |rest: &str| names_variable(rest) && !rest.starts_with(|c: char| c.is_ascii_lowercase());
    if path.split('$').skip(1).any(names_variable) || query.split('$').skip(1).any(names_upper) {
        return true;
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_@%".contains(c);
    text.split(|c| !is_part(c)).any(|part| {
        ["@", "__", "%"].into_iter().any(|mark| {
            let name = part
                .strip_prefix(mark)
                .and_then(|rest| rest.strip_suffix(mark));
            name.is_some_and(|name| !name.is_empty())
        })
    })
}

/// Checks that a text has only characters that RFC 3986 allows in URLs.
fn check_characters(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    for (index, c) in text.char_indices() {
        match c {
            '"' | '`' | '\\' | '^' | '|' => {
                return Err(format!("has a `{c}`, which no URL can have"));
            }
            ' ' => return Err("has a blank, which no URL can have".into()),
            '%' if !at(index + 1).is_ascii_hexdigit() || !at(index + 2).is_ascii_hexdigit() => {
                return Err("has a `%` that two hexadecimal digits do not follow".into());
            }
            c if c.is_control() => return Err("has a control character".into()),
            c if !c.is_ascii() => {
                let remedy = "write a host as `xn--...` and percent-encode the rest";
                return Err(format!("has a character that is not ASCII; {remedy}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks the text of an authority, which must have the form `HOST` or `HOST:PORT`.
fn check_authority(authority: &str, url: &Url) -> Result<(), String> {
    reject_if(
        authority.contains('@'),
        "must not hold a user or a password",
    )?;
    reject_if(authority.contains('\''), "has a `'` in its host")?;
    // A colon within brackets belongs to an IPv6 address, not to the port.
    let port_at = authority
        .rfind(':')
        .filter(|at| *at > authority.rfind(']').unwrap_or(0));
    let (host, port) = authority.split_at(port_at.unwrap_or(authority.len()));
    reject_if(port == ":", "has a `:` without a port")?;
    reject_if(
        url.port() == Some(0),
        "has port 0, which nothing can listen on",
    )?;
    reject_if(port.starts_with(":0"), "has a port that begins with 0")?;
    match url.host() {
        None => Err("has no host".into()),
        Some(Host::Domain(name)) => check_name(host, name),
        Some(Host::Ipv4(address)) if address.to_string() == host => check_address(address.into()),
        Some(Host::Ipv4(_)) => Err("has an IPv4 address that is not of the form 192.0.2.1".into()),
        Some(Host::Ipv6(address)) => check_address(address.into()),
    }
}

/// Checks the name of a host. `text` is the name in the file, and `name` is the name that the parser returned.
fn check_name(text: &str, name: &str) -> Result<(), String> {
    let whole = text.strip_suffix('.').unwrap_or(text);
    reject_if(whole.is_empty(), "has no host")?;
    if whole.len() > MAX_NAME_BYTES {
        return Err(format!(
            "has a host of more than {MAX_NAME_BYTES} characters"
        ));
    }
    for label in whole.split('.') {
        reject_if(
            label.is_empty(),
            "has a host with an empty part between dots",
        )?;
        if label.len() > MAX_LABEL_BYTES {
            return Err(format!(
                "has a host with a part of more than {MAX_LABEL_BYTES} characters"
            ));
        }
        let has_valid_edges = label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.ends_with(|c: char| c.is_ascii_alphanumeric());
        reject_if(
            !has_valid_edges || !names::is_alphanumeric_or(label, b"-_"),
            "has a host that is not a name: its parts consist of letters, digits, `-` and `_`, and begin and end with a letter or digit",
        )?;
    }
    // The name must also be valid for the type that TLS clients use.
    let is_name = ServerName::try_from(name).is_ok() && name.eq_ignore_ascii_case(text);
    reject_if(!is_name, "has a host that is not a name")
}

/// Checks that an address can belong to a single host.
fn check_address(address: IpAddr) -> Result<(), String> {
    let address = address.to_canonical();
    let is_broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
    let is_shared = address.is_unspecified() || address.is_multicast() || is_broadcast;
    reject_if(is_shared, "has an address that no host can have")
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// Returns whether an invalid URL may be shown in a message. A user, a path, a query, or a text after a colon that is
/// not a port may be a secret.
pub(super) fn may_be_shown(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let port_fits = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    matches!(scheme, "http" | "https") && port_fits && names::is_alphanumeric_or(host, b".-_")
}
