//! The only place that reads the clock.

use std::time::{Duration, Instant};

use crate::machine::time::Moment;

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Turns instants into the machine's moments and back. One for a tree, so that a deadline means
/// the same at every depth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { start: now() }
    }

    pub(crate) fn moment(&self, instant: Instant) -> Moment {
        Moment::at(instant.saturating_duration_since(self.start))
    }

    pub(crate) fn now(&self) -> Moment {
        self.moment(now())
    }

    /// `None`: never, or beyond what the platform can say.
    pub(crate) fn instant(&self, moment: Moment) -> Option<Instant> {
        if moment == Moment::NEVER {
            return None;
        }
        self.start.checked_add(moment.since_start())
    }

    /// Whether a deadline is there.
    pub(crate) fn is_over(deadline: Option<Instant>) -> bool {
        deadline.is_some_and(|at| at <= now())
    }

    /// The deadline of a wait that begins now; `None` is never.
    pub(crate) fn deadline(timeout: Duration) -> Option<Instant> {
        now().checked_add(timeout)
    }
}
