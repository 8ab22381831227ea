//! Unusable URLs are faults of the file, for every key with a URL.

use http::Uri;
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use useradmin::config::urls::{AllowedComponents, parse};

use super::{
    Folder,
    errors::{ACCOUNT, HMC, replace_line},
};

/// URLs without a path that every key rejects, and a part of the message.
#[rustfmt::skip]
const BAD: &[(&str, &str)] = &[
    (r#"https://"a.example""#, "has a `\"`"),
    ("https://'a.example'", "has a `'`"),
    ("https://`a`.example", "has a ``"),
    ("\u{201C}https://a.example\u{201D}", "not ASCII"),
    ("https://${NAME}.example", "placeholder"),
    ("https://$NAME.example", "placeholder"),
    ("https://$name.example", "placeholder"),
    ("https://$(name).example", "placeholder"),
    ("https://{name}.example", "placeholder"),
    ("https://{{ name }}.example", "placeholder"),
    ("https://<name>.example", "placeholder"),
    ("https://%NAME%.example", "placeholder"),
    ("https://%ACE%.example", "placeholder"),
    ("https://__NAME__.example", "placeholder"),
    ("https://[NAME]", "placeholder"),
    ("https://@NAME@.example", "placeholder"),
    ("https://%7BNAME%7D.example", "placeholder"),
    ("'https://a.example'", "has a `'` before its scheme"),
    ("https://a.example'", "has a `'` in its host"),
    ("https://a.example:0443", "begins with 0"),
    ("https://a.example:${PORT}", "placeholder"),
    ("${URL}", "placeholder"),
    ("https://a..example", "empty part"),
    ("https://.a.example", "empty part"),
    ("https://a.example..", "empty part"),
    ("https://.", "host"),
    ("https://", "host"),
    ("https:///a.example", "host"),
    ("https://:443", "host"),
    ("https:a.example", "://"),
    ("https:/a.example", "://"),
    ("https://a.*.example", "not a name"),
    ("https://*", "not a name"),
    ("https://a!b.example", "not a name"),
    ("https://a,b.example", "not a name"),
    ("https://a;b.example", "not a name"),
    ("https://a=b.example", "not a name"),
    ("https://a+b.example", "not a name"),
    ("https://a~b.example", "not a name"),
    ("https://(a).example", "not a name"),
    ("https://a&b.example", "not a name"),
    ("https://-a.example", "not a name"),
    ("https://a-.example", "not a name"),
    ("https://a.example:0", "port 0"),
    ("https://a.example:00", "port 0"),
    ("https://a.example:", "without a port"),
    ("https://a.example:65536", "port"),
    ("https://a.example:-1", "port"),
    ("https://a.example:x", "port"),
    ("https://a.example:443:443", "port"),
    ("https://u:p@a.example", "user"),
    ("https://u@a.example", "user"),
    ("https://@a.example", "user"),
    ("https://https://a.example", "port"),
    ("https://a.example#f", ""),
    ("ftp://a.example", "https"),
    ("ws://a.example", "https"),
    ("file:///etc/passwd", "https"),
    ("unix:/run/a.sock", "https"),
    ("a.example", "not a URL"),
    ("//a.example", "not a URL"),
    ("https", "not a URL"),
    (" https://a.example", "blank"),
    ("https://a.example ", "blank"),
    ("https://a b.example", "blank"),
    ("https://a.exa\\u0009mple", "control"),
    ("https://a.example\\n", "control"),
    ("https://a.exa\\r\\nmple", "control"),
    ("https://a.example\\u007f", "control"),
    ("https:\\\\\\\\a.example", "`\\`"),
    ("https://a.example\\\\b", "`\\`"),
    ("https://a^b.example", "`^`"),
    ("https://a|b.example", "`|`"),
    ("https://b\u{FC}cher.example", "not ASCII"),
    ("https://\u{FF11}27.0.0.1", "not ASCII"),
    ("https://a.example\u{3002}", "not ASCII"),
    ("https://h%6Fst.example", "name"),
    ("https://xn--\u{61}\u{62}c-.example", "name"),
    ("https://0x7f.1", "192.0.2.1"),
    ("https://127.1", "192.0.2.1"),
    ("https://1.2.3", "192.0.2.1"),
    ("https://2130706433", "192.0.2.1"),
    ("https://0177.0.0.1", "192.0.2.1"),
    ("https://192.0.2.1.", "192.0.2.1"),
    ("https://256.1.1.1", "IPv4"),
    ("https://1.2.3.4.5", "IPv4"),
    ("https://a.123", "IPv4"),
    ("https://0.0.0.0", "no host can have"),
    ("https://224.0.0.1", "no host can have"),
    ("https://255.255.255.255", "no host can have"),
    ("https://[::]", "no host can have"),
    ("https://[ff02::1]", "no host can have"),
    ("https://[fe80::1%25eth0]", "IPv6"),
    ("https://[fe80::1%eth0]", "hexadecimal"),
    ("https://[::1", "IPv6"),
    ("https://::1", "host"),
    ("http://a.example", "https"),
    ("http://0x7f.1", ""),
    ("http://localhost.example", "https"),
];

/// URLs that every key accepts.
const GOOD: &[&str] = &[
    "https://acct.region.batch.azure.com",
    "https://acct.region.batch.azure.com.",
    "https://a_b.example",
    "https://A.Example",
    "HTTPS://a.example",
    "https://a",
    "https://a-b.c--d.example:6794",
    "https://1a.example/",
    "https://3com.example",
    "https://xn--bcher-kva.example",
    "https://192.0.2.1:6794",
    "https://[2001:db8::1]:6794",
    "https://a.example:443",
    "https://a.example:65535",
    "http://127.0.0.1:1",
    "http://localhost:1",
    "http://[::1]:1",
];

/// Returns a file with this URL for each key with a URL, and its position.
fn files(url: &str) -> [(String, &'static str); 6] {
    let batch = replace_line(ACCOUNT, 2, &format!("url = \"{url}\""));
    let hmc = replace_line(HMC, 2, &format!("url = \"{url}\""));
    let issuer = "[[jwt_issuers]]\nissuer = \"i\"\naudience = \"a\"";
    [
        (batch, "2:7: `url` "),
        (hmc, "2:7: `url` "),
        (
            format!("{ACCOUNT}authority = \"{url}\""),
            "8:13: `authority` ",
        ),
        (
            format!("{HMC}{issuer}\njwks_url = \"{url}\""),
            "8:12: `jwks_url` ",
        ),
        (
            format!("{HMC}[tracing]\notlp_endpoint = \"{url}\""),
            "6:17: `otlp_endpoint` ",
        ),
        (
            format!("{HMC}[tracing]\ninsecure = false\notlp_endpoint = \"{url}\""),
            "7:17: `otlp_endpoint` ",
        ),
    ]
}

#[test]
fn unusable_url_is_rejected_for_every_key() {
    let folder = Folder::new();
    let long = "a".repeat(64);
    let label = format!("https://{long}.example");
    let labels = format!("https://{}example", "a1234567890.".repeat(22));
    let path = format!("https://a.example/{}", "x".repeat(2_100));
    let more = [
        (label.as_str(), "more than 63"),
        (&labels, "more than 253"),
        (&path, ""),
    ];
    for (url, word) in BAD.iter().copied().chain(more) {
        // The table already contains some TOML escapes.
        let url = url.replace('"', "\\\"");
        for (text, position) in files(&url) {
            let errors = folder.errors(&text);
            assert_eq!(errors.len(), 1, "{url}: {errors:?}");
            let is_expected = errors[0].starts_with(position) && errors[0].contains(word);
            assert!(is_expected, "{url}: {errors:?}");
        }
    }
}

#[test]
fn usable_url_is_accepted_for_every_key() {
    let folder = Folder::new();
    let longest = format!("https://{}.example", "a".repeat(63));
    for url in GOOD.iter().copied().chain([longest.as_str()]) {
        for (text, _) in files(url) {
            assert_eq!(folder.errors(&text), [""; 0], "{url}");
        }
    }
}

/// Only URLs of key sets may have a path and a query.
#[test]
fn resource_url_may_have_path_and_query() {
    for (resource, is_expected) in [
        ("/keys?v=1&x=%20", true),
        ("/tenant/discovery/v2.0/keys", true),
        ("/.well-known/jwks.json?$filter=a", true),
        ("?x", true),
        ("/keys#f", false),
        ("/{tenant}/keys", false),
        ("/${TENANT}/keys", false),
        ("/$TENANT/keys", false),
        ("/%TENANT%/keys", false),
        ("/<tenant>/keys", false),
        ("/keys\"", false),
        ("/keys'", true),
        ("/keys('abc')", true),
        ("/a;b=1,2/(x)!*+&~@:", true),
        ("/a__b__c/user@corp/keys", true),
        ("/%2F%20x", true),
        ("/$tenant/keys", false),
        ("/v$VERSION/keys", false),
        ("/$%7BTENANT%7D/keys", false),
        ("/%24%7BTENANT%7D/keys", false),
        ("/%24TENANT/keys", false),
        ("/%7btenant%7d/keys", false),
        ("/%3Ctenant%3E/keys", false),
        ("/[tenant]/keys", false),
        ("/%5Btenant%5D/keys", false),
        ("/a]/keys", false),
        ("/keys?a[]=1", false),
        ("/@TENANT@/keys", false),
        ("/@tenant@/keys", false),
        ("/%40TENANT%40/keys", false),
        ("/v1-@TENANT@-x/keys", false),
        ("/__TENANT__/keys", false),
        ("/keys?t=__tenant__", false),
        ("/keys?t=$TENANT", false),
        ("/../keys", false),
        ("/a/../keys", false),
        ("/./keys", false),
        ("/keys/.", false),
        ("/keys/..", false),
        ("/%2e%2E/keys", false),
        ("/keys?x='a'", false),
        ("/key set", false),
        ("/a\\b", false),
        ("/b\u{FC}cher", false),
    ] {
        let url = format!("https://a.example{resource}");
        assert_eq!(
            parse(&url, AllowedComponents::Resource, false).is_ok(),
            is_expected,
            "{url}"
        );
        assert!(
            parse(&url, AllowedComponents::Origin, false).is_err(),
            "{url}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// hyper and TLS use accepted URLs unchanged.
    #[test]
    fn accepted_url_can_be_requested(
        scheme in "https?://|HTTPS://|https:/?/?",
        host in "[a-zA-Z0-9._-]{1,20}|[0-9a-fx.]{1,16}|\\[[0-9a-f:.]{2,20}\\]|\\PC{0,12}",
        port in "|:[0-9]{0,6}|:\\PC{0,3}",
        resource in "|/|[/?#][a-zA-Z0-9/?&=%$#.{}\\[\\]*'!-]{0,20}|\\PC{0,12}",
        resource_allowed in any::<bool>(),
        insecure in any::<bool>(),
    ) {
        let text = format!("{scheme}{host}{port}{resource}");
        let shape = if resource_allowed { AllowedComponents::Resource } else { AllowedComponents::Origin };
        if let Ok(url) = parse(&text, shape, insecure) {
            let uri: Uri = url.as_str().parse().unwrap();
            prop_assert_eq!(uri.host(), url.host_str());
            // Otherwise the resource may be read as the host, as in `https:/` + `/a`.
            let has_host = scheme.ends_with("//") && !host.is_empty();
            if has_host && resource.starts_with(['/', '?']) {
                prop_assert!(url.as_str().ends_with(resource.as_str()), "{}", text);
            }
            let name = url.host_str().unwrap();
            prop_assert!(ServerName::try_from(name.trim_matches(['[', ']'])).is_ok(), "{}", text);
            prop_assert!(url.port() != Some(0) && url.username().is_empty());
        }
    }
}
