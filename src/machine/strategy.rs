//! Who else restarts with a service. A strategy is nothing but a choice of edges; groups are more
//! edges in the same function.

use std::collections::BTreeSet;

use super::Machine;
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

impl Machine {
    /// Everybody who restarts with `id`, without itself: the edges of the strategy and of the
    /// groups, followed to their end.
    pub(super) fn affected(&self, id: ChildId) -> BTreeSet<ChildId> {
        let mut set = BTreeSet::new();
        match self.config.strategy {
            // The usual case costs nothing.
            Strategy::OneForOne => self.extend_by_group(id, &mut set),
            Strategy::OneForAll => set.extend(self.children.keys()),
            Strategy::RestForOne => {
                let mut first = id;
                loop {
                    let reached: Vec<ChildId> =
                        self.children.range(first..).map(|(&id, _)| id).collect();
                    for &member in &reached {
                        set.insert(member);
                        self.extend_by_group(member, &mut set);
                    }
                    match set.first() {
                        Some(&lower) if lower < first => first = lower,
                        Some(_) | None => break,
                    }
                }
            }
        }
        set.remove(&id);
        set
    }

    fn extend_by_group(&self, id: ChildId, set: &mut BTreeSet<ChildId>) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        let Some(group) = &child.policy.group else {
            return;
        };
        if let Some(members) = self.groups.get(group) {
            set.extend(members);
        }
    }
}
