//! States of processes, from `/proc`, and signals. The processes of PostgreSQL are no process group: each is one.

use std::{fs, process::Command};

/// Returns the state and the parent of a process; see `man 5 proc_pid_stat`.
fn stat(id: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name, in parentheses, may contain spaces and parentheses.
    let (_, fields) = text.rsplit_once(") ")?;
    let (state, fields) = fields.split_once(' ')?;
    let parent = fields.split(' ').next()?;
    Some((state.parse().ok()?, parent.parse().ok()?))
}

pub fn is_running(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| !matches!(state, 'X' | 'Z'))
}

pub fn is_stopped(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| state == 'T')
}

/// Returns the processes with this parent.
pub fn children(parent: u32) -> Vec<u32> {
    let names = fs::read_dir("/proc").unwrap().map(Result::unwrap);
    let ids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|id| stat(*id).is_some_and(|(_, found)| found == parent))
        .collect()
}

/// Sends a signal to these processes. Some of them may have ended.
pub fn signal(name: &str, ids: &[u32]) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name]).args(ids.iter().map(u32::to_string));
    let _ = kill.output().unwrap();
}
