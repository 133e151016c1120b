//! What all handles of one supervisor share.
//!
//! The desk says who is responsible for its machine: nobody (`Idle`, then a caller steps it in
//! place), the supervisor thread (`Running`, then callers send tickets), or nobody any more
//! (`Over`). It changes hands under the desk's lock, which is never held while user code runs, a
//! thread is started or a send could block.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Weak};
use std::time::Instant;

use crossbeam_channel::{Sender, bounded};
use parking_lot::{Condvar, Mutex};

use super::board::Board;
use super::body::{Body, Defaults};
use super::engine::Engine;
use super::inbox::Inbox;
use super::request::{self, Answer, Ask, COMMANDS_MAX, Outcome, Ticket};
use crate::error::{Error, ErrorKind};
use crate::event::StopCause;
use crate::failure::Failure;
use crate::id::{ServiceId, SupervisorId};
use crate::link::fact::Fact;
use crate::link::hub::{Hub, Post};
use crate::link::life::Wake;
use crate::machine::Machine;
use crate::machine::message::Config;
use crate::report::StopReport;

pub(crate) struct Core {
    pub(crate) id: SupervisorId,
    /// As a root; a supervisor that is a service goes by the name it was added under.
    pub(crate) name: Arc<str>,
    pub(crate) settings: Settings,
    pub(crate) hub: Arc<Hub>,
    pub(crate) board: Board,
    desk: Mutex<Desk>,
    levels: Mutex<Levels>,
    /// The levels have changed, and a wake-up is on its way.
    level_changed: AtomicBool,
    ending: Mutex<Ending>,
    ended: Condvar,
    /// It has run, and no run hears what is told: see [`hear_at_rest`](Core::hear_at_rest).
    at_rest: AtomicBool,
}

/// What a builder has set.
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) defaults: Defaults,
    pub(crate) quiet_panics: bool,
    pub(crate) propagates_termination: bool,
    pub(crate) rank_failures: Option<RankFailures>,
    /// Set by `Supervisor::new` with a bad name: shows at `add` and `start`.
    pub(crate) invalid: Option<Error>,
    /// By the number of the signal; called while `run` is under way.
    #[cfg(all(unix, feature = "signals"))]
    pub(crate) signal_hooks: Vec<(i32, SignalHook)>,
}

/// Called on a guarded thread only.
pub(crate) type RankFailures = Arc<dyn Fn(&Failure) -> i32 + Send + Sync>;

/// What a builder was given for a signal.
#[cfg(all(unix, feature = "signals"))]
pub(crate) type SignalHook = Box<dyn Fn(&Arc<Core>) + Send + Sync>;

struct Desk {
    role: Role,
    stage: Stage,
}

/// Where a supervisor stands in its tree.
#[derive(Clone)]
pub(crate) enum Role {
    Free,
    /// Started by `start`, `serve` or `run`.
    Root,
    /// A service of another one, under this name.
    Child {
        parent: Weak<Core>,
        name: Arc<str>,
    },
}

enum Stage {
    Idle(Box<Engine>),
    Running(Line),
    Over,
}

/// How to reach a running supervisor.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) commands: Sender<Ticket>,
    pub(crate) facts: Sender<Fact>,
    pub(crate) post: Arc<Post>,
    /// Whether its services may start again by themselves: until somebody asks it to stop.
    pub(crate) licences: Arc<AtomicBool>,
}

/// A machine that was taken off the desk for a run, and how that hears.
pub(crate) struct Claimed {
    pub(crate) engine: Box<Engine>,
    pub(crate) line: Line,
    pub(crate) inbox: Inbox,
}

impl Claimed {
    fn new(engine: Box<Engine>, post: Arc<Post>) -> Claimed {
        let (commands, commands_inbox) = bounded(COMMANDS_MAX);
        let (facts, facts_inbox) = engine.facts.clone();
        Claimed {
            engine,
            line: Line {
                commands,
                facts,
                post,
                licences: Arc::new(AtomicBool::new(true)),
            },
            inbox: Inbox::new(facts_inbox, commands_inbox),
        }
    }
}

/// Requests that need no answer: a level, not a message, so that asking never blocks.
#[derive(Default)]
pub(crate) struct Levels {
    /// Why it shall stop, and by when at the latest.
    pub(crate) stop: Option<(StopCause, Option<Instant>)>,
}

/// How the supervisor's runs have ended. A root has one run; one that is a service has one for each
/// of its incarnations.
struct Ending {
    begun: u64,
    ended: u64,
    last: Option<Arc<Ended>>,
    post: Option<Arc<Post>>,
}

/// How a run ended; everybody gets the same.
pub(crate) struct Ended {
    pub(crate) result: Result<(), Error>,
    pub(crate) report: StopReport,
}

impl Core {
    pub(crate) fn new(
        name: Arc<str>,
        settings: Settings,
        observers: Vec<crate::link::hub::Observer>,
    ) -> Arc<Core> {
        let machine = Machine::new(settings.config.clone());
        let quiet = settings.quiet_panics;
        Arc::new(Core {
            id: SupervisorId::fresh(),
            name,
            settings,
            hub: Arc::new(Hub::new(observers, quiet)),
            board: Board::new(),
            desk: Mutex::new(Desk {
                role: Role::Free,
                stage: Stage::Idle(Box::new(Engine::new(machine))),
            }),
            levels: Mutex::new(Levels::default()),
            level_changed: AtomicBool::new(false),
            ending: Mutex::new(Ending {
                begun: 0,
                ended: 0,
                last: None,
                post: None,
            }),
            ended: Condvar::new(),
            at_rest: AtomicBool::new(false),
        })
    }

    /// The names from the root down to it.
    pub(crate) fn path(&self) -> String {
        match self.role() {
            Role::Free | Role::Root => self.name.to_string(),
            Role::Child { parent, name } => match parent.upgrade() {
                Some(parent) => format!("{}.{name}", parent.path()),
                None => name.to_string(),
            },
        }
    }

    pub(crate) fn role(&self) -> Role {
        self.desk.lock().role.clone()
    }

    pub(crate) fn parent(&self) -> Option<Arc<Core>> {
        match self.role() {
            Role::Child { parent, .. } => parent.upgrade(),
            Role::Free | Role::Root => None,
        }
    }

    /// Whether it is `other` or somewhere below it.
    pub(crate) fn is_within(self: &Arc<Core>, other: &Arc<Core>) -> bool {
        let mut next = Some(self.clone());
        while let Some(core) = next {
            if Arc::ptr_eq(&core, other) {
                return true;
            }
            next = core.parent();
        }
        false
    }

    /// Makes it a service of `parent`.
    ///
    /// # Errors
    /// It has a parent, was started by itself, or is above `parent`.
    pub(crate) fn adopt(
        self: &Arc<Core>,
        parent: &Arc<Core>,
        name: &Arc<str>,
    ) -> Result<(), Error> {
        /// Two supervisors that are added to each other at the same moment.
        static ADOPTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = ADOPTING.lock();
        if parent.is_within(self) {
            return Err(Error::invalid(
                "service",
                format!(
                    "the supervisor {:?} cannot be added below itself",
                    self.name
                ),
            ));
        }
        let mut desk = self.desk.lock();
        match (&desk.role, &desk.stage) {
            (Role::Free, Stage::Idle(_)) => {
                desk.role = Role::Child {
                    parent: Arc::downgrade(parent),
                    name: name.clone(),
                };
                Ok(())
            }
            (Role::Free | Role::Root, _) => Err(Error::new(
                ErrorKind::AlreadyRunning,
                format!(
                    "service: the supervisor {:?} was started by itself",
                    self.name
                ),
            )),
            (Role::Child { .. }, _) => Err(Error::invalid(
                "service",
                format!("the supervisor {:?} has a parent already", self.name),
            )),
        }
    }

    /// Takes back an adoption that came to nothing.
    pub(crate) fn disown(&self) {
        let mut desk = self.desk.lock();
        if let Stage::Idle(_) = desk.stage {
            desk.role = Role::Free;
        }
    }

    /// Becomes responsible for a run as the root of a tree.
    pub(crate) fn begin_root(&self, post: Arc<Post>) -> Result<Claimed, Error> {
        if let Some(invalid) = &self.settings.invalid {
            return Err(invalid.clone());
        }
        let mut desk = self.desk.lock();
        if let Role::Child { .. } = desk.role {
            return Err(Error::new(
                ErrorKind::AlreadyRunning,
                format!(
                    "{}: it is a service of another supervisor, which runs it",
                    self.name
                ),
            ));
        }
        let claimed = self.take_engine(&mut desk, post)?;
        desk.role = Role::Root;
        Ok(claimed)
    }

    /// Becomes responsible for a run as a service.
    pub(crate) fn begin_nested(&self, post: Arc<Post>) -> Result<Claimed, Error> {
        let mut desk = self.desk.lock();
        self.take_engine(&mut desk, post)
    }

    fn take_engine(&self, desk: &mut Desk, post: Arc<Post>) -> Result<Claimed, Error> {
        match std::mem::replace(&mut desk.stage, Stage::Over) {
            Stage::Idle(engine) => {
                self.at_rest.store(false, Ordering::Relaxed);
                let mut ending = self.ending.lock();
                ending.begun += 1;
                ending.post = Some(post.clone());
                drop(ending);
                let claimed = Claimed::new(engine, post);
                desk.stage = Stage::Running(claimed.line.clone());
                *self.levels.lock() = Levels::default();
                Ok(claimed)
            }
            Stage::Running(other) => {
                desk.stage = Stage::Running(other);
                Err(Error::new(
                    ErrorKind::AlreadyRunning,
                    format!("{}: the supervisor is already started", self.name),
                ))
            }
            Stage::Over => Err(Error::stopped(&self.name)),
        }
    }

    /// No thread could be started for the run. If a stop was asked for meanwhile, that is final as one
    /// before the start, and what there was is for the caller to drop.
    pub(crate) fn take_back(&self, engine: Box<Engine>) -> Vec<Body> {
        let mut desk = self.desk.lock();
        desk.role = Role::Free;
        // Under the desk's lock: asked later, it is the next run that is asked, or nobody.
        let was_asked = self.levels.lock().stop.is_some();
        let mut bodies = Vec::new();
        if was_asked {
            desk.stage = Stage::Over;
            drop(desk);
            bodies = self.put_away(engine);
            self.ending.lock().begun -= 1;
        } else {
            desk.stage = Stage::Idle(engine);
            self.ending.lock().begun -= 1;
        }
        self.ended.notify_all();
        bodies
    }

    /// The run is over. `engine`: it may run again, or take services until then. True: something was told
    /// that the run hasn't heard, and it is to be [heard](Core::hear_at_rest).
    pub(crate) fn finish(&self, engine: Option<Box<Engine>>, ended: Ended) -> bool {
        let facts = engine.as_ref().map(|engine| engine.facts.1.clone());
        let stage = match engine {
            Some(engine) => Stage::Idle(engine),
            None => Stage::Over,
        };
        let mut desk = self.desk.lock();
        let old = std::mem::replace(&mut desk.stage, stage);
        self.at_rest.store(facts.is_some(), Ordering::Relaxed);
        drop(desk);
        drop(old);
        // Whoever has told something before this is seen here; whoever does after it sees that it is at rest.
        fence(Ordering::SeqCst);
        let unheard = facts.is_some_and(|facts| !facts.is_empty());
        let mut ending = self.ending.lock();
        ending.ended += 1;
        let before = ending.last.replace(Arc::new(ended));
        drop(ending);
        drop(before);
        self.ended.notify_all();
        unheard
    }

    /// After something was told: deals with it here and now, if no run does. A supervisor that is a
    /// service may be between two runs for long, and threads that it had to leave behind end then. Not on a
    /// supervisor's thread: it drops values of the user's.
    pub(crate) fn hear_at_rest(self: &Arc<Core>) {
        loop {
            fence(Ordering::SeqCst);
            if !self.at_rest.load(Ordering::Relaxed) {
                return;
            }
            let mut desk = self.desk.lock();
            let Stage::Idle(engine) = &mut desk.stage else {
                // The run that has begun hears it.
                return;
            };
            let Some(heard) = engine.hear(self) else {
                return;
            };
            drop(desk);
            self.pulse();
            if !heard.put_away(self) {
                return;
            }
        }
    }

    /// Takes it out of use between runs or before the first one. What it had is for the caller to
    /// drop; `None`: it runs.
    pub(crate) fn close(&self) -> Option<Vec<Body>> {
        let mut desk = self.desk.lock();
        match std::mem::replace(&mut desk.stage, Stage::Over) {
            Stage::Idle(engine) => {
                drop(desk);
                Some(self.put_away(engine))
            }
            Stage::Over => Some(Vec::new()),
            running @ Stage::Running(_) => {
                desk.stage = running;
                None
            }
        }
    }

    /// It has come off the desk for good, without a run.
    fn put_away(&self, engine: Box<Engine>) -> Vec<Body> {
        let mut ending = self.ending.lock();
        if ending.last.is_none() {
            ending.last = Some(Arc::new(Ended {
                result: Ok(()),
                report: StopReport::default(),
            }));
        }
        drop(ending);
        let bodies = engine.into_bodies(&self.board);
        self.hub.close();
        self.ended.notify_all();
        self.pulse();
        bodies
    }

    /// The queue to its observers and the log, once it was started.
    pub(crate) fn post(&self) -> Option<Arc<Post>> {
        self.ending.lock().post.clone()
    }

    /// Its own id as a service of its parent.
    pub(crate) fn service_id(&self) -> Option<ServiceId> {
        let Role::Child { parent, name } = self.role() else {
            return None;
        };
        let parent = parent.upgrade()?;
        let child = parent.board.id(&name)?;
        Some(ServiceId {
            supervisor: parent.id,
            child,
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.desk.lock().stage, Stage::Over)
    }

    pub(crate) fn was_started(&self) -> bool {
        let ending = self.ending.lock();
        ending.begun > 0 || ending.last.is_some()
    }

    /// Has something done by whoever is responsible.
    pub(crate) fn request(self: &Arc<Core>, mut ask: Ask) -> Answer {
        loop {
            let commands = {
                let mut desk = self.desk.lock();
                match &mut desk.stage {
                    Stage::Idle(engine) => {
                        let (answer, rest) = engine.idle_request(self, ask);
                        drop(desk);
                        // User values: not under the lock.
                        drop(rest);
                        // Somebody may be waiting for a value already.
                        self.board.pulse();
                        return answer;
                    }
                    Stage::Running(line) => line.commands.clone(),
                    Stage::Over => {
                        drop(desk);
                        drop(ask);
                        return Err(Error::stopped(self.path()));
                    }
                }
            };
            let (ticket, pending) = request::request(ask);
            // Refused or dropped unread, the ticket gives the request back below. Our end must go
            // first: a bounded channel keeps its messages until its last sender is gone.
            drop(commands.send(ticket));
            drop(commands);
            match pending.wait() {
                Outcome::Answered(answer) => return answer,
                Outcome::Undelivered(back) => ask = back,
            }
        }
    }

    /// Asks a running supervisor to stop. Never blocks. Answers which run it is; `None`: it doesn't run.
    pub(crate) fn ask_stop(&self, cause: StopCause, deadline: Option<Instant>) -> Option<u64> {
        let desk = self.desk.lock();
        let Stage::Running(line) = &desk.stage else {
            return None;
        };
        // All under the desk's lock, so that it is this run that is asked and woken, not the next one.
        let mut levels = self.levels.lock();
        levels.stop = match levels.stop.take() {
            None => Some((cause, deadline)),
            Some((first, None)) => Some((first, deadline)),
            Some((first, Some(a))) => Some((first, Some(deadline.map_or(a, |b| a.min(b))))),
        };
        drop(levels);
        let run = self.ending.lock().begun;
        self.wake_to_stop(line);
        Some(run)
    }

    /// Under the desk's lock: the flag is set only for the line of the run that is told. The send is
    /// to an unbounded channel and doesn't block.
    fn wake_to_stop(&self, line: &Line) {
        // Whoever fails after the request isn't started again, however long it is on its way.
        line.licences.store(false, Ordering::Release);
        if !self.level_changed.swap(true, Ordering::AcqRel) {
            drop(line.facts.send(Fact::Wake));
        }
    }

    /// For the supervisor thread, each turn: the levels, if they have changed.
    pub(crate) fn changed_levels(&self) -> Option<Option<(StopCause, Option<Instant>)>> {
        if self.level_changed.load(Ordering::Acquire) {
            self.level_changed.store(false, Ordering::Release);
            Some(self.levels.lock().stop.clone())
        } else {
            None
        }
    }

    /// The deadline that came with a request to stop.
    pub(crate) fn stop_deadline(&self) -> Option<Instant> {
        self.levels
            .lock()
            .stop
            .as_ref()
            .and_then(|(_, deadline)| *deadline)
    }

    /// Wakes this supervisor when the incarnation that it runs as is asked to stop.
    pub(crate) fn stop_waker(self: &Arc<Core>) -> impl Wake + use<> {
        StopWaker(self.clone())
    }

    /// Wakes a `wait_ready` here at a stop of the service that waits.
    pub(crate) fn pulse_waker(self: &Arc<Core>) -> impl Wake + use<> {
        Pulse(self.clone())
    }

    /// Tells everybody who waits for readiness here or above to look again.
    pub(crate) fn pulse(&self) {
        self.each_up(Board::pulse);
    }

    /// The same for a service that was over before it was ready.
    pub(crate) fn pulse_early_end(&self) {
        self.each_up(Board::pulse_early_end);
    }

    fn each_up(&self, f: impl Fn(&Board)) {
        f(&self.board);
        let mut next = self.parent();
        while let Some(core) = next {
            f(&core.board);
            next = core.parent();
        }
    }

    /// How the last run ended, if one has.
    pub(crate) fn last_end(&self) -> Option<Arc<Ended>> {
        self.ending.lock().last.clone()
    }

    /// Waits for the end of the current run. `None`: not before the deadline.
    pub(crate) fn wait_end(&self, deadline: Option<Instant>) -> Option<Arc<Ended>> {
        let run = self.ending.lock().begun;
        self.wait_end_of(run, deadline)
    }

    /// Waits for the end of that run, or of a later one. `None`: not before the deadline.
    pub(crate) fn wait_end_of(&self, run: u64, deadline: Option<Instant>) -> Option<Arc<Ended>> {
        let mut ending = self.ending.lock();
        loop {
            if ending.ended >= run && ending.last.is_some() {
                return ending.last.clone();
            }
            if ending.begun < run {
                // It couldn't be started after all; and was stopped, if there is an end.
                return ending.last.clone();
            }
            match deadline {
                None => self.ended.wait(&mut ending),
                Some(at) => {
                    if self.ended.wait_until(&mut ending, at).timed_out() && ending.ended < run {
                        return None;
                    }
                }
            }
        }
    }
}

struct StopWaker(Arc<Core>);

impl Wake for StopWaker {
    fn wake(&self) {
        if let Stage::Running(line) = &self.0.desk.lock().stage {
            self.0.wake_to_stop(line);
        }
    }
}

struct Pulse(Arc<Core>);

impl Wake for Pulse {
    fn wake(&self) {
        self.0.board.pulse();
    }
}

#[cfg(test)]
mod tests {
    use crate::context::Context;
    use crate::driver::dispatch::new_post;
    use crate::error::ErrorKind;
    use crate::event::StopCause;
    use crate::supervisor::Supervisor;

    fn unstarted() -> Supervisor {
        let supervisor = Supervisor::new("app");
        let added = supervisor.add("a", |_: &Context| Ok(()));
        assert!(added.is_ok());
        supervisor
    }

    #[test]
    fn stop_during_a_start_that_fails_is_final() {
        let supervisor = unstarted();
        let core = supervisor.core();
        let claimed = core.begin_root(new_post()).ok();
        supervisor.request_stop();
        let values = claimed.map(|claimed| core.take_back(claimed.engine));
        assert_eq!(values.map(|values| values.len()), Some(1));
        let again = supervisor.start().map_err(|e| e.kind());
        assert_eq!(again, Err(ErrorKind::Stopped));
        // As after a stop before the start.
        assert!(supervisor.stop().is_empty());
        assert!(supervisor.wait().is_ok());
    }

    #[test]
    fn who_waits_during_a_start_that_fails_is_told_of_the_stop() {
        let supervisor = unstarted();
        let core = supervisor.core();
        let claimed = core.begin_root(new_post()).ok();
        let run = core.ask_stop(StopCause::Ordered, None);
        assert_eq!(run, Some(1));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| supervisor.wait().is_ok());
            let values = claimed.map(|claimed| core.take_back(claimed.engine));
            drop(values);
            assert!(waits.join().is_ok_and(|is_ok| is_ok));
        });
    }

    #[test]
    fn start_that_fails_can_be_tried_again() {
        let supervisor = unstarted();
        let core = supervisor.core();
        let claimed = core.begin_root(new_post()).ok();
        let values = claimed.map(|claimed| core.take_back(claimed.engine));
        assert_eq!(values.map(|values| values.len()), Some(0));
        assert!(supervisor.start().is_ok());
        assert!(supervisor.stop().is_empty());
    }
}
