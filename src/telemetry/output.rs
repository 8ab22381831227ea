//! Standard error behind a bounded queue and the log thread, so that logging never waits for the reader.

use std::{
    io::{self, ErrorKind, Write as _},
    mem,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, poll};

use super::format::LogFormat;

/// Maximum size of the lines that are not written yet, in bytes: about 16,000 log lines of calls, which is most of a
/// second at the highest load.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// Capacity that a buffer keeps when its lines are written, in bytes.
const RETAINED_BYTES: usize = 256 * 1024;
/// Time for which the log thread collects lines after it has written some. Waking it for each line would cost two
/// context switches per line.
const GATHER_TIME: Duration = Duration::from_millis(5);
/// Maximum number of bytes in one write, unless a single line is longer: the usual capacity of a pipe (pipe(7)). After
/// each write, its bytes no longer count as queued.
const MAX_WRITE_BYTES: usize = 65_536;
/// Maximum time to wait for the remaining lines when [`OutputGuard`] is dropped.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of lines that were not written because the queue was full or standard error failed.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns the number of log lines that this process has dropped.
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The lines that are not written yet.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Lines that the log thread has not taken yet.
    lines: Vec<u8>,
    /// Number of bytes that the log thread has taken and not written yet.
    taken: usize,
    /// Whether the log thread waits for lines.
    idle: bool,
    /// Whether the log thread ends when all lines are written.
    closed: bool,
    /// Whether the log thread has ended.
    ended: bool,
}

impl Queue {
    /// Adds a line. Returns false if the queue is full.
    fn push(&self, line: &[u8]) -> bool {
        let mut state = crate::lock(&self.state);
        if state.taken + state.lines.len() + line.len() > MAX_QUEUED_BYTES {
            return false;
        }
        state.lines.extend_from_slice(line);
        let wakes = mem::take(&mut state.idle);
        drop(state);
        if wakes {
            self.changed.notify_all();
        }
        true
    }

    /// Waits for lines, and exchanges them for an empty buffer. Returns `None` when the queue is closed and empty.
    fn take(&self, empty: Vec<u8>) -> Option<Vec<u8>> {
        let mut state = crate::lock(&self.state);
        state.idle = true;
        let wait = |state: &mut State| state.lines.is_empty() && !state.closed;
        let waited = self.changed.wait_while(state, wait);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.idle = false;
        let lines = mem::replace(&mut state.lines, empty);
        state.taken = lines.len();
        (!lines.is_empty()).then_some(lines)
    }

    /// Waits for [`GATHER_TIME`], or until the queue is closed. Does not wait if many lines are queued.
    fn pause(&self) {
        let state = crate::lock(&self.state);
        let _state = self
            .changed
            .wait_timeout_while(state, GATHER_TIME, |state| {
                !state.closed && state.lines.len() < RETAINED_BYTES
            });
    }

    /// Records that this number of bytes was written.
    fn release(&self, bytes: usize) {
        crate::lock(&self.state).taken -= bytes;
    }

    fn is_empty(&self) -> bool {
        crate::lock(&self.state).lines.is_empty()
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut crate::lock(&self.state));
        self.changed.notify_all();
    }
}

/// The sending side of the queue.
pub struct Output {
    format: LogFormat,
    queue: Arc<Queue>,
}

/// Writes the remaining lines when dropped, and waits for that at most one second.
pub struct OutputGuard(Arc<Queue>);

impl Drop for OutputGuard {
    fn drop(&mut self) {
        self.0.update(|state| state.closed = true);
        let state = crate::lock(&self.0.state);
        let changed = &self.0.changed;
        let _late = changed.wait_timeout_while(state, END_TIMEOUT, |state| !state.ended);
    }
}

impl Output {
    /// Starts the thread. Returns an error if that is not possible.
    pub fn start(format: LogFormat) -> io::Result<(Self, OutputGuard)> {
        let queue = Arc::<Queue>::default();
        let thread_queue = Arc::clone(&queue);
        let mut stderr = StandardError {
            format,
            reported: 0,
            torn: false,
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                let queue = thread_queue;
                let mut buffer = Vec::new();
                while let Some(mut lines) = queue.take(buffer) {
                    stderr.write_lines(&lines, |bytes| queue.release(bytes));
                    if queue.is_empty() {
                        stderr.report_dropped();
                    }
                    lines.clear();
                    lines.shrink_to(RETAINED_BYTES);
                    buffer = lines;
                    queue.pause();
                }
                queue.update(|state| state.ended = true);
            })?;
        let guard = OutputGuard(Arc::clone(&queue));
        Ok((Self { format, queue }, guard))
    }

    pub const fn format(&self) -> LogFormat {
        self.format
    }

    /// Queues a line. No other output of this process is written within it. If the queue is full, counts a dropped
    /// line.
    pub fn send(&self, line: &[u8]) {
        if !self.queue.push(line) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes to standard error. Owned by the log thread.
struct StandardError {
    format: LogFormat,
    /// The number of dropped lines that the log has reported.
    reported: u64,
    /// Whether the last line was written only in part.
    torn: bool,
}

impl StandardError {
    /// Writes lines, as many as possible at once, and counts those that were not written completely as dropped. Passes
    /// the number of bytes of each write to `done`.
    fn write_lines(&mut self, mut lines: &[u8], done: impl Fn(usize)) {
        while !lines.is_empty() {
            let (first, rest) = lines.split_at(length_of_write(lines));
            let dropped = self.write(first);
            DROPPED.fetch_add(dropped, Ordering::Relaxed);
            done(first.len());
            lines = rest;
        }
    }

    /// Writes lines at once. Returns the number of lines that were not written completely.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if self.torn && write_whole(b"\n") == 1 {
            self.torn = false;
        }
        let written = if self.torn { 0 } else { write_whole(lines) };
        let (done, rest) = lines.split_at(written);
        self.torn |= done.last().is_some_and(|last| *last != b'\n');
        rest.split_inclusive(|byte| *byte == b'\n').count() as u64
    }

    /// Logs the number of lines that were dropped since the last report.
    fn report_dropped(&mut self) {
        let dropped = dropped_lines();
        let new = dropped - self.reported;
        if new > 0 {
            let resumed = self
                .format
                .line("WARN", "log output resumed", "dropped", &new.into());
            if self.write(resumed.as_bytes()) == 0 {
                self.reported = dropped;
            }
        }
    }
}

/// Returns the length of the first lines that are at most [`MAX_WRITE_BYTES`] long together, or of the first line if
/// it is longer.
fn length_of_write(lines: &[u8]) -> usize {
    let is_end = |byte: &u8| *byte == b'\n';
    let Some((start, rest)) = lines.split_at_checked(MAX_WRITE_BYTES) else {
        return lines.len();
    };
    match start.iter().rposition(is_end) {
        Some(last) => last + 1,
        None => rest
            .iter()
            .position(is_end)
            .map_or(lines.len(), |end| MAX_WRITE_BYTES + end + 1),
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

#[cfg(test)]
mod tests {
    use super::{MAX_QUEUED_BYTES, MAX_WRITE_BYTES, Queue, length_of_write};

    #[test]
    fn write_ends_after_whole_line() {
        let line = |length: usize| [vec![b'x'; length - 1], vec![b'\n']].concat();
        for (lines, first) in [
            (vec![10, 20], 30),
            (vec![MAX_WRITE_BYTES], MAX_WRITE_BYTES),
            (vec![MAX_WRITE_BYTES - 1, 1, 5], MAX_WRITE_BYTES),
            (vec![100, MAX_WRITE_BYTES], 100),
            (vec![MAX_WRITE_BYTES + 1, 5], MAX_WRITE_BYTES + 1),
            (vec![3 * MAX_WRITE_BYTES], 3 * MAX_WRITE_BYTES),
        ] {
            let text: Vec<u8> = lines.iter().flat_map(|length| line(*length)).collect();
            assert_eq!(length_of_write(&text), first, "{lines:?}");
        }
    }

    #[test]
    fn lines_being_written_count_as_queued() {
        let queue = Queue::default();
        let half = vec![b'x'; MAX_QUEUED_BYTES / 2];
        assert!(queue.push(&half));
        assert_eq!(queue.take(Vec::new()), Some(half.clone()));
        assert!(queue.push(&half));
        assert!(!queue.push(b"x"));
        queue.release(1);
        assert!(queue.push(b"x"));
        assert!(!queue.push(b"x"));
    }

    #[test]
    fn closed_queue_ends_after_its_lines() {
        let queue = Queue::default();
        assert!(queue.push(b"x\n"));
        queue.update(|state| state.closed = true);
        queue.pause();
        assert_eq!(queue.take(Vec::new()), Some(b"x\n".to_vec()));
        assert_eq!(queue.take(Vec::new()), None);
    }
}
