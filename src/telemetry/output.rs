//! Standard error behind a bounded queue and a dedicated thread, so that logging never waits for the reader.

use std::{
    io::{self, ErrorKind, Write},
    panic::catch_unwind,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use rustix::event::{PollFd, PollFlags, poll};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::format::LogFormat;

/// Maximum size of the queue in bytes: about 16,000 log lines of calls, which is most of a second at the highest
/// load.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// Minimum size in bytes that a line counts in the queue, so that the limit in bytes also limits the number of lines.
const MIN_LINE_BYTES: usize = 256;
/// Capacity of the queue in lines. One extra place is for the message that `WorkerGuard` queues when it is dropped: if
/// the queue were full, it would print an error to standard output, which may carry the audit log.
const QUEUE_LINES: usize = MAX_QUEUED_BYTES / MIN_LINE_BYTES + 1;

/// Maximum number of bytes in one write, unless a single line is longer. Linux writes up to `PIPE_BUF` bytes to a pipe
/// atomically (pipe(7)).
const MAX_WRITE_BYTES: usize = 4_096;

/// Number of lines that were not written because the queue was full or standard error failed.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns the number of log lines that this process has dropped.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The sending side of the queue of lines.
pub struct Output {
    format: LogFormat,
    queue: NonBlocking,
    queued_bytes: Arc<AtomicUsize>,
}

impl Output {
    /// Starts the thread. Returns the output and a guard that writes the remaining lines when dropped, or an error if
    /// the thread cannot be started.
    pub fn start(format: LogFormat) -> io::Result<(Self, WorkerGuard)> {
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = StandardError {
            format,
            queued_bytes: Arc::clone(&queued_bytes),
            lines: Vec::with_capacity(MAX_WRITE_BYTES),
            cost: 0,
            reported: 0,
            torn: false,
        };
        // The library panics if the thread cannot be started.
        let started = catch_unwind(|| {
            NonBlockingBuilder::default()
                .lossy(true)
                .buffered_lines_limit(QUEUE_LINES)
                .thread_name("log")
                .finish(writer)
        });
        let (queue, guard) =
            started.map_err(|_| io::Error::other("cannot start the thread of the log"))?;
        let output = Self {
            format,
            queue,
            queued_bytes,
        };
        Ok((output, guard))
    }

    pub const fn format(&self) -> LogFormat {
        self.format
    }

    /// Queues `bytes`, which are then written without other lines in between. If the queue is full, counts a dropped
    /// line.
    pub fn send(&self, bytes: &[u8]) {
        let cost = cost(bytes);
        let before = self.queued_bytes.fetch_add(cost, Ordering::Relaxed);
        if before + cost > MAX_QUEUED_BYTES {
            self.queued_bytes.fetch_sub(cost, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The queue never refuses a line, because the limit in bytes is reached before the limit in lines.
        let _ = self.queue.clone().write_all(bytes);
    }
}

fn cost(bytes: &[u8]) -> usize {
    bytes.len().max(MIN_LINE_BYTES)
}

/// The receiving side of the queue, in the thread. It writes the lines that are in the queue at the same time together.
struct StandardError {
    format: LogFormat,
    queued_bytes: Arc<AtomicUsize>,
    /// Lines that are not written yet.
    lines: Vec<u8>,
    /// Sum of their [`cost`]. Subtracted from `queued_bytes` when they are written.
    cost: usize,
    /// The number of dropped lines that the log has reported.
    reported: u64,
    /// Whether the last line was written only in part.
    torn: bool,
}

impl StandardError {
    /// Writes the lines. Returns the number of lines that were not written completely.
    fn write_lines(&mut self) -> u64 {
        if self.torn && write_whole(b"\n") == 1 {
            self.torn = false;
        }
        let written = if self.torn {
            0
        } else {
            write_whole(&self.lines)
        };
        let (done, rest) = self.lines.split_at(written);
        self.torn |= done.last().is_some_and(|last| *last != b'\n');
        let dropped = rest.split_inclusive(|byte| *byte == b'\n').count();
        self.lines.clear();
        self.queued_bytes.fetch_sub(self.cost, Ordering::Relaxed);
        self.cost = 0;
        dropped as u64
    }

    /// Writes the lines, and counts those that were not written completely as dropped.
    fn write_queued(&mut self) {
        DROPPED.fetch_add(self.write_lines(), Ordering::Relaxed);
    }
}

impl Write for StandardError {
    /// Adds a line from the queue to those that are written together. Never returns an error: after an interruption,
    /// the library would write the line again, and it would print other errors to standard error.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.len() + line.len() > MAX_WRITE_BYTES {
            self.write_queued();
        }
        self.lines.extend_from_slice(line);
        self.cost += cost(line);
        Ok(line.len())
    }

    /// Writes the lines, and logs the number of lines that were dropped since the last report. The library calls this
    /// function when the queue is empty.
    fn flush(&mut self) -> io::Result<()> {
        self.write_queued();
        let dropped = dropped_lines();
        let new = dropped - self.reported;
        if new > 0 {
            let resumed = self
                .format
                .line("WARN", "log output resumed", "dropped", &new.into());
            self.lines.extend_from_slice(resumed.as_bytes());
            if self.write_lines() == 0 {
                self.reported = dropped;
            }
        }
        // An error is not returned, because the library would print it to standard error.
        Ok(())
    }
}

/// Writes all bytes, and returns their number, or the number of bytes written before an error. If another process has
/// made the shared standard error non-blocking, waits until it is writable.
fn write_whole(bytes: &[u8]) -> usize {
    let mut stderr = io::stderr().lock();
    let mut done = 0;
    while done < bytes.len() {
        match stderr.write(&bytes[done..]) {
            Ok(0) => break,
            Ok(written) => done += written,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // An error is ignored, because a signal may interrupt `poll`. The loop then tries again.
                let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
            }
            Err(_) => break,
        }
    }
    done
}
