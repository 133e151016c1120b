//! One run of a supervisor, from taking its machine off the desk to putting it back.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};

use super::core::{Core, Ended, Line};
use super::engine::Engine;
use super::fence::Fence;
use super::inbox::{Heard, Inbox, Other};
use super::request::{Ask, COMMANDS_MAX, Ticket};
use super::stop::{Job as StopJob, StopThreads};
use super::thread::{Job, Order, Seat};
use super::{dispatch, limits, mark, panic};
use crate::context::{Context, Home, Incarnation};
use crate::error::{Error, ErrorKind, ServiceResult};
use crate::event::{EventKind, StopCause};
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind, FailureParts};
use crate::id::ChildId;
use crate::link::clock::Clock;
use crate::link::fact::{self, Fact, HookKind, HookTicket};
use crate::link::hub::{Emitter, Hub, Post};
use crate::link::life::{Handout, Life, Stop, Wake};
use crate::machine::message::{Cause, Command, Input, Note, Outcome, Verdict};
use crate::machine::policy::DEFAULT_STOP_TIMEOUT;
use crate::machine::time::Moment;
use crate::report::{State, StopReport, Unstopped};
use crate::supervisor::Supervisor;

/// What all supervisors of a tree share.
struct Tree {
    root: Supervisor,
    clock: Clock,
    post: Arc<Post>,
    stop_threads: Arc<StopThreads>,
}

impl Tree {
    fn new(root: Supervisor, post: Arc<Post>) -> Tree {
        Tree {
            root,
            clock: Clock::new(),
            post,
            stop_threads: StopThreads::new(),
        }
    }
}

struct Run {
    core: Arc<Core>,
    engine: Box<Engine>,
    tree: Arc<Tree>,
    path: Arc<str>,
    emitter: Emitter,
    line: Line,
    inbox: Inbox,
    quiet: bool,
    /// Held by every thread below, if this supervisor is a service.
    fence: Option<Arc<Fence>>,
    /// What this supervisor runs as, if it is a service.
    above: Option<Context>,
    out: Vec<Command>,
    /// The end that is being dealt with.
    current: Option<Current>,
    /// Who did not stop in time and hasn't ended since, in order.
    left_behind: Vec<(ChildId, u64, Unstopped)>,
    stop_cause: StopCause,
    blamed: Option<(Verdict, Option<Failure>)>,
    /// Failures of removed services that the board has forgotten; see [`Run::bury`].
    forgotten: Vec<Failure>,
    finished: bool,
}

/// How many forgotten failures are dropped together.
const FORGOTTEN_MAX: usize = 64;

struct Current {
    child: ChildId,
    incarnation: u64,
    run_time: Duration,
    failure: Option<Failure>,
}

/// A root that was claimed and has its inbox.
pub(crate) struct Claimed {
    engine: Box<Engine>,
    line: Line,
    inbox: Inbox,
}

fn claim_root(core: &Arc<Core>) -> Result<Claimed, Error> {
    panic::install()?;
    let (line, inbox) = new_line(dispatch::new_post());
    let engine = core.begin_root(line.clone())?;
    Ok(Claimed {
        engine,
        line,
        inbox,
    })
}

fn new_line(post: Arc<Post>) -> (Line, Inbox) {
    let (facts, facts_inbox) = unbounded();
    let (commands, commands_inbox) = bounded(COMMANDS_MAX);
    let line = Line {
        commands,
        facts,
        post,
    };
    (line, Inbox::new(facts_inbox, commands_inbox))
}

/// Runs the root of a tree on this thread.
///
/// # Errors
/// It can't be started, or how it failed.
pub(crate) fn run_root(core: &Arc<Core>) -> Result<(), Error> {
    let claimed = claim_root(core)?;
    Run::root(core.clone(), claimed).run();
    match core.wait_end(None) {
        Some(ended) => ended.result.clone(),
        None => Ok(()),
    }
}

/// Runs the root of a tree on a thread of its own.
///
/// # Errors
/// It can't be started.
pub(crate) fn start_root(core: &Arc<Core>) -> Result<(), Error> {
    let claimed = claim_root(core)?;
    if let Err(full) = limits::take_room() {
        core.take_back(claimed.engine);
        return Err(full);
    }
    let name = thread_name(&core.name);
    // The claim goes by a channel: if there is no thread it comes back.
    let (give, take) = bounded::<Claimed>(1);
    let thread_core = core.clone();
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        if let Ok(claimed) = take.recv() {
            Run::root(thread_core, claimed).run();
        }
    });
    match spawned {
        Ok(_detached) => {
            drop(give.send(claimed));
            Ok(())
        }
        Err(e) => {
            core.take_back(claimed.engine);
            Err(Error::new(
                ErrorKind::Spawn,
                format!("{}: could not start the supervisor thread: {e}", core.name),
            ))
        }
    }
}

/// Runs a supervisor as the service that `context` belongs to, on this thread.
///
/// # Errors
/// How it failed, for the supervisor above.
pub(crate) fn run_nested(core: &Arc<Core>, context: &Context) -> ServiceResult {
    let post = context.incarnation.home.emitter.post.clone();
    let (line, inbox) = new_line(post);
    let engine = core.begin_nested(line.clone())?;
    let claimed = Claimed {
        engine,
        line,
        inbox,
    };
    let ended = Run::nested(core.clone(), claimed, context).run();
    match &ended.result {
        Ok(()) => Ok(()),
        Err(e) if ended.terminated && core.settings.propagates_termination => {
            Err(Exit::TerminateTree.because(e.clone()).into())
        }
        // The subtree is over; parent and siblings go on.
        Err(e) if ended.terminated => Err(Exit::DoNotRestart.because(e.clone()).into()),
        Err(e) => Err(e.clone().into()),
    }
}

/// The last 15 bytes of a path: what the kernel keeps of a thread's name, and its telling end.
pub(crate) fn thread_name(path: &str) -> String {
    const KERNEL_BYTES_MAX: usize = 15;
    let mut from = path.len().saturating_sub(KERNEL_BYTES_MAX);
    while !path.is_char_boundary(from) {
        from += 1;
    }
    path[from..].to_owned()
}

struct RunEnded {
    result: Result<(), Error>,
    terminated: bool,
}

impl Run {
    fn root(core: Arc<Core>, claimed: Claimed) -> Run {
        let tree = Arc::new(Tree::new(
            Supervisor::of(core.clone()),
            claimed.line.post.clone(),
        ));
        let path = core.name.clone();
        let hubs = Arc::new([core.hub.clone()]);
        Run::new(core, claimed, tree, path, hubs, None)
    }

    fn nested(core: Arc<Core>, claimed: Claimed, context: &Context) -> Run {
        let home = &context.incarnation.home;
        // Every home is made by `settle_in`, so the tree is one of ours.
        let tree = home.tree.clone().downcast::<Tree>();
        let tree = tree
            .unwrap_or_else(|_| Arc::new(Tree::new(home.root.clone(), home.emitter.post.clone())));
        let hubs: Vec<Arc<Hub>> = std::iter::once(core.hub.clone())
            .chain(home.emitter.hubs.iter().cloned())
            .collect();
        let path = home.path.clone();
        Run::new(
            core,
            claimed,
            tree,
            path,
            hubs.into(),
            Some(context.clone()),
        )
    }

    fn new(
        core: Arc<Core>,
        claimed: Claimed,
        tree: Arc<Tree>,
        path: Arc<str>,
        hubs: Arc<[Arc<Hub>]>,
        above: Option<Context>,
    ) -> Run {
        let fence = above.as_ref().map(|context| {
            let incarnation = &context.incarnation;
            Arc::new(Fence::new(
                incarnation.home.facts.clone(),
                incarnation.home.cell.id.child,
                incarnation.number,
                mark::fence(),
            ))
        });
        let quiet =
            core.settings.quiet_panics || above.as_ref().is_some_and(|c| c.incarnation.home.quiet);
        Run {
            emitter: Emitter {
                hubs,
                post: tree.post.clone(),
            },
            core,
            engine: claimed.engine,
            tree,
            path,
            line: claimed.line,
            inbox: claimed.inbox,
            quiet,
            fence,
            above,
            out: Vec::new(),
            current: None,
            left_behind: Vec::new(),
            stop_cause: StopCause::Ordered,
            blamed: None,
            forgotten: Vec::new(),
            finished: false,
        }
    }

    /// Everything, including what a bug of ours leaves to do.
    fn run(mut self) -> RunEnded {
        let watch = self.above.as_ref().map(|context| {
            let waker: Arc<dyn Wake> = self.core.clone();
            context
                .incarnation
                .life
                .on_stop_wake(Arc::downgrade(&waker));
            waker
        });
        let broken = panic::catch(false, || self.turns()).err();
        drop(watch);
        let result = match broken {
            None => self.result(),
            Some(bug) => Err(self.break_off(&bug)),
        };
        self.end(result)
    }

    fn turns(&mut self) {
        self.step(Input::Started);
        while !self.finished {
            self.look_at_levels();
            let deadline = self
                .engine
                .machine
                .deadline()
                .and_then(|at| self.tree.clock.instant(at));
            if self.finished {
                break;
            }
            match self.inbox.next(deadline) {
                Heard::Fact(fact) => self.deal_with(fact),
                Heard::Command(ticket) => self.answer(ticket),
                Heard::Time => self.step(Input::Ticked),
            }
        }
    }

    /// Requests without an answer: from callers, and from the supervisor above.
    fn look_at_levels(&mut self) {
        let Some(stop) = self.core.changed_levels() else {
            return;
        };
        if let Some((cause, deadline)) = stop {
            self.ask_shutdown(cause, deadline);
        }
        let asked = self.above.as_ref().and_then(|context| {
            let life = &context.incarnation.life;
            let (deadline, _) = life.stop_terms()?;
            Some((life.stop_cause()?, deadline))
        });
        if let Some((cause, deadline)) = asked {
            self.ask_shutdown(cause, deadline);
        }
    }

    fn ask_shutdown(&mut self, cause: StopCause, deadline: Option<std::time::Instant>) {
        if self.engine.machine.is_running() {
            self.stop_cause = cause;
        }
        let deadline = deadline.map_or(Moment::NEVER, |at| self.tree.clock.moment(at));
        self.step(Input::ShutdownRequested { deadline });
    }

    fn deal_with(&mut self, fact: Fact) {
        match fact {
            Fact::Ready { child, incarnation } => self.step(Input::SaidReady {
                id: child,
                incarnation,
            }),
            Fact::Ended(ended) => self.deal_with_end(ended),
            Fact::Cleared { child, incarnation } => {
                self.left_behind
                    .retain(|(c, i, _)| (*c, *i) != (child, incarnation));
                self.step(Input::Cleared {
                    id: child,
                    incarnation,
                });
            }
            Fact::Discarded { child } => self.step(Input::Discarded(child)),
            Fact::LateHook(ticket) => self.hand_out_late(ticket),
            Fact::Wake => {}
        }
    }

    fn deal_with_end(&mut self, ended: fact::Ended) {
        let fact::Ended {
            child,
            incarnation,
            outcome,
            failure,
            run_time,
            discarded,
            stragglers,
        } = ended;
        if let Some(slot) = self.engine.slots.get_mut(&child) {
            let current = slot
                .incarnation
                .as_ref()
                .is_some_and(|i| i.number == incarnation);
            if current {
                slot.incarnation = None;
                if discarded {
                    slot.seat = None;
                }
            }
            if let Some(failure) = &failure {
                slot.set_failure(failure.clone());
            }
        }
        self.current = Some(Current {
            child,
            incarnation,
            run_time,
            failure,
        });
        let left = !stragglers.is_empty();
        self.left_behind
            .retain(|(c, i, _)| (*c, *i) != (child, incarnation));
        self.left_behind
            .extend(stragglers.into_iter().map(|u| (child, incarnation, u)));
        self.step(Input::Ended {
            id: child,
            incarnation,
            outcome,
            discarded,
            stragglers: left,
        });
        self.current = None;
    }

    fn answer(&mut self, ticket: Ticket) {
        let Some(ask) = ticket.take() else { return };
        let checked = self.check(&ask);
        match checked {
            Err(e) => ticket.answer(Err(e), Some(ask)),
            Ok(Some(done)) => ticket.answer(Ok(done), None),
            Ok(None) => {
                let (input, ids) = self.engine.accept(&self.core, ask);
                for id in &ids {
                    self.settle_in(id.child);
                }
                self.decide(input);
                ticket.answer(Ok(ids), None);
                self.carry_out();
            }
        }
    }

    fn check(&self, ask: &Ask) -> Result<Option<Vec<crate::ServiceId>>, Error> {
        if let Ask::Add(services) = ask {
            if !self.engine.machine.is_running() {
                return Err(Error::new(
                    ErrorKind::Stopping,
                    format!("{}: the supervisor is stopping", self.path),
                ));
            }
            let done = self.engine.check(ask)?;
            limits::check_room(services.len())?;
            return Ok(done);
        }
        self.engine.check(ask)
    }

    /// Gives a service its place in the running tree.
    fn settle_in(&mut self, child: ChildId) {
        let Some(slot) = self.engine.slots.get_mut(&child) else {
            return;
        };
        let path: Arc<str> = Arc::from(format!("{}.{}", self.path, slot.cell.name));
        slot.home = Some(Arc::new(Home {
            cell: slot.cell.clone(),
            thread_name: Arc::from(thread_name(&path)),
            path,
            supervisor: Supervisor::of(self.core.clone()),
            root: self.tree.root.clone(),
            facts: self.line.facts.clone(),
            emitter: self.emitter.clone(),
            quiet: self.quiet,
            tree: self.tree.clone(),
        }));
    }

    fn step(&mut self, input: Input) {
        if matches!(input, Input::Started) {
            let children: Vec<ChildId> = self.engine.slots.keys().copied().collect();
            for child in children {
                self.settle_in(child);
            }
        }
        self.decide(input);
        self.carry_out();
    }

    /// Steps the machine and publishes what changed; the commands are left in `out`.
    fn decide(&mut self, input: Input) {
        let now = self.tree.clock.now();
        self.engine.machine.step(now, input, &mut self.out);
        self.make_failures();
        self.publish();
    }

    /// The failures that only the machine knows of: a return that was not wanted, a set-up that
    /// took too long. Made before anything is published.
    fn make_failures(&mut self) {
        for command in &self.out {
            let Command::Announce {
                id,
                incarnation,
                note: Note::Failed { kind, .. },
            } = command
            else {
                continue;
            };
            let Some(slot) = self.engine.slots.get_mut(id) else {
                continue;
            };
            let message = match kind {
                FailureKind::Returned => "returned unexpectedly",
                FailureKind::ReadyTimeout => "was not ready in time",
                // Told by the thread, or by who could not start one.
                FailureKind::Error | FailureKind::Panic | FailureKind::Spawn => continue,
            };
            let Some(home) = &slot.home else { continue };
            let run_time = match &self.current {
                Some(current) if current.child == *id => current.run_time,
                Some(_) | None => Duration::ZERO,
            };
            slot.set_failure(Failure::new(FailureParts {
                path: home.path.clone(),
                incarnation: *incarnation,
                kind: *kind,
                message: message.into(),
                location: None,
                thread_name: Some(home.thread_name.clone()),
                run_time,
                error: None,
                trace: None,
            }));
        }
    }

    fn publish(&mut self) {
        let clock = self.tree.clock;
        let instant = |moment| clock.instant(moment);
        // A service that changed twice is published twice: that is rare and harmless.
        let machine = &mut self.engine.machine;
        let changed: Vec<ChildId> = machine.take_changed().collect();
        for id in changed {
            let (Some(slot), Some(view)) =
                (self.engine.slots.get(&id), self.engine.machine.view(id))
            else {
                continue;
            };
            slot.cell.update(|data| {
                if data.incarnation != view.incarnation {
                    data.status = None;
                }
                data.state = view.state;
                data.incarnation = view.incarnation;
                if let Some(since) = instant(view.since) {
                    data.since = since;
                }
                data.next_start = view.next_start.and_then(instant);
                data.starts = view.starts;
                data.failures = view.failures;
                data.panics = view.panics;
                data.stop_timeouts = view.stop_timeouts;
                data.missing = view.missing;
                // Never the last reference: the slot, or its trash, has the old one.
                data.last_failure.clone_from(&slot.last_failure);
            });
        }
        let machine = &self.engine.machine;
        let state = if machine.is_paused() {
            State::Paused
        } else if machine.is_running() {
            State::Running
        } else {
            State::Stopping
        };
        if self.core.board.set_state(state, machine.missing()) {
            self.core.pulse();
        }
    }

    fn carry_out(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for command in out.drain(..) {
            self.do_command(command);
        }
        // Keeps its memory, which is bounded by the largest step.
        self.out = out;
    }

    fn do_command(&mut self, command: Command) {
        match command {
            Command::Start { id, incarnation } => self.start(id, incarnation),
            Command::Stop {
                id,
                incarnation,
                cause,
                deadline,
                discard,
            } => self.stop(id, incarnation, cause, deadline, discard),
            Command::Hasten {
                id,
                incarnation,
                deadline,
            } => self.hasten(id, incarnation, deadline),
            Command::Abandon {
                id,
                incarnation,
                waited,
            } => self.abandon(id, incarnation, waited),
            Command::Release { id } => self.release(id),
            Command::Discard { id } => self.discard(id),
            Command::Forget { id } => self.forget(id),
            Command::Announce {
                id,
                incarnation,
                note,
            } => self.announce(id, incarnation, note),
            Command::AnnouncePause(time) => {
                self.emitter.emit(&self.path, 0, EventKind::Paused { time })
            }
            Command::AnnounceResume => self.emitter.emit(&self.path, 0, EventKind::Resumed),
            Command::EndedEarly { id } => self.remember_early_end(id),
            Command::Blame { id, verdict } => {
                let failure = self
                    .engine
                    .slots
                    .get(&id)
                    .and_then(|s| s.last_failure.clone());
                self.blamed = Some((verdict, failure));
            }
            Command::Abort { id } => self.abort(id),
            Command::Finish => self.finished = true,
        }
    }
}

/// Carrying out commands.
impl Run {
    fn start(&mut self, id: ChildId, number: u64) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        let (Some(home), Some(body)) = (slot.home.clone(), slot.body.clone()) else {
            return;
        };
        let incarnation = Arc::new(Incarnation {
            home,
            number,
            life: Life::new(),
            stragglers: parking_lot::Mutex::new(Vec::new()),
        });
        slot.incarnation = Some(incarnation.clone());
        let fresh = body.fresh_thread;
        let job = Job {
            incarnation,
            body,
            trash: std::mem::take(&mut slot.trash),
        };
        // A fresh thread lets go of the old one, which ends.
        let seat = if fresh { None } else { slot.seat.take() };
        let job = match seat {
            None => job,
            Some(seat) => match seat.order(Order::Run(job)) {
                Ok(()) => {
                    slot.seat = Some(seat);
                    return;
                }
                Err(Order::Run(job)) => job,
                Err(Order::Leave(_) | Order::Discard { .. }) => return,
            },
        };
        match Seat::spawn(job, self.fence.clone()) {
            Ok(seat) => slot.seat = Some(seat),
            Err((error, job)) => self.could_not_start(id, number, &error, job),
        }
    }

    /// A failed start: dealt with in its turn like every other end.
    fn could_not_start(&mut self, id: ChildId, number: u64, error: &Error, job: Job) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        slot.trash.extend(job.trash);
        slot.seat = None;
        let (discard, _) = job.incarnation.life.finish();
        let failure = Failure::new(FailureParts {
            path: job.incarnation.home.path.clone(),
            incarnation: number,
            kind: FailureKind::Spawn,
            message: error.to_string().into(),
            location: None,
            thread_name: None,
            run_time: Duration::ZERO,
            error: None,
            trace: None,
        });
        debug_assert!(discard.is_none(), "asked to stop before it was started");
        self.inbox.push_own(Fact::Ended(fact::Ended {
            child: id,
            incarnation: number,
            outcome: Outcome::NoThread,
            failure: Some(failure),
            run_time: Duration::ZERO,
            discarded: false,
            stragglers: Vec::new(),
        }));
    }

    fn stop(&mut self, id: ChildId, number: u64, cause: Cause, deadline: Moment, discard: bool) {
        let cause = self.cause(cause);
        // At the end of a tree nothing is needed again.
        let discard = discard || self.is_final();
        let clock = self.tree.clock;
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        let Some(incarnation) = slot.incarnation.clone() else {
            return;
        };
        debug_assert_eq!(incarnation.number, number);
        let Some(body) = slot.body.clone() else {
            return;
        };
        let deadline = match clock.instant(deadline) {
            Some(at) => Some(body.cap(at)),
            None => body.own_deadline(),
        };
        let has_interrupt = body.has_interrupt;
        let values = if discard { slot.body.take() } else { None };
        let stop = Stop {
            cause,
            deadline,
            discard: values.map(|body| body as _),
        };
        let body = match incarnation.life.ask(stop, has_interrupt) {
            Ok(handout) => {
                self.hand_out(&incarnation, &body, handout);
                None
            }
            // Its end is on the way; the values stay here.
            Err(_too_late) => Some(body),
        };
        if let (Some(body), Some(slot)) = (body, self.engine.slots.get_mut(&id)) {
            slot.body = Some(body);
        }
    }

    /// Gives the hooks of an incarnation to stop threads.
    fn hand_out(
        &self,
        incarnation: &Arc<Incarnation>,
        body: &Arc<super::body::Body>,
        handout: Handout,
    ) {
        let interrupt = handout.interrupt.then_some(HookKind::Interrupt);
        let hooks = handout.hooks.into_iter().map(HookKind::OnStop);
        for what in interrupt.into_iter().chain(hooks) {
            self.tree.stop_threads.push(StopJob::Hook {
                ticket: HookTicket {
                    incarnation: incarnation.clone(),
                    what,
                },
                body: body.clone(),
                fence: self.fence.clone(),
            });
        }
    }

    /// A closure that was registered after the request.
    fn hand_out_late(&self, ticket: HookTicket) {
        self.tree.stop_threads.push(StopJob::LateHook {
            ticket,
            fence: self.fence.clone(),
        });
    }

    fn hasten(&mut self, id: ChildId, number: u64, deadline: Moment) {
        let deadline = self.tree.clock.instant(deadline);
        let Some(slot) = self.engine.slots.get(&id) else {
            return;
        };
        let Some(incarnation) = &slot.incarnation else {
            return;
        };
        debug_assert_eq!(incarnation.number, number);
        let cause = incarnation.life.stop_cause().unwrap_or(StopCause::Ordered);
        // Asked already, so nothing is handed out; too late is fine.
        drop(incarnation.life.ask(
            Stop {
                cause,
                deadline,
                discard: None,
            },
            false,
        ));
    }

    /// Lets go of a thread that doesn't end. It is fenced by its incarnation; when it ends after
    /// all, it tells so, finds its channel closed and exits.
    fn abandon(&mut self, id: ChildId, number: u64, waited: Duration) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        slot.seat = None;
        slot.incarnation = None;
        let Some(home) = &slot.home else { return };
        self.left_behind.push((
            id,
            number,
            Unstopped {
                path: home.path.clone(),
                incarnation: number,
                thread_name: home.thread_name.clone(),
                waited,
            },
        ));
    }

    fn release(&mut self, id: ChildId) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        if let Some(seat) = slot.seat.take() {
            let trash = std::mem::take(&mut slot.trash);
            if let Err(Order::Leave(trash)) = seat.order(Order::Leave(trash)) {
                slot.trash = trash;
            }
        }
    }

    /// Has a service's values dropped where they may block and panic.
    fn discard(&mut self, id: ChildId) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        let Some(home) = slot.home.clone() else {
            return;
        };
        let body = slot.body.take();
        let trash = std::mem::take(&mut slot.trash);
        let order = Order::Discard { body, trash, home };
        let refused = match slot.seat.take() {
            Some(seat) => seat.order(order).err(),
            None => Some(order),
        };
        if let Some(Order::Discard { body, trash, home }) = refused {
            self.tree.stop_threads.push(StopJob::Discard {
                body,
                trash,
                home,
                fence: self.fence.clone(),
            });
        }
    }

    fn forget(&mut self, id: ChildId) {
        let (slot, evicted) = self.engine.forget(&self.core.board, id);
        self.left_behind.retain(|(c, _, _)| *c != id);
        if let Some(mut slot) = slot {
            // Discarded with the values, all but what a late end has brought.
            self.forgotten.append(&mut slot.trash);
        }
        self.forgotten.extend(evicted);
        if self.forgotten.len() >= FORGOTTEN_MAX {
            let trash = std::mem::take(&mut self.forgotten);
            self.bury(Vec::new(), trash);
        }
    }

    /// Drops user values on a stop thread. The answer has the messages of `Drop`s that panicked.
    fn bury(
        &self,
        bodies: Vec<Arc<super::body::Body>>,
        mut trash: Vec<Failure>,
    ) -> Option<crossbeam_channel::Receiver<Vec<String>>> {
        // Without an error in it there is nothing of the user's in a failure.
        trash.retain(|failure| failure.error().is_some());
        if bodies.is_empty() && trash.is_empty() {
            return None;
        }
        let (done, buried) = bounded(1);
        self.tree.stop_threads.push(StopJob::Bury {
            bodies,
            trash,
            done,
        });
        Some(buried)
    }

    fn remember_early_end(&mut self, id: ChildId) {
        let Some(slot) = self.engine.slots.get(&id) else {
            return;
        };
        let Some(home) = &slot.home else { return };
        let why = match &self.current {
            Some(Current {
                child,
                failure: Some(failure),
                ..
            }) if *child == id => Arc::from(failure.message()),
            Some(_) | None => Arc::from("it ended before it was ready"),
        };
        self.core.board.add_early_end(home.path.clone(), why);
        self.core.pulse();
    }

    fn abort(&self, id: ChildId) {
        let failure = self
            .engine
            .slots
            .get(&id)
            .and_then(|s| s.last_failure.as_ref());
        match failure {
            Some(failure) => eprintln!("{failure}; the panic policy aborts the process"),
            None => eprintln!("{}: the panic policy aborts the process", self.path),
        }
        std::process::abort();
    }

    fn path_of(&self, id: ChildId) -> Arc<str> {
        match self.engine.slots.get(&id).and_then(|s| s.home.as_ref()) {
            Some(home) => home.path.clone(),
            None => self.path.clone(),
        }
    }

    fn cause(&self, cause: Cause) -> StopCause {
        match cause {
            Cause::Ordered => StopCause::Ordered,
            Cause::Removed => StopCause::Removed,
            Cause::RestartWith(id) => StopCause::RestartWith {
                path: self.path_of(id),
            },
            Cause::ReadyTimeout => StopCause::ReadyTimeout,
            Cause::Shutdown => self.stop_cause.clone(),
            Cause::Limit => StopCause::Limit,
            Cause::Terminated(id) => StopCause::Terminated {
                path: self.path_of(id),
            },
            Cause::AutoShutdown(id) => StopCause::AutoShutdown {
                path: self.path_of(id),
            },
        }
    }

    fn announce(&mut self, id: ChildId, incarnation: u64, note: Note) {
        let Some(slot) = self.engine.slots.get(&id) else {
            return;
        };
        let Some(home) = &slot.home else { return };
        let kind = match note {
            Note::Added => EventKind::Added,
            Note::Started => EventKind::Started,
            Note::Ready => EventKind::Ready,
            Note::Done => EventKind::Done,
            Note::Removed => EventKind::Removed,
            Note::Failed {
                count, limit, next, ..
            } => match slot.last_failure.clone() {
                Some(failure) => EventKind::Failed {
                    failure,
                    count,
                    limit,
                    next,
                },
                None => return,
            },
            Note::Stopping { cause } => EventKind::Stopping {
                cause: self.cause(cause),
            },
            Note::Stopped => EventKind::Stopped {
                answer: match &self.current {
                    Some(current) if current.child == id && current.incarnation == incarnation => {
                        current.failure.clone()
                    }
                    Some(_) | None => None,
                },
            },
            Note::GivenUp => match slot.last_failure.clone() {
                Some(failure) => EventKind::GivenUp { failure },
                None => return,
            },
            Note::Abandoned { waited } => EventKind::Abandoned {
                thread: home.thread_name.clone(),
                waited,
            },
            Note::EndedLate => EventKind::EndedLate,
            Note::Waiting => EventKind::Waiting {
                reason: Arc::from("an input is missing"),
            },
        };
        home.emit(incarnation, kind);
    }
}

/// The end of a run.
impl Run {
    /// Whether nothing of this supervisor is needed again.
    fn is_final(&self) -> bool {
        match &self.above {
            None => true,
            Some(context) => context
                .incarnation
                .life
                .stop_terms()
                .is_some_and(|(_, discard)| discard),
        }
    }

    fn result(&self) -> Result<(), Error> {
        let Some((verdict, failure)) = &self.blamed else {
            return Ok(());
        };
        let path = &self.path;
        let text = match verdict {
            Verdict::Stopped | Verdict::AutoShutdown => return Ok(()),
            Verdict::SignificantFailed => format!("{path} ended with a significant service"),
            Verdict::LimitExceeded => format!(
                "{path} failed, {} exceeded",
                self.core.settings.config.limit
            ),
            Verdict::Terminated => format!("{path} was terminated"),
            Verdict::Escalated => format!("{path} failed with a panic"),
        };
        Err(match failure {
            Some(failure) => Error::failed(format!("{text}: {failure}"), failure.clone()),
            None => Error::new(ErrorKind::Failed, text),
        })
    }

    /// A bug of ours: loud, and the end of the tree as a failure. Whoever runs is asked to stop and
    /// not waited for.
    fn break_off(&mut self, bug: &panic::Caught) -> Error {
        let text = format!(
            "{}: the supervisor itself panicked, which is a bug in backstay: {}{}",
            self.path,
            bug.message,
            bug.location
                .as_ref()
                .map(|l| format!(" at {l}"))
                .unwrap_or_default()
        );
        log::error!(target: &self.path, "{text}");
        for slot in self.engine.slots.values() {
            if let Some(incarnation) = &slot.incarnation {
                drop(incarnation.life.ask(
                    Stop {
                        cause: StopCause::Limit,
                        deadline: None,
                        discard: None,
                    },
                    false,
                ));
            }
        }
        Error::new(ErrorKind::Failed, text)
    }

    /// Puts everything away and tells who waits.
    fn end(mut self, result: Result<(), Error>) -> RunEnded {
        let terminated = matches!(self.blamed, Some((Verdict::Terminated, _)));
        let is_final = self.is_final();
        // Late ends that came with the last one.
        let late: Vec<Fact> = self.inbox.drain().collect();
        for fact in late {
            self.deal_with(fact);
        }
        self.put_slots_away(is_final);
        let unstopped: Vec<Unstopped> = self.left_behind.drain(..).map(|(_, _, u)| u).collect();
        if let Some(context) = &self.above {
            context.incarnation.stragglers.lock().clone_from(&unstopped);
        }
        let abandoned = unstopped.len();
        let report = StopReport {
            unstopped,
            only_requested: false,
        };
        let state = if result.is_ok() {
            State::Stopped
        } else {
            State::GivenUp
        };
        self.core.board.set_state(state, 0);
        self.emitter
            .emit(&self.path, 0, EventKind::Ended { abandoned });
        if is_final {
            self.core.hub.close();
        }
        if self.above.is_none() {
            self.tree.post.close();
        }
        let engine = (!is_final).then_some(self.engine);
        self.core.finish(
            engine,
            Ended {
                result: result.clone(),
                report,
            },
        );
        self.core.pulse();
        // Only now the inbox goes: a call that comes until then finds the desk's new stage.
        drop(self.inbox);
        RunEnded { result, terminated }
    }

    fn put_slots_away(&mut self, is_final: bool) {
        let mut bodies = Vec::new();
        let mut trash = std::mem::take(&mut self.forgotten);
        for slot in self.engine.slots.values_mut() {
            slot.home = None;
            slot.incarnation = None;
            slot.seat = None;
            if is_final {
                bodies.extend(slot.body.take());
                trash.append(&mut slot.trash);
                slot.cell.update(|data| data.orphaned = true);
            }
        }
        let Some(buried) = self.bury(bodies, trash) else {
            return;
        };
        for message in self.wait_for_burial(&buried) {
            let message = Arc::from(format!("drop: {message}"));
            self.emitter
                .emit(&self.path, 0, EventKind::HookPanicked { message });
        }
    }

    /// For `stop` to mean that the values are gone. A `Drop` that blocks is not waited for longer
    /// than a service would be, nor beyond a deadline that was set for the stop.
    fn wait_for_burial(
        &mut self,
        buried: &crossbeam_channel::Receiver<Vec<String>>,
    ) -> Vec<String> {
        let patience = Clock::deadline(DEFAULT_STOP_TIMEOUT);
        loop {
            let forced = self.core.stop_deadline();
            let until = match (patience, forced) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            match self.inbox.wait_for(buried, until) {
                Some(Other::Answer(panics)) => return panics,
                Some(Other::Fact(fact)) => self.deal_with(fact),
                None => return Vec::new(),
            }
        }
    }
}
