//! What a step has changed, for everybody to see: before anything is answered or started.

use std::time::Duration;

use super::run::Run;
use crate::event::Next;
use crate::failure::{Failure, FailureKind, FailureParts};
use crate::id::ChildId;
use crate::machine::message::{Command, Note};
use crate::report::State;

impl Run {
    /// Notes the failures that are about to be announced, before anything is published; and makes
    /// those that only the machine knows of: a return that was not wanted, a set-up that took too
    /// long.
    pub(super) fn note_failures(&mut self) {
        for command in &self.out {
            let Command::Announce {
                id,
                incarnation,
                note: Note::Failed { kind, next, .. },
            } = command
            else {
                continue;
            };
            let Some(slot) = self.engine.slots.get_mut(id) else {
                continue;
            };
            let message = match kind {
                FailureKind::Returned => Some(FailureKind::RETURNED),
                FailureKind::ReadyTimeout => Some(FailureKind::READY_TIMEOUT),
                // Told by the thread, or by who could not start one.
                FailureKind::Error | FailureKind::Panic | FailureKind::Spawn => None,
            };
            if let (Some(message), Some(home)) = (message, &slot.home) {
                let run_time = match &self.current {
                    Some(current) if current.child == *id => current.run_time,
                    Some(_) | None => Duration::ZERO,
                };
                let failure = Failure::new(FailureParts {
                    path: home.path.clone(),
                    incarnation: *incarnation,
                    kind: *kind,
                    message: message.into(),
                    location: None,
                    thread_name: Some(home.thread_name.clone()),
                    run_time,
                    error: None,
                    quiet: home.quiet,
                    mapped_from: None,
                    trace: None,
                });
                slot.set_failure(failure);
            }
            if *next == Next::Stays {
                slot.ended_by.clone_from(&slot.last_failure);
            }
        }
    }

    /// After the services' own entries, and before it is published that nobody is missing any more:
    /// who waits for readiness must find these first.
    fn note_early_ends(&self) {
        for command in &self.out {
            if let Command::EndedEarly { id } = command {
                self.remember_early_end(*id);
            }
        }
    }

    /// What is abandoned provides nothing any more: not even for who reads that it is, at once.
    fn withdraw_values(&self) {
        for command in &self.out {
            let Command::Abandon { id, .. } = command else {
                continue;
            };
            let slot = self.engine.slots.get(id);
            if let Some(trade) = slot.and_then(|slot| slot.cell.trade.as_ref()) {
                trade.drop_shelf();
            }
        }
    }

    pub(super) fn publish(&mut self) {
        self.withdraw_values();
        // Something that `wait_ready` looks at, besides what the board says of the whole.
        let mut look_again = false;
        let clock = self.tree.clock;
        let instant = |moment| clock.instant(moment);
        // A service that changed twice is published twice: that is rare and harmless.
        let machine = &mut self.engine.machine;
        let changed: Vec<ChildId> = machine.take_changed().collect();
        for id in changed {
            let (Some(slot), Some(view)) =
                (self.engine.slots.get_mut(&id), self.engine.machine.view(id))
            else {
                continue;
            };
            // Whether what is below a service counts depends on the service.
            look_again |=
                slot.supervises.is_some() || slot.is_supervisor || slot.cell.trade.is_some();
            let needs_thread = slot.needs_thread();
            let (was_entering, is_entering) = slot.cell.update(|data| {
                let was_entering = data.entering;
                if data.is_ahead_of(&view) {
                    // That it runs is nothing new.
                    return (was_entering, was_entering);
                }
                data.set_state(&view, needs_thread);
                if let Some(since) = instant(view.since) {
                    data.since = since;
                }
                data.next_start = view.next_start.and_then(instant);
                data.starts = view.starts;
                data.failures = view.failures;
                data.panics = view.panics;
                data.stop_timeouts = view.stop_timeouts;
                data.waiting_for = view.waiting_for;
                // Never the last reference: the slot, or its trash, has the old one.
                data.last_failure.clone_from(&slot.last_failure);
                (was_entering, data.entering)
            });
            slot.tells_entry = is_entering;
            let board = &self.core.board;
            look_again |= board.count_entering(was_entering, is_entering);
        }
        self.note_early_ends();
        if !self.has_started {
            return;
        }
        let machine = &self.engine.machine;
        let state = if machine.is_paused() {
            State::Paused
        } else if machine.is_running() {
            State::Running
        } else {
            State::Stopping
        };
        let news = self.core.board.set_state(state, machine.missing()) || look_again;
        if news && self.has_begun {
            self.core.pulse();
        } else if news {
            // Those above are told when it has begun.
            self.core.board.pulse();
        }
    }
}
