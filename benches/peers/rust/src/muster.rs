//! For threads that wait for each other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread::{self, Thread};

/// Opens once.
#[derive(Debug, Default)]
pub struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub fn wait(&self) {
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
    }
}

/// Counts who has begun; the last one wakes who waits.
#[derive(Debug)]
pub struct Muster {
    missing: AtomicUsize,
    waiting: Thread,
}

impl Muster {
    /// To be waited for by this thread.
    pub fn new(n: usize) -> Muster {
        Muster {
            missing: AtomicUsize::new(n),
            waiting: thread::current(),
        }
    }

    pub fn begun(&self) {
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiting.unpark();
        }
    }

    pub fn wait(&self) {
        while !self.is_complete() {
            thread::park();
        }
    }

    pub fn is_complete(&self) -> bool {
        self.missing.load(Ordering::Acquire) == 0
    }
}
