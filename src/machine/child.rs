//! One service as the machine sees it: its phases, and what its end means.

use super::SUPERVISE_GRACE;
use super::graph::{Rank, Version};
use super::message::{Cause, Policy, View, WaitsFor};
use super::policy::{Backoff, Counted, Limiter, PanicPolicy, Restart};
use super::time::Moment;
use super::wave::WaveId;
use crate::report::State;

/// What a service is doing, with all that belongs to it.
///
/// ```text
///            start                 end, again at once
/// Waiting ----------> Running <---------------------------+
/// Blocked               |                                 |
///    ^   start_service  |  | end, later                   |
///    |   restart        |  +-----> Backoff, Queued -------+ delay or pause over
///    |                  |  | end for good
///    |                  |  +-----> Done, GivenUp, Stopped --- start_service --> Running
///    |       asked      v
///    |               Stopping --- end ---> what its fate says: start, stay or be removed
///    |                  | deadline
///    |                  v
///    |              Abandoned --- late end ---> what its fate says
///    |
/// removal: any phase ---> (Stopping) ---> Discarding ---> forgotten
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Phase {
    /// Not started yet: the supervisor isn't running or pauses, or (`parked`) the service itself
    /// answered that an input is missing.
    Waiting { parked: bool },
    /// It is to start when what it needs is there.
    Blocked,
    /// It failed and starts again at `until`. `suspended`: by a pause of its own limit, which
    /// counts from zero then.
    Backoff { until: Moment, suspended: bool },
    /// It failed and starts again when the supervisor's pause is over, and not before its delay is;
    /// `alone`: those that restart with it have been stopped already.
    Queued { not_before: Moment, alone: bool },
    /// Its incarnation has ended, and it starts again with others, when all of those have ended.
    Held,
    /// At rest.
    Resting(Rest),
    /// An incarnation runs, or is about to.
    Running(Readiness),
    /// An incarnation runs and will be asked to stop, when those have ended that use what it provides.
    Doomed { cause: Cause, fate: Fate },
    /// An incarnation was asked to stop.
    Stopping {
        asked: Moment,
        deadline: Moment,
        cause: Cause,
        fate: Fate,
    },
    /// An incarnation was asked to stop and didn't in time; or it is a supervisor that has ended
    /// and left threads behind; or (`lingering`) it is to be removed, and older ones that it has
    /// overlapped didn't end in time.
    Abandoned { fate: Fate },
    /// No incarnation; its values are being dropped. `abandoned`: for too long, and nobody waits
    /// for that any more.
    Discarding {
        asked: Moment,
        deadline: Moment,
        abandoned: bool,
    },
}

/// At rest: it will not start by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Rest {
    /// By hand, or because the supervisor stopped.
    Stopped {
        by_hand: bool,
    },
    /// Ended by itself; `told`: it said that it is not to be restarted.
    Done {
        told: bool,
    },
    GivenUp,
}

/// Whether an incarnation's set-up is finished.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Readiness {
    /// It doesn't have to say so.
    Assumed,
    /// It must say so by then.
    Awaited { deadline: Moment },
    /// It has said so.
    Said,
}

/// What becomes of a service when its incarnation has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Fate {
    /// `by_hand`: at once, whatever delay or pause there is.
    Start {
        not_before: Moment,
        suspended: bool,
        by_hand: bool,
    },
    Stay(Rest),
    /// Its end is judged as if nobody had asked: what runs below it has failed.
    Judge,
    /// Wait for an input to change.
    Park,
    Remove,
}

impl Fate {
    /// As the wave says that it takes part in.
    pub(crate) const START_WITH_OTHERS: Fate = Fate::Start {
        not_before: Moment::START,
        suspended: false,
        by_hand: false,
    };

    /// The supervisor stops.
    pub(crate) const STOPPED: Fate = Fate::Stay(Rest::Stopped { by_hand: false });

    pub(crate) const STOPPED_BY_HAND: Fate = Fate::Stay(Rest::Stopped { by_hand: true });

    pub(crate) const START_BY_HAND: Fate = Fate::Start {
        not_before: Moment::START,
        suspended: false,
        by_hand: true,
    };

    /// It starts again, or what is decided at its end may be that.
    pub(crate) fn may_start(self) -> bool {
        self.is_start() || self == Fate::Judge
    }

    /// As it is when the supervisor stops.
    pub(crate) fn at_shutdown(self) -> Fate {
        if self.may_start() {
            Fate::STOPPED
        } else {
            self
        }
    }

    pub(crate) fn is_start(self) -> bool {
        match self {
            Fate::Start { .. } => true,
            Fate::Stay(_) | Fate::Judge | Fate::Park | Fate::Remove => false,
        }
    }
}

impl Phase {
    /// When this phase ends by itself.
    pub(crate) fn timer(self) -> Option<Moment> {
        let at = match self {
            Phase::Backoff { until, .. } => until,
            Phase::Running(Readiness::Awaited { deadline })
            | Phase::Stopping { deadline, .. }
            | Phase::Discarding { deadline, .. } => deadline,
            Phase::Running(Readiness::Assumed | Readiness::Said)
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Doomed { .. }
            | Phase::Abandoned { .. } => return None,
        };
        (at != Moment::NEVER).then_some(at)
    }

    /// What a person would say that it waits for.
    fn waiting_for(self) -> Option<WaitsFor> {
        match self {
            Phase::Waiting { parked: false } => Some(WaitsFor::Supervisor),
            Phase::Waiting { parked: true } => Some(WaitsFor::Change),
            Phase::Blocked => Some(WaitsFor::Inputs),
            Phase::Queued { .. } => Some(WaitsFor::EndOfPause),
            Phase::Held => Some(WaitsFor::Others),
            Phase::Backoff { .. }
            | Phase::Resting(_)
            | Phase::Running(_)
            | Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => None,
        }
    }

    /// It has an incarnation that is waited for.
    pub(crate) fn is_running(self) -> bool {
        match self {
            Phase::Running(_) | Phase::Doomed { .. } | Phase::Stopping { .. } => true,
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => false,
        }
    }

    /// Something of it is under way that a stop of the supervisor has to wait for.
    pub(crate) fn is_alive(self) -> bool {
        match self {
            Phase::Running(_)
            | Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Discarding {
                abandoned: false, ..
            } => true,
            Phase::Discarding {
                abandoned: true, ..
            }
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Abandoned { .. } => false,
        }
    }

    /// It is expected to be up, and isn't yet.
    pub(crate) fn is_missing(self) -> bool {
        match self {
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Running(Readiness::Awaited { .. }) => true,
            Phase::Doomed { fate, .. }
            | Phase::Stopping { fate, .. }
            | Phase::Abandoned { fate } => fate.may_start(),
            Phase::Running(Readiness::Assumed | Readiness::Said)
            | Phase::Resting(_)
            | Phase::Discarding { .. } => false,
        }
    }

    /// It runs or will; a significant service in any other phase is over.
    pub(crate) fn is_active(self) -> bool {
        match self {
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Running(_) => true,
            Phase::Doomed { fate, .. }
            | Phase::Stopping { fate, .. }
            | Phase::Abandoned { fate } => fate.may_start(),
            Phase::Resting(_) | Phase::Discarding { .. } => false,
        }
    }

    /// The supervisor stops it only to start it again.
    pub(crate) fn is_stopping_for_restart(self) -> bool {
        match self {
            Phase::Stopping { fate, .. } => fate.is_start(),
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Running(_)
            | Phase::Doomed { .. }
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => false,
        }
    }
}

/// What is left to do with a removed service when its last thread has ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Lingering {
    /// Nothing has them any more but those threads.
    pub(crate) discarded: bool,
}

/// What the machine knows of one service.
#[derive(Clone, Debug)]
pub(crate) struct Child {
    pub(crate) policy: Policy,
    pub(crate) phase: Phase,
    pub(crate) since: Moment,
    /// Its place in the order of starting.
    pub(crate) rank: Rank,
    /// Which values the last incarnation was started with, in the order of [`Links::inputs`]. Empty
    /// without any.
    pub(crate) seen: Vec<Version>,
    /// The number of the last incarnation that was started.
    pub(crate) incarnation: u64,
    /// Since when it has been ready, or supposed to be.
    pub(crate) ready_since: Option<Moment>,
    pub(crate) ever_ready: bool,
    pub(crate) announced: bool,
    /// The restart of several services that it takes part in.
    pub(crate) wave: Option<WaveId>,
    /// The current incarnation runs a supervisor below itself.
    pub(crate) supervising: bool,
    /// Abandoned incarnations that others have overlapped.
    pub(crate) leftovers: Vec<u64>,
    /// It is being removed, its last incarnation has ended, and only leftovers still run.
    pub(crate) lingering: Option<Lingering>,
    /// Failures in a row, for the delay; after panics apart if they have a backoff of their own.
    pub(crate) attempts: u32,
    pub(crate) panic_attempts: u32,
    /// Boxed: few have one.
    pub(crate) limiter: Option<Box<Limiter>>,
    pub(crate) starts: u32,
    pub(crate) failures: u32,
    pub(crate) panics: u32,
    pub(crate) stop_timeouts: u32,
}

impl Child {
    pub(crate) fn new(policy: Policy, rank: Rank, now: Moment) -> Child {
        Child {
            limiter: policy
                .limit
                .as_deref()
                .cloned()
                .map(Limiter::new)
                .map(Box::new),
            policy,
            phase: Phase::Waiting { parked: false },
            since: now,
            rank,
            seen: Vec::new(),
            incarnation: 0,
            ready_since: None,
            ever_ready: false,
            announced: false,
            wave: None,
            supervising: false,
            leftovers: Vec::new(),
            lingering: None,
            attempts: 0,
            panic_attempts: 0,
            starts: 0,
            failures: 0,
            panics: 0,
            stop_timeouts: 0,
        }
    }

    pub(crate) fn view(&self) -> View {
        let (state, next_start) = match self.phase {
            Phase::Waiting { .. } | Phase::Blocked | Phase::Held => (State::Waiting, None),
            Phase::Backoff {
                until,
                suspended: false,
            } => (State::Backoff, Some(until)),
            Phase::Backoff {
                until,
                suspended: true,
            } => (State::Paused, Some(until)),
            Phase::Queued { .. } => (State::Paused, None),
            Phase::Resting(Rest::Stopped { .. }) => (State::Stopped, None),
            Phase::Resting(Rest::Done { .. }) => (State::Done, None),
            Phase::Resting(Rest::GivenUp) => (State::GivenUp, None),
            Phase::Running(Readiness::Assumed) => (State::Running, None),
            Phase::Running(Readiness::Awaited { .. }) => (State::Starting, None),
            Phase::Running(Readiness::Said) => (State::Ready, None),
            Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Discarding {
                abandoned: false, ..
            } => (State::Stopping, None),
            Phase::Abandoned { .. }
            | Phase::Discarding {
                abandoned: true, ..
            } => (State::Abandoned, None),
        };
        View {
            state,
            incarnation: self.incarnation,
            since: self.since,
            next_start,
            starts: self.starts,
            failures: self.failures,
            panics: self.panics,
            stop_timeouts: self.stop_timeouts,
            missing: self.phase.is_missing(),
            waiting_for: self.phase.waiting_for(),
        }
    }

    /// It runs, starts again at once after a failure and shares that with nobody, as far as that is its
    /// own choice.
    pub(crate) fn restarts_plainly(&self) -> bool {
        let policy = &self.policy;
        policy.restart != Restart::Never
            && policy.panic_policy == PanicPolicy::Restart
            && policy.backoff.is_none()
            && policy.panic_backoff.as_ref().is_none_or(|b| b.is_none())
            && policy.group.is_none()
            && policy.links.is_none()
            && policy.ready_timeout.is_none()
            // A supervisor has none.
            && policy.stop_timeout.is_some()
            // Two of the same number could exist.
            && policy.overlap_max == 0
            && self.limiter.as_ref().is_none_or(|l| l.is_none())
    }

    /// It must say that it is ready.
    pub(crate) fn says_ready(&self) -> bool {
        self.policy.ready_timeout.is_some()
            || self
                .policy
                .links
                .as_ref()
                .is_some_and(|links| !links.provides.is_empty())
    }

    /// Its own stop timeout from now, but not beyond `hard`.
    pub(crate) fn stop_deadline(&self, now: Moment, hard: Moment) -> Moment {
        self.policy
            .stop_timeout
            .map_or(Moment::NEVER, |timeout| now.plus(timeout))
            .min(hard)
    }

    /// When it is given up if it is told that deadline.
    pub(crate) fn stop_timer(&self, deadline: Moment) -> Moment {
        match (self.policy.stop_timeout, self.supervising) {
            // A supervisor has no timer here: it reports in time itself.
            (None, _) => Moment::NEVER,
            (Some(_), false) => deadline,
            // What runs below it gets the same deadline, and says who hangs there.
            (Some(_), true) => deadline.plus(SUPERVISE_GRACE),
        }
    }

    fn backoff(&mut self, counted: Counted) -> (Backoff, &mut u32) {
        match (counted, self.policy.panic_backoff.as_deref()) {
            (Counted::Panic, Some(&backoff)) => (backoff, &mut self.panic_attempts),
            (Counted::Panic, None) | (Counted::Error, _) => {
                (self.policy.backoff, &mut self.attempts)
            }
        }
    }

    /// The delay of the next restart after a failure, which then counts for the one after it.
    pub(crate) fn next_delay(&mut self, counted: Counted, random: f64) -> std::time::Duration {
        let (backoff, attempts) = self.backoff(counted);
        let delay = backoff.delay(*attempts, random);
        *attempts = attempts.saturating_add(1);
        delay
    }

    pub(crate) fn reset_backoff(&mut self) {
        self.attempts = 0;
        self.panic_attempts = 0;
    }

    /// Whether it has been ready for long enough to count as stable.
    pub(crate) fn was_stable(&self, now: Moment) -> bool {
        match (self.policy.backoff.resets_after(), self.ready_since) {
            (Some(long), Some(ready)) => now.since(ready) >= long,
            (Some(_) | None, Some(_) | None) => false,
        }
    }
}
