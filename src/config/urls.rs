//! Reads URLs. Parsers repair much of what operators write by mistake, so a URL must also stand in the file exactly as it
//! is used later.

use std::net::IpAddr;

use http::Uri;
use rustls::pki_types::ServerName;
use url::{Host, Url};

use super::{fault::Faults, section::Section};

/// The parts of a URL besides scheme, host and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Origin,
    /// A path and a query.
    Resource,
}

/// Longest URL in bytes.
const MAX_BYTES: usize = 2_048;
const MAX_LABEL_BYTES: usize = 63;
const MAX_NAME_BYTES: usize = 253;

/// Reads the URL of a required key. `insecure` allows http for every host.
pub fn url(
    section: &Section,
    key: &str,
    shape: Shape,
    insecure: bool,
    faults: &mut Faults,
) -> Option<Url> {
    let text = section.required(key, faults)?;
    if is_harmless(&text.value) {
        faults.reveal(&text.span);
    }
    match parse(&text.value, shape, insecure) {
        Ok(url) => Some(url),
        Err(fault) => {
            faults.add(text.span, format!("`{key}` {fault}"));
            None
        }
    }
}

/// Returns the URL if requests can be sent to it. The fault never quotes the text, which may hold a secret.
pub fn parse(text: &str, shape: Shape, insecure: bool) -> Result<Url, String> {
    check_characters(text)?;
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
    let Some(rest) = text.get(url.scheme().len()..) else {
        return Err("must be an https URL".into());
    };
    let Some(rest) = rest.strip_prefix("://") else {
        return Err("must have `://` after the scheme".into());
    };
    let (authority, resource) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    check_authority(authority, &url)?;
    match shape {
        Shape::Origin if !matches!(resource, "" | "/") => {
            return Err("must have no path, query or fragment".into());
        }
        Shape::Resource if url.fragment().is_some() => {
            return Err("must have no fragment".into());
        }
        _ => {}
    }
    // The type that HTTP clients use.
    let uri = Uri::try_from(url.as_str()).map_err(|error| format!("cannot be used: {error}"))?;
    if uri.host() != url.host_str() {
        return Err("has a host that cannot be used".into());
    }
    Ok(url)
}

/// Checks a text that is compared or sent, such as an issuer: if it is a URL, it must consist of a URL's characters.
pub fn check_identifier(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return check_characters(text);
    }
    Ok(())
}

/// Checks for the characters of RFC 3986, without those of placeholders and quotes.
fn check_characters(text: &str) -> Result<(), String> {
    let bytes = text.as_bytes();
    let at = |index: usize| bytes.get(index).copied().unwrap_or_default();
    for (index, c) in text.char_indices() {
        let next = at(index + 1);
        let is_placeholder = match c {
            '{' | '}' | '<' | '>' => true,
            '$' => next.is_ascii_uppercase() || matches!(next, b'_' | b'('),
            _ => false,
        };
        if is_placeholder {
            return Err("holds a placeholder, such as `${NAME}`, that was not replaced".into());
        }
        match c {
            '"' | '\'' | '`' | '\\' | '^' | '|' => {
                return Err(format!("has a `{c}`, which no URL can have"));
            }
            ' ' => return Err("has a blank, which no URL can have".into()),
            '%' if !next.is_ascii_hexdigit() || !at(index + 2).is_ascii_hexdigit() => {
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

/// Checks `HOST` or `HOST:PORT`.
fn check_authority(authority: &str, url: &Url) -> Result<(), String> {
    if authority.contains('@') {
        return Err("must not hold a user or a password".into());
    }
    // The colons of an IPv6 address are within its brackets.
    let port_at = authority
        .rfind(':')
        .filter(|at| *at > authority.rfind(']').unwrap_or(0));
    let (host, port) = authority.split_at(port_at.unwrap_or(authority.len()));
    if port == ":" {
        return Err("has a `:` without a port".into());
    }
    if url.port() == Some(0) {
        return Err("has port 0, which nothing can listen on".into());
    }
    match url.host() {
        None => Err("has no host".into()),
        Some(Host::Domain(name)) => check_name(host, name),
        Some(Host::Ipv4(address)) if address.to_string() == host => check_address(address.into()),
        Some(Host::Ipv4(_)) => Err("has an IPv4 address that is not of the form 192.0.2.1".into()),
        Some(Host::Ipv6(address)) => check_address(address.into()),
    }
}

/// Checks the name of a host: as it stands in the file, and as the parser reads it.
fn check_name(text: &str, name: &str) -> Result<(), String> {
    let whole = text.strip_suffix('.').unwrap_or(text);
    if whole.is_empty() {
        return Err("has no host".into());
    }
    if whole.len() > MAX_NAME_BYTES {
        return Err(format!(
            "has a host of more than {MAX_NAME_BYTES} characters"
        ));
    }
    for label in whole.split('.') {
        let bytes = label.as_bytes();
        let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if label.is_empty() {
            return Err("has a host with an empty part between dots".into());
        }
        if label.len() > MAX_LABEL_BYTES {
            return Err(format!(
                "has a host with a part of more than {MAX_LABEL_BYTES} characters"
            ));
        }
        if !is_edge(bytes.first()) || !is_edge(bytes.last()) || !bytes.iter().all(fits) {
            let rule = "letters, digits, `-` and `_`, and begin and end with a letter or digit";
            return Err(format!(
                "has a host that is not a name: its parts consist of {rule}"
            ));
        }
    }
    // The type that TLS uses.
    let certifiable = ServerName::try_from(name).is_ok();
    if !certifiable || !name.eq_ignore_ascii_case(text) {
        return Err("has a host that is not a name".into());
    }
    Ok(())
}

/// Checks that an address can be that of one host.
fn check_address(address: IpAddr) -> Result<(), String> {
    let address = address.to_canonical();
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || is_broadcast {
        return Err("has an address that no host can have".into());
    }
    Ok(())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// Whether a faulty URL may be shown. A user, a path, a query or a colon that precedes no port may be a secret.
fn is_harmless(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = host.rsplit_once(':').unwrap_or((host, ""));
    let port_fits = port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
    matches!(scheme, "http" | "https") && port_fits && !host.contains(['@', '/', '?', '#', ':'])
}
