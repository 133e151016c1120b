//! What became of the jobs.

use std::fmt;
use std::sync::Arc;
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

/// What one worker counts. Written by that worker alone, so that counting costs next to nothing; on a
/// cache line of its own, so that workers do not get in each other's way.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Tally {
    begun: AtomicUsize,
    done: AtomicUsize,
    failed: AtomicUsize,
    panicked: AtomicUsize,
}

/// Adds one, where nobody else writes.
#[inline]
fn count(one_more: &AtomicUsize, order: Ordering) {
    one_more.store(one_more.load(Ordering::Relaxed).wrapping_add(1), order);
}

/// The right to write a tally. Others take it over later and count on.
pub(super) struct Pen<'a> {
    ledger: &'a Ledger,
    tally: Arc<Tally>,
}

impl Pen<'_> {
    /// Under the lock of the queue that the job was in.
    #[inline]
    pub(super) fn begin(&self) {
        count(&self.tally.begun, Ordering::Relaxed);
    }

    /// Whoever sees the end sees what the job has done.
    #[inline]
    pub(super) fn end(&self, how: How) {
        let ended = match how {
            How::Done => &self.tally.done,
            How::Failed => &self.tally.failed,
            How::Panicked => &self.tally.panicked,
        };
        count(ended, Ordering::Release);
    }
}

impl Drop for Pen<'_> {
    fn drop(&mut self) {
        self.ledger.tallies.lock().free.push(self.tally.clone());
    }
}

#[derive(Default)]
struct Tallies {
    /// As many as there were workers at the same time.
    all: Vec<Arc<Tally>>,
    /// Those without a writer.
    free: Vec<Arc<Tally>>,
}

/// The counts of all workers over all incarnations, and the errors that are kept. On platforms of
/// 32 bits the counts begin again after 2^32.
pub(super) struct Ledger {
    tallies: Mutex<Tallies>,
    discarded: AtomicUsize,
    keep: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    errors: Vec<BoxError>,
    dropped: u64,
}

impl Ledger {
    pub(super) fn new(keep: usize) -> Ledger {
        Ledger {
            tallies: Mutex::new(Tallies::default()),
            discarded: AtomicUsize::new(0),
            keep,
            kept: Mutex::new(Kept::default()),
        }
    }

    /// For one worker, as long as it works.
    pub(super) fn pen(&self) -> Pen<'_> {
        let mut tallies = self.tallies.lock();
        let tally = tallies.free.pop().unwrap_or_else(|| {
            let tally = Arc::new(Tally::default());
            tallies.all.push(tally.clone());
            tally
        });
        Pen {
            ledger: self,
            tally,
        }
    }

    /// Under the lock of the queue that the jobs were in.
    pub(super) fn discard(&self, jobs: usize) {
        self.discarded.fetch_add(jobs, Ordering::Relaxed);
    }

    /// Under the queue's lock: no job begins and none is discarded meanwhile. One that ends meanwhile
    /// is counted as running or as ended.
    pub(super) fn stats(&self, queued: usize) -> PoolStats {
        let tallies = self.tallies.lock();
        let sum = |count: fn(&Tally) -> &AtomicUsize| {
            let counts = tallies.all.iter().map(|t| count(t).load(Ordering::Acquire));
            counts.fold(0, usize::wrapping_add)
        };
        let done = sum(|t| &t.done);
        let failed = sum(|t| &t.failed);
        let panicked = sum(|t| &t.panicked);
        let ended = done.wrapping_add(failed).wrapping_add(panicked);
        PoolStats {
            queued: queued as u64,
            running: sum(|t| &t.begun).wrapping_sub(ended) as u64,
            done: done as u64,
            failed: failed as u64,
            panicked: panicked as u64,
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
