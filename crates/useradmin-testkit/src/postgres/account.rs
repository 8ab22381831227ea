//! The user whose processes are those of PostgreSQL if the test runs as root.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt as _},
    path::Path,
    process::{Command, Stdio},
};

/// Returns user and group ID of the user `postgres`, or else of `nobody`.
pub fn unprivileged_user() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let find = |name| {
        let mut lines = users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let fields = lines.find(|fields| fields[0] == name)?;
        Some((fields[2].parse().ok()?, fields[3].parse().ok()?))
    };
    find("postgres").or_else(|| find("nobody")).unwrap()
}

/// Makes this user the owner of a file.
pub fn give(file: &Path, owner: Option<(u32, u32)>) {
    if let Some((user, group)) = owner {
        chown(file, Some(user), Some(group)).unwrap();
    }
}

/// Runs a command as this user, in a separate process group, so that Ctrl+C does not end it before its guard.
pub fn run_as(command: &mut Command, owner: Option<(u32, u32)>) {
    command.current_dir("/").process_group(0);
    // A process that outlives the test must not hold its standard output and error open.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
}
