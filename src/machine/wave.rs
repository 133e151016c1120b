//! One restart of several services, as data: who is waited for, who starts, and when.

use std::collections::{BTreeMap, BTreeSet};

use super::Moment;
use super::child::{Child, Fate, Phase, Rest};
use super::graph::Rank;
use super::message::Cause;
use super::policy::Restart;
use crate::id::ChildId;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WaveId(pub(super) u64);

/// One restart of several services, or a stop of one that others use.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Wave {
    /// Who has not ended yet, and why each is asked to. Holds the barrier.
    pub(super) stop: BTreeMap<Rank, Cause>,
    /// All at once: who may be asked now.
    pub(super) askable: BTreeSet<Rank>,
    /// All at once: how many others of `stop` use what this one provides.
    pub(super) users: BTreeMap<ChildId, usize>,
    /// Who starts when the barrier opens, and with whom.
    pub(super) members: BTreeMap<Rank, usize>,
    pub(super) cohorts: Vec<Cohort>,
    /// Asked for from outside: pauses and delays don't count.
    pub(super) by_hand: bool,
}

/// How many cohorts a wave may keep, besides two for each member, before it forgets those that
/// nobody is in.
const COHORTS_SPARE_MAX: usize = 8;

/// Those of a wave that start together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Cohort {
    /// Not before this: the delays of those that failed.
    pub(super) start_at: Moment,
    /// Stopped for an input: also what is asked for from outside waits.
    pub(super) by_input: bool,
    /// It has become one with another.
    pub(super) same_as: Option<usize>,
}

impl Wave {
    pub(super) fn new_cohort(&mut self, start_at: Moment, by_input: bool) -> usize {
        self.cohorts.push(Cohort {
            start_at,
            by_input,
            same_as: None,
        });
        self.cohorts.len() - 1
    }

    /// The cohort that it is by now.
    pub(super) fn cohort(&self, mut number: usize) -> usize {
        while let Some(other) = self.cohorts.get(number).and_then(|c| c.same_as) {
            number = other;
        }
        number
    }

    pub(super) fn delay(&mut self, number: usize, until: Moment) {
        let number = self.cohort(number);
        if let Some(cohort) = self.cohorts.get_mut(number) {
            cohort.start_at = cohort.start_at.max(until);
        }
    }

    pub(super) fn unite(&mut self, a: usize, b: usize) {
        let (a, b) = (self.cohort(a), self.cohort(b));
        if a == b {
            return;
        }
        let Some(old) = self.cohorts.get_mut(b) else {
            return;
        };
        old.same_as = Some(a);
        let (until, by_input) = (old.start_at, old.by_input);
        self.delay(a, until);
        if let Some(cohort) = self.cohorts.get_mut(a) {
            cohort.by_input &= by_input;
        }
    }

    /// Takes over a wave with which it has services in common.
    pub(super) fn absorb(&mut self, old: Wave) {
        for (rank, cause) in old.stop {
            // The first reason stays.
            self.stop.insert(rank, cause);
        }
        let shift = self.cohorts.len();
        self.cohorts.extend(old.cohorts.into_iter().map(|c| Cohort {
            same_as: c.same_as.map(|other| other + shift),
            ..c
        }));
        for (rank, cohort) in old.members {
            match self.members.get(&rank).copied() {
                Some(own) => self.unite(own, cohort + shift),
                None => {
                    self.members.insert(rank, cohort + shift);
                }
            }
        }
        self.by_hand &= old.by_hand;
    }

    /// Forgets the cohorts that nobody is in any more: they became one with others, or all have left.
    pub(super) fn tidy(&mut self) {
        if self.cohorts.len() <= 2 * self.members.len() + COHORTS_SPARE_MAX {
            return;
        }
        let numbers: Vec<usize> = self.members.values().map(|n| self.cohort(*n)).collect();
        let (mut kept, mut places) = (Vec::new(), BTreeMap::new());
        for (member, number) in self.members.values_mut().zip(numbers) {
            *member = *places.entry(number).or_insert_with(|| {
                kept.extend(self.cohorts.get(number));
                kept.len() - 1
            });
        }
        self.cohorts = kept;
    }

    pub(super) fn forget(&mut self, rank: Rank) {
        self.stop.remove(&rank);
        self.askable.remove(&rank);
        self.members.remove(&rank);
    }

    /// A service has another place now.
    pub(super) fn move_member(&mut self, old: Rank, new: Rank) {
        if let Some(cause) = self.stop.remove(&old) {
            self.stop.insert(new, cause);
        }
        if self.askable.remove(&old) {
            self.askable.insert(new);
        }
        if let Some(cohort) = self.members.remove(&old) {
            self.members.insert(new, cohort);
        }
    }

    /// The same, with its time shifted.
    #[cfg(test)]
    pub(super) fn shifted(&self, shift: impl Fn(Moment) -> Moment) -> Wave {
        let shifted = |c: &Cohort| Cohort {
            start_at: shift(c.start_at),
            ..*c
        };
        Wave {
            cohorts: self.cohorts.iter().map(shifted).collect(),
            ..self.clone()
        }
    }
}

/// What a set restart does with a service that isn't its origin.
pub(super) enum Joins {
    /// It is stopped and started again, not before its own delay is over.
    Alive(Moment),
    /// It is stopped and dropped: it restarts never.
    Bystander,
    /// It waits for its delay, and starts with the others then.
    Delayed(Moment),
    /// It has ended and is about to start.
    Held,
    /// It is done and runs again.
    Done,
    /// It stops for good, and doesn't take part.
    Leaving,
    /// It is none of this restart's business.
    No,
}

impl Child {
    pub(super) fn joins(&self) -> Joins {
        match self.phase {
            Phase::Running(_) if self.policy.restart == Restart::Never => Joins::Bystander,
            Phase::Running(_) => Joins::Alive(Moment::START),
            Phase::Doomed { fate, .. } | Phase::Stopping { fate, .. } if fate.may_start() => {
                match fate {
                    Fate::Start { not_before, .. } => Joins::Alive(not_before),
                    Fate::Stay(_) | Fate::Judge | Fate::Park | Fate::Remove => {
                        Joins::Alive(Moment::START)
                    }
                }
            }
            Phase::Backoff {
                until,
                suspended: false,
            } => Joins::Delayed(until),
            Phase::Queued { not_before, .. } => Joins::Delayed(not_before),
            Phase::Held => Joins::Held,
            Phase::Resting(Rest::Done { told: false }) => Joins::Done,
            // A pause of its own, a stop by hand or a removal, or what was told once: left alone. What
            // waits for its inputs starts when they are there.
            Phase::Doomed { .. } | Phase::Stopping { .. } => Joins::Leaving,
            Phase::Backoff {
                suspended: true, ..
            }
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Resting(Rest::Stopped { .. } | Rest::Done { told: true } | Rest::GivenUp)
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => Joins::No,
        }
    }
}
