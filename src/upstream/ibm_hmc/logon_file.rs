//! The file that keeps the record of refused logons over a restart. Without it, a process that is restarted again and
//! again could make the HMC disable the service's user. The file contains no password, but a slow, salted digest of
//! the refused one.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};

use super::{
    logon_guard::{MAX_REFUSED, SUSPENSION},
    password_digest,
};
use crate::{config::AuditSink, unix_time};

/// Version of the file format and of the way in which digests are computed.
const VERSION: u32 = 1;
const MAX_BYTES: u64 = 1024 * 1024;

/// The event that a change of the file must survive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process. The change is not synced, so that a logon that succeeds does not wait for the disk.
    Process,
    /// A power failure. The change is synced to the disk.
    Power,
}

pub struct LogonFile {
    path: PathBuf,
    /// Content of the file. `None` until the file is read for the first time.
    content: Mutex<Option<Content>>,
    /// Whether the last write failed. Only the first of several failures is logged.
    failing: AtomicBool,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    /// Unix time until which no logon is sent to HMCs without an entry, because the previous file could not be read.
    #[serde(default)]
    lost_until: u64,
    /// Entries by account, in the form `user@host:port`.
    hmcs: BTreeMap<String, Entry>,
}

impl Content {
    fn new(lost_until: u64) -> Self {
        Self {
            version: VERSION,
            lost_until,
            hmcs: BTreeMap::new(),
        }
    }
}

/// The refused logons of one account. Logons that were sent and have not ended count as refused.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    refused: u32,
    /// Unix time until which logons are suspended.
    until: u64,
    /// Salt and digest of the refused password, in base64.
    salt: String,
    digest: String,
}

impl Entry {
    fn matches(&self, secret: &str) -> bool {
        let decode = |text: &str| BASE64_STANDARD.decode(text).unwrap_or_default();
        let (salt, digest) = (decode(&self.salt), decode(&self.digest));
        password_digest::matches(secret.as_bytes(), &salt, &digest)
    }
}

/// The salt and the slow digest of a password, as an entry contains them.
#[derive(Clone)]
pub struct PasswordDigest {
    salt: String,
    digest: String,
}

impl PasswordDigest {
    /// Computes the digest with a new salt.
    pub fn new(secret: &str) -> Self {
        let salt: [u8; 16] = rand::random();
        let digest = password_digest::derive(secret.as_bytes(), &salt);
        Self {
            salt: BASE64_STANDARD.encode(salt),
            digest: BASE64_STANDARD.encode(digest),
        }
    }
}

impl LogonFile {
    /// Returns the file that belongs to this audit log: `.audit.jsonl.logons` in the folder of `audit.jsonl`. Returns
    /// `None` if the audit log is not a regular file, because a device or a pipe has no folder for the file. Logs a
    /// warning if the file cannot be written.
    pub fn for_audit_log(sink: &AuditSink) -> Option<Self> {
        let AuditSink::File(log) = sink else {
            return None;
        };
        if fs::metadata(log).is_ok_and(|found| !found.is_file()) {
            return None;
        }
        let name = log.file_name()?.to_string_lossy();
        let file = Self {
            path: log.with_file_name(format!(".{name}.logons")),
            content: Mutex::default(),
            failing: AtomicBool::default(),
        };
        let checked = write_new(&file.path, b"{}", Durability::Process).and_then(fs::remove_file);
        file.report(&checked);
        Some(file)
    }

    /// Returns how many logons with this secret were refused or cut off in a row, and how long logons are suspended.
    /// Returns `None` if the file has no entry for this secret, unless an unreadable file suspends the logons of
    /// accounts without an entry.
    pub fn refusals(&self, account: &str, secret: &str) -> Option<(u32, Duration)> {
        let content = self.loaded(&mut crate::lock(&self.content)).clone();
        let left =
            |until: u64| Duration::from_secs(until.saturating_sub(unix_time())).min(SUSPENSION);
        match content.hmcs.get(account) {
            Some(entry) => entry
                .matches(secret)
                .then(|| (entry.refused, left(entry.until))),
            None if content.lost_until > unix_time() => {
                Some((MAX_REFUSED, left(content.lost_until)))
            }
            None => None,
        }
    }

    /// Records that `count` logons in a row were refused or are not answered yet. If the count is [`MAX_REFUSED`] or
    /// more, logons are suspended for the time `left`.
    pub fn record(
        &self,
        account: &str,
        digest: PasswordDigest,
        (count, left): (u32, Duration),
        durability: Durability,
    ) {
        let entry = Entry {
            refused: count,
            until: after(left),
            salt: digest.salt,
            digest: digest.digest,
        };
        self.change(durability, |content| {
            content.hmcs.insert(account.to_owned(), entry);
            true
        });
    }

    /// Removes the entry of an account. If it is the last entry, the file is removed.
    pub fn remove(&self, account: &str) {
        self.change(Durability::Process, |content| {
            content.hmcs.remove(account).is_some()
        });
    }

    /// Applies `change`, which returns whether it has changed the content, and writes the file if so.
    fn change(&self, durability: Durability, change: impl FnOnce(&mut Content) -> bool) {
        let mut content = crate::lock(&self.content);
        let current = self.loaded(&mut content);
        let mut changed = current.clone();
        if change(&mut changed) && self.save(&changed, durability) {
            *current = changed;
        }
    }

    /// Returns the content. The file is read at the first call.
    fn loaded<'a>(&self, content: &'a mut Option<Content>) -> &'a mut Content {
        content.get_or_insert_with(|| match read(&self.path) {
            Ok((content, false)) => content,
            Ok((content, true)) => {
                self.save(&content, Durability::Power);
                content
            }
            Err(error) => {
                let file = self.path.display().to_string();
                tracing::error!(file, %error, "logon guard file not read; HMC logons suspended for 5 minutes");
                let lost = Content::new(after(SUSPENSION));
                // Without this write, the suspension would start again at the next restart.
                self.save(&lost, Durability::Power);
                lost
            }
        })
    }

    /// Writes the content, or removes the file if there is nothing to keep. Returns whether this succeeded.
    fn save(&self, content: &Content, durability: Durability) -> bool {
        let saved = if content.hmcs.is_empty() && content.lost_until <= unix_time() {
            remove_if_present(&self.path)
        } else {
            write(&self.path, content, durability)
        };
        self.report(&saved);
        saved.is_ok()
    }

    /// Logs a failed write, unless the previous write failed, too.
    fn report(&self, written: &io::Result<()>) {
        let failed_before = self.failing.swap(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written
            && !failed_before
        {
            let file = self.path.display().to_string();
            tracing::warn!(file, %error, "logon guard file not written");
        }
    }
}

/// Reads the file. Returns the content, and whether it differs from the file: suspensions are limited to
/// [`SUSPENSION`] from now, so that a clock that was set back does not extend them. A missing file has no entries.
fn read(path: &Path) -> io::Result<(Content, bool)> {
    let options = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    // Without `NONBLOCK`, opening a pipe would wait for its writer.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(options)
        .open(path);
    let file = match file {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Content::new(0), false)),
        other => other?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than 1 MiB"));
    }
    let mut content: Content = serde_json::from_slice(&bytes)?;
    if content.version != VERSION {
        return Err(io::Error::other("an unknown version"));
    }
    let latest = after(SUSPENSION);
    let mut changed = false;
    let entries = content.hmcs.values_mut().map(|entry| &mut entry.until);
    for until in entries.chain([&mut content.lost_until]) {
        changed |= *until > latest;
        *until = latest.min(*until);
    }
    Ok((content, changed))
}

/// Replaces the file atomically.
fn write(path: &Path, content: &Content, durability: Durability) -> io::Result<()> {
    let new = write_new(path, &serde_json::to_vec(content)?, durability)?;
    fs::rename(&new, path)?;
    if durability == Durability::Power {
        sync_folder(path);
    }
    Ok(())
}

/// Writes the file `<path>.new`, and returns its path.
fn write_new(path: &Path, text: &[u8], durability: Durability) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    remove_if_present(&new)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text)?;
    if durability == Durability::Power {
        file.sync_all()?;
    }
    Ok(new)
}

fn remove_if_present(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Syncs the folder of a file, so that a rename in it is on the disk.
fn sync_folder(path: &Path) {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    // Not every file system can sync a folder.
    let _ = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
}

/// Returns the Unix time at the end of this duration, rounded up to a second.
fn after(duration: Duration) -> u64 {
    unix_time() + duration.as_secs() + 1
}
