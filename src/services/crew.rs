//! The threads of a toolkit service: supervised, below it, ended before its incarnation is.

use std::time::Duration;

use crate::{
    AutoShutdown, Context, Error, Limit, Restart, ServiceResult, Spec, StopOrder, Supervisor,
    SupervisorBuilder,
};

/// A supervisor for threads of one service: no limit, all asked to stop at once, and until the
/// service's own deadline.
pub(super) fn builder() -> SupervisorBuilder {
    Supervisor::builder("crew")
        .limit(Limit::none())
        .stop_order(StopOrder::Parallel)
        .service_stop_timeout(Duration::MAX)
}

/// Runs `work` on that many threads below the service, named by number from 1, and returns when
/// each has answered Ok or was stopped. One that fails or panics starts again, so `work` had better
/// catch what is not its own.
///
/// # Errors
/// The threads are not to be had, or the service runs a supervisor already.
pub(super) fn work_together<F>(ctx: &Context, threads: usize, work: F) -> Result<(), Error>
where
    F: Fn(&Context) -> ServiceResult + Clone + Send + Sync + 'static,
{
    if threads == 0 {
        return Ok(());
    }
    let crew = ctx.supervise(builder().auto_shutdown(AutoShutdown::AllSignificant))?;
    crew.add_all((1..=threads).map(|n| {
        Spec::new(n.to_string(), work.clone())
            .restart(Restart::OnFailure)
            .significant()
    }))?;
    crew.wait()
}
