//! The URL of a request to an upstream: its segments are the intended ones, or it is refused.

use std::sync::LazyLock;

use url::Url;
use useradmin::upstream::path::{build, decoded};

/// Stands between two segments of an input.
pub const BETWEEN: char = '\u{1F}';

static BASES: LazyLock<Vec<Url>> = LazyLock::new(|| {
    let bases = [
        "https://account.region.batch.azure.com",
        "https://hmc.example:6794",
        "http://[::1]:8080",
    ];
    let parsed = bases.iter().map(|base| Url::parse(base));
    parsed.collect::<Result<_, _>>().expect("they are URLs")
});

/// Text whose segments are parted by [`BETWEEN`].
pub fn path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let segments: Vec<&str> = text.split(BETWEEN).collect();
    let refusable = segments.iter().any(|s| matches!(*s, "" | "." | ".."));
    for base in BASES.iter() {
        let Ok(url) = build(base, &segments) else {
            assert!(refusable, "refused: {segments:?}");
            continue;
        };
        assert!(!refusable, "built: {url}");
        assert_eq!(decoded(&url).expect("it was built"), segments, "{url}");
        assert_eq!(url.origin(), base.origin());
        assert!(url.query().is_none() && url.fragment().is_none(), "{url}");
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%".contains(&b);
        assert!(url.path().bytes().all(plain), "{url}");
        // Whoever reads it at the other end finds the same.
        let read = Url::parse(url.as_str()).expect("a URL is one");
        assert_eq!(decoded(&read).expect("it was read"), segments, "{url}");
    }
}
