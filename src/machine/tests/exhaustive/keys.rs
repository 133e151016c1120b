//! What holds of keys in every state.

use crate::machine::Machine;
use crate::machine::child::{Child, Phase};
use crate::machine::graph::Graph;
use crate::machine::shutdown::Mode;

impl Graph {
    /// Whether there is a value of each key, and whether its dependents are to be looked after later.
    pub(super) fn state(&self) -> Vec<(&'static str, bool, bool)> {
        let mut state: Vec<_> = self
            .keys
            .iter()
            .map(|(key, node)| (*key, node.version != 0, self.deferred.contains(key)))
            .collect();
        state.sort_unstable();
        state
    }

    /// For each input of a service: started without, with the value of now, or with another one.
    pub(super) fn freshness(&self, child: &Child) -> Vec<u8> {
        let inputs = child.inputs().zip(&child.seen);
        inputs
            .map(|(key, seen)| match *seen {
                0 => 0,
                seen if seen == self.version(key.name) => 1,
                _ => 2,
            })
            .collect()
    }
}

/// Whether an input has another version than at the last start, of a provider that stays.
fn has_news(machine: &Machine, child: &Child) -> bool {
    let mut inputs = child.inputs().zip(&child.seen);
    inputs.any(|(key, seen)| {
        let provider = machine.graph.provider(key.name);
        let provider = provider.and_then(|id| machine.children.get(&id));
        let leaves = provider.is_some_and(|p| {
            p.phase.is_running() && (p.wave.is_some() || !matches!(p.phase, Phase::Running(_)))
        });
        machine.graph.version(key.name) != *seen && !leaves
    })
}

pub(in crate::machine::tests) fn hold(machine: &Machine) {
    assert!(
        machine.graph.moved.is_empty(),
        "a change that nobody has looked after"
    );
    let settled = machine.mode == Mode::Running && !machine.is_paused();
    assert!(machine.is_paused() || machine.graph.deferred.is_empty());
    for (&id, child) in &machine.children {
        for provider in machine.providers_of(id) {
            assert!(
                machine.rank(provider) < child.rank,
                "in order of what is provided"
            );
        }
        let needs = child.links().map_or(0, |links| links.needs.len());
        match child.phase {
            Phase::Running(_) => {
                let with = child.seen.iter().take(needs);
                assert!(
                    with.clone().count() == needs && with.into_iter().all(|v| *v != 0),
                    "runs without what it needs"
                );
                assert!(
                    !settled || child.wave.is_some() || !machine.is_stale(id),
                    "runs with another value"
                );
            }
            Phase::Blocked => assert!(!settled || !machine.is_supplied(id), "waits in vain"),
            Phase::Waiting { parked: true } => {
                assert!(!settled || !has_news(machine, child), "waits in vain")
            }
            Phase::Stopping { .. } => assert!(!machine.is_in_use(id), "asked while it is in use"),
            Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Doomed { .. }
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => {}
        }
        if let Some(wave) = child.wave {
            let wave = machine
                .waves
                .get(&wave)
                .expect("a restart that is under way");
            let takes_part =
                wave.stop.contains_key(&child.rank) || wave.members.contains_key(&child.rank);
            assert!(takes_part, "in a restart that knows nothing of it");
        }
        if child.wave.is_none() && machine.mode == Mode::Running {
            assert!(
                !matches!(child.phase, Phase::Held | Phase::Doomed { .. }),
                "held by nobody: {:?}",
                child.phase
            );
        }
    }
}
