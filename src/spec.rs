//! What a user configures for one service.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::id::check_name;
use crate::machine::policy::{Backoff, Limit, PanicPolicy, Restart};
use crate::service::Service;

/// The smallest stack a service may have, in bytes. Smaller ones save no memory.
pub const STACK_SIZE_MIN: usize = 64 * 1024;

/// A service and how it is to be treated. What isn't set comes from the supervisor's builder.
///
/// ```
/// use backstay::{Backoff, Context, Restart, Spec, Supervisor};
/// use std::time::Duration;
///
/// let app = Supervisor::new("app");
/// app.add_spec(
///     Spec::new("poller", |ctx: &Context| Ok(ctx.sleep(Duration::from_secs(60))?))
///         .restart(Restart::OnFailure)
///         .backoff(Backoff::exponential(Duration::from_millis(100), Duration::from_secs(30)))
///         .stop_timeout(Duration::from_secs(2)),
/// )?;
/// # Ok::<(), backstay::Error>(())
/// ```
#[must_use = "a spec does nothing before it is added"]
pub struct Spec {
    pub(crate) name: String,
    pub(crate) service: Box<dyn Service>,
    pub(crate) restart: Restart,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) panic_backoff: Option<Backoff>,
    pub(crate) limit: Option<Limit>,
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) ready_timeout: Option<Duration>,
    pub(crate) group: Option<String>,
    pub(crate) significant: bool,
    pub(crate) panic_policy: Option<PanicPolicy>,
    pub(crate) overlap_max: usize,
    pub(crate) stack_size: Option<usize>,
    pub(crate) fresh_thread: bool,
}

impl Spec {
    /// A service under a name: 1 to 64 bytes, no dot, white space or control character.
    pub fn new(name: impl Into<String>, service: impl Service) -> Spec {
        Spec {
            name: name.into(),
            service: Box::new(service),
            restart: Restart::default(),
            backoff: None,
            panic_backoff: None,
            limit: None,
            stop_timeout: None,
            ready_timeout: None,
            group: None,
            significant: false,
            panic_policy: None,
            overlap_max: 0,
            stack_size: None,
            fresh_thread: false,
        }
    }

    /// When it is started again; [`Restart::Always`] unless set.
    pub fn restart(mut self, restart: Restart) -> Spec {
        self.restart = restart;
        self
    }

    /// How long it waits after a failure; unless set, what the supervisor's builder says.
    pub fn backoff(mut self, backoff: Backoff) -> Spec {
        self.backoff = Some(backoff);
        self
    }

    /// How long it waits after a panic, if that differs; its failures in a row are counted apart.
    pub fn panic_backoff(mut self, backoff: Backoff) -> Spec {
        self.panic_backoff = Some(backoff);
        self
    }

    /// A limit of its own: its failures don't count against its supervisor's then. None unless set.
    pub fn limit(mut self, limit: Limit) -> Spec {
        self.limit = Some(limit);
        self
    }

    /// How long it may take to stop before it is abandoned. Of a supervisor: a hard deadline for
    /// its whole tree; unset, that is as long as its services need. Of another service unset: what
    /// the supervisor's builder says. Zero waits for nothing: a service that runs is abandoned.
    pub fn stop_timeout(mut self, timeout: Duration) -> Spec {
        self.stop_timeout = Some(timeout);
        self
    }

    /// It must call [`Context::ready`](crate::Context::ready) within this time after each start;
    /// else it has failed: [`FailureKind::ReadyTimeout`](crate::FailureKind::ReadyTimeout). Unless set
    /// it counts as ready once it runs.
    pub fn ready_timeout(mut self, timeout: Duration) -> Spec {
        self.ready_timeout = Some(timeout);
        self
    }

    /// It restarts together with all services of the same group of its supervisor: stopped in
    /// reverse order, started in order when all have ended (monogon's groups). A group's name
    /// follows the rules of a service's.
    pub fn group(mut self, name: &str) -> Spec {
        self.group = Some(name.to_owned());
        self
    }

    /// Its end by itself may end the supervisor: see
    /// [`AutoShutdown`](crate::AutoShutdown). Refused for [`Restart::Always`] and, when it is added,
    /// by a supervisor with [`AutoShutdown::Never`](crate::AutoShutdown::Never).
    pub fn significant(mut self) -> Spec {
        self.significant = true;
        self
    }

    /// What a panic means; unless set, what the supervisor's builder says.
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Spec {
        self.panic_policy = Some(policy);
        self
    }

    /// It may start again while up to `abandoned_max` incarnations that did not stop in time still
    /// exist. Unless set it never runs twice at the same time. A removal is over when all of them have
    /// ended.
    pub fn allow_overlap(mut self, abandoned_max: usize) -> Spec {
        self.overlap_max = abandoned_max;
        self
    }

    /// The stack of its thread in bytes, at least [`STACK_SIZE_MIN`]; the platform's unless set.
    pub fn stack_size(mut self, bytes: usize) -> Spec {
        self.stack_size = Some(bytes);
        self
    }

    /// Each incarnation gets a new thread. Otherwise the thread is kept over restarts, and with
    /// it the thread-local variables.
    pub fn fresh_thread(mut self) -> Spec {
        self.fresh_thread = true;
        self
    }

    /// The name it will be added under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_name(&self.name)?;
        let named =
            |e: Error| Error::new(ErrorKind::Invalid, format!("{e} (service {:?})", self.name));
        if let Some(group) = &self.group {
            check_name(group).map_err(|e| named(Error::invalid("group", e)))?;
        }
        if let Some(limit) = &self.limit {
            limit.check().map_err(named)?;
        }
        if let Some(backoff) = &self.backoff {
            backoff.check("backoff").map_err(named)?;
        }
        if let Some(backoff) = &self.panic_backoff {
            backoff.check("panic_backoff").map_err(named)?;
        }
        match self.stack_size {
            Some(bytes) if bytes < STACK_SIZE_MIN => Err(named(Error::invalid(
                "stack_size",
                format!("{bytes} bytes are less than {STACK_SIZE_MIN}"),
            ))),
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec")
            .field("name", &self.name)
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}
