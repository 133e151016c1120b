//! Who else restarts with a service. A strategy is nothing but a choice of edges; groups and keys are
//! more edges in the same function.

use std::collections::{BTreeSet, HashSet};

use super::Machine;
use super::graph::Rank;
use super::message::Cause;
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

impl Machine {
    /// Everybody who restarts with `id`, without itself: the edges of the strategy, of the groups and
    /// of the keys, followed to their end.
    pub(super) fn affected(&self, id: ChildId) -> Vec<Affected> {
        let mut affected: Vec<Affected> = self
            .together(id)
            .into_iter()
            .map(|other| Affected {
                id: other,
                cause: Cause::RestartWith(id),
                by_input: false,
                cohort: 0,
            })
            .collect();
        if !self.graph.is_empty() {
            let mut reached: HashSet<ChildId> = affected.iter().map(|a| a.id).collect();
            reached.insert(id);
            let from = reached.iter().copied().collect();
            self.follow_keys(from, true, &mut reached, &mut affected);
        }
        affected
    }

    /// Adds everybody who uses what those in `from` provide, and what these provide in turn. A group
    /// goes along if its member is stopped because a provider ends; not when a value only changes: that
    /// might stop the provider, which would provide it again.
    pub(super) fn follow_keys(
        &self,
        mut from: Vec<ChildId>,
        with_groups: bool,
        reached: &mut HashSet<ChildId>,
        affected: &mut Vec<Affected>,
    ) {
        let mut cohorts = affected.iter().map(|a| a.cohort).max().unwrap_or(0);
        while let Some(provider) = from.pop() {
            for (user, key) in self.users_of(provider) {
                if !reached.insert(user) {
                    continue;
                }
                cohorts += 1;
                let mut reach = |id, cause| {
                    affected.push(Affected {
                        id,
                        cause,
                        by_input: true,
                        cohort: cohorts,
                    });
                    from.push(id);
                };
                reach(user, Cause::Input { key, provider });
                if with_groups {
                    for &mate in self.group_of(user) {
                        if reached.insert(mate) {
                            reach(mate, Cause::RestartWith(user));
                        }
                    }
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
