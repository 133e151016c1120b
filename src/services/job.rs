//! `Job`: something to be done once.

use std::fmt;

use parking_lot::Mutex;

use crate::{Context, ServiceResult};

/// Something to be done once, by a service that does such things: a closure in a box.
///
/// ```
/// use backstay::Context;
/// use backstay::services::Job;
///
/// let job = Job::new(|ctx: &Context| {
///     ctx.log("done");
///     Ok(())
/// });
/// # let _ = job;
/// ```
pub struct Job(
    /// Never locked: it makes the closure, which only one thread will ever call, shareable.
    Mutex<Call>,
);

type Call = Box<dyn FnOnce(&Context) -> ServiceResult + Send>;

impl Job {
    /// A job that calls `f`.
    pub fn new(f: impl FnOnce(&Context) -> ServiceResult + Send + 'static) -> Job {
        Job(Mutex::new(Box::new(f)))
    }

    /// Does it here.
    ///
    /// # Errors
    /// Whatever the closure answers. A panic is not caught.
    pub fn run(self, ctx: &Context) -> ServiceResult {
        self.0.into_inner()(ctx)
    }
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
