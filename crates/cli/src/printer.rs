//! Standard output, written by a thread of its own so that a slow reader holds up no sound, and one
//! that has stopped reading no call: lines are lost then, those that can be done without first.

use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;

/// How many lines may wait for a slow reader, and how many bytes.
const WAITING: usize = 4096;
const WAITING_BYTES: usize = 4 << 20;
/// At the end a reader that reads nothing is waited for so long.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// Prints lines.
pub struct Printer {
    queue: Arc<Queue>,
    closed: Arc<Notify>,
}

/// What waits for the reader.
#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    bytes: usize,
    /// How many lines that nobody should do without were lost.
    lost: u64,
    /// No more will come.
    finished: bool,
    /// Everything is written, or nobody reads it.
    done: bool,
}

struct Line {
    text: String,
    dispensable: bool,
}

impl Waiting {
    /// Adds a line. Where there is no room, the oldest dispensable line makes it, and without one
    /// the oldest of all: the latest say how things stand.
    fn push(&mut self, line: Line) {
        if self.done {
            return;
        }
        let full = |this: &Self| {
            this.lines.len() >= WAITING || this.bytes + line.text.len() > WAITING_BYTES
        };
        while full(self) {
            let dispensable = self.lines.iter().position(|line| line.dispensable);
            if dispensable.is_none() && line.dispensable {
                return;
            }
            let Some(gone) = self.lines.remove(dispensable.unwrap_or(0)) else {
                return;
            };
            self.bytes -= gone.text.len();
            if !gone.dispensable {
                if self.lost == 0 {
                    tracing::warn!("standard output is not read: lines are lost");
                }
                self.lost += 1;
            }
        }
        self.bytes += line.text.len();
        self.lines.push_back(line);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, text: String, dispensable: bool) {
        self.lock().push(Line { text, dispensable });
        self.changed.notify_all();
    }

    /// The next line; `None` when there will be none.
    fn next(&self) -> Option<String> {
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.finished;
        let mut waiting = self
            .changed
            .wait_while(self.lock(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        let line = waiting.lines.pop_front()?;
        waiting.bytes -= line.text.len();
        Some(line.text)
    }

    /// Writes until the end.
    fn print(&self, mut out: impl Write, closed: &Notify) {
        while let Some(line) = self.next() {
            let result = out.write_all(line.as_bytes()).and_then(|()| out.flush());
            if let Err(error) = result {
                if error.kind() != ErrorKind::BrokenPipe {
                    tracing::error!(%error, "cannot write to standard output");
                }
                closed.notify_one();
                break;
            }
        }
        let mut waiting = self.lock();
        waiting.done = true;
        waiting.lines.clear();
        waiting.bytes = 0;
        if waiting.lost > 0 {
            tracing::warn!(lines = waiting.lost, "lines were lost");
        }
        self.changed.notify_all();
    }
}

impl Printer {
    /// Starts printing.
    pub fn start() -> Self {
        Self::start_on(std::io::stdout())
    }

    fn start_on(out: impl Write + Send + 'static) -> Self {
        let queue = Arc::new(Queue::default());
        let closed = Arc::new(Notify::new());
        let (queued, told) = (Arc::clone(&queue), Arc::clone(&closed));
        std::thread::spawn(move || queued.print(out, &told));
        Self { queue, closed }
    }

    /// Prints a line. Never waits for the reader.
    pub fn line(&self, line: String) {
        self.queue.push(line + "\n", false);
    }

    /// Prints something that the reader's cursor stays behind.
    pub fn prompt(&self, text: &str) {
        self.queue.push(text.to_owned(), false);
    }

    /// Prints a line that a slow reader can do without.
    pub fn dispensable_line(&self, line: String) {
        self.queue.push(line + "\n", true);
    }

    /// Waits until nobody reads standard output any more. Holds a duplicate of standard output
    /// from the call on; must be called inside a tokio runtime.
    pub fn closed(&self) -> impl Future<Output = ()> {
        let reader_gone = reader_gone();
        async {
            tokio::select! {
                () = self.closed.notified() => {}
                () = reader_gone => {}
            }
        }
    }

    /// Prints what is left, as far as the reader takes it within five seconds.
    pub fn finish(self) {
        let mut waiting = self.queue.lock();
        waiting.finished = true;
        self.queue.changed.notify_all();
        let _ = self
            .queue
            .changed
            .wait_timeout_while(waiting, LAST_WAIT, |waiting| !waiting.done);
    }
}

/// Waits until the reading end of a pipe at standard output is closed, even while there is
/// nothing to write. Pends for ever where standard output is no pipe.
fn reader_gone() -> impl Future<Output = ()> {
    // A duplicate, left blocking as it is: others may write to the same pipe.
    let stdout = std::io::stdout().as_fd().try_clone_to_owned();
    let pipe = stdout.and_then(Sender::from_owned_fd_unchecked);
    async {
        if let Ok(pipe) = pipe
            && pipe.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes one line for each word that it is given, and keeps what it took.
    struct Reader {
        leave: Receiver<()>,
        read: Arc<Mutex<Vec<String>>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.leave.recv().is_err() {
                return Err(ErrorKind::BrokenPipe.into());
            }
            let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
            self.read.lock().unwrap().push(text);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn stalled() -> (Printer, Sender<()>, Arc<Mutex<Vec<String>>>) {
        let (go, leave) = channel();
        let read = Arc::new(Mutex::new(Vec::new()));
        let reader = Reader {
            leave,
            read: Arc::clone(&read),
        };
        (Printer::start_on(reader), go, read)
    }

    #[test]
    fn a_reader_that_stalls_stops_nobody_and_loses_the_oldest_lines() {
        let (printer, go, read) = stalled();
        let many = 3 * WAITING;
        for number in 0..many {
            printer.line(format!("event {number}"));
            printer.dispensable_line(format!("figures {number}"));
        }
        assert_eq!(printer.queue.lock().lines.len(), WAITING);
        for _ in 0..=WAITING {
            go.send(()).unwrap();
        }
        printer.finish();
        let read = read.lock().unwrap();
        assert_eq!(read.last(), Some(&format!("event {}", many - 1)));
        // The one that was being written, and the latest.
        let figures = read.iter().filter(|line| line.starts_with("figures"));
        assert!(figures.count() <= 1 && read.len() >= WAITING);
    }

    #[test]
    fn what_can_be_done_without_makes_room_first() {
        let (printer, go, read) = stalled();
        for number in 0..WAITING / 2 {
            printer.line(format!("event {number}"));
        }
        for number in 0..2 * WAITING {
            printer.dispensable_line(format!("figures {number}"));
        }
        for number in WAITING / 2..WAITING - 8 {
            printer.line(format!("event {number}"));
        }
        assert_eq!(printer.queue.lock().lost, 0);
        for _ in 0..=WAITING {
            go.send(()).unwrap();
        }
        printer.finish();
        let read = read.lock().unwrap();
        let events = read.iter().filter(|line| line.starts_with("event")).count();
        assert_eq!(events, WAITING - 8, "no event is lost");
    }

    #[test]
    fn the_memory_is_bounded_in_bytes_too() {
        let (printer, _go, _) = stalled();
        for _ in 0..100 {
            printer.line("x".repeat(100_000));
        }
        let waiting = printer.queue.lock();
        assert!(waiting.bytes <= WAITING_BYTES && waiting.lost > 50);
    }

    #[test]
    fn a_reader_that_left_is_noticed_and_nothing_is_kept_for_it() {
        let (printer, go, _) = stalled();
        drop(go);
        printer.line("nobody reads this".to_owned());
        let queue = Arc::clone(&printer.queue);
        printer.finish();
        assert!(queue.lock().done && queue.lock().lines.is_empty());
    }
}
