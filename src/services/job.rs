//! `Job`: something to be done once, by whoever has it.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::outcome::caught;
use crate::{BoxError, Context, Failure, ServiceResult};

/// Something to be done once. What a [`WorkerPool`](super::WorkerPool) takes and, if it cannot take it,
/// gives back.
///
/// Any closure that could be pushed to a pool converts into one.
///
/// ```
/// use backstay::services::{Job, PushError, WorkerPool};
/// use backstay::{Context, Supervisor};
///
/// let pool = WorkerPool::builder(1).build()?;
/// pool.queue().close();
/// let refused = pool.push(|ctx| Ok(println!("by {}", ctx.path()))).unwrap_err();
/// let job: Job = refused.into_inner();
///
/// // Then by hand.
/// # let app = Supervisor::new("app");
/// # let job = std::sync::Mutex::new(Some(job));
/// # let (tell, told) = backstay::crossbeam_channel::unbounded();
/// app.add("hand", move |ctx: &Context| {
///     # let Some(job) = job.lock().unwrap().take() else { return Ok(ctx.wait_stop()) };
///     job.run(ctx)?;
///     # tell.send(())?;
///     # ctx.wait_stop();
///     Ok(())
/// })?;
/// # app.start()?;
/// # told.recv()?;
/// # app.stop();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Job {
    /// Never locked: only that a closure that is not `Sync` can be handed back in an error, which has
    /// to be.
    work: Mutex<Box<dyn Work>>,
}

/// What a job does. An object rather than a closure, so that an empty closure takes no memory.
pub(super) trait Work: Send {
    /// Who waits for its end is left in `waits` before anything else.
    fn run(self: Box<Self>, ctx: &Context, waits: &Waits) -> ServiceResult;
}

/// Where the claim to a job's end is while the job runs, and after a panic.
pub(super) type Waits = Cell<Option<Arc<dyn Ticket>>>;

/// The claim of somebody who waits for the end of a job. Dropping the last one settles it: with what
/// the job has answered, or with nothing.
pub(super) trait Ticket: Send + Sync {
    fn fail(&self, failure: Failure);
}

struct Plain<F>(F);

impl<F> Work for Plain<F>
where
    F: FnOnce(&Context) -> ServiceResult + Send,
{
    fn run(self: Box<Self>, ctx: &Context, _: &Waits) -> ServiceResult {
        (self.0)(ctx)
    }
}

impl Job {
    /// A job that calls `f`.
    pub fn new<F>(f: F) -> Job
    where
        F: FnOnce(&Context) -> ServiceResult + Send + 'static,
    {
        Job::of(Plain(f))
    }

    pub(super) fn of(work: impl Work + 'static) -> Job {
        Job {
            work: Mutex::new(Box::new(work)),
        }
    }

    pub(super) fn into_work(self) -> Box<dyn Work> {
        self.work.into_inner()
    }

    /// Does it here and now, as a pool would.
    ///
    /// # Errors
    /// What it has answered. A panic comes back as its [`Failure`], so the answer of a service that hands
    /// it on counts as that panic. Whoever waits for the job is told, too.
    pub fn run(self, ctx: &Context) -> ServiceResult {
        let work = self.into_work();
        let waits = Waits::new(None);
        let answer = caught(|| work.run(ctx, &waits));
        match (answer, waits.take()) {
            (Err(error), Some(ticket)) => Err(tell(&*ticket, error)),
            (answer, _) => answer,
        }
    }
}

/// Tells who waits of a failure. It comes back, for whoever else is to be told.
pub(super) fn tell(ticket: &dyn Ticket, error: BoxError) -> BoxError {
    let failure = Failure::of(error);
    ticket.fail(failure.clone());
    failure.into()
}

impl<F> From<F> for Job
where
    F: FnOnce(&Context) -> ServiceResult + Send + 'static,
{
    fn from(f: F) -> Job {
        Job::new(f)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}
