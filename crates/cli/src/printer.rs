//! Standard output, written by a thread of its own so that a slow reader holds up no sound.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tokio::io::Interest;
use tokio::net::unix::pipe::Sender;
use tokio::sync::Notify;

/// How many lines may wait for a slow reader.
const WAITING: usize = 4096;

/// Prints lines.
pub struct Printer {
    lines: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
    closed: Arc<Notify>,
}

impl Printer {
    /// Starts printing.
    pub fn start() -> Self {
        let (lines, waiting) = sync_channel(WAITING);
        let closed = Arc::new(Notify::new());
        let told = Arc::clone(&closed);
        let thread = std::thread::spawn(move || print(&waiting, &told));
        Self {
            lines: Some(lines),
            thread: Some(thread),
            closed,
        }
    }

    /// Prints a line.
    pub fn line(&self, line: String) {
        if let Some(lines) = &self.lines {
            // An error means that nobody reads any more, which `closed` tells.
            let _ = lines.send(line + "\n");
        }
    }

    /// Prints something that the reader's cursor stays behind.
    pub fn prompt(&self, text: &str) {
        if let Some(lines) = &self.lines {
            let _ = lines.send(text.to_owned());
        }
    }

    /// Prints a line that a slow reader can do without.
    pub fn dispensable_line(&self, line: String) {
        if let Some(lines) = &self.lines {
            let _ = lines.try_send(line + "\n");
        }
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

    /// Prints what is left.
    pub fn finish(mut self) {
        self.lines = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn print(lines: &Receiver<String>, closed: &Notify) {
    while let Ok(line) = lines.recv() {
        let mut out = std::io::stdout().lock();
        let result = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        if let Err(error) = result {
            if error.kind() != ErrorKind::BrokenPipe {
                tracing::error!(%error, "cannot write to standard output");
            }
            closed.notify_one();
            return;
        }
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
