//! W1 and W1e: one service that fails as often as it is told.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use crate::figures::figure_each;

/// What a service fails with.
pub type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Panic,
    Error,
}

/// What the service and the program that tells it share.
#[derive(Debug)]
pub struct Flaky {
    how: How,
    left: AtomicU64,
    running: Sender<Instant>,
}

impl Flaky {
    /// With the times at which the service ran and had nothing left to fail for.
    pub fn new(how: How) -> (Flaky, Receiver<Instant>) {
        let (running, runs) = mpsc::channel();
        let left = AtomicU64::new(0);
        (Flaky { how, left, running }, runs)
    }

    /// Called first thing by every run, and again when the service is woken.
    ///
    /// # Errors
    /// It is to fail once more, with an error.
    ///
    /// # Panics
    /// It is to fail once more, with a panic.
    pub fn run(&self) -> Result<(), Failure> {
        if self.left.load(Ordering::Acquire) == 0 {
            return self.running.send(Instant::now()).map_err(Failure::from);
        }
        self.left.fetch_sub(1, Ordering::AcqRel);
        match self.how {
            How::Panic => panic!("a service panics"),
            How::Error => Err("a service fails".into()),
        }
    }

    /// Orders `failures` at once and takes the time until the service runs after the last of them;
    /// before that a tenth of them, unmeasured. `wake` wakes the service, which waits.
    pub fn measure(&self, runs: &Receiver<Instant>, failures: u64, wake: impl Fn()) {
        let round = |failures: u64| {
            self.left.store(failures, Ordering::Release);
            let begun = Instant::now();
            wake();
            runs.recv().map(|end| end - begun).unwrap_or_default()
        };
        // Its first run of all.
        let _ = runs.recv();
        round((failures / 10).max(1));
        let name = match self.how {
            How::Panic => "w1",
            How::Error => "w1e",
        };
        figure_each(name, round(failures), failures);
    }
}
