//! Configures a pool.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{AtStop, Drain, Rules, Shared, WorkerPool, rules_methods};
use crate::services::job::Job;
use crate::services::queue::Queue;
use crate::{Error, MAX_SERVICES};

/// Configures a [`WorkerPool`].
///
/// ```
/// use backstay::services::{Drain, Queue, WorkerPool};
/// use std::time::Duration;
///
/// let pool = WorkerPool::builder(4)
///     .queue(Queue::new(1_000)?)
///     .drain(Drain::Finish(Duration::from_secs(2)))
///     .continue_on_error()
///     .exclude(|error| error.is::<std::num::ParseIntError>())
///     .on_error(|error| eprintln!("a job failed: {error}"))
///     .build()?;
/// # assert_eq!(pool.stats().queued, 0);
/// # Ok::<(), backstay::Error>(())
/// ```
#[must_use = "a builder does nothing before it builds"]
pub struct WorkerPoolBuilder {
    workers: usize,
    queue: Option<Queue<Job>>,
    drain: Drain,
    rules: Rules,
}

impl WorkerPoolBuilder {
    pub(super) fn new(workers: usize) -> WorkerPoolBuilder {
        WorkerPoolBuilder {
            workers,
            queue: None,
            drain: Drain::default(),
            rules: Rules::new(),
        }
    }

    /// Where its jobs wait. Unless set, a queue of its own, for n workers with a soft limit of 2n, a
    /// hard limit of 4n, and a credit of n. It becomes the pool's, which closes it at its end: give
    /// each pool one of its own.
    pub fn queue(mut self, queue: Queue<Job>) -> WorkerPoolBuilder {
        self.queue = Some(queue);
        self
    }

    /// What a stop for good does to the jobs in the queue; unless set they are done, for up to
    /// [`DEFAULT_DRAIN`](super::super::DEFAULT_DRAIN). Jobs that run are waited for in any case, as
    /// long as the stop timeout of the service allows, so that had better be longer.
    pub fn drain(mut self, drain: Drain) -> WorkerPoolBuilder {
        self.drain = drain;
        self
    }

    rules_methods!();

    /// The pool; nothing runs yet.
    ///
    /// # Errors
    /// `workers` is zero, or more than [`MAX_SERVICES`].
    pub fn build(self) -> Result<WorkerPool, Error> {
        check_workers(self.workers)?;
        let queue = match self.queue {
            Some(queue) => queue,
            None => Queue::with_burst(2 * self.workers, 4 * self.workers, self.workers)?,
        };
        let at_stop = AtStop::Jobs(self.drain);
        let shared: Arc<Shared> = Shared::new(self.workers, queue, at_stop, self.rules);
        Ok(WorkerPool {
            shared,
            ran: Mutex::new(None),
        })
    }
}

pub(in crate::services) fn check_workers(workers: usize) -> Result<(), Error> {
    match workers {
        0 => Err(Error::invalid("workers", "nobody would do anything")),
        n if n > MAX_SERVICES => {
            let why = format!("{n} are more than {MAX_SERVICES}");
            Err(Error::invalid("workers", why))
        }
        _ => Ok(()),
    }
}

impl fmt::Debug for WorkerPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPoolBuilder")
            .field("workers", &self.workers)
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}
