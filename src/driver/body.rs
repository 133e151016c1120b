//! A spec, divided into what the machine needs to know and the user's values.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::discard::{call, discard, elsewhere};
use crate::link::clock::Clock;
use crate::machine::message::Policy;
use crate::machine::policy::{Backoff, PanicPolicy, Restart};
use crate::service::Service;
use crate::spec::{Filters, Spec};
use crate::supervisor::Supervisor;

/// What a supervisor's builder sets for its services.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    pub(crate) backoff: Backoff,
    pub(crate) panic_policy: PanicPolicy,
    pub(crate) service_stop_timeout: Duration,
    pub(crate) quiet_panics: bool,
}

/// The user's values of one service. The last reference is dropped on the service's thread or on
/// a stop thread, never on the supervisor's.
pub(crate) struct Body {
    /// Taken only by `drop`.
    service: Option<Box<dyn Service>>,
    /// For what goes wrong in a `Drop` where nobody is left to be told but the log: its supervisor's name
    /// and its own.
    path: [Arc<str>; 2],
    quiet: bool,
    pub(crate) has_interrupt: bool,
    /// A deadline set for a supervisor by the spec it was added with.
    pub(crate) supervisor_timeout: Option<Duration>,
    pub(crate) stack_size: Option<usize>,
    pub(crate) fresh_thread: bool,
    pub(crate) filters: Option<Box<Filters>>,
    /// Also `Ok` is a failure.
    pub(crate) restarts_always: bool,
    /// It belongs to a supervisor now; a refused one goes back as it came.
    pub(crate) admitted: bool,
}

pub(crate) fn split(spec: Spec, above: &Arc<str>, defaults: &Defaults) -> (Policy, Body) {
    let is_supervisor = spec.service.as_supervisor().is_some();
    let timeout = spec.stop_timeout.unwrap_or(defaults.service_stop_timeout);
    let name: Arc<str> = Arc::from(spec.name);
    let policy = Policy {
        name: name.clone(),
        restart: spec.restart,
        backoff: spec.backoff.unwrap_or(defaults.backoff),
        panic_backoff: spec.panic_backoff.map(Box::new),
        limit: spec.limit.map(Box::new),
        stop_timeout: (!is_supervisor).then_some(timeout),
        ready_timeout: spec.ready_timeout,
        group: spec.group.map(Arc::from),
        significant: spec.significant,
        panic_policy: spec.panic_policy.unwrap_or(defaults.panic_policy),
        overlap_max: spec.overlap_max,
        links: spec.links.map(|links| Arc::new(links.tidied())),
    };
    let body = Body {
        has_interrupt: spec.service.has_interrupt(),
        service: Some(spec.service),
        path: [above.clone(), name],
        quiet: defaults.quiet_panics,
        supervisor_timeout: if is_supervisor {
            spec.stop_timeout
        } else {
            None
        },
        stack_size: spec.stack_size,
        fresh_thread: spec.fresh_thread,
        filters: spec.filters,
        restarts_always: spec.restart == Restart::Always,
        admitted: false,
    };
    (policy, body)
}

impl Body {
    pub(crate) fn service(&self) -> Option<&dyn Service> {
        self.service.as_deref()
    }

    /// A supervisor's own deadline for a stop that is asked for now, if its spec has set one.
    pub(crate) fn own_deadline(&self) -> Option<Instant> {
        self.supervisor_timeout.and_then(Clock::deadline)
    }

    /// The earlier of that and another one.
    pub(crate) fn cap(&self, deadline: Instant) -> Instant {
        self.own_deadline()
            .map_or(deadline, |own| own.min(deadline))
    }

    /// A handle that keeps nothing alive, if the service is a supervisor.
    pub(crate) fn supervisor(&self) -> Option<Supervisor> {
        self.service()?.as_supervisor().map(Supervisor::borrowed)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let (Some(service), filters) = (self.service.take(), self.filters.take()) else {
            return;
        };
        let path = Arc::from(self.path.join("."));
        let (quiet, admitted) = (self.quiet, self.admitted);
        elsewhere(move || {
            if admitted {
                call("retire", &path, quiet, || service.retire());
                // A supervisor that doesn't run has services of its own, and somebody may still have a
                // handle to it.
                drop(service.as_supervisor().and_then(|s| s.core().close()));
            }
            discard(&path, quiet, service);
            discard(&path, quiet, filters);
        });
    }
}
