//! The handle of a supervisor.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::builder::SupervisorBuilder;
use crate::context::Context;
use crate::driver::below::start_below;
use crate::driver::board::Entry;
use crate::driver::body::split;
use crate::driver::core::{Core, Ended, Role};
use crate::driver::request::{Ask, NewService};
use crate::driver::view::{Lookup, Readiness, ReadyWatch, look_up, readiness, report_below};
use crate::driver::{mark, run_nested, run_root, start_root};
use crate::error::{Error, ErrorKind, NotReady, ServiceResult};
use crate::event::StopCause;
use crate::id::{ChildId, ServiceId};
use crate::key::{self, Key};
use crate::link::cell::{CellData, ServiceCell, Waited};
use crate::link::clock::{self, Clock};
use crate::link::hub::Events;
use crate::link::life::Wake;
use crate::link::waker::Waker;
use crate::report::{End, Report, State, StopReport};
use crate::service::Service;
use crate::spec::Spec;

/// Keeps services alive: starts them, restarts them when they fail, stops them in time.
///
/// A cheap handle; clones are the same supervisor, so there is no need for an `Arc` around it. When
/// the last handle made by [`new`](Supervisor::new) or [`build`](SupervisorBuilder::build), or
/// cloned from such, is dropped, a tree begun by [`start`](Supervisor::start) is asked to stop. A
/// service or an observer that keeps one keeps its own tree alive; handles from a
/// [`Context`] don't.
///
/// A supervisor is a [`Service`]: added to another one it makes a tree.
///
/// ```
/// use backstay::{Context, Supervisor};
/// use std::time::Duration;
///
/// let app = Supervisor::new("app");
/// app.add("ticker", |ctx: &Context| {
///     loop {
///         ctx.set_status("tick");
///         ctx.sleep(Duration::from_secs(1))?; // ends at a stop
///     }
/// })?;
/// app.start()?;
/// assert_eq!(app.report().services().len(), 1);
/// assert!(app.stop().is_empty()); // everybody stopped in time
/// # Ok::<(), backstay::Error>(())
/// ```
#[derive(Clone)]
pub struct Supervisor {
    core: Arc<Core>,
    /// Only for its `Drop`.
    _owner: Option<Arc<Owner>>,
}

/// Shared by the handles that keep a tree alive.
struct Owner {
    core: Arc<Core>,
}

impl Drop for Owner {
    /// Only asks: a `Drop` must not block.
    fn drop(&mut self) {
        if let Role::Root = self.core.role() {
            self.core.ask_stop(StopCause::Ordered, None);
        }
    }
}

impl Supervisor {
    /// A supervisor with all defaults. A bad name shows at [`add`](Supervisor::add) and
    /// [`start`](Supervisor::start).
    #[must_use]
    pub fn new(name: impl Into<String>) -> Supervisor {
        let builder = Supervisor::builder(name);
        let invalid = builder.check().err();
        builder.make(invalid)
    }

    /// A supervisor to be configured.
    pub fn builder(name: impl Into<String>) -> SupervisorBuilder {
        SupervisorBuilder::new(name.into())
    }

    /// A handle that keeps its tree alive.
    pub(crate) fn owning(core: Arc<Core>) -> Supervisor {
        Supervisor {
            _owner: Some(Arc::new(Owner { core: core.clone() })),
            core,
        }
    }

    /// A handle that keeps nothing alive.
    pub(crate) fn of(core: Arc<Core>) -> Supervisor {
        Supervisor { core, _owner: None }
    }

    pub(crate) fn borrowed(&self) -> Supervisor {
        Supervisor::of(self.core.clone())
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// The name it was made with. As a service it goes by the name it was added under: see
    /// [`path`](Supervisor::path).
    #[must_use]
    pub fn name(&self) -> &str {
        &self.core.name
    }

    /// The names from the root down to it, joined with dots.
    #[must_use]
    pub fn path(&self) -> String {
        self.core.path()
    }

    /// Adds a service that restarts always. Running, it is started at once.
    ///
    /// That no thread can be had for it is an error only where it can be foreseen: at
    /// [`max_services`](SupervisorBuilder::max_services), and before the kernel's limit of memory maps
    /// (`vm.max_map_count`), which are counted ahead. At any other limit, of processes or of memory
    /// (`ulimit -u`, `-v`), it is added and fails: a [`Failed`](crate::EventKind::Failed) event with a
    /// failure of kind [`Spawn`](crate::FailureKind::Spawn), which counts and delays as any other does.
    ///
    /// # Errors
    /// See [`add_all`](Supervisor::add_all).
    pub fn add(&self, name: impl Into<String>, service: impl Service) -> Result<ServiceId, Error> {
        self.add_spec(Spec::new(name, service))
    }

    /// Adds a service. Before the start it is queued; running, it is started at once. Where no thread
    /// can be had, see [`add`](Supervisor::add).
    ///
    /// # Errors
    /// See [`add_all`](Supervisor::add_all).
    pub fn add_spec(&self, spec: Spec) -> Result<ServiceId, Error> {
        match self.add_checked(vec![spec], false)?.first() {
            Some(id) => Ok(*id),
            None => Err(Error::new(
                ErrorKind::Gone,
                "one service was added and none came back",
            )),
        }
    }

    /// Adds several services, all or none; the ids are in the order given.
    ///
    /// # Errors
    /// The text names the field and the service. A refused service is dropped here and never runs.
    ///
    /// | kind | |
    /// |---|---|
    /// | [`BadName`](ErrorKind::BadName), [`DuplicateName`](ErrorKind::DuplicateName) | the name may not be used, or is taken |
    /// | [`Invalid`](ErrorKind::Invalid) | a field with an impossible value, or a supervisor that has a parent already |
    /// | [`Cycle`](ErrorKind::Cycle) | services would need each other in a circle; the text has the names along it |
    /// | [`MissingProvider`](ErrorKind::MissingProvider) | something is needed that no service provides, neither one of these nor one that is there already. [`add_spec`](Supervisor::add_spec) lets it wait |
    /// | [`Full`](ErrorKind::Full) | the bound of [`max_services`](SupervisorBuilder::max_services), or that of the memory maps (`vm.max_map_count`). Any other limit shows as a failed start: see [`add`](Supervisor::add) |
    /// | [`Stopping`](ErrorKind::Stopping), [`Stopped`](ErrorKind::Stopped) | this supervisor takes no more services |
    pub fn add_all(&self, specs: impl IntoIterator<Item = Spec>) -> Result<Vec<ServiceId>, Error> {
        self.add_checked(specs.into_iter().collect(), true)
    }

    /// `complete`: what they need must have a provider.
    fn add_checked(&self, specs: Vec<Spec>, complete: bool) -> Result<Vec<ServiceId>, Error> {
        let adopted = self.adopt_all(&specs);
        let defaults = &self.core.settings.defaults;
        // Also those that are refused: a spec's values are the user's, a body's are dropped as such.
        let services = specs
            .into_iter()
            .map(|spec| {
                let (policy, body) = split(spec, &self.core.name, defaults);
                NewService { policy, body }
            })
            .collect();
        let adopted = adopted?;
        let answer = self.core.request(Ask::Add { services, complete });
        if answer.is_err() {
            adopted.iter().for_each(|core| core.disown());
        }
        answer
    }

    /// Checks new services by themselves and claims the supervisors among them, before they are added.
    fn adopt_all(&self, specs: &[Spec]) -> Result<Vec<Arc<Core>>, Error> {
        if let Some(invalid) = &self.core.settings.invalid {
            return Err(invalid.clone());
        }
        for spec in specs {
            spec.check()?;
        }
        let mut adopted: Vec<Arc<Core>> = Vec::new();
        for spec in specs {
            let Some(supervisor) = spec.service.as_supervisor() else {
                continue;
            };
            if let Err(e) = supervisor.core.adopt(&self.core, &Arc::from(spec.name())) {
                adopted.iter().for_each(|core| core.disown());
                return Err(e);
            }
            adopted.push(supervisor.core.clone());
        }
        Ok(adopted)
    }

    /// Removes a service: it is asked to stop, and forgotten when it has. Does not wait for that.
    ///
    /// # Errors
    /// The id is of another supervisor, or this one has ended or is about to
    /// ([`ErrorKind::Stopping`]). A service that is gone already is `Ok`.
    pub fn remove(&self, id: ServiceId) -> Result<(), Error> {
        self.child(id)
            .and_then(|child| self.call(Ask::Remove(child)))
    }

    /// Removes a service and waits until it has ended and its values are dropped.
    ///
    /// # Errors
    /// As [`remove`](Supervisor::remove); [`ErrorKind::Timeout`] when that takes longer, and it goes
    /// on all the same (zero does not wait); [`ErrorKind::WouldWaitForItself`] from the service
    /// itself, which is not removed then; [`ErrorKind::Stopping`] when the calling service is
    /// itself asked to stop.
    pub fn remove_and_wait(&self, id: ServiceId, timeout: Duration) -> Result<(), Error> {
        let child = self.child(id)?;
        self.refuse_own_service(id)?;
        let entry = self.core.board.entry(child);
        self.call(Ask::Remove(child))?;
        let Some(entry) = entry else { return Ok(()) };
        self.wait_cell(&entry, Clock::deadline(timeout), |data| match &data.gone {
            Some(_) => Some(Ok(())),
            None if data.orphaned => Some(Err(Error::stopped(self.path()))),
            None => None,
        })?
    }

    /// Stops a service and keeps it: [`start_service`](Supervisor::start_service) runs it again.
    /// Cancels a planned restart. Does not wait.
    ///
    /// # Errors
    /// The id is of another supervisor or of a removed service, or this one has ended or is about to
    /// ([`ErrorKind::Stopping`]).
    pub fn stop_service(&self, id: ServiceId) -> Result<(), Error> {
        self.child(id).and_then(|child| self.call(Ask::Stop(child)))
    }

    /// Starts a service that is stopped, done or given up; in a delay or a pause it starts now.
    /// Running: nothing happens. Does not wait.
    ///
    /// # Errors
    /// As [`stop_service`](Supervisor::stop_service).
    pub fn start_service(&self, id: ServiceId) -> Result<(), Error> {
        self.child(id)
            .and_then(|child| self.call(Ask::Start(child)))
    }

    /// Stops a service and starts it again, which isn't counted as a failure; in a delay or a pause
    /// it starts now. Does not wait.
    ///
    /// # Errors
    /// As [`stop_service`](Supervisor::stop_service).
    pub fn restart_service(&self, id: ServiceId) -> Result<(), Error> {
        self.child(id)
            .and_then(|child| self.call(Ask::Restart(child)))
    }

    /// The value of a key of this supervisor's services, from outside; waits until it is there. What
    /// becomes of it later doesn't show here: a service that depends on it
    /// [`needs`](Spec::needs) it.
    ///
    /// # Errors
    ///
    /// | kind | |
    /// |---|---|
    /// | [`Timeout`](ErrorKind::Timeout) | it isn't there in time; zero doesn't wait |
    /// | [`Gone`](ErrorKind::Gone) | its provider was removed, is done, stopped or given up: nobody will provide it unless told to |
    /// | [`Stopped`](ErrorKind::Stopped), [`Stopping`](ErrorKind::Stopping) | the supervisor has ended, or is stopping; or the calling service is |
    /// | [`Invalid`](ErrorKind::Invalid) | the key is declared there with another type |
    pub fn get<T: ?Sized + Send + Sync + 'static>(
        &self,
        key: &Key<T>,
        timeout: Duration,
    ) -> Result<Arc<T>, Error> {
        let deadline = Clock::deadline(timeout);
        let caller = mark::incarnation();
        let waker = Waker::new(self.core.pulse_waker());
        if let Some(caller) = &caller {
            caller.life.on_stop_wake(waker.weak());
        }
        let stopping = || caller.as_ref().is_some_and(|c| c.life.is_stopping());
        let refused = |kind, why: &str| {
            let text = format!("{}: key {:?}: {why}", self.path(), key.name());
            Err(Error::new(kind, text))
        };
        let mut had_provider = false;
        loop {
            // Something is announced all the time, maybe: a look after the deadline is the last one.
            let is_late = Clock::is_over(deadline);
            let seen = self.core.board.last_pulse();
            let never = match look_up(&self.core, key.declared(), &mut had_provider) {
                Lookup::There(value) => match key::unwrap(&value) {
                    Some(value) => return Ok(value),
                    None => return refused(ErrorKind::Invalid, "it has another type"),
                },
                Lookup::OtherType(name) => {
                    let why = format!("it has the type {name}");
                    return refused(ErrorKind::Invalid, &why);
                }
                Lookup::Never => true,
                Lookup::NotYet => false,
            };
            // First what holds for all of its services.
            if self.core.is_over() {
                return Err(Error::stopped(self.path()));
            }
            if self.core.board.state() == State::Stopping {
                return refused(ErrorKind::Stopping, "the supervisor is stopping");
            }
            if never {
                return refused(ErrorKind::Gone, "its provider is at rest or gone");
            }
            if stopping() {
                return refused(
                    ErrorKind::Stopping,
                    "the service that waits is asked to stop",
                );
            }
            if is_late || !self.core.board.wait_pulse(seen, deadline, stopping) {
                return refused(ErrorKind::Timeout, "it was not provided in time");
            }
        }
    }

    /// The service of that name, if there is one now.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<ServiceId> {
        let child = self.core.board.id(name)?;
        Some(ServiceId {
            supervisor: self.core.id,
            child,
        })
    }

    /// What is running and why: this supervisor and everything below it. Reads what was published;
    /// never waits for a supervisor, a service or an observer. Answers after the end, too.
    #[must_use]
    pub fn report(&self) -> Report {
        let path: Arc<str> = Arc::from(self.path());
        let now = clock::now();
        let (state, since) = self.core.board.state_since();
        let services = report_below(&self.core, &path, now);
        Report {
            path,
            state,
            in_state: now.saturating_duration_since(since),
            services: services.into_vec(),
        }
    }

    /// Starts the tree on a thread of its own and returns; does not wait until services are ready
    /// ([`wait_ready`](Supervisor::wait_ready) does).
    ///
    /// # Errors
    /// It was started or stopped before, it is a service of another supervisor, no thread can be
    /// had, the calling thread is panicking, or panics abort the process in this build.
    pub fn start(&self) -> Result<(), Error> {
        start_root(&self.core)
    }

    /// Runs the tree on this thread, until it has ended.
    ///
    /// # Errors
    /// As [`start`](Supervisor::start); and how it failed: see [`wait`](Supervisor::wait).
    pub fn serve(&self) -> Result<(), Error> {
        let result = run_root(&self.core);
        self.flush();
        result
    }

    /// Waits until everything is ready, at every depth: services with a
    /// [`ready_timeout`](Spec::ready_timeout) have called [`ready`](Context::ready); of the others
    /// `run` has been entered on a thread of theirs. One that is restarted on the thread that it has
    /// counts as up from that decision on, which is some microseconds before `run` is entered again; one
    /// whose thread could not be had is missing.
    ///
    /// `Ok` tells of one moment: a service may fail in the next.
    ///
    /// # Errors
    /// Names who is missing and why: at the deadline, and early when a service is over before it
    /// was ready or the tree stops. Called by a service, also when that is asked to stop.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), NotReady> {
        let deadline = Clock::deadline(timeout);
        let caller = mark::incarnation();
        let waker = Waker::new(self.core.pulse_waker());
        if let Some(caller) = &caller {
            caller.life.on_stop_wake(waker.weak());
        }
        let stopping = || caller.as_ref().is_some_and(|c| c.life.is_stopping());
        let mut watch = ReadyWatch::default();
        loop {
            let is_late = Clock::is_over(deadline);
            let seen = self.core.board.last_pulse();
            let found = watch.look(&self.core, seen);
            let is_over = stopping();
            let found = match found {
                None | Some(Readiness::NotYet(_) | Readiness::NotStarted(_)) => {
                    let waits = !is_over && !is_late;
                    if waits && self.core.board.wait_pulse(seen, deadline, stopping) {
                        continue;
                    }
                    readiness(&self.core, &self.path())
                }
                Some(found) => found,
            };
            let (why, missing) = match found {
                Readiness::Ready => return Ok(()),
                Readiness::EndedEarly(missing) => ("ended before it was ready", missing),
                Readiness::Stopping(missing) => ("it stops or has stopped", missing),
                Readiness::NotStarted(missing) | Readiness::NotYet(missing) if is_over => {
                    ("the service that waits is asked to stop", missing)
                }
                Readiness::NotStarted(missing) => ("it was not started", missing),
                Readiness::NotYet(missing) => ("missing", missing),
            };
            return Err(NotReady {
                path: self.path(),
                why: why.to_owned(),
                missing,
            });
        }
    }

    /// Stops the tree and waits until it has ended, with everybody who stopped in time; the report
    /// names the others. Again: the same report. Before the start it is final.
    ///
    /// On a supervisor that is a service it ends this incarnation, which to the parent is an end
    /// that nobody asked for. Called from a thread of the tree itself it only asks, and the report
    /// [says so](StopReport::only_requested).
    pub fn stop(&self) -> StopReport {
        let run = self.request_stop_because(StopCause::Ordered, None);
        if self.is_own_thread() {
            return StopReport {
                unstopped: Vec::new(),
                only_requested: true,
            };
        }
        // The run that was asked: a supervisor that is a service may be in its next one already.
        let ended = match run {
            Some(run) => self.core.wait_end_of(run, None),
            None => self.core.last_end(),
        };
        self.flush();
        ended.map_or_else(StopReport::default, |ended| ended.report.clone())
    }

    /// Asks the tree to stop. Never blocks.
    pub fn request_stop(&self) {
        self.request_stop_because(StopCause::Ordered, None);
    }

    /// Answers the run that was asked; `None`: nothing runs.
    pub(crate) fn request_stop_because(
        &self,
        cause: StopCause,
        deadline: Option<Instant>,
    ) -> Option<u64> {
        loop {
            let asked = self.core.ask_stop(cause.clone(), deadline);
            let is_service = matches!(self.core.role(), Role::Child { .. });
            // Before the start it is final; a service between two incarnations isn't running.
            if asked.is_some() || is_service || self.core.close().is_some() {
                return asked;
            }
            // It was started just now; maybe in vain.
        }
    }

    /// Waits for the end of the tree. Everybody gets the same answer.
    ///
    /// `Ok` after a requested stop, also with services that did not stop in time, and after an
    /// automatic shutdown that ended well.
    ///
    /// # Errors
    /// The limit was exceeded, a service wants the tree down, or a significant service failed:
    /// [`Error::failure`] has the reason. Not started yet. From a thread of the tree itself.
    pub fn wait(&self) -> Result<(), Error> {
        self.check_wait()?;
        match self.wait_end(None) {
            Some(ended) => ended.result.clone(),
            None => Err(self.not_started()),
        }
    }

    /// As [`wait`](Supervisor::wait), but at most this long. `None`: it hasn't ended by then.
    #[must_use]
    pub fn wait_timeout(&self, d: Duration) -> Option<Result<(), Error>> {
        if let Err(e) = self.check_wait() {
            return Some(Err(e));
        }
        let ended = self.wait_end(Clock::deadline(d))?;
        Some(ended.result.clone())
    }

    /// Waits until a service is at rest: done, stopped, given up or removed. Ends of removed
    /// services are remembered for a while.
    ///
    /// # Errors
    /// It isn't by then; there never was such a service, or its end is forgotten; the supervisor
    /// has ended without it; from the service itself; or the calling service is asked to stop.
    pub fn wait_service(&self, id: ServiceId, d: Duration) -> Result<End, Error> {
        let child = self.child(id)?;
        self.refuse_own_service(id)?;
        let deadline = Clock::deadline(d);
        let Some(entry) = self.core.board.entry(child) else {
            return self.core.board.removed_end(child).ok_or_else(|| {
                Error::new(
                    ErrorKind::UnknownService,
                    "there is no such service any more",
                )
            });
        };
        self.wait_cell(&entry, deadline, |data| match data.end() {
            Some(end) => Some(Ok(end)),
            None if data.orphaned => Some(Err(Error::new(
                ErrorKind::Gone,
                "the supervisor has ended and left the service behind",
            ))),
            None => None,
        })?
    }

    /// The events of this supervisor and everything below it from now on. `capacity`: how many may
    /// wait to be read; further ones are dropped and counted. With zero only what somebody is waiting
    /// for in [`recv`](Events::recv) gets through.
    #[must_use]
    pub fn subscribe(&self, capacity: usize) -> Events {
        self.core.hub.subscribe(capacity)
    }

    /// How many events the observers of the whole tree have not been called for, because
    /// [`DISPATCH_QUEUE_MAX`](crate::DISPATCH_QUEUE_MAX) were waiting for them already, or no thread could
    /// be had. Zero before the start; still there after the end.
    ///
    /// ```
    /// use backstay::Supervisor;
    ///
    /// let app = Supervisor::builder("app").on_event(|event| println!("{event}")).build()?;
    /// app.start()?;
    /// app.stop();
    /// assert_eq!(app.dropped_events(), 0);
    /// # Ok::<(), backstay::Error>(())
    /// ```
    #[must_use]
    pub fn dropped_events(&self) -> u64 {
        self.core.post().map_or(0, |post| post.lost())
    }

    /// Waits for the observers and the log, a little. Not on a service's thread: they may wait for it, and
    /// its stop for what it waits for.
    fn flush(&self) {
        if mark::incarnation().is_some() {
            return;
        }
        if let Some(post) = self.core.post() {
            if !mark::is_dispatcher_of(&post) {
                post.flush();
            }
        }
    }

    fn wait_end(&self, deadline: Option<Instant>) -> Option<Arc<Ended>> {
        let ended = self.core.wait_end(deadline);
        if ended.is_some() {
            self.flush();
        }
        ended
    }

    fn check_wait(&self) -> Result<(), Error> {
        if self.is_own_thread() {
            return Err(Error::new(
                ErrorKind::WouldWaitForItself,
                format!(
                    "{}: a thread of the tree cannot wait for its end",
                    self.path()
                ),
            ));
        }
        if self.core.was_started() {
            Ok(())
        } else {
            Err(self.not_started())
        }
    }

    fn not_started(&self) -> Error {
        Error::new(
            ErrorKind::NotStarted,
            format!("{}: the supervisor was not started", self.path()),
        )
    }

    /// Whether a service or a stop hook of this supervisor, or of one below it, runs on this thread.
    fn is_own_thread(&self) -> bool {
        mark::supervisor().is_some_and(|core| core.is_within(&self.core))
    }

    /// Whoever waits for the end of a service must not be that service, or below it.
    fn refuse_own_service(&self, id: ServiceId) -> Result<(), Error> {
        let Some(home) = mark::home() else {
            return Ok(());
        };
        let mut own = home.cell.id == id;
        let mut core = Some(home.supervisor.core.clone());
        while let (false, Some(below)) = (own, core) {
            own = below.service_id() == Some(id);
            core = below.parent();
        }
        if own {
            return Err(Error::new(
                ErrorKind::WouldWaitForItself,
                format!("{} cannot wait for its own end", home.path),
            ));
        }
        Ok(())
    }

    fn child(&self, id: ServiceId) -> Result<ChildId, Error> {
        if id.supervisor == self.core.id {
            Ok(id.child)
        } else {
            Err(Error::new(
                ErrorKind::WrongSupervisor,
                format!("{}: the id is of another supervisor", self.path()),
            ))
        }
    }

    fn call(&self, ask: Ask) -> Result<(), Error> {
        self.core.request(ask).map(drop)
    }

    /// Waits for something about one service; ends at the calling service's own stop.
    fn wait_cell<R>(
        &self,
        entry: &Entry,
        deadline: Option<Instant>,
        look: impl Fn(&CellData) -> Option<R>,
    ) -> Result<R, Error> {
        let caller = mark::incarnation();
        // Of this call alone, so that it is forgotten with it.
        let waker = Waker::new(Poke(entry.cell.clone()));
        if let Some(caller) = &caller {
            caller.life.on_stop_wake(waker.weak());
        }
        let give_up = || caller.as_ref().is_some_and(|c| c.life.is_stopping());
        match entry.cell.wait(deadline, give_up, look) {
            Waited::Found(found) => Ok(found),
            Waited::GaveUp => Err(Error::new(
                ErrorKind::Stopping,
                "the service that waits is asked to stop",
            )),
            Waited::TimedOut => Err(Error::new(
                ErrorKind::Timeout,
                format!("{}.{} has not ended in time", self.path(), entry.cell.name),
            )),
        }
    }
}

impl Context {
    /// Runs a supervisor below this service, for this incarnation: code that starts services under
    /// itself (monogon). Its services' paths continue the path of this service; the builder's name
    /// is not used.
    ///
    /// A stop of the service reaches both. The incarnation has ended when `run` has returned and
    /// everything below it has ended; then the next one starts afresh and adds what it wants. If the
    /// supervisor fails, the service is asked to stop, and that failure is its end. In a
    /// [`scope`](Context::scope) all of this holds for the scope: it returns when everything below it has
    /// ended, and the next one may run another supervisor.
    ///
    /// ```
    /// use backstay::{Context, Supervisor};
    /// # use std::time::Duration;
    ///
    /// let app = Supervisor::new("app");
    /// app.add("ingest", |ctx: &Context| {
    ///     let below = ctx.supervise(Supervisor::builder("ingest"))?;
    ///     below.add("tcp", |ctx: &Context| {
    ///         assert_eq!(ctx.path(), "app.ingest.tcp");
    ///         ctx.wait_stop();
    ///         Ok(())
    ///     })?;
    ///     ctx.wait_stop();
    ///     Ok(())
    /// })?;
    /// app.start()?;
    /// # while app.report().find("app.ingest.tcp").is_none() { std::thread::yield_now() }
    /// assert!(app.stop().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// A field of the builder has an impossible value; this incarnation runs a supervisor already;
    /// it has ended or is asked to stop; no thread is to be had.
    pub fn supervise(&self, builder: SupervisorBuilder) -> Result<Supervisor, Error> {
        if let Err(e) = builder.check_settings() {
            return Err(builder.refuse(e));
        }
        let below = builder.make(None).borrowed();
        start_below(&below.core, self)?;
        Ok(below)
    }
}

/// A supervisor as a service: hence trees. Its services run below it; a stop of it stops them.
impl Service for Supervisor {
    fn run(&self, ctx: &Context) -> ServiceResult {
        run_nested(&self.core, ctx)
    }

    fn has_interrupt(&self) -> bool {
        false
    }

    fn as_supervisor(&self) -> Option<&Supervisor> {
        Some(self)
    }
}

impl fmt::Display for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("path", &self.path())
            .field("state", &self.core.board.state())
            .finish_non_exhaustive()
    }
}

/// Wakes who waits for something about a service, at a stop of the service that waits.
struct Poke(Arc<ServiceCell>);

impl Wake for Poke {
    fn wake(&self) {
        self.0.wake();
    }
}
