//! What a user configures for one service.

use std::fmt;
use std::time::Duration;

use crate::error::{BoxError, Error, ErrorKind, ServiceResult};
use crate::failure::Failure;
use crate::id::check_name;
use crate::key::{Key, Links};
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
    /// Boxed: few have any.
    pub(crate) links: Option<Box<Links>>,
    pub(crate) filters: Option<Box<Filters>>,
}

/// What the user has to say about failures. Called on the service's thread only.
#[derive(Default)]
pub(crate) struct Filters {
    pub(crate) fatal_if: Option<FatalIf>,
    pub(crate) map_failure: Option<MapFailure>,
}

pub(crate) type FatalIf = Box<dyn Fn(&Failure) -> bool + Send + Sync>;
pub(crate) type MapFailure = Box<dyn Fn(BoxError) -> ServiceResult + Send + Sync>;

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
            links: None,
            filters: None,
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
    /// it counts as ready once it runs. Refused for a supervisor, which doesn't say so.
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

    /// It takes part in providing this value ([`Context::provide`](crate::Context::provide)); no other
    /// service of its supervisor does. It is ready once it has provided all that it declares, or when
    /// it says so. Refused for a supervisor, which provides nothing itself.
    pub fn provides<T: ?Sized + Send + Sync + 'static>(mut self, key: &Key<T>) -> Spec {
        self.links_mut().provides.push(key.declared());
        self
    }

    /// It is started only while this value is there, and gets it with
    /// [`Context::get`](crate::Context::get). When the value goes or is replaced, the service is stopped
    /// first, then what it depends on; it starts again when all it needs is back (juju's inputs).
    /// None of that counts as a failure.
    ///
    /// The provider is not asked to stop before its users have ended: a user that waits for an answer of its
    /// provider must end that wait at its own stop.
    pub fn needs<T: ?Sized + Send + Sync + 'static>(mut self, key: &Key<T>) -> Spec {
        self.links_mut().needs.push(key.declared());
        self
    }

    /// As [`needs`](Spec::needs), but it runs without the value, too: it is started anew when the
    /// value comes, is replaced or goes. Needed and wanted at once is needed.
    pub fn wants<T: ?Sized + Send + Sync + 'static>(mut self, key: &Key<T>) -> Spec {
        self.links_mut().wants.push(key.declared());
        self
    }

    /// A failure for which `f` answers true takes the supervisor down, as
    /// [`Exit::TerminateTree`](crate::Exit::TerminateTree) does, before any limit or delay; and the failure is
    /// what [`wait`](crate::Supervisor::wait) answers (juju's `IsFatal`). Asked on the service's thread,
    /// after [`map_failure`](Spec::map_failure), about each error, panic, unwanted return and missed ready
    /// timeout, also about an answer to a stop for a restart; never in a stop for good. If it panics,
    /// that is told, and the failure is not fatal.
    pub fn fatal_if(mut self, f: impl Fn(&Failure) -> bool + Send + Sync + 'static) -> Spec {
        self.filters_mut().fatal_if = Some(Box::new(f));
        self
    }

    /// Turns what `run` answers as an error into another answer: another error, an
    /// [`Exit`](crate::Exit), or `Ok` (juju's filters). What is decided is decided by that answer. Called
    /// on the service's thread, not for panics. The text of the error before stays in the chain of
    /// the [`Failure`]. If it panics, that is told, and the error's own text is the failure.
    ///
    /// ```
    /// use backstay::{Context, Exit, Restart, Spec};
    ///
    /// let spec = Spec::new("tail", |_: &Context| Err("end of file".into()))
    ///     .restart(Restart::OnFailure)
    ///     .map_failure(|error| match error.to_string().as_str() {
    ///         "end of file" => Err(Exit::DoNotRestart.because(error).into()),
    ///         _ => Err(error),
    ///     });
    /// # let app = backstay::Supervisor::new("app");
    /// # let id = app.add_spec(spec)?;
    /// # app.start()?;
    /// # let end = app.wait_service(id, std::time::Duration::from_secs(5))?;
    /// # assert!(matches!(end, backstay::End::Done));
    /// # assert!(app.stop().is_empty());
    /// # Ok::<(), backstay::Error>(())
    /// ```
    pub fn map_failure(
        mut self,
        f: impl Fn(BoxError) -> ServiceResult + Send + Sync + 'static,
    ) -> Spec {
        self.filters_mut().map_failure = Some(Box::new(f));
        self
    }

    fn links_mut(&mut self) -> &mut Links {
        self.links.get_or_insert_default()
    }

    fn filters_mut(&mut self) -> &mut Filters {
        self.filters.get_or_insert_default()
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
        if let Some(links) = &self.links {
            let declared = [
                ("provides", &links.provides),
                ("needs", &links.needs),
                ("wants", &links.wants),
            ];
            for (field, keys) in declared {
                for key in keys {
                    key.check(field).map_err(named)?;
                }
            }
        }
        if self.service.as_supervisor().is_some() {
            let says = |field, what| {
                let why = format!("a supervisor {what}; set it for a service below");
                Err(named(Error::invalid(field, why)))
            };
            if self.ready_timeout.is_some() {
                return says("ready_timeout", "doesn't say that it is ready");
            }
            if self.links.as_ref().is_some_and(|l| !l.provides.is_empty()) {
                return says("provides", "provides nothing itself");
            }
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
