//! Time as a value: the machine never reads a clock.

use std::time::Duration;

/// A point in time, counted from the start of the tree's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) const START: Moment = Moment(Duration::ZERO);

    /// Later than everything: the deadline of what has none.
    pub(crate) const NEVER: Moment = Moment(Duration::MAX);

    pub(crate) const fn at(since_start: Duration) -> Moment {
        Moment(since_start)
    }

    pub(crate) fn since_start(self) -> Duration {
        self.0
    }

    /// Saturates at [`Moment::NEVER`]; an endless timeout never overflows.
    pub(crate) fn plus(self, d: Duration) -> Moment {
        Moment(self.0.saturating_add(d))
    }

    /// The last moment that is earlier.
    pub(crate) fn just_before(self) -> Moment {
        Moment(self.0.saturating_sub(Duration::from_nanos(1)))
    }

    /// Zero if `earlier` is later.
    pub(crate) fn since(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
