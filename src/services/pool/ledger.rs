//! What became of the jobs.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::{BoxError, Errors};

/// How many jobs of a pool are where, at one moment. Each job that was taken in is in exactly one of
/// these, and in another one later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolStats {
    /// In the queue.
    pub queued: u64,
    /// Begun and not ended.
    pub running: u64,
    /// Answered Ok, an excluded error, or an [`Exit`](crate::Exit); or was cut short by a stop
    /// ([`Stopping`](crate::Stopping)).
    pub done: u64,
    /// Answered an error.
    pub failed: u64,
    /// Panicked.
    pub panicked: u64,
    /// Dropped without having been begun.
    pub discarded: u64,
}

impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PoolStats {
            queued,
            running,
            done,
            failed,
            panicked,
            discarded,
        } = self;
        write!(
            f,
            "{queued} queued, {running} running, {done} done, {failed} failed, {panicked} panicked, \
             {discarded} discarded"
        )
    }
}

/// How a job ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum How {
    Done,
    Failed,
    Panicked,
}

/// What one worker counts. On a cache line of its own, so that workers do not get in each other's way.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Tally {
    begun: AtomicUsize,
    done: AtomicUsize,
    failed: AtomicUsize,
    panicked: AtomicUsize,
}

impl Tally {
    /// Under the lock of the queue that the job was in.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, how: How) {
        let count = match how {
            How::Done => &self.done,
            How::Failed => &self.failed,
            How::Panicked => &self.panicked,
        };
        // Whoever sees the end has seen the beginning.
        count.fetch_add(1, Ordering::Release);
    }
}

/// The counts of all workers over all incarnations, and the errors that are kept. On platforms of
/// 32 bits the counts begin again after 2^32.
pub(super) struct Ledger {
    tallies: Vec<Tally>,
    discarded: AtomicUsize,
    keep: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    errors: Vec<BoxError>,
    dropped: u64,
}

/// What has ended; the rest is counted under the queue's lock.
pub(super) struct Ended {
    done: usize,
    failed: usize,
    panicked: usize,
}

impl Ledger {
    pub(super) fn new(workers: usize, keep: usize) -> Ledger {
        Ledger {
            tallies: (0..workers).map(|_| Tally::default()).collect(),
            discarded: AtomicUsize::new(0),
            keep,
            kept: Mutex::new(Kept::default()),
        }
    }

    pub(super) fn tally(&self, worker: usize) -> &Tally {
        &self.tallies[worker % self.tallies.len()]
    }

    /// Under the lock of the queue that the jobs were in.
    pub(super) fn discard(&self, jobs: usize) {
        self.discarded.fetch_add(jobs, Ordering::Relaxed);
    }

    fn sum(&self, count: impl Fn(&Tally) -> &AtomicUsize) -> usize {
        let counts = self
            .tallies
            .iter()
            .map(|t| count(t).load(Ordering::Acquire));
        counts.fold(0, usize::wrapping_add)
    }

    /// Before [`Ledger::stats`]: a job that ends in between still counts as running.
    pub(super) fn ended(&self) -> Ended {
        Ended {
            done: self.sum(|t| &t.done),
            failed: self.sum(|t| &t.failed),
            panicked: self.sum(|t| &t.panicked),
        }
    }

    /// Under the queue's lock: no job begins and none is discarded meanwhile.
    pub(super) fn stats(&self, queued: usize, ended: &Ended) -> PoolStats {
        let over = ended
            .done
            .wrapping_add(ended.failed)
            .wrapping_add(ended.panicked);
        PoolStats {
            queued: queued as u64,
            running: self.sum(|t| &t.begun).wrapping_sub(over) as u64,
            done: ended.done as u64,
            failed: ended.failed as u64,
            panicked: ended.panicked as u64,
            discarded: self.discarded.load(Ordering::Relaxed) as u64,
        }
    }

    /// Keeps an error. One too many is only counted and comes back, to be dropped without a lock.
    pub(super) fn keep(&self, error: BoxError) -> Option<BoxError> {
        let mut kept = self.kept.lock();
        if kept.errors.len() < self.keep {
            kept.errors.push(error);
            return None;
        }
        kept.dropped = kept.dropped.saturating_add(1);
        Some(error)
    }

    /// Takes out everything that is kept: behind `first`, if there is such. A job may have answered
    /// several as one, so some may have to go: that runs their `Drop`.
    pub(super) fn take(&self, first: Option<BoxError>) -> Errors {
        let Kept { errors, dropped } = std::mem::take(&mut *self.kept.lock());
        let ahead = first
            .as_ref()
            .map_or(0, |e| e.downcast_ref::<Errors>().map_or(1, Errors::len));
        let mut all = Errors::keeping(self.keep.saturating_add(ahead));
        first
            .into_iter()
            .chain(errors)
            .for_each(|error| all.push(error));
        all.add_dropped(dropped);
        all
    }
}
