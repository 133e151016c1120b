//! What makes two states the same: everything that decides what comes next, with times relative to
//! now and incarnations relative to the last one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::monitor::{Live, Monitor};
use super::search::Node;
use crate::id::ChildId;
use crate::machine::child::{Child, Fate, Lingering, Phase, Readiness};
use crate::machine::graph::Rank;
use crate::machine::policy::{Counted, Limiter};

use crate::machine::shutdown::Mode;
use crate::machine::wave::Wave;
use crate::machine::{Machine, Moment};

/// No window and no reset of the configurations is longer.
const MEMORY_SECS: u64 = 3;
/// From here on no delay of the configurations grows any more.
const ATTEMPTS_MAX: u32 = 2;

#[derive(PartialEq, Eq, Hash, Debug)]
pub(super) struct Key {
    mode: (u8, Moment, Option<Rank>),
    paused_until: Option<Moment>,
    limiter: Vec<u64>,
    lost: Option<ChildId>,
    clock_is_still: bool,
    supervisor: (bool, bool, bool),
    services: Vec<(ChildId, Service)>,
    waves: Vec<Wave>,
    keys: Vec<(&'static str, bool, bool)>,
}

#[derive(PartialEq, Eq, Hash, Debug)]
struct Service {
    phase: Phase,
    rank: Rank,
    /// For each input: started without, with the value of now, or with another one.
    inputs: Vec<u8>,
    attempts: (u32, u32),
    limiter: Vec<u64>,
    ever_ready: bool,
    ready_for: Option<Duration>,
    never_ran: bool,
    supervising: bool,
    leftovers: Vec<u64>,
    lingering: Option<Lingering>,
    monitor: Monitor,
}

impl Key {
    pub(super) fn of(node: &Node) -> Key {
        let Node {
            machine, monitors, ..
        } = node;
        let services: BTreeMap<_, _> = machine.children.iter().collect();
        Key {
            mode: match machine.mode {
                Mode::Idle => (0, Moment::START, None),
                Mode::Running => (1, Moment::START, None),
                Mode::Stopping(s) => (2, from_now(machine, s.hard), s.cursor),
                Mode::Ended => (3, Moment::START, None),
            },
            paused_until: machine.paused_until.map(|at| from_now(machine, at)),
            limiter: probe(&machine.limiter, machine.limit_clock.read(machine.now)),
            lost: machine.lost,
            clock_is_still: machine.limit_clock.still_since.is_some(),
            supervisor: (monitors.paused, monitors.stopping, monitors.over),
            services: services
                .into_iter()
                .map(|(id, child)| (*id, service(node, *id, child)))
                .collect(),
            waves: waves(machine),
            keys: machine.graph.state(),
        }
    }
}

fn waves(machine: &Machine) -> Vec<Wave> {
    let shifted = |wave: &Wave| wave.shifted(|at| from_now(machine, at));
    machine.waves.values().map(shifted).collect()
}

fn service(node: &Node, id: ChildId, child: &Child) -> Service {
    let machine = &node.machine;
    let back = |incarnation: u64| child.incarnation - incarnation;
    let monitor = node.monitors.services.get(&id).cloned().unwrap_or_default();
    let live = monitor.live.iter().map(|l| Live {
        incarnation: back(l.incarnation),
        ..*l
    });
    let memory = Duration::from_secs(MEMORY_SECS);
    let resets = child.policy.backoff.resets_after().is_some();
    Service {
        phase: shifted(child.phase, machine),
        rank: child.rank,
        inputs: machine.graph.freshness(child),
        attempts: (
            child.attempts.min(ATTEMPTS_MAX),
            child.panic_attempts.min(ATTEMPTS_MAX),
        ),
        limiter: child
            .limiter
            .iter()
            .flat_map(|own| probe(own, machine.now))
            .collect(),
        ever_ready: child.ever_ready,
        ready_for: child
            .ready_since
            .filter(|_| resets)
            .map(|at| machine.now.since(at).min(memory)),
        never_ran: child.incarnation == 0,
        supervising: child.supervising,
        lingering: child.lingering,
        leftovers: child.leftovers.iter().map(|l| back(*l)).collect(),
        monitor: Monitor {
            live: live.collect(),
            started: 0,
            ..monitor
        },
    }
}

/// What a limiter would answer to a failure, now and later.
fn probe(limiter: &Limiter, now: Moment) -> Vec<u64> {
    let answer = |later: u64, what| {
        let count = limiter
            .clone()
            .count(now.plus(Duration::from_secs(later)), what)
            .count;
        // A decayed count that differs in the last digits is the same.
        (count * 1e6).round() as u64
    };
    let later = (0..=MEMORY_SECS).map(|later| answer(later, Counted::Error));
    later.chain([answer(0, Counted::Panic)]).collect()
}

fn from_now(machine: &Machine, at: Moment) -> Moment {
    if at == Moment::NEVER {
        at
    } else {
        Moment::at(at.since(machine.now))
    }
}

fn shifted(phase: Phase, machine: &Machine) -> Phase {
    let from_now = |at| from_now(machine, at);
    let shifted_fate = |fate| match fate {
        Fate::Start {
            not_before,
            suspended,
            by_hand,
        } => Fate::Start {
            not_before: from_now(not_before),
            suspended,
            by_hand,
        },
        Fate::Stay(_) | Fate::Judge | Fate::Park | Fate::Remove => fate,
    };
    match phase {
        Phase::Backoff { until, suspended } => Phase::Backoff {
            until: from_now(until),
            suspended,
        },
        Phase::Queued { not_before, alone } => Phase::Queued {
            not_before: from_now(not_before),
            alone,
        },
        Phase::Running(Readiness::Awaited { deadline }) => Phase::Running(Readiness::Awaited {
            deadline: from_now(deadline),
        }),
        Phase::Stopping {
            deadline,
            cause,
            fate,
            ..
        } => Phase::Stopping {
            asked: Moment::START,
            deadline: from_now(deadline),
            cause,
            fate: shifted_fate(fate),
        },
        Phase::Abandoned { fate } => Phase::Abandoned {
            fate: shifted_fate(fate),
        },
        Phase::Discarding {
            deadline,
            abandoned,
            ..
        } => Phase::Discarding {
            asked: Moment::START,
            deadline: from_now(deadline),
            abandoned,
        },
        Phase::Doomed { cause, fate } => Phase::Doomed {
            cause,
            fate: shifted_fate(fate),
        },
        Phase::Waiting { .. }
        | Phase::Blocked
        | Phase::Held
        | Phase::Resting(_)
        | Phase::Running(Readiness::Assumed | Readiness::Said) => phase,
    }
}
