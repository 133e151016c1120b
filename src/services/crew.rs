//! The threads of a toolkit service: supervised, below it, ended before its incarnation is.

use std::time::Duration;

use crate::{
    AutoShutdown, Backoff, Context, Error, Limit, Restart, ServiceResult, Spec, StopOrder,
    Supervisor, SupervisorBuilder,
};

/// The pauses between tries to get a thread when there is none.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A supervisor for threads of one service: no limit, all asked to stop at once, and until the
/// service's own deadline.
pub(super) fn builder() -> SupervisorBuilder {
    Supervisor::builder("crew")
        .limit(Limit::none())
        .stop_order(StopOrder::Parallel)
        .service_stop_timeout(Duration::MAX)
}

/// Begins to run `work` on that many threads below the service, named by number from 1. The supervisor
/// ends, and drops every `work`, when each has answered Ok or was stopped. One that fails or panics
/// starts again, so `work` had better catch what is not its own.
///
/// # Errors
/// The threads are not to be had, the service runs a supervisor already, or is asked to stop.
pub(super) fn begin<F>(ctx: &Context, threads: usize, work: F) -> Result<Supervisor, Error>
where
    F: Fn(&Context) -> ServiceResult + Clone + Send + Sync + 'static,
{
    let crew = ctx.supervise(builder().auto_shutdown(AutoShutdown::AllSignificant))?;
    crew.add_all((1..=threads).map(|n| {
        Spec::new(n.to_string(), work.clone())
            .restart(Restart::OnFailure)
            .backoff(Backoff::exponential(FIRST_PAUSE, LONGEST_PAUSE))
            .significant()
    }))?;
    Ok(crew)
}
