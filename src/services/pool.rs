//! `WorkerPool`: jobs from a queue, done by supervised threads.

mod builder;
mod ledger;
mod rules;
mod run;
mod shift;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

pub use self::builder::WorkerPoolBuilder;
pub(super) use self::builder::check_workers;
use self::ledger::Ledger;
pub use self::ledger::PoolStats;
pub(super) use self::rules::{Rules, rules_methods};
pub(super) use self::shift::{Shift, Then};
use super::handle::{self, JobHandle};
use super::job::Job;
use super::queue::Queue;
use super::refused::PushError;
use crate::{BoxError, Context, Errors, Failure, Service, ServiceResult};

/// How long a pool that is stopped goes on beginning the jobs in its queue, unless set.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(5);

/// What a stop does to the jobs in the queue. A stop for a restart leaves them there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Drain {
    /// They are done, but none begins later than this after the request; those that are left then are
    /// discarded. [`Duration::MAX`] is without a limit, zero the same as [`Discard`](Drain::Discard).
    Finish(Duration),
    /// They are discarded at once.
    Discard,
}

/// Finish, for [`DEFAULT_DRAIN`]: half of what a service usually has for its stop.
impl Default for Drain {
    fn default() -> Drain {
        Drain::Finish(DEFAULT_DRAIN)
    }
}

/// Does jobs from a queue on supervised threads, as fun/srv's worker pools do. A cheap handle: add a
/// clone, push through another one.
///
/// Workers are threads below the service, named by number: `app.pool.1`. A job is a closure that
/// gets the context of the pool. Before the start, jobs are taken and wait.
///
/// ```
/// use backstay::services::WorkerPool;
/// use backstay::{Context, Supervisor};
///
/// let pool = WorkerPool::builder(2).build()?;
/// # let (tell, told) = backstay::crossbeam_channel::unbounded();
/// # let (tell, log) = (tell.clone(), tell);
/// let app = Supervisor::new("app");
/// app.add("pool", pool.clone())?;
/// app.start()?;
/// pool.push(move |ctx: &Context| {
///     assert_eq!(ctx.path(), "app.pool");
///     tell.send("done")?;
///     Ok(())
/// })?;
/// assert_eq!(told.recv(), Ok("done"));
/// # drop(log);
///
/// // A stop lets it finish what is queued.
/// assert!(app.stop().is_empty());
/// assert_eq!(pool.stats().done, 1);
/// assert!(pool.push(|_: &Context| Ok(())).is_err());
/// # Ok::<(), backstay::Error>(())
/// ```
///
/// # What becomes of a job
///
/// A job that was taken is begun at most once and is never lost: it ends in one of the ways that
/// [`PoolStats`] counts. One that is refused comes back.
///
/// An error that the pool shall not [go on](WorkerPoolBuilder::continue_on_error) after, and a panic,
/// ends this incarnation of the whole pool: jobs that run are waited for, no other begins, and the
/// error is the answer, so the pool fails with it; those that stay in the queue are for the next
/// incarnation. What was kept of other failures comes with it, as an
/// [`Errors`](crate::Errors) with the error that ended it first. A job that answers an
/// [`Exit`](crate::Exit) ends the pool with it.
///
/// | the end | jobs in the queue | a push |
/// |---|---|---|
/// | a failure, a stop for a restart | stay | is taken |
/// | a stop for good | are done, or discarded: [`Drain`] | [`PushError::Draining`] until that is over |
/// | removal, the end of the tree | are discarded | [`PushError::Closed`] |
/// | the queue is closed by hand | are done; then the pool is done | [`PushError::Closed`] |
///
/// During a stop the context of jobs that run says so: a long job looks at it, and may answer
/// [`Stopping`](crate::Stopping), which is no failure then. After
/// [`stop_service`](crate::Supervisor::stop_service) the pool can be started again, and takes jobs as
/// before its first start.
///
/// The queue belongs to the pool and closes with it: when the supervisor lets go of the service, or,
/// if [`run`](Service::run) was called by another service, when the handle that it was called on is
/// dropped. So a service that runs a pool itself keeps that handle, and does not run a passing clone.
pub struct WorkerPool {
    shared: Arc<Shared>,
    /// Where this handle ran last.
    ran: Mutex<Option<Context>>,
}

/// What a stop means for what is in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum AtStop {
    Jobs(Drain),
    /// What was pulled from a source is done, whatever the stop is for. What an error leaves of it is
    /// for the next incarnation, or is dropped.
    Items {
        keeps_left: bool,
    },
}

/// What all handles share, over all incarnations.
pub(super) struct Shared {
    pub(super) workers: usize,
    pub(super) queue: Queue<Job>,
    pub(super) at_stop: AtStop,
    pub(super) rules: Rules,
    ledger: Ledger,
}

impl Shared {
    pub(super) fn new(
        workers: usize,
        queue: Queue<Job>,
        at_stop: AtStop,
        rules: Rules,
    ) -> Arc<Shared> {
        Arc::new(Shared {
            ledger: Ledger::new(rules.keep),
            workers,
            queue,
            at_stop,
            rules,
        })
    }

    /// Nothing will come of the jobs in the queue.
    pub(super) fn discard(&self) {
        let jobs = self.queue.take_all(|n| self.ledger.discard(n));
        jobs.into_iter().for_each(|job| self.bury(job));
    }

    /// The pool will never run again.
    pub(super) fn close(&self) {
        self.queue.close();
        self.discard();
    }

    /// Drops a value of the user's.
    fn bury<T>(&self, value: T) {
        if let Err(panic) = Failure::catch(|| drop(value)) {
            // In the failure of a panic there is nothing of the user's.
            drop(self.ledger.keep(panic.into()));
        }
    }

    fn stats(&self) -> PoolStats {
        self.queue.with_len(|queued| self.ledger.stats(queued))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.queue.is_last_handle() {
            self.discard();
        }
    }
}

impl WorkerPool {
    /// A pool of that many workers, to be configured.
    pub fn builder(workers: usize) -> WorkerPoolBuilder {
        WorkerPoolBuilder::new(workers)
    }

    /// Puts a job into the queue. Never blocks.
    ///
    /// # Errors
    /// Why not, with the job: see [`Queue::push`].
    pub fn push<F>(&self, job: F) -> Result<(), PushError<Job>>
    where
        F: FnOnce(&Context) -> ServiceResult + Send + 'static,
    {
        self.shared.queue.push(Job::new(job))
    }

    /// Puts a job into the queue, and waits for room for up to `d`.
    ///
    /// # Errors
    /// Why not, with the job: see [`Queue::push_timeout`].
    pub fn push_timeout<F>(&self, job: F, d: Duration) -> Result<(), PushError<Job>>
    where
        F: FnOnce(&Context) -> ServiceResult + Send + 'static,
    {
        self.shared.queue.push_timeout(Job::new(job), d)
    }

    /// Puts a job into the queue whose answer, or failure, somebody waits for. The rules of the pool
    /// hold for it as for any other: an error that it does not go on after ends it. Never blocks.
    ///
    /// # Errors
    /// Why not, with the job: see [`Queue::push`].
    pub fn submit<R, F>(&self, f: F) -> Result<JobHandle<R>, PushError<Job>>
    where
        R: Send + 'static,
        F: FnOnce(&Context) -> Result<R, BoxError> + Send + 'static,
    {
        let (job, handle) = handle::with_handle(f);
        self.shared.queue.push(job)?;
        Ok(handle)
    }

    /// The same, and waits for room for up to `d`.
    ///
    /// # Errors
    /// Why not, with the job: see [`Queue::push_timeout`].
    pub fn submit_timeout<R, F>(&self, f: F, d: Duration) -> Result<JobHandle<R>, PushError<Job>>
    where
        R: Send + 'static,
        F: FnOnce(&Context) -> Result<R, BoxError> + Send + 'static,
    {
        let (job, handle) = handle::with_handle(f);
        self.shared.queue.push_timeout(job, d)?;
        Ok(handle)
    }

    /// The queue: to push a [`Job`], to look at its length, to [drain](Queue::drain) it, or to
    /// [close](Queue::close) it, which makes the pool finish what is in it and be done.
    #[must_use]
    pub fn queue(&self) -> &Queue<Job> {
        &self.shared.queue
    }

    /// How many jobs are where now.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        self.shared.stats()
    }

    /// Takes out the errors that are kept for the answer of this incarnation, or that came after the
    /// last one.
    #[must_use]
    pub fn take_errors(&self) -> Errors {
        self.shared.ledger.take(None)
    }
}

impl Service for WorkerPool {
    fn run(&self, ctx: &Context) -> ServiceResult {
        *self.ran.lock() = Some(ctx.clone());
        self.shared.run(ctx, |_| {})
    }

    fn retire(&self) {
        self.shared.close();
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

impl Clone for WorkerPool {
    fn clone(&self) -> WorkerPool {
        WorkerPool {
            shared: self.shared.clone(),
            ran: Mutex::new(None),
        }
    }
}

impl Drop for WorkerPool {
    /// A handle that ran in a service of somebody else's goes with that service, unless it is a passing
    /// one: that goes while its incarnation is there, and may be followed by another.
    fn drop(&mut self) {
        if let Some(ctx) = self.ran.get_mut().take() {
            let is_final = ctx.stop_cause().is_some_and(|cause| cause.is_final());
            if is_final || ctx.has_ended() {
                self.shared.close();
            }
        }
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerPool")
            .field("workers", &self.shared.workers)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
