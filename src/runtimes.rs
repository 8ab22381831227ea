//! The worker threads. Each has a separate runtime, with separate connections to callers and to targets. A call stays
//! on one thread.

use std::{
    cell::Cell,
    env,
    future::Future,
    io,
    num::NonZero,
    sync::{LazyLock, mpsc},
    thread::{self, available_parallelism},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    task::AbortHandle,
    time::sleep,
};
use tokio_util::sync::{CancellationToken, DropGuard};

const MAX_COUNT: usize = 1024;
/// Interval of [`keep_early_timer`]. Shorter than the time limits of the steps of a call.
const EARLY_TIMER: Duration = Duration::from_millis(500);

thread_local! {
    /// Index of this thread among the workers, or `usize::MAX` on other threads.
    static INDEX: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Returns the number of workers: `TOKIO_WORKER_THREADS`, or the number of CPUs that this process may use.
pub fn count() -> usize {
    static COUNT: LazyLock<usize> = LazyLock::new(|| {
        let configured = env::var("TOKIO_WORKER_THREADS").ok();
        let configured = configured.and_then(|text| text.parse::<NonZero<usize>>().ok());
        let count = configured.or_else(|| available_parallelism().ok());
        count.map_or(1, NonZero::get).min(MAX_COUNT)
    });
    *COUNT
}

/// The runtimes of the workers, which end when this is dropped.
pub struct Runtimes {
    runtimes: Vec<Handle>,
    _stop: Option<DropGuard>,
}

impl Runtimes {
    /// Starts [`count`] worker threads, each with a runtime. Fails if a thread or a runtime cannot be created.
    pub fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let runtimes = (0..count()).map(|index| start(index, stop.clone()));
        Ok(Self {
            runtimes: runtimes.collect::<io::Result<_>>()?,
            _stop: Some(guard),
        })
    }

    /// Creates a value that uses the current runtime for all connections.
    pub(crate) fn current() -> Self {
        Self {
            runtimes: vec![Handle::current()],
            _stop: None,
        }
    }

    /// Spawns a task on the runtime with the fewest tasks.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        let tasks = |runtime: &&Handle| runtime.metrics().num_alive_tasks();
        let least_loaded = self.runtimes.iter().min_by_key(tasks);
        let current = Handle::current();
        let runtime = least_loaded.unwrap_or(&current);
        runtime.spawn(work).abort_handle()
    }
}

fn start(index: usize, stop: CancellationToken) -> io::Result<Handle> {
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        INDEX.set(index);
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(sender.send(Err(error))),
        };
        let _ = sender.send(Ok(runtime.handle().clone()));
        runtime.block_on(stop.run_until_cancelled(keep_early_timer()));
        runtime.shutdown_background();
    };
    let name = format!("worker-{index}");
    thread::Builder::new().name(name).spawn(work)?;
    receiver.recv().map_err(io::Error::other)?
}

/// Keeps a timer set that is due within [`EARLY_TIMER`]. When a new timer becomes the earliest one of a runtime, tokio
/// wakes the runtime with a system call, even from its own thread. With this timer set, that is rare.
async fn keep_early_timer() {
    loop {
        sleep(EARLY_TIMER).await;
    }
}

/// One value for each worker, and one for the other threads.
pub(crate) struct PerRuntime<T>(Box<[T]>);

impl<T> PerRuntime<T> {
    pub(crate) fn new(create: impl FnMut() -> T) -> Self {
        Self(std::iter::repeat_with(create).take(count() + 1).collect())
    }

    /// Returns the value of this thread.
    pub(crate) fn current(&self) -> &T {
        &self.0[INDEX.get().min(self.0.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::HashSet, sync::Arc};

    use super::{PerRuntime, Runtimes};

    #[tokio::test]
    async fn workers_and_other_threads_have_different_values() -> Result<(), String> {
        let runtimes = Runtimes::start().map_err(|error| error.to_string())?;
        let next = Cell::new(0);
        let values = Arc::new(PerRuntime::new(|| next.replace(next.get() + 1)));
        let mut found = HashSet::from([*values.current()]);
        for runtime in &runtimes.runtimes {
            let values = Arc::clone(&values);
            let current = runtime.spawn(async move { *values.current() }).await;
            found.insert(current.map_err(|error| error.to_string())?);
        }
        assert_eq!(found.len(), super::count() + 1);
        Ok(())
    }
}
