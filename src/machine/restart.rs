//! Services that restart together: stopped in reverse order, a barrier until all of them have ended,
//! started in order.

use std::collections::BTreeSet;

use super::child::{Child, Fate, Phase, Rest};
use super::message::{Cause, Command};
use super::policy::{Restart, StopOrder};
use super::shutdown::Mode;
use super::{Machine, Moment};
use crate::id::ChildId;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct WaveId(u64);

/// One restart of several services.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Wave {
    /// Who has not ended yet. Holds the barrier.
    stop: BTreeSet<ChildId>,
    /// Who starts when the barrier opens.
    members: BTreeSet<ChildId>,
    /// Not before this: the delays of those that failed.
    start_at: Moment,
    /// Whose restart it is, and why that one is asked to stop, if it still runs.
    origin: ChildId,
    origin_cause: Cause,
    /// Asked for from outside: pauses and delays don't count.
    by_hand: bool,
}

#[cfg(test)]
impl Wave {
    /// The same, with its time shifted.
    pub(super) fn shifted(&self, shift: impl Fn(Moment) -> Moment) -> Wave {
        Wave {
            start_at: shift(self.start_at),
            ..self.clone()
        }
    }
}

/// What a set restart does with a service that isn't its origin.
enum Joins {
    /// It is stopped and started again.
    Alive,
    /// It is stopped and dropped: it restarts never.
    Bystander,
    /// It is at rest and starts with the others; not before its own delay is over.
    AtRest(Moment),
    /// It is none of this restart's business.
    No,
}

impl Child {
    fn joins(&self) -> Joins {
        match self.phase {
            Phase::Running(_) if self.policy.restart == Restart::Never => Joins::Bystander,
            Phase::Running(_) => Joins::Alive,
            Phase::Stopping { fate, .. } if fate.may_start() => Joins::Alive,
            Phase::Backoff {
                until,
                suspended: false,
            } => Joins::AtRest(until),
            Phase::Queued { not_before, .. } => Joins::AtRest(not_before),
            Phase::Held | Phase::Resting(Rest::Done { told: false }) => {
                Joins::AtRest(Moment::START)
            }
            // A pause of its own, a stop by hand or a removal, or what was told once: left alone.
            Phase::Backoff {
                suspended: true, ..
            }
            | Phase::Stopping { .. }
            | Phase::Waiting { .. }
            | Phase::Resting(Rest::Stopped { .. } | Rest::Done { told: true } | Rest::GivenUp)
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => Joins::No,
        }
    }
}

impl Machine {
    /// Restarts a service with everybody who restarts with it. It may be at rest, or run still
    /// (then `cause` says why it is asked to stop).
    pub(super) fn restart_set(
        &mut self,
        id: ChildId,
        not_before: Moment,
        by_hand: bool,
        cause: Cause,
        out: &mut Vec<Command>,
    ) {
        if self.mode != Mode::Running {
            self.put(id, Phase::Resting(Rest::Stopped { by_hand: false }));
            return;
        }
        if self.paused_until.is_some() && !by_hand {
            // A pause begins no stop for a restart; the set follows when it is over.
            self.queue(id, not_before, false);
            return;
        }
        let others = self.affected(id);
        let runs = self.children.get(&id).is_some_and(|c| c.phase.is_alive());
        let mut wave = Wave {
            stop: BTreeSet::new(),
            members: BTreeSet::from([id]),
            start_at: not_before,
            origin: id,
            origin_cause: cause,
            by_hand,
        };
        if runs {
            wave.stop.insert(id);
        }
        let mut held = Vec::new();
        for other in others {
            match self.children.get(&other).map_or(Joins::No, |c| c.joins()) {
                Joins::Alive => {
                    wave.stop.insert(other);
                    wave.members.insert(other);
                }
                Joins::Bystander => {
                    wave.stop.insert(other);
                }
                Joins::AtRest(until) => {
                    wave.start_at = wave.start_at.max(until);
                    wave.members.insert(other);
                    held.push(other);
                }
                Joins::No => {}
            }
        }
        if held.is_empty() && wave.members.len() == 1 && wave.stop.len() == usize::from(runs) {
            self.restart_alone(id, not_before, by_hand, cause, out);
            return;
        }
        if !runs {
            held.push(id);
        }
        self.enroll(wave);
        for id in held {
            self.held.remove(&id);
            self.put(id, Phase::Held);
        }
    }

    /// Nobody but itself: no barrier to wait at.
    fn restart_alone(
        &mut self,
        id: ChildId,
        not_before: Moment,
        by_hand: bool,
        cause: Cause,
        out: &mut Vec<Command>,
    ) {
        let fate = Fate::Start {
            not_before,
            suspended: false,
            by_hand,
        };
        match self.children.get(&id).map(|c| c.phase) {
            Some(Phase::Running(_)) => self.ask(id, cause, fate, out),
            Some(_) if by_hand => self.start(id, out),
            Some(_) => self.start_when_allowed(id, not_before, out),
            None => {}
        }
    }

    /// Makes it a wave, together with those that its services are in already.
    fn enroll(&mut self, mut wave: Wave) {
        let id = WaveId(self.waves_made);
        self.waves_made += 1;
        let touched: BTreeSet<WaveId> = wave
            .stop
            .union(&wave.members)
            .filter_map(|c| self.children.get(c)?.wave)
            .collect();
        for old in touched {
            let Some(old) = self.waves.remove(&old) else {
                continue;
            };
            wave.stop.extend(old.stop);
            wave.members.extend(old.members);
            wave.start_at = wave.start_at.max(old.start_at);
            wave.by_hand &= old.by_hand;
        }
        for child in wave.stop.union(&wave.members) {
            if let Some(child) = self.children.get_mut(child) {
                child.wave = Some(id);
            }
        }
        self.waves.insert(id, wave);
        self.moved_waves.push(id);
    }

    /// A member failed before it was asked: that is no second failure, but its delay counts.
    pub(super) fn delay_wave(&mut self, id: ChildId, until: Moment) {
        let wave = self.children.get(&id).and_then(|c| c.wave);
        if let Some(wave) = wave.and_then(|w| self.waves.get_mut(&w)) {
            wave.start_at = wave.start_at.max(until);
        }
    }

    /// Keeps waves and phases together; called with every change of a phase. Who is stopped by hand,
    /// removed or abandoned holds the others no longer.
    pub(super) fn phase_changed_in_wave(&mut self, id: ChildId, phase: Phase) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let Some(wave_id) = child.wave else { return };
        self.moved_waves.push(wave_id);
        let Some(wave) = self.waves.get_mut(&wave_id) else {
            child.wave = None;
            return;
        };
        let is_member = wave.members.contains(&id);
        let stays = match phase {
            Phase::Running(_) => wave.stop.contains(&id),
            Phase::Held => true,
            Phase::Stopping { fate, .. } => fate.may_start() || !is_member,
            Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Resting(_)
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => false,
        };
        if !stays {
            wave.stop.remove(&id);
            wave.members.remove(&id);
            child.wave = None;
        }
    }

    /// Who ends in a restart of several and doesn't start with them.
    pub(super) fn about_to_be_dropped(&self) -> impl Iterator<Item = ChildId> {
        let waves = self.waves.values();
        waves.flat_map(|wave| wave.stop.difference(&wave.members).copied())
    }

    /// Takes every wave in which something happened as far as it goes.
    pub(super) fn advance_waves(&mut self, out: &mut Vec<Command>) {
        while let Some(id) = self.moved_waves.pop() {
            while self.advance_wave(id, out) {}
        }
    }

    /// One step of a wave; false when it has to wait, or is over.
    fn advance_wave(&mut self, id: WaveId, out: &mut Vec<Command>) -> bool {
        let Some(wave) = self.waves.get(&id) else {
            return false;
        };
        let next = match self.config.stop_order {
            StopOrder::Reverse => wave.stop.last().copied(),
            // The first that has not been asked; if there is none, any.
            StopOrder::Parallel => {
                let asks = |c: &&ChildId| {
                    let phase = self.children.get(c).map(|c| c.phase);
                    !matches!(phase, Some(Phase::Stopping { .. }))
                };
                let unasked = wave.stop.iter().rev().find(asks);
                unasked.or_else(|| wave.stop.last()).copied()
            }
        };
        let Some(child_id) = next else {
            self.open_barrier(id, out);
            return false;
        };
        let Some(child) = self.children.get(&child_id) else {
            return false;
        };
        match child.phase {
            Phase::Running(_) => {
                let cause = if child_id == wave.origin {
                    wave.origin_cause
                } else {
                    Cause::RestartWith(wave.origin)
                };
                let fate = if wave.members.contains(&child_id) {
                    Fate::Start {
                        not_before: Moment::START,
                        suspended: false,
                        by_hand: wave.by_hand,
                    }
                } else {
                    Fate::Remove
                };
                self.ask(child_id, cause, fate, out);
                self.config.stop_order == StopOrder::Parallel
            }
            Phase::Stopping { .. } => false,
            Phase::Held
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Resting(_)
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => {
                if let Some(wave) = self.waves.get_mut(&id) {
                    wave.stop.remove(&child_id);
                }
                true
            }
        }
    }

    /// Every old incarnation has ended: start the members, together, when their delay is over.
    fn open_barrier(&mut self, id: WaveId, out: &mut Vec<Command>) {
        let Some(wave) = self.waves.remove(&id) else {
            return;
        };
        for member in wave.members {
            let Some(child) = self.children.get_mut(&member) else {
                continue;
            };
            child.wave = None;
            if child.phase != Phase::Held {
                continue;
            }
            if wave.by_hand {
                self.start(member, out);
            } else {
                self.start_when_allowed(member, wave.start_at, out);
            }
        }
    }
}
