//! From every state: if everybody does what is asked of them from now on, it comes to rest, and
//! everybody runs then who is to run and has what it needs.

use super::monitor::{Live, Story};
use super::search::{Event, Node};
use crate::id::ChildId;
use crate::machine::Machine;
use crate::machine::child::{Child, Phase, Readiness};
use crate::machine::message::{End, Input, Outcome};
use crate::machine::shutdown::Mode;

/// No configuration needs more inputs than this to come to rest.
const INPUTS_MAX: usize = 100;

pub(super) fn it_comes_to_rest(node: &Node) {
    if node.machine.mode != Mode::Running || node.machine.graph.is_empty() {
        return;
    }
    let mut node = node.clone();
    for _ in 0..INPUTS_MAX {
        let Some((at, input)) = node.what_is_hoped_for() else {
            return everybody_is_where_they_belong(&node.machine);
        };
        node.take(at, input);
    }
    panic!("it doesn't come to rest: {:?}", node.machine);
}

impl Node {
    /// The next of what is to happen, if everybody is obedient and nobody fails.
    fn what_is_hoped_for(&self) -> Option<Event> {
        let now = self.machine.now;
        for (&id, child) in &self.machine.children {
            let service = &self.monitors.services[&id];
            if service.dropping {
                return Some((now, Input::Discarded(id)));
            }
            let hoped = service
                .live
                .iter()
                .find_map(|live| hoped_of(id, child, live));
            if let Some(input) = hoped.or_else(|| self.set_up(id, child)) {
                return Some((now, input));
            }
        }
        Some((self.machine.deadline()?, Input::Ticked))
    }

    /// A service that runs provides what it declares, and says that it is ready.
    fn set_up(&self, id: ChildId, child: &Child) -> Option<Input> {
        let Phase::Running(readiness) = child.phase else {
            return None;
        };
        let incarnation = child.incarnation;
        let provides = child.links().map_or(&[][..], |links| &links.provides);
        let graph = &self.machine.graph;
        let missing = provides.iter().filter(|key| graph.version(key.name) == 0);
        let keys: Vec<_> = missing.map(|key| key.name).collect();
        if !keys.is_empty() {
            return Some(Input::Provided {
                id,
                incarnation,
                keys,
            });
        }
        let awaited = matches!(readiness, Readiness::Awaited { .. });
        awaited.then_some(Input::SaidReady { id, incarnation })
    }
}

/// Who was asked to stop does, also if it is too late.
fn hoped_of(id: ChildId, child: &Child, live: &Live) -> Option<Input> {
    let incarnation = live.incarnation;
    if live.left {
        return Some(Input::Cleared { id, incarnation });
    }
    let is_old = child.leftovers.contains(&incarnation);
    let ends = is_old || matches!(live.story, Story::Asked | Story::Abandoned);
    ends.then_some(Input::Ended {
        id,
        incarnation,
        end: End {
            outcome: Outcome::Ok,
            fatal: false,
            discarded: live.discards,
            stragglers: false,
        },
    })
}

fn everybody_is_where_they_belong(machine: &Machine) {
    for (id, child) in &machine.children {
        let fits = match child.phase {
            Phase::Running(_) | Phase::Resting(_) | Phase::Waiting { parked: true } => true,
            Phase::Blocked => is_deprived(machine, child),
            Phase::Waiting { parked: false }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => false,
        };
        assert!(fits, "{id:?} is {:?} for ever", child.phase);
    }
    assert_eq!(machine.waves.len(), 0, "a restart that never ends");
}

/// Whether something it needs has no provider that runs.
fn is_deprived(machine: &Machine, child: &Child) -> bool {
    let mut needs = child.links().into_iter().flat_map(|links| &links.needs);
    needs.any(|key| {
        let provider = machine.graph.provider(key.name);
        let provider = provider.and_then(|id| machine.children.get(&id));
        provider.is_none_or(|p| !matches!(p.phase, Phase::Running(_)))
    })
}
