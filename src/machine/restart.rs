//! Services that restart together: stopped in reverse order, a barrier until all of them have ended,
//! started in order.

use std::collections::BTreeSet;

use super::child::{Fate, Phase, Rest};
use super::graph::Rank;
use super::message::{Cause, Command};
use super::policy::StopOrder;
use super::shutdown::Mode;
use super::strategy::{Affected, Reached};
use super::wave::{Joins, Wave, WaveId};
use super::{Machine, Moment};
use crate::id::ChildId;

impl Machine {
    pub(super) fn rank(&self, id: ChildId) -> Rank {
        let rank = self.children.get(&id).map(|c| c.rank);
        rank.unwrap_or(Rank { place: id.0, id })
    }

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
        if others.is_empty() {
            self.restart_alone(id, not_before, by_hand, cause, out);
            return;
        }
        let runs = self.children.get(&id).is_some_and(|c| c.phase.is_alive());
        let rank = self.rank(id);
        let mut wave = Wave {
            by_hand,
            ..Wave::default()
        };
        let own = wave.new_cohort(not_before, false);
        wave.members.insert(rank, own);
        if runs {
            wave.stop.insert(rank, cause);
        }
        let mut held = self.join_all(&mut wave, others);
        if held.is_empty() && wave.stop.len() == usize::from(runs) {
            self.restart_alone(id, not_before, by_hand, cause, out);
            return;
        }
        if !runs {
            held.push(id);
        }
        self.enroll(wave, held);
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

    /// Starts those anew who use another value of a key than there is now, and all that use theirs.
    pub(super) fn restart_users(
        &mut self,
        key: &'static str,
        provider: ChildId,
        users: &[ChildId],
    ) {
        let goes = self.children.get(&provider);
        let goes = goes.is_some_and(|p| !matches!(p.phase, Phase::Running(_)));
        // Not itself, over a group: it is at rest for a reason of its own.
        let mut reached = Reached::default();
        reached.ids.insert(provider);
        for &user in users {
            self.reach(user, Cause::Input { key, provider }, goes, &mut reached);
        }
        self.follow_keys(&mut reached, goes);
        let mut wave = Wave::default();
        let held = self.join_all(&mut wave, reached.affected);
        self.enroll(wave, held);
    }

    /// Asks an incarnation to stop, after those that use what it provides.
    pub(super) fn ask_after_users(
        &mut self,
        id: ChildId,
        cause: Cause,
        fate: Fate,
        out: &mut Vec<Command>,
    ) {
        if !self.is_in_use(id) {
            self.ask(id, cause, fate, out);
            return;
        }
        let in_wave = self.children.get(&id).is_some_and(|c| c.wave.is_some());
        self.put(id, Phase::Doomed { cause, fate });
        if in_wave || self.mode != Mode::Running {
            // So are those that use it; or all stop in order anyway.
            return;
        }
        let mut reached = Reached::default();
        reached.ids.insert(id);
        reached.from.push(id);
        self.follow_keys(&mut reached, true);
        let mut wave = Wave::default();
        wave.stop.insert(self.rank(id), cause);
        let held = self.join_all(&mut wave, reached.affected);
        self.enroll(wave, held);
    }

    /// Takes everybody in who has something to do with the restart. Answers who is at rest, and is held
    /// for the others from now on.
    fn join_all(&mut self, wave: &mut Wave, affected: Vec<Affected>) -> Vec<ChildId> {
        // Changes that follow each other soon cause one restart.
        let after_input = self.now.plus(self.config.bounce_delay);
        let mut held = Vec::new();
        let mut leaving = Vec::new();
        for Affected {
            id,
            cause,
            by_input,
            cohort,
        } in affected
        {
            let Some(child) = self.children.get(&id) else {
                continue;
            };
            let (rank, joins) = (child.rank, child.joins());
            // Its own time counts, if it is about to restart already.
            let start_at = if by_input && child.wave.is_none() {
                after_input
            } else {
                Moment::START
            };
            while wave.cohorts.len() <= cohort {
                wave.new_cohort(Moment::START, by_input);
            }
            match joins {
                Joins::Alive(own) => {
                    wave.stop.insert(rank, cause);
                    wave.members.insert(rank, cohort);
                    wave.delay(cohort, own.max(start_at));
                }
                Joins::Bystander => {
                    wave.stop.insert(rank, cause);
                }
                Joins::Delayed(until) if !by_input => {
                    wave.members.insert(rank, cohort);
                    wave.delay(cohort, until);
                    held.push(id);
                }
                Joins::Held if !by_input => {
                    wave.members.insert(rank, cohort);
                    held.push(id);
                }
                Joins::Done => {
                    wave.members.insert(rank, cohort);
                    wave.delay(cohort, start_at);
                    held.push(id);
                }
                Joins::Leaving => leaving.push((rank, cause)),
                // Over a key nobody waits for who is at rest: it starts by itself, if it has its inputs.
                Joins::Delayed(_) | Joins::Held | Joins::No => {}
            }
        }
        for (rank, cause) in leaving {
            // Whoever it uses is not asked before it has ended.
            let holds = self
                .providers_of(rank.id)
                .any(|provider| wave.stop.contains_key(&self.rank(provider)));
            if holds {
                wave.stop.insert(rank, cause);
            }
        }
        held
    }

    /// Makes it a wave, together with those that its services are in already.
    fn enroll(&mut self, mut wave: Wave, held: Vec<ChildId>) {
        let id = WaveId(self.waves_made);
        self.waves_made += 1;
        let ranks: BTreeSet<Rank> = wave
            .stop
            .keys()
            .chain(wave.members.keys())
            .copied()
            .collect();
        let touched: BTreeSet<WaveId> = ranks
            .iter()
            .filter_map(|rank| self.children.get(&rank.id)?.wave)
            .collect();
        for old in touched {
            if let Some(old) = self.waves.remove(&old) {
                wave.absorb(old);
            }
        }
        wave.tidy();
        for rank in wave.stop.keys().chain(wave.members.keys()) {
            if let Some(child) = self.children.get_mut(&rank.id) {
                child.wave = Some(id);
            }
        }
        if self.config.stop_order == StopOrder::Parallel {
            self.count_users(&mut wave);
        }
        self.waves.insert(id, wave);
        self.moved_waves.push(id);
        for id in held {
            let rank = self.rank(id);
            self.held.remove(&rank);
            self.put(id, Phase::Held);
        }
    }

    /// Who uses what within a wave whose services are asked all at once: also then whoever is used comes
    /// after its users.
    fn count_users(&self, wave: &mut Wave) {
        wave.users.clear();
        wave.askable = wave.stop.keys().copied().collect();
        if self.graph.is_empty() {
            return;
        }
        for rank in wave.stop.keys() {
            for provider in self.providers_of(rank.id) {
                let provider = self.rank(provider);
                if wave.stop.contains_key(&provider) {
                    *wave.users.entry(provider.id).or_insert(0) += 1;
                    wave.askable.remove(&provider);
                }
            }
        }
    }

    /// Whether a restart of several starts it again. That it is in one alone doesn't mean that: it may be
    /// stopped there for another reason, after those that use what it provides.
    pub(super) fn starts_with_others(&self, id: ChildId) -> bool {
        let Some(child) = self.children.get(&id) else {
            return false;
        };
        let wave = child.wave.and_then(|wave| self.waves.get(&wave));
        wave.is_some_and(|wave| wave.members.contains_key(&child.rank))
    }

    /// A member failed before it was asked: that is no second failure, but its delay counts.
    pub(super) fn delay_wave(&mut self, id: ChildId, until: Moment) {
        let rank = self.rank(id);
        let wave = self.children.get(&id).and_then(|c| c.wave);
        if let Some(wave) = wave.and_then(|w| self.waves.get_mut(&w)) {
            if let Some(&cohort) = wave.members.get(&rank) {
                wave.delay(cohort, until);
            }
        }
    }

    /// Keeps waves and phases together; called with every change of a phase. Who is stopped by hand,
    /// removed or abandoned holds the others no longer.
    pub(super) fn phase_changed_in_wave(&mut self, id: ChildId, phase: Phase) {
        let holds_provider =
            matches!(phase, Phase::Stopping { .. }) && self.is_input_in_same_wave(id);
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let Some(wave_id) = child.wave else { return };
        let rank = child.rank;
        self.moved_waves.push(wave_id);
        let Some(wave) = self.waves.get_mut(&wave_id) else {
            child.wave = None;
            return;
        };
        let is_member = wave.members.contains_key(&rank);
        let stays = match phase {
            Phase::Running(_) => wave.stop.contains_key(&rank),
            Phase::Held => true,
            Phase::Doomed { fate, .. } => {
                if !fate.may_start() {
                    wave.members.remove(&rank);
                }
                true
            }
            Phase::Stopping { fate, .. } if fate.may_start() || !is_member => true,
            // It holds only those whose values it uses still.
            Phase::Stopping { .. } => {
                wave.members.remove(&rank);
                holds_provider
            }
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Resting(_)
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => false,
        };
        let has_ended = !stays || phase == Phase::Held;
        if has_ended && wave.stop.remove(&rank).is_some() && !wave.users.is_empty() {
            self.free_providers(id, wave_id);
        }
        if stays {
            return;
        }
        if let Some(wave) = self.waves.get_mut(&wave_id) {
            wave.forget(rank);
        }
        if let Some(child) = self.children.get_mut(&id) {
            child.wave = None;
        }
    }

    /// Whether the wave that a service is in has not stopped yet what that service uses.
    fn is_input_in_same_wave(&self, id: ChildId) -> bool {
        let wave = self.children.get(&id).and_then(|c| c.wave);
        let Some(wave) = wave.and_then(|wave| self.waves.get(&wave)) else {
            return false;
        };
        let mut providers = self.providers_of(id);
        providers.any(|p| wave.stop.contains_key(&self.rank(p)))
    }

    /// A service of a wave has ended: who has provided for it may be asked, if nobody else uses that.
    fn free_providers(&mut self, id: ChildId, wave_id: WaveId) {
        let providers: Vec<Rank> = self.providers_of(id).map(|p| self.rank(p)).collect();
        let Some(wave) = self.waves.get_mut(&wave_id) else {
            return;
        };
        for provider in providers {
            let Some(users) = wave.users.get_mut(&provider.id) else {
                continue;
            };
            *users -= 1;
            if *users == 0 {
                wave.users.remove(&provider.id);
                if wave.stop.contains_key(&provider) {
                    wave.askable.insert(provider);
                }
            }
        }
    }

    /// Who ends in a restart of several and doesn't start with them.
    pub(super) fn about_to_be_dropped(&self) -> impl Iterator<Item = ChildId> {
        let waves = self.waves.values();
        waves.flat_map(|wave| {
            let stop = wave.stop.keys();
            stop.filter(|rank| !wave.members.contains_key(rank))
                .map(|rank| rank.id)
        })
    }

    /// Takes every wave in which something happened as far as it goes.
    pub(super) fn advance_waves(&mut self, out: &mut Vec<Command>) {
        while let Some(id) = self.moved_waves.pop() {
            while self.advance_wave(id, out) {}
        }
    }

    /// One step of a wave; false when it has to wait, or is over.
    fn advance_wave(&mut self, id: WaveId, out: &mut Vec<Command>) -> bool {
        let Some(wave) = self.waves.get_mut(&id) else {
            return false;
        };
        let next = match self.config.stop_order {
            StopOrder::Reverse => wave.stop.last_key_value().map(|(rank, _)| *rank),
            StopOrder::Parallel => wave.askable.pop_last(),
        };
        let Some(rank) = next else {
            if wave.stop.is_empty() {
                self.open_barrier(id, out);
            }
            return false;
        };
        let cause = wave.stop.get(&rank).copied();
        let stays = wave.members.contains_key(&rank);
        let by_hand = wave.by_hand;
        let phase = self.children.get(&rank.id).map(|c| c.phase);
        let all_at_once = self.config.stop_order == StopOrder::Parallel;
        match (phase, cause) {
            (Some(Phase::Running(_)), Some(cause)) => {
                let fate = if stays {
                    Fate::Start {
                        not_before: Moment::START,
                        suspended: false,
                        by_hand,
                    }
                } else {
                    Fate::Remove
                };
                self.ask(rank.id, cause, fate, out);
                all_at_once
            }
            (Some(Phase::Doomed { cause, fate }), _) => {
                self.ask(rank.id, cause, fate, out);
                all_at_once
            }
            (Some(Phase::Stopping { .. }), _) => all_at_once,
            // Not in `stop` any more: see `phase_changed_in_wave`.
            (
                Some(
                    Phase::Running(_)
                    | Phase::Held
                    | Phase::Waiting { .. }
                    | Phase::Blocked
                    | Phase::Backoff { .. }
                    | Phase::Queued { .. }
                    | Phase::Resting(_)
                    | Phase::Abandoned { .. }
                    | Phase::Discarding { .. },
                )
                | None,
                _,
            ) => {
                wave_forget(self.waves.get_mut(&id), rank);
                true
            }
        }
    }

    /// Every old incarnation has ended: each cohort starts together, when its delay is over.
    fn open_barrier(&mut self, id: WaveId, out: &mut Vec<Command>) {
        let Some(mut wave) = self.waves.remove(&id) else {
            return;
        };
        for (member, cohort) in std::mem::take(&mut wave.members) {
            let Some(child) = self.children.get_mut(&member.id) else {
                continue;
            };
            child.wave = None;
            if child.phase != Phase::Held {
                continue;
            }
            let cohort = wave.cohorts.get(wave.cohort(cohort));
            let start_at = cohort.map_or(Moment::START, |c| c.start_at);
            let waits = cohort.is_some_and(|c| c.by_input) && start_at > self.now;
            if wave.by_hand && !waits {
                self.start(member.id, out);
            } else {
                self.start_when_allowed(member.id, start_at, out);
            }
        }
    }
}

fn wave_forget(wave: Option<&mut Wave>, rank: Rank) {
    if let Some(wave) = wave {
        wave.stop.remove(&rank);
    }
}
