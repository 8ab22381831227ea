//! Canaries: every secret that the tests use begins with the same unusual word. If this word appears in a log, a status
//! or a file, the test process is aborted, so that no test can overlook a leak.

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

/// The prefix of every canary. The spelling is deliberate. It consists of letters only, so that neither escaping nor
/// percent-encoding changes it.
const PREFIX: &str = "kanari";

pub const CLIENT_SECRET: &str = "kanari-secret-8Q~+&=%20/1";
pub const SHARED_KEY: &str = "kanari-key-of-the-account";
pub const PASSWORD: &str = "kanari-password-1";
pub const SESSION: &str = "kanari-session-";
pub const TOKEN: &str = "kanari-token-";
pub const CALLERS_TOKEN: &str = "kanari-bearer-of-a-caller";
/// Needs percent-encoding in a URL.
pub const DATABASE_PASSWORD: &str = "kanari-database-@:/%201";

/// Prefixes of the canaries, each with the name of its secret.
const NAMES: [(&str, &str); 8] = [
    ("kanari-secret", "the client secret"),
    ("kanari-key", "the shared key"),
    ("kanari-password", "the HMC's password"),
    ("kanari-session", "a session ID"),
    ("kanari-token", "an access token"),
    ("kanari-assertion", "the token of a workload"),
    ("kanari-bearer", "the token of a caller"),
    ("kanari-database", "the password of the database"),
];

/// Returns the encodings in which the word may appear: verbatim, in base64 at each of the three alignments, and as a
/// list of bytes.
fn encodings(word: &str) -> Vec<String> {
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

/// Returns the name of a canary that the text contains in any encoding, or `None`.
pub fn find(text: &str) -> Option<&'static str> {
    static WORDS: LazyLock<Vec<String>> = LazyLock::new(|| encodings(PREFIX));
    let occurs = |form: &String| text.contains(form.as_str());
    if !WORDS.iter().any(occurs) {
        return None;
    }
    let canary = NAMES
        .iter()
        .find(|(word, _)| encodings(word).iter().any(occurs));
    Some(canary.map_or("a secret", |(_, name)| name))
}

/// Aborts the process if the text contains a canary. Prints the name of the canary and the place, but not the text.
pub fn check(place: impl fmt::Display, text: &str) {
    if let Some(name) = find(text) {
        // The output of `eprintln` is captured by the test harness and lost when the process aborts.
        let _ = writeln!(io::stderr(), "LEAK: {name} found in {place}");
        std::process::abort();
    }
}

/// Checks the message, the details and the metadata of a status for canaries.
pub fn check_status(status: &Status) {
    let details = String::from_utf8_lossy(status.details());
    let metadata = status.metadata();
    check(
        "a status",
        &format!("{status:?} {} {metadata:?} {details}", status.message()),
    );
}

/// Checks this file for canaries. Pipes and devices are skipped, because they may never end.
pub fn check_file(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_file()) {
        let bytes = fs::read(path).unwrap_or_default();
        check(path.display(), &String::from_utf8_lossy(&bytes));
    }
}

/// A `tracing` subscriber that receives every span and event of every crate at every level.
pub struct LogCapture {
    /// Function that is called with the metadata and the text of each span or event.
    pub on_record: fn(&Metadata<'_>, &str),
}

/// The crates that have logged so far, that is, the first segment of each target.
static LOGGED_CRATES: Mutex<BTreeSet<&str>> = Mutex::new(BTreeSet::new());

pub fn logged_crates() -> BTreeSet<&'static str> {
    LOGGED_CRATES.lock().unwrap().clone()
}

impl LogCapture {
    fn capture(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut Text)) {
        let mut text = Text(String::new());
        record(&mut text);
        (self.on_record)(metadata, &text.0);
    }
}

impl Subscriber for LogCapture {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        let target = metadata.target();
        let root = target.split("::").next().unwrap_or(target);
        LOGGED_CRATES.lock().unwrap().insert(root);
        Interest::always()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.capture(span.metadata(), |text| span.record(text));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        let mut text = Text(String::new());
        values.record(&mut text);
        check("a span", &text.0);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.capture(event.metadata(), |text| event.record(text));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The values of a span or an event, as text.
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

/// From now on, checks everything that this process logs, and the message of every panic outside of test code. Panics
/// of tests are skipped, because the values that a failed assertion prints may be secrets.
pub fn watch_logs() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let capture = LogCapture {
            on_record: |metadata, text| check(metadata.target(), text),
        };
        tracing::subscriber::set_global_default(capture).unwrap();
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let file = info.location().map_or("", |place| place.file());
            let test_folders = ["tests/", "crates/useradmin-testkit/"];
            if !test_folders.iter().any(|folder| file.starts_with(folder)) {
                check(file, info.payload_as_str().unwrap_or_default());
            }
            before(info);
        }));
    });
}
