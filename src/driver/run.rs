//! One run of a supervisor, from taking its machine off the desk to putting it back.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Claimed, Core, Line};
use super::engine::{Engine, Remains};
use super::fence::Fence;
use super::inbox::{Heard, Inbox};
use super::request::{Ask, Ticket};
use super::stop::{Job as StopJob, StopThreads};
use super::thread::tell_entry;
use super::{limits, panic};
use crate::context::{Context, Home};
use crate::error::Error;
use crate::event::StopCause;
use crate::failure::Failure;
use crate::id::ChildId;
use crate::link::clock::Clock;
use crate::link::fact::{self, Fact, Straggler, Unheard};
use crate::link::hub::{Emitter, Hub, Post};
use crate::link::waker::Waker;
use crate::machine::message::{Command, End, Input, Verdict};
use crate::machine::time::Moment;
use crate::supervisor::Supervisor;

/// What all supervisors of a tree share.
pub(super) struct Tree {
    pub(super) root: Supervisor,
    pub(super) clock: Clock,
    pub(super) post: Arc<Post>,
    pub(super) stop_threads: Arc<StopThreads>,
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

pub(super) struct Run {
    pub(super) core: Arc<Core>,
    pub(super) engine: Box<Engine>,
    pub(super) tree: Arc<Tree>,
    pub(super) path: Arc<str>,
    pub(super) emitter: Emitter,
    pub(super) line: Line,
    pub(super) inbox: Inbox,
    pub(super) quiet: bool,
    /// Held by every thread below, if this supervisor is a service.
    pub(super) fence: Option<Arc<Fence>>,
    /// What this supervisor runs as or below, if that is a service.
    pub(super) above: Option<Context>,
    /// It is made anew for each incarnation of that.
    pub(super) one_run: bool,
    pub(super) out: Vec<Command>,
    /// The end that is being dealt with.
    pub(super) current: Option<Current>,
    /// Who did not stop in time and hasn't ended since, in order.
    pub(super) left_behind: Vec<(ChildId, u64, Straggler)>,
    pub(super) stop_cause: StopCause,
    pub(super) blamed: Option<(Verdict, Option<Failure>)>,
    /// Of a significant service that is over, while others of them go on.
    pub(super) mourned: Option<(ChildId, Failure)>,
    /// Failures that would have ended it as well; see `rank_failures`.
    pub(super) candidates: Vec<Failure>,
    /// What is left of removed services; see [`Run::bury`].
    pub(super) forgotten: Remains,
    /// The machine is told that it runs, or was.
    pub(super) has_started: bool,
    pub(super) has_begun: bool,
    /// What is dealt with has come before the machine's next deadline has passed; see [`Inbox::next`].
    pub(super) before_time: bool,
    pub(super) finished: bool,
}

/// How many forgotten values are dropped together.
pub(super) const FORGOTTEN_MAX: usize = 64;

pub(super) struct Current {
    pub(super) child: ChildId,
    pub(super) incarnation: u64,
    pub(super) run_time: Duration,
    pub(super) failure: Option<Failure>,
}

pub(super) struct RunEnded {
    pub(super) result: Result<(), Error>,
    pub(super) terminated: bool,
}

impl Run {
    pub(super) fn root(core: Arc<Core>, claimed: Claimed) -> Run {
        let tree = Arc::new(Tree::new(
            Supervisor::of(core.clone()),
            claimed.line.post.clone(),
        ));
        let path = core.name.clone();
        let hubs = Arc::new([core.hub.clone()]);
        Run::new(core, claimed, tree, path, hubs, None)
    }

    pub(super) fn nested(core: Arc<Core>, claimed: Claimed, context: &Context) -> Run {
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

    /// Of `Context::supervise`: for one incarnation only.
    pub(super) fn below(core: Arc<Core>, claimed: Claimed, context: &Context) -> Run {
        Run {
            one_run: true,
            ..Run::nested(core, claimed, context)
        }
    }

    fn new(
        core: Arc<Core>,
        claimed: Claimed,
        tree: Arc<Tree>,
        path: Arc<str>,
        hubs: Arc<[Arc<Hub>]>,
        above: Option<Context>,
    ) -> Run {
        let fence = above
            .as_ref()
            .map(|context| Fence::of(&context.incarnation));
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
            one_run: false,
            out: Vec::new(),
            current: None,
            left_behind: Vec::new(),
            stop_cause: StopCause::Ordered,
            blamed: None,
            mourned: None,
            candidates: Vec::new(),
            forgotten: Remains::default(),
            has_started: false,
            has_begun: false,
            before_time: false,
            finished: false,
        }
    }

    /// Everything, including what a bug of ours leaves to do.
    pub(super) fn run(mut self) -> RunEnded {
        // Held until the end, which may be hastened, too.
        let _watch = self.above.as_ref().map(|context| {
            let waker = Waker::new(self.core.stop_waker());
            context.incarnation.life.on_stop_wake(waker.weak());
            waker
        });
        let broken = panic::catch(false, || self.turns()).err();
        let mourned = self.mourned.take().map(|(_, failure)| failure);
        self.forgotten.failures.extend(mourned);
        let result = match broken {
            None => {
                self.choose_failure();
                self.result()
            }
            Some(bug) => Err(self.break_off(&bug)),
        };
        self.end(result)
    }

    fn turns(&mut self) {
        self.begin();
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
                Heard::Fact(fact) => {
                    self.before_time = true;
                    self.deal_with(fact);
                    self.before_time = false;
                }
                Heard::Command(ticket) => self.answer(ticket),
                Heard::Time => self.step(Input::Ticked),
            }
        }
    }

    /// It is up as a service when its own are about to be, so that who waits above for both is woken
    /// once.
    fn begin(&mut self) {
        self.hear_what_was_told_before();
        self.has_started = true;
        self.step(Input::Started);
        self.has_begun = true;
        let above = self.above.as_ref().filter(|_| !self.one_run);
        if !above.is_some_and(|context| tell_entry(&context.incarnation)) {
            self.core.pulse();
        }
    }

    /// Ends of an earlier run that nobody has heard of since: before anybody is started again.
    fn hear_what_was_told_before(&mut self) {
        let early: Vec<Fact> = self.inbox.drain().collect();
        if early.is_empty() {
            return;
        }
        self.settle_all();
        early.into_iter().for_each(|fact| self.deal_with(fact));
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
            self.stop_cause = cause.clone();
            self.log_end(cause);
        }
        let deadline = deadline.map_or(Moment::NEVER, |at| self.tree.clock.moment(at));
        self.step(Input::ShutdownRequested { deadline });
    }

    pub(super) fn deal_with(&mut self, fact: Fact) {
        match fact {
            Fact::Ready { child, incarnation } => {
                self.catch_up(child);
                self.step(Input::SaidReady {
                    id: child,
                    incarnation,
                });
            }
            Fact::Provided { child, incarnation } => self.show_values(child, incarnation),
            Fact::Ended(ended) => self.deal_with_end(ended),
            Fact::Cleared { child, incarnation } => {
                self.left_behind
                    .retain(|(c, i, _)| (*c, *i) != (child, incarnation));
                self.step(Input::Cleared {
                    id: child,
                    incarnation,
                });
            }
            Fact::Supervising { child, incarnation } => {
                self.catch_up(child);
                self.shows_below(child, incarnation);
                self.step(Input::Supervising {
                    id: child,
                    incarnation,
                });
            }
            Fact::BelowFailed { child, incarnation } => {
                self.catch_up(child);
                self.step(Input::BelowFailed {
                    id: child,
                    incarnation,
                });
            }
            Fact::Discarded { child } => self.step(Input::Discarded(child)),
            Fact::Wake => {}
        }
    }

    /// What a service has provided is there from now on.
    fn show_values(&mut self, id: ChildId, number: u64) {
        let slot = self.engine.slots.get(&id);
        let incarnation = slot.and_then(|slot| slot.incarnation.as_ref());
        let Some(incarnation) = incarnation.filter(|i| i.number == number) else {
            return;
        };
        let Some(trade) = &incarnation.trade else {
            return;
        };
        let (keys, clear) = trade.shelf.show();
        if clear {
            // At once: it may be a connection that nobody needs any more.
            self.tree.stop_threads.push(StopJob::Clear {
                shelf: trade.shelf.clone(),
                incarnation: incarnation.clone(),
                fence: self.fence.clone(),
            });
        }
        self.step(Input::Provided {
            id,
            incarnation: number,
            keys,
        });
        // Somebody outside may be waiting for it.
        self.core.pulse();
    }

    fn deal_with_end(&mut self, ended: fact::Ended) {
        let fact::Ended {
            child,
            incarnation,
            outcome,
            fatal,
            failure,
            run_time,
            discarded,
            stragglers,
            licence,
            unheard,
        } = ended;
        unheard.into_iter().for_each(Unheard::heard);
        if let Some(renewed) = licence.as_ref().and_then(|l| self.renewals(child, l)) {
            self.step(renewed);
        }
        if let Some(slot) = self.engine.slots.get_mut(&child) {
            if slot.is_current(incarnation, licence.as_ref()) {
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
        let end = End {
            outcome,
            fatal,
            discarded,
            stragglers: !stragglers.is_empty(),
        };
        self.left_behind
            .retain(|(c, i, _)| (*c, *i) != (child, incarnation));
        self.left_behind
            .extend(stragglers.into_iter().map(|s| (child, incarnation, s)));
        self.step(Input::Ended {
            id: child,
            incarnation,
            end,
        });
        let failure = self.current.take().and_then(|current| current.failure);
        if !self.engine.slots.contains_key(&child) {
            // Its slot has no reference any more, so ours may be the last.
            self.forgotten.failures.extend(failure);
        }
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

    pub(super) fn check(&self, ask: &Ask) -> Result<Option<Vec<crate::ServiceId>>, Error> {
        if let Ask::Add { services, .. } = ask {
            if !self.engine.machine.is_running() {
                return Err(self.stopping());
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
        let place = slot.cell.settle(&self.path);
        slot.home = Some(Arc::new(Home {
            cell: slot.cell.clone(),
            path: place.path.clone(),
            thread_name: place.thread_name.clone(),
            supervisor: Supervisor::of(self.core.clone()),
            root: self.tree.root.clone(),
            facts: self.line.facts.clone(),
            emitter: self.emitter.clone(),
            quiet: self.quiet,
            fence: self.fence.as_ref().map(|fence| Arc::downgrade(fence) as _),
            tree: self.tree.clone(),
            hook_threads: self.tree.stop_threads.clone(),
        }));
    }

    pub(super) fn step(&mut self, input: Input) {
        if matches!(input, Input::Started) {
            self.core.board.forget_early_ends();
            self.settle_all();
        }
        self.decide(input);
        self.carry_out();
    }

    fn settle_all(&mut self) {
        let children: Vec<ChildId> = self.engine.slots.keys().copied().collect();
        for child in children {
            self.settle_in(child);
        }
    }

    /// A fact is no reason for time to pass.
    fn now(&self) -> Moment {
        let now = self.tree.clock.now();
        let machine = &self.engine.machine;
        match machine.deadline() {
            Some(at) if self.before_time && at <= now => at.just_before().max(machine.now()),
            Some(_) | None => now,
        }
    }

    /// Steps the machine and publishes what changed; the commands are left in `out`.
    fn decide(&mut self, input: Input) {
        let now = self.now();
        self.engine.machine.step(now, input, &mut self.out);
        self.end_licences(now);
        self.note_failures();
        self.publish();
    }
}
