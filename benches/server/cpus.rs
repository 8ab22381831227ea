//! CPU affinity: the server under test has one CPU to itself, and all other threads share another one.

use rustix::thread::{CpuSet, sched_setaffinity};

/// CPU of the server under test.
pub const SERVER_CPU: usize = 0;
/// CPU of the load generator and the upstream.
pub const LOAD_CPU: usize = 1;

/// Pins this thread, and all threads and processes that it starts afterwards, to a CPU. Has no effect if the machine
/// does not have this CPU.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = sched_setaffinity(None, &set);
}

/// Runs `work` pinned to a CPU, then pins this thread to [`LOAD_CPU`] again.
pub fn run_on<T>(cpu: usize, work: impl FnOnce() -> T) -> T {
    pin(cpu);
    let result = work();
    pin(LOAD_CPU);
    result
}
