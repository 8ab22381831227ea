//! Figures from `/proc` about a process and the machine.

use std::{fs, time::Duration};

/// Returns the CPU time of all current threads of a process.
pub fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = threads.map(|thread| {
        let times =
            fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap_or_default();
        times.split(' ').next().unwrap().parse().unwrap_or(0)
    });
    Duration::from_nanos(nanos.sum())
}

/// Returns the memory of a process in MiB: current (`VmRSS`) or maximum (`VmHWM`).
pub fn memory(pid: u32, which: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    let kib: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024.0
}

/// Returns a one-line description of the machine.
pub fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models: Vec<_> = cpus
        .lines()
        .filter(|line| line.starts_with("model name"))
        .collect();
    let model = models
        .first()
        .and_then(|line| line.split(": ").nth(1))
        .unwrap_or("unknown");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    format!(
        "{} CPUs ({model}), Linux {}, load {load} before",
        models.len(),
        kernel.trim()
    )
}
