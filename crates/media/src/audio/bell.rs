//! How a device's callback wakes the owner of its ring.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;

/// Wakes whoever moves sound when a device has a frame or wants one. Devices call back on threads
/// that must neither lock nor allocate nor wait, and most ways to wake somebody do: so they only
/// unpark a thread, and that one does the rest. The thread ends with the last bell.
#[derive(Clone)]
pub struct Bell(Arc<Rope>);

struct Rope {
    state: Arc<State>,
    ringer: Thread,
}

#[derive(Default)]
struct State {
    pulled: AtomicBool,
    over: AtomicBool,
}

impl Bell {
    /// A bell that calls `wake` on a thread of its own: once or more often, soon after each ring.
    pub fn new(wake: impl Fn() + Send + 'static) -> Bell {
        let state = Arc::new(State::default());
        let own = Arc::clone(&state);
        let ringer = std::thread::spawn(move || {
            while !own.over.load(Ordering::Acquire) {
                if own.pulled.swap(false, Ordering::AcqRel) {
                    wake();
                } else {
                    std::thread::park();
                }
            }
        });
        Bell(Arc::new(Rope {
            state,
            ringer: ringer.thread().clone(),
        }))
    }

    /// A bell that nobody hears, for an owner that looks by itself.
    pub fn silent() -> Bell {
        Bell::new(|| {})
    }

    /// Rings. Takes no lock, allocates nothing, does not wait.
    #[cfg(feature = "sound")]
    pub(super) fn ring(&self) {
        // A ring that was not heard yet is enough.
        if !self.0.state.pulled.swap(true, Ordering::AcqRel) {
            self.0.ringer.unpark();
        }
    }
}

impl Drop for Rope {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Release);
        self.ringer.unpark();
    }
}

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bell")
    }
}

#[cfg(all(test, feature = "sound"))]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn every_ring_is_heard_and_the_thread_ends_with_the_bell() {
        let (tell, told) = mpsc::channel();
        let bell = Bell::new(move || tell.send(()).unwrap());
        for _ in 0..3 {
            bell.clone().ring();
            told.recv().unwrap();
        }
        drop(bell);
        // The sender goes with its thread.
        assert!(told.recv().is_err());
    }
}
