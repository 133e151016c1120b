//! The decisions of a supervisor: a deterministic machine that knows no thread, no clock, no
//! channel and no closure.
//!
//! `step(now, input, out)` takes something that happened and appends what is to be done;
//! `deadline()` says when time itself is the next input. The driver carries the commands out in
//! their order. What changed is in [`Machine::take_changed`], for the driver to publish before it
//! answers or starts anything.
//!
//! Every incarnation has a number, and every input about one carries it: what comes from an
//! incarnation that isn't the service's any more is stale and changes nothing.

mod admission;
pub(crate) mod child;
mod classify;
mod end;
mod graph;
pub(crate) mod message;
pub(crate) mod policy;
mod renewal;
mod request;
mod restart;
mod shutdown;
pub(crate) mod strategy;
pub(crate) mod time;
mod wave;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use admission::Admission;
use child::{Child, Fate, Phase, Readiness, Rest};
use graph::{Graph, Rank};
use message::{Cause, Command, Config, Input, Note, Policy, View};
use policy::{AutoShutdown, Limiter, Random, Restart};
use shutdown::Mode;
use time::Moment;
use wave::{Wave, WaveId};

use crate::error::{Error, ErrorKind};
use crate::id::{ChildId, ChildMap};
use crate::report::State;

/// How much longer than its deadline a service is waited for that runs a supervisor below itself:
/// so that one can say who hangs, and the service doesn't hang with it.
pub const SUPERVISE_GRACE: std::time::Duration = std::time::Duration::from_millis(200);

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    config: Config,
    mode: Mode,
    now: Moment,
    /// A step looks one up some ten times, so that they are in no order here; see `order`. Boxed, because
    /// a map has room for more than it holds.
    children: ChildMap<Box<Child>>,
    names: HashMap<Arc<str>, ChildId>,
    groups: HashMap<Arc<str>, BTreeSet<ChildId>>,
    /// All of them, in the order of starting.
    order: BTreeSet<Rank>,
    places_made: u64,
    graph: Graph,
    next_id: u64,
    /// Exactly the `Phase::timer` of every child that has one.
    timers: BTreeSet<(Moment, ChildId)>,
    /// Until when the supervisor starts nothing.
    paused_until: Option<Moment>,
    /// Who starts when the pause is over.
    held: BTreeSet<Rank>,
    limiter: Limiter,
    limit_clock: LimitClock,
    random: Random,
    /// Restarts of several services that are under way.
    waves: BTreeMap<WaveId, Wave>,
    waves_made: u64,
    /// Those in which something has happened in this step.
    moved_waves: Vec<WaveId>,
    /// The deadline of the last stop.
    stop_by: Moment,
    /// Of a stop of all at once: how many use what a service provides, and whom nobody uses any more.
    stop_users: HashMap<ChildId, usize>,
    freed: Vec<ChildId>,
    /// A significant service that has failed for good while others of them went on; the first one.
    lost: Option<ChildId>,
    counts: Counts,
    changed: Vec<ChildId>,
}

/// How many children are in certain phases; kept by [`Machine::put`] so that nobody has to look
/// through all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Counts {
    alive: usize,
    missing: usize,
    significant_active: usize,
    stopping_for_restart: usize,
}

impl Counts {
    fn of(child: &Child) -> Counts {
        Counts {
            alive: usize::from(child.phase.is_alive()),
            missing: usize::from(child.phase.is_missing()),
            significant_active: usize::from(child.policy.significant && child.phase.is_active()),
            stopping_for_restart: usize::from(child.phase.is_stopping_for_restart()),
        }
    }

    fn replace(&mut self, old: Counts, new: Counts) {
        let swap = |total: &mut usize, old: usize, new: usize| *total = *total + new - old;
        swap(&mut self.alive, old.alive, new.alive);
        swap(&mut self.missing, old.missing, new.missing);
        swap(
            &mut self.significant_active,
            old.significant_active,
            new.significant_active,
        );
        swap(
            &mut self.stopping_for_restart,
            old.stopping_for_restart,
            new.stopping_for_restart,
        );
    }
}

/// The clock of the limit: it stands still while the supervisor stops services for a restart, so
/// that slow stops cannot dodge a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct LimitClock {
    stood_still: std::time::Duration,
    still_since: Option<Moment>,
}

impl LimitClock {
    const RUNNING: LimitClock = LimitClock {
        stood_still: std::time::Duration::ZERO,
        still_since: None,
    };

    fn read(&self, now: Moment) -> Moment {
        let now = self.still_since.unwrap_or(now);
        Moment::at(now.since_start().saturating_sub(self.stood_still))
    }

    fn set_still(&mut self, still: bool, now: Moment) {
        match (self.still_since, still) {
            (None, true) => self.still_since = Some(now),
            (Some(since), false) => {
                self.stood_still = self.stood_still.saturating_add(now.since(since));
                self.still_since = None;
            }
            (None, false) | (Some(_), true) => {}
        }
    }
}

impl Machine {
    pub(crate) fn new(config: Config) -> Machine {
        Machine {
            limiter: Limiter::new(config.limit.clone()),
            random: Random::new(config.seed),
            config,
            mode: Mode::Idle,
            now: Moment::START,
            children: ChildMap::default(),
            names: HashMap::new(),
            groups: HashMap::new(),
            order: BTreeSet::new(),
            places_made: 0,
            graph: Graph::default(),
            next_id: 0,
            timers: BTreeSet::new(),
            paused_until: None,
            held: BTreeSet::new(),
            limit_clock: LimitClock::RUNNING,
            waves: BTreeMap::new(),
            waves_made: 0,
            moved_waves: Vec::new(),
            stop_by: Moment::NEVER,
            stop_users: HashMap::new(),
            freed: Vec::new(),
            lost: None,
            counts: Counts::default(),
            changed: Vec::new(),
        }
    }

    /// Takes one input at `now`, which never goes back, and appends what is to be done.
    pub(crate) fn step(&mut self, now: Moment, input: Input, out: &mut Vec<Command>) {
        debug_assert!(
            now >= self.now,
            "time went back from {:?} to {now:?}",
            self.now
        );
        self.now = self.now.max(now);
        match input {
            Input::Added(policies) => self.added(policies, out),
            Input::Started => self.started(out),
            Input::RemovalRequested(id) => self.removal_requested(id, out),
            Input::StopRequested(id) => self.stop_requested(id, out),
            Input::StartRequested(id) => self.start_requested(id, out),
            Input::RestartRequested(id) => self.restart_requested(id, out),
            Input::SaidReady { id, incarnation } => self.said_ready(id, incarnation, out),
            Input::Provided {
                id,
                incarnation,
                keys,
            } => self.provided(id, incarnation, &keys, out),
            Input::Ended {
                id,
                incarnation,
                end,
            } => self.ended(id, incarnation, end, out),
            Input::Renewed {
                id,
                incarnation,
                since,
                failures,
                panics,
            } => self.renewed(id, incarnation, since, failures, panics),
            Input::Cleared { id, incarnation } => self.cleared(id, incarnation, out),
            Input::Supervising { id, incarnation } => self.supervising(id, incarnation),
            Input::BelowFailed { id, incarnation } => self.below_failed(id, incarnation, out),
            Input::Discarded(id) => self.discarded(id, out),
            Input::ShutdownRequested { deadline } => self.shutdown_requested(deadline, out),
            Input::Ticked => {}
        }
        self.pass_time(out);
        self.advance_inputs(out);
        self.advance_waves(out);
        self.advance_shutdown(out);
        debug_assert!(self.moved_waves.is_empty(), "a wave was left behind");
    }

    /// When `Input::Ticked` is due, if nothing else happens before.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|&(at, _)| at);
        match (timer, self.paused_until) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Which services' views may have changed since the last call.
    pub(crate) fn take_changed(&mut self) -> std::vec::Drain<'_, ChildId> {
        self.changed.drain(..)
    }

    pub(crate) fn view(&self, id: ChildId) -> Option<View> {
        let mut view = self.children.get(&id)?.view();
        if view.state == State::Paused {
            // By the supervisor's pause, unless it is one of its own.
            view.next_start = view.next_start.or(self.paused_until);
        }
        Some(view)
    }

    /// How many services are expected to be up and aren't.
    pub(crate) fn missing(&self) -> usize {
        self.counts.missing
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused_until.is_some()
    }

    pub(crate) fn knows(&self, id: ChildId) -> bool {
        self.children.contains_key(&id)
    }

    /// Whether it is being removed.
    pub(crate) fn is_leaving(&self, id: ChildId) -> bool {
        match self.children.get(&id).map(|c| c.phase) {
            Some(
                Phase::Doomed { fate, .. }
                | Phase::Stopping { fate, .. }
                | Phase::Abandoned { fate },
            ) => fate == Fate::Remove,
            Some(Phase::Discarding { .. }) => true,
            Some(
                Phase::Waiting { .. }
                | Phase::Blocked
                | Phase::Backoff { .. }
                | Phase::Queued { .. }
                | Phase::Held
                | Phase::Resting(_)
                | Phase::Running(_),
            )
            | None => false,
        }
    }

    /// The moment of the last step.
    pub(crate) fn now(&self) -> Moment {
        self.now
    }

    /// Whether it starts services: it was started, and no stop has begun.
    pub(crate) fn is_running(&self) -> bool {
        self.mode == Mode::Running
    }

    /// By when the stop that has begun must be over, if one has.
    pub(crate) fn stop_deadline(&self) -> Moment {
        self.stop_by
    }

    /// The id of the next service to be added.
    pub(crate) fn next_id(&self) -> ChildId {
        ChildId(self.next_id)
    }

    /// All services, for tests; the driver publishes what changed.
    #[cfg(test)]
    pub(crate) fn report(&self) -> Vec<(Arc<str>, View)> {
        self.children
            .values()
            .map(|c| (c.policy.name.clone(), c.view()))
            .collect()
    }

    /// Whether all of these may be added at once. Changes nothing. `complete`: what they need must have
    /// a provider.
    ///
    /// # Errors
    /// Names the field and the service that is refused.
    pub(crate) fn admit<'a>(
        &'a self,
        policies: impl ExactSizeIterator<Item = &'a Policy> + Clone,
        complete: bool,
    ) -> Result<(), Error> {
        let added = policies.len();
        let mut fresh: HashMap<&str, ()> = HashMap::with_capacity(added);
        for policy in policies.clone() {
            let name = &*policy.name;
            if self.names.contains_key(name) || fresh.insert(name, ()).is_some() {
                return Err(Error::new(
                    ErrorKind::DuplicateName,
                    format!("name: there is a service {name:?} already"),
                ));
            }
            if policy.significant && policy.restart == Restart::Always {
                return Err(Error::invalid(
                    "significant",
                    format!("{name:?} restarts always, so it never ends by itself"),
                ));
            }
            if policy.significant && self.config.auto_shutdown == AutoShutdown::Never {
                return Err(Error::invalid(
                    "significant",
                    format!("{name:?} is added to a supervisor without auto_shutdown"),
                ));
            }
        }
        let max = self.config.services_max;
        if added > max.saturating_sub(self.children.len()) {
            return Err(Error::new(
                ErrorKind::Full,
                format!("max_services: the bound of {max} services is reached"),
            ));
        }
        if policies.clone().all(|policy| policy.links.is_none()) {
            return Ok(());
        }
        Admission::check(self, policies.collect(), complete)
    }

    fn added(&mut self, policies: Vec<Policy>, out: &mut Vec<Command>) {
        let first = self.next_id;
        for policy in policies {
            self.enter(policy);
        }
        let new = (first..self.next_id).map(ChildId);
        self.place(new.clone().collect());
        if self.mode != Mode::Running {
            return;
        }
        let mut ranks: Vec<Rank> = new.map(|id| self.rank(id)).collect();
        ranks.sort_unstable();
        for Rank { id, .. } in ranks {
            self.announce_added(id, out);
            self.start_when_allowed(id, Moment::START, out);
        }
    }

    fn enter(&mut self, policy: Policy) {
        let id = ChildId(self.next_id);
        self.next_id += 1;
        self.names.insert(policy.name.clone(), id);
        if let Some(group) = &policy.group {
            self.groups.entry(group.clone()).or_default().insert(id);
        }
        if let Some(links) = &policy.links {
            self.graph.insert(id, links);
        }
        // Until it is placed, which is in the same step.
        let rank = Rank {
            place: self.places_made,
            id,
        };
        let child = Child::new(policy, rank, self.now);
        self.counts.replace(Counts::default(), Counts::of(&child));
        self.children.insert(id, Box::new(child));
        self.changed.push(id);
    }

    fn announce_added(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        if !child.announced {
            child.announced = true;
            self.announce(id, Note::Added, out);
        }
    }

    /// Starts a service now, or holds it for the pause or until `not_before`.
    fn start_when_allowed(&mut self, id: ChildId, not_before: Moment, out: &mut Vec<Command>) {
        if self.mode != Mode::Running {
            self.put(id, Phase::Resting(Rest::Stopped { by_hand: false }));
        } else if self.paused_until.is_some() {
            self.queue(id, not_before, true);
        } else if not_before > self.now {
            self.put(
                id,
                Phase::Backoff {
                    until: not_before,
                    suspended: false,
                },
            );
        } else {
            self.start(id, out);
        }
    }

    /// Holds a service for the end of the pause.
    fn queue(&mut self, id: ChildId, not_before: Moment, alone: bool) {
        self.held.insert(self.rank(id));
        // A service that never ran waits; one that failed is paused.
        let fresh = self.children.get(&id).is_some_and(|c| c.incarnation == 0);
        let phase = if fresh {
            Phase::Waiting { parked: false }
        } else {
            Phase::Queued { not_before, alone }
        };
        self.put(id, phase);
    }

    fn start(&mut self, id: ChildId, out: &mut Vec<Command>) {
        if !self.take_inputs(id, out) {
            return;
        }
        let now = self.now;
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        debug_assert!(!child.phase.is_alive(), "started while {:?}", child.phase);
        // It has another try.
        self.lost = self.lost.filter(|&lost| lost != id);
        child.incarnation += 1;
        child.supervising = false;
        child.starts = child.starts.saturating_add(1);
        let readiness = if child.says_ready() {
            child.ready_since = None;
            let timeout = child.policy.ready_timeout;
            Readiness::Awaited {
                deadline: timeout.map_or(Moment::NEVER, |t| now.plus(t)),
            }
        } else {
            child.ready_since = Some(now);
            Readiness::Assumed
        };
        let incarnation = child.incarnation;
        self.put(id, Phase::Running(readiness));
        self.announce(id, Note::Started, out);
        out.push(Command::Start { id, incarnation });
    }

    fn said_ready(&mut self, id: ChildId, incarnation: u64, out: &mut Vec<Command>) {
        let now = self.now;
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        if child.incarnation != incarnation {
            return;
        }
        match child.phase {
            Phase::Running(Readiness::Assumed | Readiness::Awaited { .. }) => {
                child.ready_since = Some(now);
                child.ever_ready = true;
                self.put(id, Phase::Running(Readiness::Said));
                self.announce(id, Note::Ready, out);
            }
            // Said twice, or too late to matter.
            Phase::Running(Readiness::Said)
            | Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Abandoned { .. }
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Discarding { .. } => {}
        }
    }

    fn supervising(&mut self, id: ChildId, incarnation: u64) {
        if let Some(child) = self.children.get_mut(&id) {
            child.supervising |= child.incarnation == incarnation;
        }
    }

    /// Its end is that failure, whatever it answers.
    fn below_failed(&mut self, id: ChildId, incarnation: u64, out: &mut Vec<Command>) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        if child.incarnation != incarnation {
            return;
        }
        match child.phase {
            Phase::Running(_) => self.ask_after_users(id, Cause::Nested, Fate::Judge, out),
            // Asked already, or about to be: what was planned then stands.
            Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Abandoned { .. }
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Discarding { .. } => {}
        }
    }

    /// Asks a running incarnation to stop. Its end does what `fate` says.
    fn ask(&mut self, id: ChildId, cause: Cause, fate: Fate, out: &mut Vec<Command>) {
        let hard = self.mode.hard_deadline();
        let asked = self.now;
        let Some(child) = self.children.get(&id) else {
            return;
        };
        debug_assert!(
            matches!(child.phase, Phase::Running(_) | Phase::Doomed { .. }),
            "asked while {:?}",
            child.phase
        );
        let incarnation = child.incarnation;
        let deadline = child.stop_deadline(asked, hard);
        let timer = child.stop_timer(deadline);
        self.put(
            id,
            Phase::Stopping {
                asked,
                deadline: timer,
                cause,
                fate,
            },
        );
        self.announce(id, Note::Stopping { cause }, out);
        out.push(Command::Stop {
            id,
            incarnation,
            cause,
            deadline,
            discard: fate == Fate::Remove,
        });
    }

    /// Changes a child's phase, and with it everything that is counted over all children.
    fn put(&mut self, id: ChildId, phase: Phase) {
        let now = self.now;
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let old = (Counts::of(child), child.phase.timer());
        let has_ended = child.phase.is_running() && !phase.is_running();
        child.phase = phase;
        child.since = now;
        let in_wave = child.wave.is_some();
        let lets_go = has_ended && child.links().is_some();
        let comes_to_rest = matches!(phase, Phase::Resting(_)) && child.links().is_some();
        let new = (Counts::of(child), phase.timer());
        self.counts.replace(old.0, new.0);
        self.limit_clock
            .set_still(self.counts.stopping_for_restart > 0, now);
        if old.1 != new.1 {
            if let Some(at) = old.1 {
                self.timers.remove(&(at, id));
            }
            if let Some(at) = new.1 {
                self.timers.insert((at, id));
            }
        }
        if lets_go {
            self.let_go(id);
        }
        if comes_to_rest {
            self.came_to_rest(id);
        }
        if in_wave {
            self.phase_changed_in_wave(id, phase);
        }
        if self.changed.last() != Some(&id) {
            self.changed.push(id);
        }
    }

    fn announce(&self, id: ChildId, note: Note, out: &mut Vec<Command>) {
        let incarnation = self.children.get(&id).map_or(0, |c| c.incarnation);
        out.push(Command::Announce {
            id,
            incarnation,
            note,
        });
    }

    /// Forgets a service whose values are gone.
    fn forget(&mut self, id: ChildId, out: &mut Vec<Command>) {
        if self.children.get(&id).is_some_and(|c| c.links().is_some()) {
            // Who used what it provided is told so, as long as it is known.
            self.advance_inputs(out);
            self.advance_waves(out);
        }
        self.announce(id, Note::Removed, out);
        let Some(child) = self.children.remove(&id) else {
            return;
        };
        debug_assert!(child.phase.timer().is_none());
        self.counts.replace(Counts::of(&child), Counts::default());
        self.names.remove(&child.policy.name);
        if let Some(group) = &child.policy.group {
            if let Some(members) = self.groups.get_mut(group) {
                members.remove(&id);
                if members.is_empty() {
                    self.groups.remove(group);
                }
            }
        }
        if let Some(links) = &child.policy.links {
            self.graph.remove(id, links);
        }
        self.order.remove(&child.rank);
        self.held.remove(&child.rank);
        out.push(Command::Forget { id });
    }

    /// Everything that is due.
    fn pass_time(&mut self, out: &mut Vec<Command>) {
        if self.paused_until.is_some_and(|until| until <= self.now) {
            self.resume(out);
        }
        while let Some(&(at, id)) = self.timers.first() {
            if at > self.now {
                break;
            }
            self.timers.pop_first();
            self.timer_passed(id, out);
        }
    }

    fn resume(&mut self, out: &mut Vec<Command>) {
        self.paused_until = None;
        self.limiter.reset();
        out.push(Command::AnnounceResume);
        self.end_deferral();
        for Rank { id, .. } in std::mem::take(&mut self.held) {
            let Some(child) = self.children.get(&id) else {
                continue;
            };
            match child.phase {
                Phase::Waiting { parked: false } => self.start_when_allowed(id, Moment::START, out),
                Phase::Queued {
                    not_before,
                    alone: true,
                } => self.start_when_allowed(id, not_before, out),
                Phase::Queued {
                    not_before,
                    alone: false,
                } => self.restart_set(id, not_before, false, Cause::RestartWith(id), out),
                // Stopped, started by hand or removed in the meantime.
                Phase::Waiting { parked: true }
                | Phase::Blocked
                | Phase::Backoff { .. }
                | Phase::Held
                | Phase::Resting(_)
                | Phase::Running(_)
                | Phase::Doomed { .. }
                | Phase::Stopping { .. }
                | Phase::Abandoned { .. }
                | Phase::Discarding { .. } => {}
            }
        }
    }

    fn timer_passed(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        match child.phase {
            Phase::Backoff {
                suspended: false, ..
            } => self.start_when_allowed(id, Moment::START, out),
            Phase::Backoff {
                suspended: true, ..
            } => {
                child.limiter.iter_mut().for_each(|l| l.reset());
                self.restart_set(id, Moment::START, false, Cause::RestartWith(id), out);
            }
            Phase::Running(Readiness::Awaited { .. }) => self.ready_timed_out(id, out),
            Phase::Stopping { asked, fate, .. } => self.abandon(id, asked, fate, out),
            Phase::Discarding { asked, .. } => self.abandon_drop(id, asked, out),
            // No timer: `put` keeps `timers` and the phases together.
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Running(Readiness::Assumed | Readiness::Said)
            | Phase::Doomed { .. }
            | Phase::Abandoned { .. } => {}
        }
    }

    /// Gives up waiting for an incarnation. It is never run twice at the same time, unless its
    /// spec allows an overlap.
    fn abandon(&mut self, id: ChildId, asked: Moment, fate: Fate, out: &mut Vec<Command>) {
        let waited = self.now.since(asked);
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        child.stop_timeouts = child.stop_timeouts.saturating_add(1);
        let incarnation = child.incarnation;
        self.put(id, Phase::Abandoned { fate });
        self.announce(id, Note::Abandoned { waited }, out);
        out.push(Command::Abandon {
            id,
            incarnation,
            waited,
        });
        self.overlap(id, out);
    }

    /// An abandoned service that is to start doesn't wait for its old thread, if its spec allows
    /// one more overlap.
    fn overlap(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let has_room = child.leftovers.len() < child.policy.overlap_max;
        match child.phase {
            Phase::Abandoned { fate } if fate.is_start() && has_room => {
                child.leftovers.push(child.incarnation);
                self.settle_late(id, fate, false, out);
            }
            // It doesn't start by itself, or when its old thread has ended.
            Phase::Abandoned { .. }
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Running(_)
            | Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Discarding { .. } => {}
        }
    }

    /// Gives up waiting for the values of a removed service to be dropped.
    fn abandon_drop(&mut self, id: ChildId, asked: Moment, out: &mut Vec<Command>) {
        let waited = self.now.since(asked);
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        child.stop_timeouts = child.stop_timeouts.saturating_add(1);
        let incarnation = child.incarnation;
        self.put(
            id,
            Phase::Discarding {
                asked,
                deadline: Moment::NEVER,
                abandoned: true,
            },
        );
        self.announce(id, Note::Abandoned { waited }, out);
        out.push(Command::Abandon {
            id,
            incarnation,
            waited,
        });
    }
}
