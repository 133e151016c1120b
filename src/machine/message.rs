//! What goes into the machine and what comes out of it. Inputs are past tense, commands
//! imperative.

use std::sync::Arc;
use std::time::Duration;

use super::policy::{
    AutoShutdown, Backoff, DEFAULT_STOP_TIMEOUT, Limit, PanicPolicy, Restart, StopOrder,
};
use super::strategy::Strategy;
use super::time::Moment;
use crate::event::Next;
use crate::exit::Exit;
use crate::failure::FailureKind;
use crate::id::ChildId;
use crate::key::Links;
use crate::report::State;

/// How a supervisor treats its services.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) strategy: Strategy,
    pub(crate) limit: Limit,
    pub(crate) stop_order: StopOrder,
    /// A hard deadline for the whole stop; `None` is as long as the services' own.
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) auto_shutdown: AutoShutdown,
    pub(crate) services_max: usize,
    /// Before a service that was stopped for an input starts again.
    pub(crate) bounce_delay: Duration,
    pub(crate) seed: u64,
}

/// How one service is to be treated.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) name: Arc<str>,
    pub(crate) restart: Restart,
    pub(crate) backoff: Backoff,
    /// After panics; `None` is the same as after errors, with one count for both. Boxed: few have one.
    pub(crate) panic_backoff: Option<Box<Backoff>>,
    /// Its own limit, which keeps its failures from counting against its supervisor's. Boxed: few have one.
    pub(crate) limit: Option<Box<Limit>>,
    /// `None` for a supervisor: it ends by itself at the deadline it is given, and must not be
    /// abandoned while it is about to say who hangs.
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) ready_timeout: Option<Duration>,
    /// Restarts together with all of the same group.
    pub(crate) group: Option<Arc<str>>,
    pub(crate) significant: bool,
    pub(crate) panic_policy: PanicPolicy,
    /// How many abandoned incarnations may still exist when it starts again.
    pub(crate) overlap_max: usize,
    /// Boxed: few have any.
    pub(crate) links: Option<Arc<Links>>,
}

impl Policy {
    /// How long the `Drop` of its values may take. A supervisor's values are its services.
    pub(crate) fn drop_timeout(&self) -> Duration {
        self.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT)
    }
}

/// How an incarnation ended, as the machine sees it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Outcome {
    Ok,
    Error,
    Panic,
    /// It never ran: no thread.
    NoThread,
    /// It never ran: an input went before it could have it.
    NoInput,
    Exit(Exit),
}

/// The end of an incarnation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct End {
    pub(crate) outcome: Outcome,
    /// Its failure is to take the supervisor down.
    pub(crate) fatal: bool,
    /// Its values were dropped on the way out.
    pub(crate) discarded: bool,
    /// It was a supervisor that had to leave threads behind; `Cleared` follows when they have ended.
    pub(crate) stragglers: bool,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    /// New services, admitted by [`super::Machine::admit`].
    Added(Vec<Policy>),
    /// The supervisor runs now.
    Started,
    RemovalRequested(ChildId),
    StopRequested(ChildId),
    StartRequested(ChildId),
    RestartRequested(ChildId),
    SaidReady {
        id: ChildId,
        incarnation: u64,
    },
    /// There are values of these keys now, or others than before.
    Provided {
        id: ChildId,
        incarnation: u64,
        keys: Vec<&'static str>,
    },
    /// An incarnation has ended: run and every hook have returned.
    Ended {
        id: ChildId,
        incarnation: u64,
        end: End,
    },
    /// It has failed and started again by itself, up to this incarnation; see
    /// [`super::Machine::needs_no_decision`].
    Renewed {
        id: ChildId,
        incarnation: u64,
        /// When that began.
        since: Moment,
        failures: u32,
        panics: u32,
    },
    /// What an ended supervisor had left behind has ended too.
    Cleared {
        id: ChildId,
        incarnation: u64,
    },
    /// It runs a supervisor below itself.
    Supervising {
        id: ChildId,
        incarnation: u64,
    },
    /// That supervisor has failed, which is to be the end of the incarnation.
    BelowFailed {
        id: ChildId,
        incarnation: u64,
    },
    /// The values of a service that is being removed were dropped.
    Discarded(ChildId),
    /// The supervisor shall stop, by `deadline` at the latest. Again with an earlier one: hurry.
    ShutdownRequested {
        deadline: Moment,
    },
    /// Time has passed.
    Ticked,
}

/// Something to do.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Command {
    Start {
        id: ChildId,
        incarnation: u64,
    },
    /// Ask it to stop. With `discard` it drops its values on the way out.
    Stop {
        id: ChildId,
        incarnation: u64,
        cause: Cause,
        deadline: Moment,
        discard: bool,
    },
    /// It was asked already, and has less time than it was told.
    Hasten {
        id: ChildId,
        incarnation: u64,
        deadline: Moment,
    },
    /// Don't wait for it any longer.
    Abandon {
        id: ChildId,
        incarnation: u64,
        waited: Duration,
    },
    /// It needs no thread for now.
    Release {
        id: ChildId,
    },
    /// Drop its values; `Discarded` answers.
    Discard {
        id: ChildId,
    },
    /// It is gone.
    Forget {
        id: ChildId,
    },
    Announce {
        id: ChildId,
        incarnation: u64,
        note: Note,
    },
    /// The supervisor starts nothing for this long.
    AnnouncePause(Duration),
    AnnounceResume,
    /// It is over for good and never said that it is ready, though it had to.
    EndedEarly {
        id: ChildId,
    },
    /// This service's last failure is why the supervisor ends.
    Blame {
        id: ChildId,
        verdict: Verdict,
    },
    /// This service's last failure will be why the supervisor ends, unless that starts it again: it is
    /// significant, and others of those go on.
    Mourn {
        id: ChildId,
    },
    /// While it ends because of a failure, this service has failed so by itself, too.
    Candidate {
        id: ChildId,
    },
    /// A panic that ends the process.
    Abort {
        id: ChildId,
    },
    /// All have ended.
    Finish,
}

/// An event of one service, without what only the driver knows.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Note {
    Added,
    Started,
    Ready,
    Done,
    Removed,
    Failed {
        kind: FailureKind,
        count: f64,
        limit: f64,
        next: Next,
    },
    Stopping {
        cause: Cause,
    },
    Stopped,
    GivenUp,
    Abandoned {
        waited: Duration,
    },
    EndedLate,
    Waiting,
}

/// Why a service is asked to stop.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Cause {
    /// Of this service alone.
    Ordered,
    Removed,
    RestartWith(ChildId),
    ReadyTimeout,
    /// The supervisor that it runs below itself has failed.
    Nested,
    /// A value that it needs or wants goes, comes or is replaced.
    Input {
        key: &'static str,
        provider: ChildId,
    },
    /// The supervisor was told to stop; the driver knows by whom.
    Shutdown,
    Limit,
    Terminated(ChildId),
    AutoShutdown(ChildId),
}

/// How a supervisor ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Verdict {
    /// It was asked to.
    Stopped,
    /// A significant service ended well.
    AutoShutdown,
    /// A significant service ended by a failure.
    SignificantFailed,
    /// Its limit was exceeded.
    LimitExceeded,
    /// A service wants the tree down.
    Terminated,
    /// A panic under `PanicPolicy::Escalate`.
    Escalated,
}

/// What the driver publishes of one service.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct View {
    pub(crate) state: State,
    pub(crate) incarnation: u64,
    pub(crate) since: Moment,
    pub(crate) next_start: Option<Moment>,
    pub(crate) starts: u32,
    pub(crate) failures: u32,
    pub(crate) panics: u32,
    pub(crate) stop_timeouts: u32,
    /// Not up yet, and expected to be.
    pub(crate) missing: bool,
    /// What it waits for, if it waits.
    pub(crate) waiting_for: Option<WaitsFor>,
}

/// What a service waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WaitsFor {
    /// Its supervisor isn't running, or pauses.
    Supervisor,
    /// What it needs.
    Inputs,
    /// It answered that an input is missing: any change of one.
    Change,
    EndOfPause,
    /// Those that restart with it.
    Others,
}
