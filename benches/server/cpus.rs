//! CPU affinity: the server under test has one CPU to itself, and all other threads share another one.

use rustix::thread::{CpuSet, sched_setaffinity};

/// CPU of the server under test.
pub const SERVER_CPU: usize = 0;
/// CPU of the load generator and the upstream.
pub const LOAD_CPU: usize = 1;
/// Both CPUs, for a server that shares them with the load generator and the upstream.
pub const BOTH_CPUS: &[usize] = &[SERVER_CPU, LOAD_CPU];

/// Pins this thread, and all threads and processes that it starts afterwards, to these CPUs. Has no effect if the
/// machine has none of them.
pub fn pin(cpus: &[usize]) {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    let _ = sched_setaffinity(None, &set);
}

/// Runs `work` pinned to these CPUs, then pins this thread to [`LOAD_CPU`] again.
pub fn run_on<T>(cpus: &[usize], work: impl FnOnce() -> T) -> T {
    pin(cpus);
    let result = work();
    pin(&[LOAD_CPU]);
    result
}
