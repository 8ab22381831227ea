//! Who runs where: the server under test has one CPU for itself, all others share another one.

use rustix::thread::{CpuSet, sched_setaffinity};

/// The server's.
pub const SERVER: usize = 0;
/// Of load and upstream.
pub const OTHERS: usize = 1;

/// This thread, and what it starts from now on, runs on this CPU. On a machine with one there is no choice.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    let _ = sched_setaffinity(None, &set);
}

/// Does this on that CPU.
pub fn on<T>(cpu: usize, work: impl FnOnce() -> T) -> T {
    pin(cpu);
    let done = work();
    pin(OTHERS);
    done
}
