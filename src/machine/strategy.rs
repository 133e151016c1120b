//! Who else restarts with a service. A strategy is nothing but a choice of edges; groups and keys are
//! more edges in the same function.

use std::collections::{BTreeSet, HashSet};

use super::Machine;
use super::graph::Rank;
use super::message::Cause;
use super::wave::Joins;
use crate::id::ChildId;

/// Which other services restart when one fails (Erlang's restart strategies).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Strategy {
    /// Nobody else, as in Erlang's one_for_one.
    #[default]
    OneForOne,
    /// Everybody, as in Erlang's one_for_all.
    OneForAll,
    /// Those that were added after it, as in Erlang's rest_for_one.
    RestForOne,
}

/// Somebody who restarts with another service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Affected {
    pub(super) id: ChildId,
    pub(super) cause: Cause,
    /// Reached over a key: only stopped with the others, and started when its own inputs are there.
    pub(super) by_input: bool,
    /// Who starts together: everybody of the same number, zero for those of the origin.
    pub(super) cohort: usize,
}

/// Everybody who restarts with a service, as far as they have been found.
#[derive(Default)]
pub(super) struct Reached {
    pub(super) ids: HashSet<ChildId>,
    /// Those whose users are still to be found.
    pub(super) from: Vec<ChildId>,
    pub(super) affected: Vec<Affected>,
    cohorts: usize,
}

impl Reached {
    fn add(&mut self, id: ChildId, cause: Cause) {
        self.from.push(id);
        self.affected.push(Affected {
            id,
            cause,
            by_input: true,
            cohort: self.cohorts,
        });
    }
}

impl Machine {
    /// Everybody who restarts with `id`, without itself: the edges of the strategy, of the groups and
    /// of the keys, followed to their end.
    pub(super) fn affected(&self, id: ChildId) -> Vec<Affected> {
        let mut reached = Reached::default();
        for other in self.together(id) {
            reached.affected.push(Affected {
                id: other,
                cause: Cause::RestartWith(id),
                by_input: false,
                cohort: 0,
            });
        }
        if !self.graph.is_empty() {
            let together = reached.affected.iter().map(|a| a.id).chain([id]);
            reached.from = together.collect();
            reached.ids = reached.from.iter().copied().collect();
            self.follow_keys(&mut reached, true);
        }
        reached.affected
    }

    /// Adds everybody who uses what those in `from` provide, and what these provide in turn. A group
    /// goes along if its member is stopped because a provider ends; not when a value only changes: that
    /// might stop the provider, which would provide it again.
    pub(super) fn follow_keys(&self, reached: &mut Reached, with_groups: bool) {
        while let Some(provider) = reached.from.pop() {
            for (user, key) in self.users_of(provider) {
                self.reach(user, Cause::Input { key, provider }, with_groups, reached);
            }
        }
    }

    /// Adds somebody who is to have another value, unless it is reached already.
    pub(super) fn reach(
        &self,
        user: ChildId,
        cause: Cause,
        with_group: bool,
        reached: &mut Reached,
    ) {
        if !reached.ids.insert(user) {
            return;
        }
        reached.cohorts += 1;
        reached.add(user, cause);
        // Who is at rest isn't stopped.
        let child = self.children.get(&user).filter(|_| with_group);
        let stops = child.is_some_and(|c| matches!(c.joins(), Joins::Alive(_) | Joins::Bystander));
        if stops {
            for &mate in self.group_of(user) {
                if reached.ids.insert(mate) {
                    reached.add(mate, Cause::RestartWith(user));
                }
            }
        }
    }

    /// Who starts together with `id`, perhaps with itself.
    fn together(&self, id: ChildId) -> BTreeSet<ChildId> {
        let mut set = BTreeSet::new();
        match self.config.strategy {
            // The usual case costs nothing.
            Strategy::OneForOne => set.extend(self.group_of(id)),
            Strategy::OneForAll => set.extend(self.children.keys()),
            Strategy::RestForOne => {
                let Some(mut first) = self.children.get(&id).map(|c| c.rank) else {
                    return set;
                };
                loop {
                    let reached: Vec<Rank> = self.order.range(first..).copied().collect();
                    for member in reached {
                        set.insert(member.id);
                        set.extend(self.group_of(member.id));
                    }
                    let ranks = set.iter().filter_map(|id| self.children.get(id));
                    match ranks.map(|c| c.rank).min() {
                        Some(lower) if lower < first => first = lower,
                        Some(_) | None => break,
                    }
                }
            }
        }
        set.remove(&id);
        set
    }

    fn group_of(&self, id: ChildId) -> impl Iterator<Item = &ChildId> + use<'_> {
        let group = self.children.get(&id).and_then(|c| c.policy.group.as_ref());
        let members = group.and_then(|group| self.groups.get(group));
        members.into_iter().flatten()
    }
}
