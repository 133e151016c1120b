//! What is asked for from outside: remove, stop, start and restart one service. Each is valid in
//! every phase, and asking twice is the same as asking once.

use super::child::{Fate, Phase, Rest};
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
            Phase::Running(_) => self.ask(id, Cause::Removed, Fate::Remove, out),
            Phase::Stopping { .. } | Phase::Abandoned { .. } => self.change_fate(id, Fate::Remove),
            Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_) => {
                self.discard(id, out);
            }
            Phase::Discarding { .. } => {}
        }
    }

    pub(super) fn stop_requested(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        match child.phase {
            Phase::Running(_) => self.ask(id, Cause::Ordered, Fate::STOPPED_BY_HAND, out),
            Phase::Stopping { fate, .. } | Phase::Abandoned { fate } => match fate {
                Fate::Start { .. } | Fate::Stay(_) | Fate::Judge | Fate::Park => {
                    self.change_fate(id, Fate::STOPPED_BY_HAND)
                }
                Fate::Remove => {}
            },
            Phase::Waiting { .. } | Phase::Backoff { .. } | Phase::Queued { .. } | Phase::Held => {
                self.held.remove(&id);
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
        let Some(child) = self.children.get(&id) else {
            return;
        };
        match child.phase {
            // It runs, or starts as soon as those that restart with it have ended.
            Phase::Running(_) | Phase::Held | Phase::Discarding { .. } => {}
            Phase::Stopping { fate, .. } => match fate {
                Fate::Start { .. } | Fate::Stay(_) | Fate::Judge | Fate::Park => {
                    self.change_fate(id, Fate::START_BY_HAND)
                }
                Fate::Remove => {}
            },
            Phase::Abandoned { fate } => match fate {
                Fate::Start { .. } | Fate::Stay(_) | Fate::Judge | Fate::Park => {
                    self.start_beside_abandoned(id, out)
                }
                Fate::Remove => {}
            },
            Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Resting(_) => {
                self.start_by_hand(id, out);
            }
        }
    }

    pub(super) fn restart_requested(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        match child.phase {
            Phase::Running(_)
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Resting(_)
                if self.mode == Mode::Running =>
            {
                self.held.remove(&id);
                self.restart_set(id, Moment::START, true, Cause::RestartWith(id), out);
            }
            Phase::Running(_)
            | Phase::Stopping { .. }
            | Phase::Abandoned { .. }
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Discarding { .. } => self.start_requested(id, out),
        }
    }

    /// At once, whatever delay or pause there is. Before the supervisor runs, it waits for that.
    fn start_by_hand(&mut self, id: ChildId, out: &mut Vec<Command>) {
        match self.mode {
            Mode::Idle => self.put(id, Phase::Waiting { parked: false }),
            Mode::Running => {
                self.held.remove(&id);
                self.start(id, out);
            }
            Mode::Stopping(_) | Mode::Ended => {}
        }
    }

    /// Now, if the spec allows one more overlap; else when the old thread has ended.
    fn start_beside_abandoned(&mut self, id: ChildId, out: &mut Vec<Command>) {
        self.change_fate(id, Fate::START_BY_HAND);
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        if self.mode == Mode::Running && child.leftovers.len() < child.policy.overlap_max {
            child.leftovers.push(child.incarnation);
            self.start_by_hand(id, out);
        }
    }

    fn change_fate(&mut self, id: ChildId, fate: Fate) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        let since = child.since;
        match child.phase {
            Phase::Stopping {
                asked,
                deadline,
                cause,
                ..
            } => self.put(
                id,
                Phase::Stopping {
                    asked,
                    deadline,
                    cause,
                    fate,
                },
            ),
            Phase::Abandoned { .. } => self.put(id, Phase::Abandoned { fate }),
            // Nothing is decided for their end.
            Phase::Waiting { .. }
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
        let ids: Vec<ChildId> = self.children.keys().copied().collect();
        for id in ids {
            let Some(child) = self.children.get_mut(&id) else {
                continue;
            };
            child.leftovers.clear();
            child.limiter.iter_mut().for_each(super::Limiter::reset);
            child.reset_backoff();
            let never = child.policy.restart == super::Restart::Never && child.incarnation > 0;
            match child.phase {
                Phase::Resting(Rest::Stopped { by_hand: true } | Rest::Done { told: true }) => {}
                Phase::Discarding { .. } => {}
                Phase::Abandoned { fate: Fate::Remove } => self.discard(id, out),
                Phase::Resting(
                    Rest::Stopped { by_hand: false } | Rest::Done { told: false } | Rest::GivenUp,
                )
                | Phase::Abandoned { .. }
                | Phase::Waiting { .. }
                | Phase::Backoff { .. }
                | Phase::Queued { .. }
                | Phase::Held
                | Phase::Running(_)
                | Phase::Stopping { .. } => {
                    if never {
                        self.discard(id, out);
                    } else {
                        self.put(id, Phase::Waiting { parked: false });
                    }
                }
            }
        }
        self.held.clear();
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
        let ids: Vec<ChildId> = self.children.keys().copied().collect();
        for id in ids {
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
