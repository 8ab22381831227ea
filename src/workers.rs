//! The threads that serve. Each is a runtime of its own, with its own connections to callers and to targets: a call stays
//! on one thread from its first byte to its last.

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

/// More threads than this are a mistake.
const MOST: usize = 1024;

thread_local! {
    /// The place of this thread among the workers. Others share the first one's things.
    static PLACE: Cell<usize> = const { Cell::new(0) };
}

/// As many workers as there are CPUs for this process, or as `TOKIO_WORKER_THREADS` says.
#[must_use]
pub fn count() -> usize {
    static COUNT: LazyLock<usize> = LazyLock::new(|| {
        let wanted = env::var("TOKIO_WORKER_THREADS").ok();
        let wanted = wanted.and_then(|text| text.parse::<NonZero<usize>>().ok());
        let wanted = wanted.or_else(|| available_parallelism().ok());
        wanted.map_or(1, NonZero::get).min(MOST)
    });
    *COUNT
}

/// The workers. They end when this is dropped.
pub struct Workers(Vec<Worker>);

struct Worker {
    runtime: Handle,
    /// Dropped, it ends the thread.
    _end: Option<oneshot::Sender<()>>,
}

impl Workers {
    /// So many threads as [`count`] says.
    pub fn start() -> io::Result<Self> {
        (0..count()).map(start).collect::<io::Result<_>>().map(Self)
    }

    /// The present runtime does all the work.
    #[must_use]
    pub fn here() -> Self {
        Self(vec![Worker {
            runtime: Handle::current(),
            _end: None,
        }])
    }

    /// Has the one do this that has the least to do.
    pub fn spawn<F>(&self, work: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let tasks = |runtime: &&Handle| runtime.metrics().num_alive_tasks();
        let runtimes = self.0.iter().map(|worker| &worker.runtime);
        let idlest = runtimes.min_by_key(tasks);
        let here = Handle::current();
        idlest.unwrap_or(&here).spawn(work).abort_handle()
    }
}

fn start(place: usize) -> io::Result<Worker> {
    let (end, ended) = oneshot::channel::<()>();
    let (tell, told) = mpsc::channel();
    let work = move || {
        PLACE.set(place);
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(tell.send(Err(error))),
        };
        // Whoever started it waits for this.
        let _ = tell.send(Ok(runtime.handle().clone()));
        // Only that the other end is dropped is ever told.
        let _ = runtime.block_on(ended);
        runtime.shutdown_background();
    };
    let name = format!("worker-{place}");
    thread::Builder::new().name(name).spawn(work)?;
    let runtime = told.recv().map_err(io::Error::other)??;
    Ok(Worker {
        runtime,
        _end: Some(end),
    })
}

/// One for each worker.
pub struct PerWorker<T>(Box<[T]>);

impl<T> PerWorker<T> {
    /// Makes them.
    pub fn new(make: impl FnMut() -> T) -> Self {
        Self(std::iter::repeat_with(make).take(count()).collect())
    }

    /// The one of this thread.
    #[must_use]
    pub fn here(&self) -> &T {
        &self.0[PLACE.get() % self.0.len()]
    }
}
