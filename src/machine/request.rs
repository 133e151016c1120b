//! What is asked for from outside: remove, stop, start and restart one service. Each is valid in
//! every phase, and asking twice is the same as asking once.

use super::child::{Fate, Phase, Rest};
use super::graph::Rank;
use super::message::{Cause, Command, Note};
use super::shutdown::Mode;
use super::{Machine, Moment};
use crate::id::ChildId;

impl Machine {
    pub(super) fn removal_requested(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        match child.phase {
            Phase::Running(_) => self.ask_after_users(id, Cause::Removed, Fate::Remove, out),
            Phase::Doomed { .. } | Phase::Stopping { .. } | Phase::Abandoned { .. } => {
                self.change_fate(id, Fate::Remove, Cause::Removed)
            }
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_) => {
                self.remove(id, false, out);
            }
            Phase::Discarding { .. } => {}
        }
    }

    pub(super) fn stop_requested(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        match child.phase {
            Phase::Running(_) => {
                self.ask_after_users(id, Cause::Ordered, Fate::STOPPED_BY_HAND, out);
            }
            Phase::Doomed { fate, .. }
            | Phase::Stopping { fate, .. }
            | Phase::Abandoned { fate } => match fate {
                Fate::Start { .. } | Fate::Stay(_) | Fate::Judge | Fate::Park => {
                    self.change_fate(id, Fate::STOPPED_BY_HAND, Cause::Ordered)
                }
                // It goes all the same, but nothing it answers matters any more.
                Fate::Remove => self.change_fate(id, Fate::Remove, Cause::Ordered),
            },
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held => {
                self.held.remove(&child.rank);
                self.put(id, Phase::Resting(Rest::Stopped { by_hand: true }));
                if self.mode == Mode::Running {
                    self.announce(id, Note::Stopped, out);
                    out.push(Command::Release { id });
                }
            }
            Phase::Resting(_) => self.put(id, Phase::Resting(Rest::Stopped { by_hand: true })),
            Phase::Discarding { .. } => {}
        }
    }

    pub(super) fn start_requested(&mut self, id: ChildId, out: &mut Vec<Command>) {
        if self.takes_no_starts() {
            return;
        }
        let Some(child) = self.children.get(&id) else {
            return;
        };
        match child.phase {
            // It starts as soon as those that restart with it have ended, whatever delay there is.
            Phase::Held => self.leave_cohort(id),
            Phase::Running(_) | Phase::Discarding { .. } => {}
            Phase::Doomed { fate, .. } | Phase::Stopping { fate, .. } => match fate {
                Fate::Start { .. } | Fate::Stay(_) | Fate::Judge | Fate::Park => {
                    self.change_fate(id, Fate::START_BY_HAND, Cause::RestartWith(id));
                    self.rejoin(id);
                }
                Fate::Remove => {}
            },
            Phase::Abandoned { fate } => match fate {
                Fate::Start { .. } | Fate::Stay(_) | Fate::Judge | Fate::Park => {
                    // Now, if the spec allows one more overlap; else when the old thread has ended.
                    self.change_fate(id, Fate::START_BY_HAND, Cause::RestartWith(id));
                    self.overlap(id, out);
                }
                Fate::Remove => {}
            },
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Resting(_) => {
                self.start_by_hand(id, out);
            }
        }
    }

    /// Who was going to stop for good, or to be judged, starts again with the wave that it is in.
    fn rejoin(&mut self, id: ChildId) {
        let rank = self.rank(id);
        let wave = self.children.get(&id).and_then(|c| c.wave);
        if let Some(wave) = wave.and_then(|w| self.waves.get_mut(&w)) {
            if !wave.members.contains_key(&rank) {
                let cohort = wave.new_cohort(Moment::START, false);
                wave.members.insert(rank, cohort);
                wave.tidy();
            }
        }
    }

    /// Who has ended and waits for the others doesn't wait for their delays any more. What was stopped for
    /// an input waits until the changes are over.
    fn leave_cohort(&mut self, id: ChildId) {
        let rank = self.rank(id);
        let wave = self.children.get(&id).and_then(|c| c.wave);
        let Some(wave) = wave.and_then(|w| self.waves.get_mut(&w)) else {
            return;
        };
        let Some(&cohort) = wave.members.get(&rank) else {
            return;
        };
        let cohort = wave.cohorts.get(wave.cohort(cohort));
        if cohort.is_some_and(|c| !c.by_input && c.start_at > Moment::START) {
            let own = wave.new_cohort(Moment::START, false);
            wave.members.insert(rank, own);
            wave.tidy();
        }
    }

    pub(super) fn restart_requested(&mut self, id: ChildId, out: &mut Vec<Command>) {
        if self.takes_no_starts() {
            return;
        }
        let Some(child) = self.children.get(&id) else {
            return;
        };
        match child.phase {
            Phase::Running(_)
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Resting(_)
                if self.mode == Mode::Running =>
            {
                self.held.remove(&child.rank);
                self.end_own_pause(id);
                self.restart_set(id, Moment::START, true, Cause::RestartWith(id), out);
            }
            Phase::Running(_)
            | Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Abandoned { .. }
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Discarding { .. } => self.start_requested(id, out),
        }
    }

    /// A stop of the supervisor wins: it would turn a final request into one for a restart.
    fn takes_no_starts(&self) -> bool {
        match self.mode {
            Mode::Stopping(_) => true,
            Mode::Idle | Mode::Running | Mode::Ended => false,
        }
    }

    /// At once, whatever delay or pause there is. Before the supervisor runs, it waits for that.
    fn start_by_hand(&mut self, id: ChildId, out: &mut Vec<Command>) {
        match self.mode {
            Mode::Idle | Mode::Ended => self.put(id, Phase::Waiting { parked: false }),
            Mode::Running => {
                self.held.remove(&self.rank(id));
                self.end_own_pause(id);
                self.start(id, out);
            }
            Mode::Stopping(_) => {}
        }
    }

    /// A pause of its own that is cut short counts from zero like one that has passed.
    fn end_own_pause(&mut self, id: ChildId) {
        if let Some(child) = self.children.get_mut(&id) {
            if let Phase::Backoff {
                suspended: true, ..
            } = child.phase
            {
                child.limiter.iter_mut().for_each(|own| own.reset());
            }
        }
    }

    /// What was planned for its end is replaced, and with it the reason why it is stopped: its
    /// answer is judged by the last one.
    pub(super) fn change_fate(&mut self, id: ChildId, fate: Fate, cause: Cause) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        let since = child.since;
        match child.phase {
            Phase::Stopping {
                asked, deadline, ..
            } => self.put(
                id,
                Phase::Stopping {
                    asked,
                    deadline,
                    cause,
                    fate,
                },
            ),
            Phase::Doomed { .. } => self.put(id, Phase::Doomed { cause, fate }),
            Phase::Abandoned { .. } => self.put(id, Phase::Abandoned { fate }),
            // Nothing is decided for their end.
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Running(_)
            | Phase::Discarding { .. } => return,
        }
        if let Some(child) = self.children.get_mut(&id) {
            child.since = since;
        }
    }

    /// Puts everything in order for the next run of a supervisor that is a service: whoever was
    /// told to stay down stays down, `Never` services that have run are gone, the others wait.
    pub(super) fn prepare(&mut self, out: &mut Vec<Command>) {
        let ranks: Vec<Rank> = self.order.iter().copied().collect();
        for Rank { id, .. } in ranks {
            let Some(child) = self.children.get_mut(&id) else {
                continue;
            };
            child.limiter.iter_mut().for_each(|l| l.reset());
            child.reset_backoff();
            let never = child.policy.restart == super::Restart::Never && child.incarnation > 0;
            match child.phase {
                Phase::Resting(Rest::Stopped { by_hand: true } | Rest::Done { told: true }) => {}
                Phase::Discarding { .. } => {}
                Phase::Abandoned {
                    fate:
                        Fate::Remove | Fate::STOPPED_BY_HAND | Fate::Stay(Rest::Done { told: true }),
                } => {}
                // Whoever started this supervisor again allows that the old thread is still there.
                Phase::Abandoned { .. } if never => {
                    self.put(id, Phase::Abandoned { fate: Fate::Remove })
                }
                Phase::Abandoned { .. } => {
                    child.leftovers.push(child.incarnation);
                    self.put(id, Phase::Waiting { parked: false });
                }
                Phase::Resting(
                    Rest::Stopped { by_hand: false } | Rest::Done { told: false } | Rest::GivenUp,
                )
                | Phase::Waiting { .. }
                | Phase::Blocked
                | Phase::Backoff { .. }
                | Phase::Queued { .. }
                | Phase::Held
                | Phase::Running(_)
                | Phase::Doomed { .. }
                | Phase::Stopping { .. } => {
                    if never {
                        self.remove(id, false, out);
                    } else {
                        self.put(id, Phase::Waiting { parked: false });
                    }
                }
            }
        }
        self.held.clear();
        self.graph.settle();
        self.paused_until = None;
        self.limiter.reset();
        debug_assert!(self.timers.is_empty() || self.counts.alive > 0);
    }

    /// The supervisor runs: start what waits, in order of adding.
    pub(super) fn started(&mut self, out: &mut Vec<Command>) {
        match self.mode {
            Mode::Idle => {}
            Mode::Ended => self.prepare(out),
            Mode::Running | Mode::Stopping(_) => return,
        }
        self.mode = Mode::Running;
        self.lost = None;
        let ranks: Vec<Rank> = self.order.iter().copied().collect();
        for Rank { id, .. } in ranks {
            self.announce_added(id, out);
            let waits = self
                .children
                .get(&id)
                .is_some_and(|c| c.phase == Phase::Waiting { parked: false });
            if waits {
                self.start_when_allowed(id, Moment::START, out);
            }
        }
    }
}
