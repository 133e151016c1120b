//! Services that start again by themselves.

use super::child::{Phase, Readiness};
use super::shutdown::Mode;
use super::strategy::Strategy;
use super::{Machine, Moment};
use crate::id::ChildId;

impl Machine {
    /// Whether there is nothing to decide when this service fails: it starts again at once, nobody
    /// counts that, and nobody else has anything to do with it. True until the supervisor stops, or the
    /// service is asked to.
    pub(crate) fn needs_no_decision(&self, id: ChildId) -> bool {
        let child = self.children.get(&id);
        self.mode == Mode::Running
            && self.config.strategy == Strategy::OneForOne
            // Then there is never a pause either.
            && self.limiter.is_none()
            && child.is_some_and(|child| child.restarts_plainly() && child.leftovers.is_empty())
    }

    /// It has started again by itself, perhaps more than once, in whatever phase that finds it: it
    /// may have been before it was asked to stop. What was decided about its last incarnation holds for
    /// this one.
    pub(super) fn renewed(
        &mut self,
        id: ChildId,
        incarnation: u64,
        since: Moment,
        failures: u32,
        panics: u32,
    ) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        if child.incarnation >= incarnation {
            return;
        }
        debug_assert!(
            matches!(
                child.phase,
                Phase::Running(Readiness::Assumed)
                    | Phase::Stopping { .. }
                    | Phase::Abandoned { .. }
            ),
            "started by itself while {:?}",
            child.phase
        );
        child.incarnation = incarnation;
        child.starts = child.starts.saturating_add(failures);
        child.failures = child.failures.saturating_add(failures);
        child.panics = child.panics.saturating_add(panics);
        // Else since when it stops is told already.
        if matches!(child.phase, Phase::Running(_)) {
            child.since = since;
        }
        self.changed.push(id);
    }
}
