//! Wakes the writer once for all records that calls add at about the same time. A wake-up costs two context switches,
//! and more wake-ups mean smaller batches.

use std::{future::poll_fn, mem, sync::Arc, task::Poll};

use tokio::task::yield_now;

use super::queue::Queue;

/// Maximum number of checks for I/O for which the writer is not woken. With 61 tasks of tokio between two checks, they
/// take a few milliseconds.
const MAX_CHECKS: u32 = 32;
/// Number of checks for I/O in a row, without a new record, after which the writer is woken.
const MAX_CHECKS_WITHOUT_RECORD: u32 = 3;

/// Wakes the writer for a batch when dropped.
pub(super) struct WakeUp {
    queue: Arc<Queue>,
    batch: u64,
}

impl WakeUp {
    pub(super) const fn new(queue: Arc<Queue>, batch: u64) -> Self {
        Self { queue, batch }
    }

    /// Waits while calls add records to the batch, and then wakes the writer. If the batch has only one record, waits
    /// only for the tasks that are ready now. Stops waiting when the writer has taken the batch.
    pub(super) async fn after_more_records(self) {
        after_ready_tasks().await;
        let mut records = self.queue.records_of(self.batch);
        let mut without_record = 0;
        for _ in 0..MAX_CHECKS {
            if records <= 1 || without_record == MAX_CHECKS_WITHOUT_RECORD {
                return;
            }
            yield_now().await;
            let before = mem::replace(&mut records, self.queue.records_of(self.batch));
            without_record = if records > before {
                0
            } else {
                without_record + 1
            };
        }
    }
}

impl Drop for WakeUp {
    fn drop(&mut self) {
        self.queue.wake(self.batch);
    }
}

/// Waits until the tasks that are ready now have run. Unlike `tokio::task::yield_now`, does not wait until the runtime
/// has also checked for I/O, which takes a system call.
async fn after_ready_tasks() {
    let mut yielded = false;
    poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, mpsc},
        thread,
        time::Duration,
    };

    use futures_util::FutureExt;
    use tokio::task::yield_now;

    use super::{MAX_CHECKS, WakeUp};
    use crate::audit::{
        queue::{Batch, Job, Queue},
        record::{CallMembers, Entry, Record},
    };

    fn job() -> Job {
        Job::new(Record::new(&CallMembers::default(), &Entry::default())).0
    }

    /// Adds a record, and returns its wake-up.
    fn add(queue: &Arc<Queue>) -> Option<WakeUp> {
        let added = queue.push(job())?;
        Some(WakeUp::new(Arc::clone(queue), added.batch))
    }

    /// Waits for a batch as the writer does, far longer than a test takes.
    fn writer(queue: &Arc<Queue>) -> mpsc::Receiver<Option<Batch>> {
        let (taken, receiver) = mpsc::channel();
        let queue = Arc::clone(queue);
        thread::spawn(move || taken.send(queue.take(Duration::from_hours(1))));
        receiver
    }

    #[tokio::test]
    async fn dropped_call_wakes_writer() {
        for polls in 0..=1 {
            let queue = Arc::<Queue>::default();
            let taken = writer(&queue);
            let wake_up = add(&queue);
            let mut waiting = wake_up.map(|wake_up| Box::pin(wake_up.after_more_records()));
            for _ in 0..polls {
                let waiting = waiting.as_mut();
                assert!(waiting.is_some_and(|waiting| waiting.now_or_never().is_none()));
            }
            drop(waiting);
            let batch = taken.recv().ok().flatten();
            assert_eq!(batch.map(|batch| batch.intents.len()), Some(1));
        }
    }

    #[tokio::test]
    async fn writer_is_woken_even_if_records_are_added_forever() {
        let queue = Arc::<Queue>::default();
        let wake_up = add(&queue);
        let endless = Arc::clone(&queue);
        let adding = tokio::spawn(async move {
            loop {
                endless.push(job());
                yield_now().await;
            }
        });
        if let Some(wake_up) = wake_up {
            wake_up.after_more_records().await;
        }
        adding.abort();
        let batch = queue.take(Duration::ZERO).unwrap_or_default();
        assert!(batch.intents.len() <= 2 + MAX_CHECKS as usize);
    }

    #[tokio::test]
    async fn taken_batch_is_not_waited_for() {
        let queue = Arc::<Queue>::default();
        let (first, second) = (add(&queue), add(&queue));
        let mut waiting = first.map(|first| Box::pin(first.after_more_records()));
        let _started = waiting.as_mut().map(FutureExt::now_or_never);
        drop(second);
        assert!(queue.take(Duration::ZERO).is_some());
        let next = [add(&queue), add(&queue)];
        yield_now().await;
        let ended = waiting.as_mut().map(FutureExt::now_or_never);
        assert_eq!(ended, Some(Some(())));
        drop(next);
    }
}
