//! Canaries: every secret that the tests hand out begins with the same odd word, and wherever that word turns up
//! outside the wire, the whole suite ends. A leak cannot be overlooked, whichever test it happens in.

use std::{
    collections::BTreeSet,
    fmt::{self, Write as _},
    fs,
    io::{self, Write as _},
    path::Path,
    sync::{LazyLock, Mutex, Once},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use tonic::Status;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

/// How every canary begins. Letters alone, so that no escaping and no percent-encoding changes it.
const WORD: &str = "kanari";

pub const CLIENT_SECRET: &str = "kanari-secret-8Q~+&=%20/1";
pub const SHARED_KEY: &str = "kanari-key-of-the-account";
pub const PASSWORD: &str = "kanari-password-1";
pub const SESSION: &str = "kanari-session-";
pub const TOKEN: &str = "kanari-token-";
pub const CALLERS_TOKEN: &str = "kanari-bearer-of-a-caller";

/// What a canary may begin with, and what it is then.
const NAMES: [(&str, &str); 7] = [
    ("kanari-secret", "the client secret"),
    ("kanari-key", "the shared key"),
    ("kanari-password", "the HMC's password"),
    ("kanari-session", "a session ID"),
    ("kanari-token", "an access token"),
    ("kanari-assertion", "the token of a workload"),
    ("kanari-bearer", "the token of a caller"),
];

/// The word as it is, in base64 wherever it may begin there, and as a list of bytes.
fn forms(word: &str) -> Vec<String> {
    let in_base64 = (0..3).map(|before| {
        let mut bytes = vec![0; before];
        bytes.extend_from_slice(word.as_bytes());
        let (first, end) = ((before * 8).div_ceil(6), bytes.len() * 8 / 6);
        BASE64_STANDARD.encode(&bytes)[first..end].to_owned()
    });
    let list = format!("{:?}", word.as_bytes());
    let list = list.trim_matches(['[', ']']).to_owned();
    [word.to_owned(), list]
        .into_iter()
        .chain(in_base64)
        .collect()
}

/// The name of a canary that the text holds.
pub fn find(text: &str) -> Option<&'static str> {
    static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| forms(WORD));
    let holds = |form: &String| text.contains(form.as_str());
    if !WORDS.iter().any(holds) {
        return None;
    }
    let named = NAMES.iter().find(|(word, _)| forms(word).iter().any(holds));
    Some(named.map_or("a secret", |(_, name)| name))
}

/// Ends the process when the text holds a canary, and tells its name and its place, but not the text.
pub fn check(place: impl fmt::Display, text: &str) {
    if let Some(name) = find(text) {
        // Not with a macro: what those print is lost with the process.
        let _ = writeln!(io::stderr(), "A CANARY: {name} stands in {place}");
        std::process::abort();
    }
}

/// Nothing that leaves with a status holds a canary.
pub fn check_status(status: &Status) {
    let details = String::from_utf8_lossy(status.details());
    let metadata = status.metadata();
    check(
        "a status",
        &format!("{status:?} {} {metadata:?} {details}", status.message()),
    );
}

/// No file in this folder with this name holds a canary. Pipes and devices are left out: they may have no end.
pub fn check_file(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        let bytes = fs::read(path).unwrap_or_default();
        check(path.display(), &String::from_utf8_lossy(&bytes));
    }
}

/// Hears every span and every event of every crate, at every level.
pub struct Ear {
    /// Is told where, and what the text is.
    pub tell: fn(&Metadata<'_>, &str),
}

/// The first parts of the targets that have been heard.
static HEARD: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

pub fn heard() -> BTreeSet<&'static str> {
    HEARD.lock().unwrap().clone()
}

impl Ear {
    fn listen(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Text)) {
        let mut text = Text(String::new());
        record(&mut text);
        (self.tell)(metadata, &text.0);
    }
}

impl Subscriber for Ear {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let target = metadata.target();
        let root = target.split("::").next().unwrap_or(target);
        HEARD.lock().unwrap().insert(root);
        Interest::always()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.listen(span.metadata(), |text| span.record(text));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut text = Text(String::new());
        values.record(&mut text);
        check("a span", &text.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.listen(event.metadata(), |text| event.record(text));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// All values of an event.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, _: &Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, "{value:?} ");
    }

    fn record_str(&mut self, _: &Field, value: &str) {
        self.0.push_str(value);
        self.0.push(' ');
    }
}

/// From now on, whatever this process logs is heard, and so is every panic that is not a test's own: what a failed
/// assertion compares may well be a secret.
pub fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ear = Ear {
            tell: |metadata, text| check(metadata.target(), text),
        };
        tracing::subscriber::set_global_default(ear).unwrap();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let file = info.location().map_or("", |place| place.file());
            let of_a_test = ["tests/", "crates/useradmin-testkit/"];
            if !of_a_test.iter().any(|folder| file.starts_with(folder)) {
                check(file, info.payload_as_str().unwrap_or_default());
            }
            before(info);
        }));
    });
}
