//! What a user configures for a supervisor.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::driver::body::Defaults;
#[cfg(all(unix, feature = "signals"))]
use crate::driver::core::SignalHook;
use crate::driver::core::{Core, RankFailures, Settings};
use crate::driver::discard::Owned;
use crate::error::Error;
use crate::event::Event;
use crate::failure::Failure;
use crate::id::check_name;
use crate::link::hub::Observer;
use crate::machine::message::Config;
use crate::machine::policy::{
    AutoShutdown, Backoff, DEFAULT_STOP_TIMEOUT, Limit, PanicPolicy, StopOrder,
};
use crate::machine::strategy::Strategy;
use crate::supervisor::Supervisor;

/// How many services a supervisor takes, unless set. With the kernel's default limit of memory maps,
/// 65,530, a process can have about 16,000 threads; several distributions ship a higher one.
pub const MAX_SERVICES: usize = 16_000;

/// Configures a [`Supervisor`]. What is set for services holds for those whose
/// [`Spec`](crate::Spec) doesn't set it.
///
/// ```
/// use backstay::{Backoff, Limit, StopOrder, Supervisor};
/// use std::time::Duration;
///
/// let workers = Supervisor::builder("workers")
///     .limit(Limit::window(3, Duration::from_secs(60)))
///     .backoff(Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10)))
///     .stop_order(StopOrder::Parallel)
///     .build()?;
/// # assert_eq!(workers.name(), "workers");
/// # Ok::<(), backstay::Error>(())
/// ```
#[must_use = "a builder does nothing before it builds"]
pub struct SupervisorBuilder {
    name: String,
    strategy: Strategy,
    limit: Limit,
    backoff: Backoff,
    stop_order: StopOrder,
    stop_timeout: Option<Duration>,
    service_stop_timeout: Duration,
    auto_shutdown: AutoShutdown,
    max_services: usize,
    panic_policy: PanicPolicy,
    quiet_panics: bool,
    propagates_termination: bool,
    observers: Vec<Observer>,
    bounce_delay: Duration,
    rank_failures: Option<RankFailures>,
    #[cfg(all(unix, feature = "signals"))]
    signal_hooks: Vec<(i32, SignalHook)>,
}

impl SupervisorBuilder {
    pub(crate) fn new(name: String) -> SupervisorBuilder {
        SupervisorBuilder {
            name,
            strategy: Strategy::default(),
            limit: Limit::default(),
            backoff: Backoff::default(),
            stop_order: StopOrder::default(),
            stop_timeout: None,
            service_stop_timeout: DEFAULT_STOP_TIMEOUT,
            auto_shutdown: AutoShutdown::default(),
            max_services: MAX_SERVICES,
            panic_policy: PanicPolicy::default(),
            quiet_panics: false,
            propagates_termination: true,
            observers: Vec::new(),
            bounce_delay: Duration::ZERO,
            rank_failures: None,
            #[cfg(all(unix, feature = "signals"))]
            signal_hooks: Vec::new(),
        }
    }

    /// Which of its other services restart when one fails; [`Strategy::OneForOne`] unless set.
    pub fn strategy(mut self, strategy: Strategy) -> SupervisorBuilder {
        self.strategy = strategy;
        self
    }

    /// How many failures of its services together are too many, and what follows; suture's decaying
    /// count and pause unless set ([`Limit::default`]).
    pub fn limit(mut self, limit: Limit) -> SupervisorBuilder {
        self.limit = limit;
        self
    }

    /// How long its services wait after a failure; not at all unless set.
    pub fn backoff(mut self, backoff: Backoff) -> SupervisorBuilder {
        self.backoff = backoff;
        self
    }

    /// In which order its services stop; [`StopOrder::Reverse`] unless set.
    pub fn stop_order(mut self, order: StopOrder) -> SupervisorBuilder {
        self.stop_order = order;
        self
    }

    /// A hard deadline for its whole stop: who has not been asked by then is asked then, and all
    /// that still run are reported. Unset, it takes as long as its services need: the sum of their
    /// timeouts, or with [`StopOrder::Parallel`] the longest. Zero waits for nobody.
    pub fn stop_timeout(mut self, timeout: Duration) -> SupervisorBuilder {
        self.stop_timeout = Some(timeout);
        self
    }

    /// How long each of its services may take to stop; [`DEFAULT_STOP_TIMEOUT`], 10 s, unless set. Not
    /// for supervisors below it. Zero waits for nobody: whoever runs is abandoned.
    pub fn service_stop_timeout(mut self, timeout: Duration) -> SupervisorBuilder {
        self.service_stop_timeout = timeout;
        self
    }

    /// Whether it stops when its significant services have ended; [`AutoShutdown::Never`] unless set.
    pub fn auto_shutdown(mut self, when: AutoShutdown) -> SupervisorBuilder {
        self.auto_shutdown = when;
        self
    }

    /// How many services it may have, abandoned ones included; [`MAX_SERVICES`] unless set. One too
    /// many is refused with [`ErrorKind::Full`](crate::ErrorKind::Full); zero takes none.
    pub fn max_services(mut self, max: usize) -> SupervisorBuilder {
        self.max_services = max;
        self
    }

    /// What a panic of its services means; [`PanicPolicy::Restart`] unless set.
    pub fn panic_policy(mut self, policy: PanicPolicy) -> SupervisorBuilder {
        self.panic_policy = policy;
        self
    }

    /// Panics of its services, and of all below it, are recorded but not handed to the panic hook
    /// that was there before; so nothing is printed by default. Also those of their hooks and filters and
    /// of their `Drop`s, once a supervisor was started in the process.
    pub fn quiet_panics(mut self) -> SupervisorBuilder {
        self.quiet_panics = true;
        self
    }

    /// Calls `f` for every event of this supervisor and everything below it: in order, on a thread of
    /// the tree for all its observers, so it may take its time and call everything. May be given
    /// several times.
    ///
    /// While an observer is busy, no other of its tree is called; subscribers and the log go on. Once
    /// [`DISPATCH_QUEUE_MAX`](crate::DISPATCH_QUEUE_MAX) events wait, further ones are dropped and
    /// counted, all but the `ended` of the root: [`Supervisor::dropped_events`] says how many, and so
    /// does a warning in the log when the observers get to the gap. When no thread is to be had for
    /// them, events are dropped and counted, too; that is an error in the log, once. At the end of the
    /// tree observers have [`EVENT_FLUSH_MAX`](crate::EVENT_FLUSH_MAX) for what waits; then they are left
    /// behind.
    pub fn on_event(mut self, f: impl Fn(&Event) + Send + Sync + 'static) -> SupervisorBuilder {
        self.observers.push(Box::new(f));
        self
    }

    /// Calls `f` for a signal that the process gets while [`run`](Supervisor::run) of this supervisor
    /// is under way: to reload a configuration at SIGHUP, to print the tree at SIGUSR1. Once `run` has
    /// returned, and where nobody has asked for it, the signal does what it does by default.
    ///
    /// `f` is called on a short-lived thread for that purpose, so it may take its time and call everything;
    /// SIGTERM is seen meanwhile. It gets a handle that doesn't keep the tree alive. A signal that comes
    /// while `f` runs has it called once more, however often it comes. Functions for several signals, or
    /// several for one, are called one after the other. A panic is told as
    /// [`HookPanicked`](crate::EventKind::HookPanicked). `run` doesn't wait for one that it finds
    /// running, and has none called once the tree has ended.
    ///
    /// SIGHUP has the number 1 everywhere; the crates `libc` and `signal-hook` have names for all.
    ///
    /// ```no_run
    /// use backstay::Supervisor;
    ///
    /// const SIGHUP: i32 = 1;
    ///
    /// let app = Supervisor::builder("app")
    ///     .on_signal(SIGHUP, |app| {
    ///         if let Some(server) = app.id("server") {
    ///             let _gone = app.restart_service(server); // it reads its configuration when it starts
    ///         }
    ///     })
    ///     .build()?;
    /// app.run()?;
    /// # Ok::<(), backstay::Error>(())
    /// ```
    ///
    /// [`build`](SupervisorBuilder::build) refuses SIGINT and SIGTERM, which are `run`'s own, and signals
    /// that can't be handled.
    #[cfg(all(unix, feature = "signals"))]
    #[cfg_attr(docsrs, doc(cfg(feature = "signals")))]
    pub fn on_signal(
        mut self,
        number: i32,
        f: impl Fn(&Supervisor) + Send + Sync + 'static,
    ) -> SupervisorBuilder {
        let hook = move |core: &Arc<Core>| f(&Supervisor::of(core.clone()));
        self.signal_hooks.push((number, Box::new(hook)));
        self
    }

    /// [`Exit::TerminateTree`](crate::Exit::TerminateTree) from below ends this supervisor alone, not
    /// its parent, which doesn't count it (suture's `DontPropagateTermination`).
    pub fn dont_propagate_termination(mut self) -> SupervisorBuilder {
        self.propagates_termination = false;
        self
    }

    /// How long a service that was stopped because an input went or was replaced waits, counted from
    /// the first such change, before it starts again: so that several changes cause one restart (juju's
    /// bounce delay). Zero unless set.
    pub fn bounce_delay(mut self, delay: Duration) -> SupervisorBuilder {
        self.bounce_delay = delay;
        self
    }

    /// Which failure the supervisor answers when several took it down: one that is fatal
    /// ([`Spec::fatal_if`](crate::Spec::fatal_if)) or terminates the tree, and others that failed so by themselves while
    /// it was stopping, before they were asked. The highest rank wins, of equals the first; unless
    /// set the first of all (juju's `MoreImportant`). Called on a short-lived thread, at the end; what takes
    /// longer than [`RANK_TIME_MAX`](crate::RANK_TIME_MAX) or panics counts as not set.
    pub fn rank_failures(
        mut self,
        f: impl Fn(&Failure) -> i32 + Send + Sync + 'static,
    ) -> SupervisorBuilder {
        self.rank_failures = Some(Arc::new(f));
        self
    }

    /// The supervisor; nothing runs yet.
    ///
    /// # Errors
    /// A bad name, or a field with an impossible value; the text names it.
    pub fn build(self) -> Result<Supervisor, Error> {
        match self.check() {
            Ok(()) => Ok(self.make(None)),
            Err(e) => Err(self.refuse(e)),
        }
    }

    /// What it was given is dropped as values of the user's.
    pub(crate) fn refuse(self, error: Error) -> Error {
        drop(self.make(Some(error.clone())));
        error
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        check_name(&self.name)?;
        self.check_settings()
    }

    /// All but the name.
    pub(crate) fn check_settings(&self) -> Result<(), Error> {
        self.limit.check()?;
        #[cfg(all(unix, feature = "signals"))]
        for (number, _) in &self.signal_hooks {
            check_signal(*number)?;
        }
        self.backoff.check("backoff")
    }

    /// With `invalid` it refuses everything.
    pub(crate) fn make(self, invalid: Option<Error>) -> Supervisor {
        let name: Arc<str> = Arc::from(self.name);
        let quiet = self.quiet_panics;
        let observers = self.observers.into_iter().map(|observer| -> Observer {
            let observer = Owned::new(observer, &name, quiet);
            Box::new(move |event| observer.get().into_iter().for_each(|f| f(event)))
        });
        let observers = observers.collect();
        let rank_failures = self.rank_failures.map(|rank| -> RankFailures {
            let rank = Owned::new(rank, &name, quiet);
            Arc::new(move |failure| rank.get().map_or(0, |f| f(failure)))
        });
        #[cfg(all(unix, feature = "signals"))]
        let signal_hooks = self.signal_hooks.into_iter().map(|(number, hook)| {
            let hook = Owned::new(hook, &name, quiet);
            let hook: SignalHook = Box::new(move |core| {
                hook.get().into_iter().for_each(|f| f(core));
            });
            (number, hook)
        });
        let settings = Settings {
            config: Config {
                strategy: self.strategy,
                limit: self.limit,
                stop_order: self.stop_order,
                stop_timeout: self.stop_timeout,
                auto_shutdown: self.auto_shutdown,
                services_max: self.max_services,
                bounce_delay: self.bounce_delay,
                seed: random_seed(),
            },
            defaults: Defaults {
                backoff: self.backoff,
                panic_policy: self.panic_policy,
                service_stop_timeout: self.service_stop_timeout,
                quiet_panics: self.quiet_panics,
            },
            quiet_panics: self.quiet_panics,
            propagates_termination: self.propagates_termination,
            rank_failures,
            invalid,
            #[cfg(all(unix, feature = "signals"))]
            signal_hooks: signal_hooks.collect(),
        };
        Supervisor::owning(Core::new(name, settings, observers))
    }
}

impl fmt::Debug for SupervisorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorBuilder")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Whether a function can be called for a signal.
#[cfg(all(unix, feature = "signals"))]
fn check_signal(number: i32) -> Result<(), Error> {
    use signal_hook::consts::{FORBIDDEN, SIGINT, SIGTERM};
    let named = |why: &str| {
        Err(Error::invalid(
            "on_signal",
            format!("signal {number} {why}"),
        ))
    };
    if [SIGINT, SIGTERM].contains(&number) {
        return named("is what `run` stops at");
    }
    // What it does by default has to be known, to do so later.
    if FORBIDDEN.contains(&number) || signal_hook::low_level::signal_name(number).is_none() {
        return named("cannot be handled");
    }
    Ok(())
}

/// Different in every supervisor, from the standard library's own random keys.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new()
        .build_hasher()
        .finish()
}
