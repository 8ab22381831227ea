//! The worker threads. Each has a runtime of its own, with its own connections to callers and to targets: a call stays on
//! one thread from its first byte to its last.

use std::{
    cell::Cell,
    env,
    future::Future,
    io,
    num::NonZero,
    sync::{LazyLock, mpsc},
    thread::{self, available_parallelism},
};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    task::AbortHandle,
};

/// Maximum number of threads.
const MAX: usize = 1024;

thread_local! {
    /// Index of this thread among the workers; 0 on other threads.
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// Returns the number of workers: `TOKIO_WORKER_THREADS`, or the number of CPUs that this process may use.
#[must_use]
pub fn count() -> usize {
    static COUNT: LazyLock<usize> = LazyLock::new(|| {
        let wanted = env::var("TOKIO_WORKER_THREADS").ok();
        let wanted = wanted.and_then(|text| text.parse::<NonZero<usize>>().ok());
        let wanted = wanted.or_else(|| available_parallelism().ok());
        wanted.map_or(1, NonZero::get).min(MAX)
    });
    *COUNT
}

/// The runtimes of the workers, which end when this is dropped.
pub struct Runtimes(Vec<RuntimeThread>);

struct RuntimeThread {
    runtime: Handle,
    /// Ends the thread when it is dropped.
    _end: Option<oneshot::Sender<()>>,
}

impl Runtimes {
    /// Starts [`count`] threads.
    pub fn start() -> io::Result<Self> {
        (0..count()).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// Uses the current runtime for all connections.
    #[must_use]
    pub fn here() -> Self {
        Self(vec![RuntimeThread {
            runtime: Handle::current(),
            _end: None,
        }])
    }

    /// Spawns a task on the runtime with the fewest tasks.
    pub fn spawn<F>(&self, work: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = |runtime: &&Handle| runtime.metrics().num_alive_tasks();
        let runtimes = self.0.iter().map(|worker| &worker.runtime);
        let least_loaded = runtimes.min_by_key(tasks);
        let here = Handle::current();
        least_loaded.unwrap_or(&here).spawn(work).abort_handle()
    }
}

fn start(index: usize) -> io::Result<RuntimeThread> {
    let (end, ended) = oneshot::channel::<()>();
    let (sender, receiver) = mpsc::channel();
    let work = move || {
        INDEX.set(index);
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(sender.send(Err(error))),
        };
        let _ = sender.send(Ok(runtime.handle().clone()));
        // The sender sends nothing; it is dropped.
        let _ = runtime.block_on(ended);
        runtime.shutdown_background();
    };
    let name = format!("worker-{index}");
    thread::Builder::new().name(name).spawn(work)?;
    let runtime = receiver.recv().map_err(io::Error::other)??;
    Ok(RuntimeThread {
        runtime,
        _end: Some(end),
    })
}

/// One value for each worker.
pub struct PerRuntime<T>(Box<[T]>);

impl<T> PerRuntime<T> {
    /// Creates the values.
    pub fn new(make: impl FnMut() -> T) -> Self {
        Self(std::iter::repeat_with(make).take(count()).collect())
    }

    /// Returns the value of this thread.
    #[must_use]
    pub fn here(&self) -> &T {
        &self.0[INDEX.get() % self.0.len()]
    }
}
