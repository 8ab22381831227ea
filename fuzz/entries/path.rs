//! The path of a request to an upstream: it has exactly the intended segments, or it is rejected.

use std::sync::LazyLock;

use url::Url;
use useradmin::upstream::path::{build, is};

/// Separator between two segments of an input.
pub const SEPARATOR: char = '\u{1F}';

static BASES: LazyLock<Vec<Url>> = LazyLock::new(|| {
    let bases = [
        "https://account.region.batch.azure.com",
        "https://hmc.example:6794",
        "http://[::1]:8080",
    ];
    let parsed = bases.iter().map(|base| Url::parse(base));
    parsed.collect::<Result<_, _>>().expect("they are URLs")
});

/// Checks text whose segments are separated by [`SEPARATOR`].
pub fn path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let segments: Vec<&str> = text.split(SEPARATOR).collect();
    let must_be_rejected = segments.iter().any(|s| matches!(*s, "" | "." | ".."));
    let Ok(built) = build(&segments, "") else {
        assert!(must_be_rejected, "refused: {segments:?}");
        return;
    };
    assert!(!must_be_rejected, "built: {built}");
    assert!(is(built.path(), &segments), "{built}");
    assert!(built.query().is_none(), "{built}");
    let is_allowed_byte = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%".contains(&b);
    assert!(built.path().bytes().all(is_allowed_byte), "{built}");
    // The recipient parses the same path.
    for base in BASES.iter() {
        let read = base.join(built.as_str()).expect("a path is one");
        assert_eq!(read.origin(), base.origin());
        assert_eq!(read.path(), built.path(), "{read}");
        let found = read.path_segments().expect("it has a path").map(|segment| {
            let text = percent_encoding::percent_decode_str(segment).decode_utf8();
            text.expect("it is text").into_owned()
        });
        assert!(found.eq(segments.iter().copied()), "{read}");
    }
}
