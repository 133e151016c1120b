//! The helper threads of a command. They run below its service, and before there is a child: then
//! nothing that is needed for it can be refused any more.

use std::time::Duration;

use crate::services::crew;
use crate::{Context, Error, Restart, ServiceResult, Spec, Supervisor};

/// A supervisor below the service, from the first helper on.
pub(super) struct Below<'a> {
    ctx: &'a Context,
    crew: Option<Supervisor>,
}

impl<'a> Below<'a> {
    pub(super) fn new(ctx: &'a Context) -> Below<'a> {
        Below { ctx, crew: None }
    }

    /// Starts a helper and returns when it runs. A stop of the service does not reach `work`, which has
    /// to see by itself that the child is gone.
    ///
    /// # Errors
    /// No thread is to be had; or the service is asked to stop.
    pub(super) fn add<F>(&mut self, name: &str, work: F) -> Result<(), Error>
    where
        F: Fn(&Context) -> ServiceResult + Send + Sync + 'static,
    {
        let crew = match &self.crew {
            Some(crew) => crew,
            None => self.crew.insert(self.ctx.supervise(crew::builder())?),
        };
        let entered = move |ctx: &Context| {
            ctx.ready();
            work(ctx)
        };
        // It must be in `work` before it may be asked to stop: else it would never be entered.
        let spec = Spec::new(name, entered)
            .restart(Restart::OnFailure)
            .ready_timeout(Duration::MAX);
        crew.add_spec(spec)?;
        Ok(crew.wait_ready(Duration::MAX)?)
    }
}
