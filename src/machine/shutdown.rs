//! The end of a whole supervisor: in reverse order of adding, each asked when the one after it has
//! ended, or all at once; each with its own deadline, none beyond the supervisor's.

use std::collections::HashMap;

use super::child::{Fate, Phase, Rest};
use super::graph::Rank;
use super::message::{Cause, Command, Verdict};
use super::policy::StopOrder;
use super::{Machine, Moment};
use crate::id::ChildId;

/// What the supervisor itself is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// Not started, and nothing starts.
    Idle,
    Running,
    Stopping(Shutdown),
    /// Everything has ended or was abandoned. A supervisor that is a service may run again.
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shutdown {
    pub(super) cause: Cause,
    /// Who hasn't been asked by then is asked then; who still runs is abandoned.
    pub(super) hard: Moment,
    /// Everybody from here on has ended or was abandoned.
    pub(super) cursor: Option<Rank>,
}

impl Mode {
    pub(super) fn hard_deadline(&self) -> Moment {
        match self {
            Mode::Stopping(shutdown) => shutdown.hard,
            Mode::Idle | Mode::Running | Mode::Ended => Moment::NEVER,
        }
    }
}

impl Machine {
    pub(super) fn shutdown_requested(&mut self, deadline: Moment, out: &mut Vec<Command>) {
        match self.mode {
            Mode::Idle => self.mode = Mode::Ended,
            Mode::Running => {
                self.begin_shutdown(Verdict::Stopped, Cause::Shutdown, None, deadline, out)
            }
            Mode::Stopping(shutdown) if deadline < shutdown.hard => self.hurry(deadline, out),
            Mode::Stopping(_) | Mode::Ended => {}
        }
    }

    /// A stop wins every race: pauses, delays and planned restarts are over here.
    pub(super) fn begin_shutdown(
        &mut self,
        verdict: Verdict,
        cause: Cause,
        blamed: Option<ChildId>,
        deadline: Moment,
        out: &mut Vec<Command>,
    ) {
        if self.mode != Mode::Running {
            return;
        }
        if let Some(id) = blamed {
            out.push(Command::Blame { id, verdict });
        }
        let own = self.config.stop_timeout;
        let hard = own
            .map_or(Moment::NEVER, |t| self.now.plus(t))
            .min(deadline);
        self.stop_by = hard;
        self.mode = Mode::Stopping(Shutdown {
            cause,
            hard,
            cursor: None,
        });
        self.paused_until = None;
        self.held.clear();
        self.waves.clear();
        self.moved_waves.clear();
        self.graph.settle();
        for child in self.children.values_mut() {
            child.wave = None;
        }
        if self.config.stop_order == StopOrder::Parallel {
            self.count_stop_users();
        }
        let ranks: Vec<Rank> = self.order.iter().rev().copied().collect();
        for Rank { id, .. } in ranks {
            let Some(child) = self.children.get(&id) else {
                continue;
            };
            match child.phase {
                Phase::Waiting { .. }
                | Phase::Blocked
                | Phase::Backoff { .. }
                | Phase::Queued { .. }
                | Phase::Held => {
                    self.put(id, Phase::Resting(Rest::Stopped { by_hand: false }));
                }
                Phase::Running(_) | Phase::Doomed { .. } => {
                    let at_once = self.config.stop_order == StopOrder::Parallel;
                    if at_once && !self.stop_users.contains_key(&id) {
                        self.ask_to_end(id, cause, out);
                    }
                }
                Phase::Stopping { .. } | Phase::Abandoned { .. } | Phase::Discarding { .. } => {
                    self.no_more_start(id, cause);
                    self.cap_deadline(id, hard, out);
                }
                Phase::Resting(_) => {}
            }
        }
    }

    /// Asks for the end of everything, which changes nothing for who goes anyway.
    fn ask_to_end(&mut self, id: ChildId, cause: Cause, out: &mut Vec<Command>) {
        match self.children.get(&id).map(|c| c.phase) {
            Some(Phase::Running(_)) => self.ask(id, cause, Fate::STOPPED, out),
            Some(Phase::Doomed { fate, .. }) => self.ask(id, cause, fate.at_shutdown(), out),
            // It has been asked, or there is nothing to ask.
            Some(
                Phase::Waiting { .. }
                | Phase::Blocked
                | Phase::Backoff { .. }
                | Phase::Queued { .. }
                | Phase::Held
                | Phase::Resting(_)
                | Phase::Stopping { .. }
                | Phase::Abandoned { .. }
                | Phase::Discarding { .. },
            )
            | None => {}
        }
    }

    /// Also where all are asked at once, whoever is used comes after its users.
    fn count_stop_users(&mut self) {
        self.stop_users.clear();
        self.freed.clear();
        if self.graph.is_empty() {
            return;
        }
        let mut users = HashMap::new();
        for (&id, child) in &self.children {
            if child.phase.is_running() {
                for provider in self.providers_of(id) {
                    *users.entry(provider).or_insert(0) += 1;
                }
            }
        }
        self.stop_users = users;
    }

    /// One of the users has ended.
    pub(super) fn free_in_shutdown(&mut self, id: ChildId) {
        if self.stop_users.is_empty() {
            return;
        }
        let providers: Vec<ChildId> = self.providers_of(id).collect();
        for provider in providers {
            if let Some(users) = self.stop_users.get_mut(&provider) {
                *users -= 1;
                if *users == 0 {
                    self.stop_users.remove(&provider);
                    self.freed.push(provider);
                }
            }
        }
    }

    /// Less time than was thought.
    fn hurry(&mut self, deadline: Moment, out: &mut Vec<Command>) {
        if let Mode::Stopping(shutdown) = &mut self.mode {
            shutdown.hard = deadline;
            self.stop_by = deadline;
        }
        let ranks: Vec<Rank> = self.order.iter().rev().copied().collect();
        for Rank { id, .. } in ranks {
            self.cap_deadline(id, deadline, out);
        }
    }

    /// Whoever was asked for another reason is asked for this one now.
    fn no_more_start(&mut self, id: ChildId, cause: Cause) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        match child.phase {
            Phase::Stopping { fate, .. } | Phase::Abandoned { fate } => {
                self.change_fate(id, fate.at_shutdown(), cause);
            }
            // Nothing is planned for their end, or they have not been asked.
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Doomed { .. }
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Running(_)
            | Phase::Discarding { .. } => {}
        }
    }

    fn cap_deadline(&mut self, id: ChildId, hard: Moment, out: &mut Vec<Command>) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        let (since, incarnation, mut phase) = (child.since, child.incarnation, child.phase);
        let told = Command::Hasten {
            id,
            incarnation,
            deadline: hard,
        };
        let is_supervisor = child.policy.stop_timeout.is_none();
        match &mut phase {
            Phase::Stopping { deadline, .. } if !is_supervisor => {
                let (timer, supervising) = (child.stop_timer(hard), child.supervising);
                if timer < *deadline {
                    *deadline = timer;
                    // What runs below it is told, and says who hangs there.
                    out.extend(supervising.then_some(told));
                }
            }
            Phase::Discarding {
                deadline,
                abandoned: false,
                ..
            } => *deadline = hard.min(*deadline),
            // It has no timer here; it is told.
            Phase::Stopping { .. } if hard != Moment::NEVER => out.push(told),
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Running(_)
            | Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Abandoned { .. }
            | Phase::Discarding { .. } => return,
        }
        self.put(id, phase);
        if let Some(child) = self.children.get_mut(&id) {
            child.since = since;
        }
    }

    /// Asks the next one, if it is its turn, and notices when nobody is left.
    pub(super) fn advance_shutdown(&mut self, out: &mut Vec<Command>) {
        let Mode::Stopping(mut shutdown) = self.mode else {
            return;
        };
        while let Some(id) = self.freed.pop() {
            self.ask_to_end(id, shutdown.cause, out);
            self.pass_time(out);
        }
        while self.counts.alive > 0 {
            let before = match shutdown.cursor {
                Some(cursor) => self.order.range(..cursor).next_back(),
                None => self.order.last(),
            };
            let Some(&rank) = before else { break };
            let id = rank.id;
            let Some(child) = self.children.get(&id) else {
                break;
            };
            match child.phase {
                Phase::Running(_) | Phase::Doomed { .. } => {
                    self.mode = Mode::Stopping(shutdown);
                    self.ask_to_end(id, shutdown.cause, out);
                    // A deadline of now has passed already.
                    self.pass_time(out);
                }
                Phase::Stopping { .. }
                | Phase::Discarding {
                    abandoned: false, ..
                } => break,
                Phase::Waiting { .. }
                | Phase::Blocked
                | Phase::Backoff { .. }
                | Phase::Queued { .. }
                | Phase::Held
                | Phase::Resting(_)
                | Phase::Abandoned { .. }
                | Phase::Discarding {
                    abandoned: true, ..
                } => shutdown.cursor = Some(rank),
            }
        }
        self.mode = Mode::Stopping(shutdown);
        if self.counts.alive == 0 {
            self.mode = Mode::Ended;
            self.stop_users.clear();
            self.freed.clear();
            out.push(Command::Finish);
        }
    }
}
