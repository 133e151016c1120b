//! What the threads of a supervisor tell it: over one unbounded channel, never blocking, in the
//! order in which it happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::licence::Licence;
use super::life::Hook;
use crate::context::Incarnation;
use crate::event::EventKind;
use crate::failure::Failure;
use crate::id::ChildId;
use crate::machine::message::Outcome;
use crate::report::{State, Unstopped};

/// Something a service's thread has to tell.
pub(crate) enum Fact {
    /// Said at most once by each incarnation.
    Ready { child: ChildId, incarnation: u64 },
    /// There is something new on the incarnation's shelf. At most one is on its way.
    Provided { child: ChildId, incarnation: u64 },
    /// Said exactly once by each incarnation: a drop guard sees to it.
    Ended(Ended),
    /// A supervisor that had left threads behind: they have ended.
    Cleared { child: ChildId, incarnation: u64 },
    /// An incarnation runs a supervisor below itself.
    Supervising { child: ChildId, incarnation: u64 },
    /// That supervisor has failed.
    BelowFailed { child: ChildId, incarnation: u64 },
    /// The values of a service were dropped.
    Discarded { child: ChildId },
    /// Look at the levels.
    Wake,
}

pub(crate) struct Ended {
    pub(crate) child: ChildId,
    pub(crate) incarnation: u64,
    pub(crate) outcome: Outcome,
    /// The spec's `fatal_if` says that this failure takes the supervisor down.
    pub(crate) fatal: bool,
    /// What it answered, if that was not `Ok`.
    pub(crate) failure: Option<Failure>,
    pub(crate) run_time: Duration,
    /// Its values were dropped, and its thread has ended.
    pub(crate) discarded: bool,
    /// Who is left behind below it, if it was a supervisor.
    pub(crate) stragglers: Vec<Straggler>,
    /// Under which it may have started by itself.
    pub(crate) licence: Option<Arc<Licence>>,
    /// Of one that had a thread.
    pub(crate) unheard: Option<Unheard>,
}

/// An end that nobody has heard of yet. Nobody ever does if the supervisor is over, which had to leave that
/// thread behind: then it is published here, wherever the fact gets lost.
pub(crate) struct Unheard(Option<Arc<Incarnation>>);

impl Unheard {
    pub(crate) fn new(incarnation: Arc<Incarnation>) -> Unheard {
        Unheard(Some(incarnation))
    }

    pub(crate) fn heard(self) {
        if let Some(incarnation) = self.take() {
            incarnation.set_told();
        }
    }

    /// It is for the caller to tell.
    pub(crate) fn take(mut self) -> Option<Arc<Incarnation>> {
        self.0.take()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let Some(incarnation) = self.0.take() else {
            return;
        };
        let (home, number) = (&incarnation.home, incarnation.number);
        incarnation.set_told();
        home.cell.update(|data| {
            if data.incarnation == number {
                data.state = State::Stopped;
            }
        });
        home.emit(number, EventKind::EndedLate);
    }
}

/// Who did not stop in time.
#[derive(Clone)]
pub(crate) struct Straggler {
    pub(crate) unstopped: Unstopped,
    /// Whether the end of its incarnation is known. `None`: that has ended, and the `Drop` of its values hasn't.
    pub(crate) told: Option<Arc<AtomicBool>>,
}

impl Straggler {
    /// Whether its end is not known yet. It is told to its own supervisor alone; those above only hear when
    /// all are gone.
    pub(crate) fn is_there(&self) -> bool {
        let told = self.told.as_ref();
        !told.is_some_and(|told| told.load(Ordering::Acquire))
    }
}

/// A stop hook that was handed out. However the ticket ends, its incarnation is told that the hook
/// has returned; else it would never be over.
pub(crate) struct HookTicket {
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) what: HookKind,
    /// No thread was free for it when it was handed out.
    pub(crate) waits: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum HookKind {
    /// `Service::interrupt`.
    Interrupt,
    /// The `on_stop` closure of this key.
    OnStop(u64),
}

impl HookTicket {
    /// The closure, if it wasn't withdrawn.
    pub(crate) fn closure(&self, key: u64) -> Option<Hook> {
        self.incarnation.life.take_hook(key)
    }
}

/// Who has threads for stop hooks.
pub(crate) trait HookThreads: Send + Sync {
    /// A closure that was registered after the request, which nobody has to decide about. Never blocks.
    fn push_late(self: Arc<Self>, ticket: HookTicket);
}

impl Drop for HookTicket {
    fn drop(&mut self) {
        self.incarnation.life.hook_returned();
    }
}
