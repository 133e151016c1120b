//! DESIGN section 6 as functions: what holds in every state.

use std::collections::BTreeSet;

use super::key::Key;
use super::keys;
use super::monitor::{Monitor, Story};
use super::search::Node;
use crate::id::ChildId;
use crate::machine::child::{Child, Fate, Phase, Readiness, Rest};
use crate::machine::message::Input;
use crate::machine::shutdown::Mode;
use crate::machine::{Counts, Machine, Moment};

pub(super) fn hold(node: &Node) {
    let machine = &node.machine;
    counts_agree_with_the_phases(machine);
    timers_are_those_of_the_phases(machine);
    nothing_is_overdue(machine);
    no_deadline_is_beyond_the_supervisors(machine);
    who_is_held_waits_for_a_pause(machine);
    the_limits_clock_stands_still_during_stops_for_a_restart(machine);
    a_stopping_supervisor_plans_no_start(machine);
    the_supervisor_is_over_when_all_have_ended(node);
    keys::hold(machine);
    for (id, child) in &machine.children {
        let service = node.monitors.services.get(id).expect("announced");
        phase_agrees_with_what_runs(*id, child, service);
        who_was_stopped_by_hand_stays_down(child, service);
        who_is_to_be_removed_is_on_its_way(child, service);
        overlaps_stay_within_their_bound(child, service);
    }
}

fn counts_agree_with_the_phases(machine: &Machine) {
    let mut recount = Counts::default();
    for child in machine.children.values() {
        recount.replace(Counts::default(), Counts::of(child));
    }
    assert_eq!(machine.counts, recount);
    assert_eq!(machine.names.len(), machine.children.len());
}

fn timers_are_those_of_the_phases(machine: &Machine) {
    let children = machine.children.iter();
    let timers: BTreeSet<_> = children
        .filter_map(|(id, c)| Some((c.phase.timer()?, *id)))
        .collect();
    assert_eq!(machine.timers, timers);
    // Idle means no wake-up.
    let idle = timers.is_empty() && machine.paused_until.is_none();
    assert_eq!(machine.deadline().is_none(), idle);
}

fn nothing_is_overdue(machine: &Machine) {
    assert!(
        machine.deadline().is_none_or(|at| at > machine.now),
        "overdue: {:?}",
        machine.deadline()
    );
}

fn no_deadline_is_beyond_the_supervisors(machine: &Machine) {
    let hard = machine.mode.hard_deadline();
    let late = machine.timers.iter().find(|(at, id)| {
        *at > hard
            && machine.children[id].phase.timer() == Some(*at)
            && machine.children[id].phase.is_alive()
            && !matches!(machine.children[id].phase, Phase::Running(_))
    });
    assert_eq!(late, None, "later than {hard:?}");
}

fn who_is_held_waits_for_a_pause(machine: &Machine) {
    let running = machine.mode == Mode::Running;
    assert!(
        running || machine.paused_until.is_none(),
        "a pause outlives its supervisor"
    );
    let is_held = |phase| match phase {
        Phase::Queued { .. } => true,
        Phase::Waiting { parked } => !parked && running,
        Phase::Blocked
        | Phase::Doomed { .. }
        | Phase::Backoff { .. }
        | Phase::Held
        | Phase::Resting(_)
        | Phase::Running(_)
        | Phase::Stopping { .. }
        | Phase::Abandoned { .. }
        | Phase::Discarding { .. } => false,
    };
    let children = machine.children.iter();
    let held: BTreeSet<ChildId> = children
        .filter(|(_, c)| is_held(c.phase))
        .map(|(id, _)| *id)
        .collect();
    let ids: BTreeSet<ChildId> = machine.held.iter().map(|rank| rank.id).collect();
    assert_eq!(ids, held);
    assert!(held.is_empty() || machine.is_paused(), "held by nothing");
}

fn the_limits_clock_stands_still_during_stops_for_a_restart(machine: &Machine) {
    let still = machine.limit_clock.still_since.is_some();
    assert_eq!(still, machine.counts.stopping_for_restart > 0);
}

fn a_stopping_supervisor_plans_no_start(machine: &Machine) {
    let stops = match machine.mode {
        Mode::Idle | Mode::Running => false,
        Mode::Stopping(_) | Mode::Ended => true,
    };
    for child in machine.children.values().filter(|_| stops) {
        let plans = match child.phase {
            Phase::Backoff { .. } | Phase::Queued { .. } | Phase::Held | Phase::Blocked => true,
            // For the next run, if it was started by hand.
            Phase::Waiting { .. } => machine.mode != Mode::Ended,
            Phase::Abandoned { fate } => fate.is_start() && fate != Fate::START_BY_HAND,
            // Whose end is judged is only told of, then.
            Phase::Stopping { fate, .. } => fate.is_start(),
            // It is not asked yet, and stops for good then.
            Phase::Doomed { .. } => false,
            Phase::Resting(_) | Phase::Running(_) | Phase::Discarding { .. } => false,
        };
        assert!(!plans, "a start is planned: {:?}", child.phase);
    }
}

fn the_supervisor_is_over_when_all_have_ended(node: &Node) {
    let monitors = &node.monitors;
    match node.machine.mode {
        Mode::Idle | Mode::Running => assert!(!monitors.stopping && !monitors.over),
        Mode::Stopping(_) => {
            assert!(monitors.stopping && !monitors.over);
            assert!(node.machine.counts.alive > 0, "nobody is waited for");
        }
        Mode::Ended => {
            assert!(monitors.over);
            let mut services = monitors.services.values();
            assert!(
                services.all(Monitor::has_nobody_running),
                "over while somebody runs"
            );
        }
    }
    let paused = node.machine.is_paused();
    assert_eq!(
        monitors.paused, paused,
        "a pause that was not announced, or not taken back"
    );
}

fn phase_agrees_with_what_runs(id: ChildId, child: &Child, service: &Monitor) {
    let stories: Vec<_> = service
        .live
        .iter()
        .map(|l| (l.incarnation, l.story, l.left))
        .collect();
    let current = stories
        .last()
        .filter(|l| l.0 == child.incarnation && !child.leftovers.contains(&l.0));
    let current = current.map(|&(_, story, left)| (story, left));
    let fits = match child.phase {
        Phase::Running(Readiness::Said | Readiness::Assumed) => {
            matches!(
                current,
                Some((Story::Started | Story::FailedToStart, false))
            )
        }
        Phase::Running(Readiness::Awaited { .. }) => current == Some((Story::Started, false)),
        Phase::Doomed { .. } => matches!(
            current,
            Some((Story::Started | Story::FailedToStart, false))
        ),
        Phase::Stopping { .. } => current == Some((Story::Asked, false)),
        Phase::Abandoned { .. } => {
            matches!(
                current,
                Some((Story::Abandoned, false) | (Story::Over, true))
            ) || (child.lingering.is_some() && current.is_none())
        }
        Phase::Discarding { abandoned, .. } => {
            current.is_none() && service.dropping && service.dropping_abandoned == abandoned
        }
        Phase::Waiting { .. }
        | Phase::Blocked
        | Phase::Backoff { .. }
        | Phase::Queued { .. }
        | Phase::Held
        | Phase::Resting(_) => current.is_none(),
    };
    assert!(fits, "{id:?} is {:?} with {stories:?}", child.phase);
    assert_eq!(child.incarnation, service.started);
}

fn who_was_stopped_by_hand_stays_down(child: &Child, service: &Monitor) {
    let stays = match child.phase {
        Phase::Resting(rest) => rest == Rest::Stopped { by_hand: true },
        Phase::Doomed { fate, .. } | Phase::Stopping { fate, .. } | Phase::Abandoned { fate } => {
            fate == Fate::STOPPED_BY_HAND || fate == Fate::Remove
        }
        Phase::Discarding { .. } => true,
        Phase::Waiting { .. }
        | Phase::Blocked
        | Phase::Backoff { .. }
        | Phase::Queued { .. }
        | Phase::Held
        | Phase::Running(_) => false,
    };
    assert!(
        !service.down || stays,
        "stopped by hand, and {:?}",
        child.phase
    );
}

fn who_is_to_be_removed_is_on_its_way(child: &Child, service: &Monitor) {
    let goes = match child.phase {
        Phase::Doomed { fate, .. } | Phase::Stopping { fate, .. } | Phase::Abandoned { fate } => {
            fate == Fate::Remove
        }
        Phase::Discarding { .. } => true,
        Phase::Waiting { .. }
        | Phase::Blocked
        | Phase::Backoff { .. }
        | Phase::Queued { .. }
        | Phase::Held
        | Phase::Running(_)
        | Phase::Resting(_) => false,
    };
    assert!(!service.leaving || goes, "removed, and {:?}", child.phase);
    let lingers = child.lingering.is_some();
    assert!(
        !lingers || (service.live.len() == child.leftovers.len() && !service.live.is_empty()),
        "it lingers for nobody, or runs still"
    );
    assert!(
        !service.dropped || child.lingering.is_some_and(|l| l.discarded),
        "without its values, and {:?}",
        child.phase
    );
}

fn overlaps_stay_within_their_bound(child: &Child, service: &Monitor) {
    let superseded = service.live.iter().filter(|l| l.superseded).count();
    assert!(child.leftovers.len() <= child.policy.overlap_max + superseded);
    if let Phase::Abandoned { fate } = child.phase {
        let full = child.leftovers.len() >= child.policy.overlap_max;
        assert!(
            full || !fate.is_start(),
            "it could start beside its old thread"
        );
    }
    let left = child
        .leftovers
        .iter()
        .filter(|n| service.live.iter().any(|l| l.incarnation == **n));
    assert_eq!(
        left.count(),
        child.leftovers.len(),
        "a leftover that has ended"
    );
    let current = usize::from(
        service
            .live
            .last()
            .is_some_and(|l| !child.leftovers.contains(&l.incarnation)),
    );
    assert_eq!(
        service.live.len(),
        child.leftovers.len() + current,
        "an old thread is forgotten"
    );
}

/// From every state, if nobody does what it is asked and only time passes, a stop comes to its end.
/// A supervisor below ends by itself at its deadline; here at the latest when nothing else is due.
pub(super) fn a_stop_comes_to_an_end(node: &Node) {
    let mut node = node.clone();
    node.take(
        node.machine.now,
        Input::ShutdownRequested {
            deadline: Moment::NEVER,
        },
    );
    for _ in 0..20 {
        if node.machine.mode == Mode::Ended {
            return;
        }
        match node.machine.deadline() {
            Some(at) => drop(node.take(at, Input::Ticked)),
            None => node.a_supervisor_leaves_its_threads_behind(),
        }
    }
    panic!("no end: {:?}", node.machine);
}

pub(super) fn changes_nothing(node: &Node, key: &Key, (now, input): (Moment, Input)) {
    let mut after = node.clone();
    let out = after.take_unwatched(now, input);
    assert_eq!(out, []);
    assert_eq!(Key::of(&after), *key);
}
