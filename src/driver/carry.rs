//! Carrying out the machine's commands, in their order. Nothing here blocks.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::body::Body;
use super::engine::Remains;
use super::mark;
use super::run::{Current, FORGOTTEN_MAX, Run};
use super::stop::{Job as StopJob, say_late};
use super::thread::Order;
use super::view::reason;
use crate::context::Incarnation;
use crate::event::{EventKind, StopCause};
use crate::failure::Failure;
use crate::id::ChildId;
use crate::link::fact::{HookKind, HookTicket, Straggler};
use crate::link::life::{Handout, Stop};
use crate::machine::message::{Cause, Command, Note};
use crate::machine::time::Moment;
use crate::report::Unstopped;

/// For how many commands the memory is kept from one step to the next.
const COMMANDS_KEPT_MAX: usize = 64;

impl Run {
    pub(super) fn carry_out(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for command in out.drain(..) {
            self.do_command(command);
        }
        // Keeps its memory, but not that of a step for many services.
        out.shrink_to(COMMANDS_KEPT_MAX);
        self.out = out;
    }

    fn do_command(&mut self, command: Command) {
        match command {
            Command::Start { id, incarnation } => self.start(id, incarnation),
            Command::Stop {
                id,
                incarnation,
                cause,
                deadline,
                discard,
            } => self.stop(id, incarnation, cause, deadline, discard),
            Command::Hasten {
                id,
                incarnation,
                deadline,
            } => self.hasten(id, incarnation, deadline),
            Command::Abandon {
                id,
                incarnation,
                waited,
            } => self.abandon(id, incarnation, waited),
            Command::Release { id } => self.release(id),
            Command::Discard { id } => self.discard(id),
            Command::Forget { id } => self.forget(id),
            Command::Announce {
                id,
                incarnation,
                note,
            } => self.announce(id, incarnation, note),
            Command::AnnouncePause(time) => {
                self.emitter.emit(&self.path, 0, EventKind::Paused { time })
            }
            Command::AnnounceResume => self.emitter.emit(&self.path, 0, EventKind::Resumed),
            // Noted before it was published.
            Command::EndedEarly { .. } => {}
            Command::Blame { id, verdict } => {
                self.log_end(self.cause_of_end(id, verdict));
                let mourned = self.mourned.take_if(|(mourned, _)| *mourned == id);
                let failure = match mourned {
                    Some((_, failure)) => Some(failure),
                    None => self.last_failure_of(id),
                };
                self.blamed = Some((verdict, failure));
            }
            Command::Mourn { id } => {
                let failure = self.last_failure_of(id);
                let old = std::mem::replace(&mut self.mourned, failure.map(|f| (id, f)));
                self.forgotten
                    .failures
                    .extend(old.map(|(_, failure)| failure));
            }
            Command::Candidate { id } => self.note_candidate(id),
            Command::Abort { id } => self.abort(id),
            Command::Finish => self.finished = true,
        }
    }

    fn last_failure_of(&self, id: ChildId) -> Option<Failure> {
        self.engine.slots.get(&id)?.last_failure.clone()
    }

    fn stop(&mut self, id: ChildId, number: u64, cause: Cause, deadline: Moment, discard: bool) {
        let cause = self.cause(id, cause);
        // At the end of a tree nothing is needed again. Before that its services may start again.
        let discard = discard || (!self.engine.machine.is_running() && self.is_final());
        let clock = self.tree.clock;
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        debug_assert!(slot.incarnation.as_ref().is_none_or(|i| i.number <= number));
        let Some(body) = &slot.body else {
            return;
        };
        let deadline = match clock.instant(deadline) {
            Some(at) => Some(body.cap(at)),
            None => body.own_deadline(),
        };
        let has_interrupt = body.has_interrupt;
        // Not a reference that counts: the service's thread may have dropped its own by the time
        // `ask` returns, and ours would be the last.
        let body = Arc::downgrade(body);
        let values = if discard { slot.body.take() } else { None };
        let stop = Stop {
            cause,
            deadline,
            discard: values.map(|body| body as _),
        };
        match slot.ask(stop, has_interrupt) {
            Ok((incarnation, handout)) => self.hand_out(&incarnation, &body, handout),
            // Its end is on the way; the values stay here.
            Err(too_late) => {
                let values = too_late.discard.and_then(|v| v.downcast::<Body>().ok());
                if values.is_some() {
                    slot.body = values;
                }
            }
        }
    }

    /// Gives the hooks of an incarnation to stop threads.
    pub(super) fn hand_out(
        &self,
        incarnation: &Arc<Incarnation>,
        body: &Weak<Body>,
        handout: Handout,
    ) {
        let interrupt = handout.interrupt.then_some(HookKind::Interrupt);
        let hooks = handout.hooks.into_iter().map(HookKind::OnStop);
        for what in interrupt.into_iter().chain(hooks) {
            let body = match what {
                // Still there: the thread waits for its hooks before it drops anything.
                HookKind::Interrupt => body.upgrade(),
                HookKind::OnStop(_) => None,
            };
            self.tree.stop_threads.push(StopJob::Hook {
                ticket: HookTicket {
                    incarnation: incarnation.clone(),
                    what,
                    waits: false,
                },
                body,
                fence: self.fence.clone(),
            });
        }
    }

    fn hasten(&mut self, id: ChildId, number: u64, deadline: Moment) {
        let deadline = self.tree.clock.instant(deadline);
        let Some(slot) = self.engine.slots.get(&id) else {
            return;
        };
        let Some((last, _)) = slot.end_licence() else {
            return;
        };
        debug_assert!(slot.incarnation.as_ref().is_none_or(|i| i.number <= number));
        let cause = last.life.stop_cause().unwrap_or(StopCause::Ordered);
        let stop = Stop {
            cause,
            deadline,
            discard: None,
        };
        // Asked already, so nothing is handed out; too late is fine.
        drop(slot.ask(stop, false));
    }

    /// Lets go of a thread that doesn't end. It is fenced by its incarnation; when it ends after
    /// all, it tells so, finds its channel closed and exits.
    fn abandon(&mut self, id: ChildId, number: u64, waited: Duration) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        slot.seat = None;
        let last = slot.end_licence();
        slot.incarnation = None;
        // The machine may have heard of the last one since.
        let number = last.as_ref().map_or(number, |(_, last)| *last);
        self.tree.stop_threads.leave_behind(slot.cell.id, number);
        let Some(home) = &slot.home else { return };
        let last = last.map(|(last, _)| last);
        if last.as_ref().is_some_and(|i| i.life.has_late_hook()) {
            say_late(home, number);
        }
        let unstopped = Unstopped {
            path: home.path.clone(),
            incarnation: number,
            thread_name: home.thread_name.clone(),
            waited,
        };
        let told = last.map(|i| i.told.get_or_init(Arc::default).clone());
        let straggler = Straggler { unstopped, told };
        self.left_behind.push((id, number, straggler));
    }

    fn release(&mut self, id: ChildId) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        if let (Some(seat), Some(home)) = (slot.seat.take(), slot.home.clone()) {
            let trash = std::mem::take(&mut slot.trash);
            if let Err(Order::Leave { trash, .. }) = seat.order(Order::Leave { trash, home }) {
                slot.trash = trash;
            }
        }
    }

    /// Has a service's values dropped where they may block and panic.
    fn discard(&mut self, id: ChildId) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        let Some(home) = slot.home.clone() else {
            return;
        };
        let body = slot.body.take();
        let trash = std::mem::take(&mut slot.trash);
        let order = Order::Discard { body, trash, home };
        let refused = match slot.seat.take() {
            Some(seat) => seat.order(order).err(),
            None => Some(order),
        };
        if let Some(Order::Discard { body, trash, home }) = refused {
            self.tree.stop_threads.push(StopJob::Discard {
                body,
                trash,
                home,
                fence: self.fence.clone(),
            });
        }
    }

    fn forget(&mut self, id: ChildId) {
        let slot = self.engine.slots.get(&id);
        let has_keys = slot.is_some_and(|slot| slot.cell.trade.is_some());
        let remains = self.engine.forget(&self.core.board, id);
        self.left_behind.retain(|(c, _, _)| *c != id);
        let had_services = !remains.supervisors.is_empty();
        self.set_aside(remains);
        if had_services || has_keys {
            // Somebody may have been waiting for something below it, or for a value of it.
            self.core.pulse();
        }
    }

    /// Keeps what may not be dropped here until it is worth a thread.
    pub(super) fn set_aside(&mut self, mut remains: Remains) {
        // Without an error in it there is nothing of the user's in a failure.
        remains.failures.retain(|failure| failure.error().is_some());
        // A whole tree is worth it at once, and so is a value: it may be a connection.
        let now = !remains.supervisors.is_empty() || !remains.values.is_empty();
        self.forgotten.append(remains);
        if now || self.forgotten.len() >= FORGOTTEN_MAX {
            let remains = std::mem::take(&mut self.forgotten);
            self.bury(remains);
        }
    }

    /// Drops user values on a stop thread, which answers when it has.
    pub(super) fn bury(&self, remains: Remains) -> Option<Receiver<()>> {
        if remains.len() == 0 {
            return None;
        }
        let (done, buried) = bounded(1);
        self.tree.stop_threads.push(StopJob::Bury {
            remains,
            of: self.as_owner(),
            done,
        });
        Some(buried)
    }

    /// For what is done for it on another thread.
    pub(super) fn as_owner(&self) -> Arc<mark::Supervisor> {
        Arc::new(mark::Supervisor {
            core: self.core.clone(),
            path: self.path.clone(),
            emitter: self.emitter.clone(),
            quiet: self.quiet,
        })
    }

    pub(super) fn remember_early_end(&self, id: ChildId) {
        let Some(slot) = self.engine.slots.get(&id) else {
            return;
        };
        let Some(home) = &slot.home else { return };
        let why = match &self.current {
            Some(Current {
                child,
                failure: Some(failure),
                ..
            }) if *child == id => Arc::from(failure.message()),
            Some(_) | None => Arc::from("it ended before it was ready"),
        };
        self.core.board.add_early_end(home.path.clone(), why);
        self.core.pulse_early_end();
    }

    fn abort(&self, id: ChildId) {
        let failure = self
            .engine
            .slots
            .get(&id)
            .and_then(|s| s.last_failure.as_ref());
        match failure {
            Some(failure) => eprintln!("{failure}; the panic policy aborts the process"),
            None => eprintln!("{}: the panic policy aborts the process", self.path),
        }
        std::process::abort();
    }

    pub(super) fn path_of(&self, id: ChildId) -> Arc<str> {
        match self.engine.slots.get(&id).and_then(|s| s.home.as_ref()) {
            Some(home) => home.path.clone(),
            // Others may still have to be stopped because of it.
            None => match self.core.board.removed_name(id) {
                Some(name) => Arc::from(format!("{}.{name}", self.path)),
                None => self.path.clone(),
            },
        }
    }

    fn cause(&self, id: ChildId, cause: Cause) -> StopCause {
        match cause {
            Cause::Ordered => StopCause::Ordered,
            Cause::Removed => StopCause::Removed,
            Cause::RestartWith(id) => StopCause::RestartWith {
                path: self.path_of(id),
            },
            Cause::ReadyTimeout => StopCause::ReadyTimeout,
            Cause::Input { key, provider } => StopCause::Input {
                key: Arc::from(key),
                path: self.path_of(provider),
            },
            Cause::Nested => StopCause::Nested {
                path: self.path_of(id),
            },
            Cause::Shutdown => self.stop_cause.clone(),
            Cause::Limit => StopCause::Limit,
            Cause::Terminated(id) => StopCause::Terminated {
                path: self.path_of(id),
            },
            Cause::AutoShutdown(id) => StopCause::AutoShutdown {
                path: self.path_of(id),
            },
        }
    }

    fn announce(&mut self, id: ChildId, incarnation: u64, note: Note) {
        let Some(slot) = self.engine.slots.get(&id) else {
            return;
        };
        let Some(home) = &slot.home else { return };
        let incarnation = match note {
            // Of one that has followed it, as it may be, which the machine has heard of since.
            Note::Stopping { .. } | Note::Abandoned { .. } => slot
                .end_licence()
                .map_or(incarnation, |(_, last)| last.max(incarnation)),
            _ => incarnation,
        };
        let kind = match note {
            Note::Added => EventKind::Added,
            // Told when it has a thread.
            Note::Started => return,
            Note::Ready => EventKind::Ready,
            Note::Done => EventKind::Done,
            Note::Removed => EventKind::Removed,
            Note::Failed {
                count, limit, next, ..
            } => match slot.last_failure.clone() {
                Some(failure) => EventKind::Failed {
                    failure,
                    count,
                    limit,
                    next,
                },
                None => return,
            },
            Note::Stopping { cause } => EventKind::Stopping {
                cause: self.cause(id, cause),
            },
            Note::Stopped => EventKind::Stopped {
                answer: match &self.current {
                    Some(current) if current.child == id && current.incarnation == incarnation => {
                        current.failure.clone()
                    }
                    Some(_) | None => None,
                },
            },
            Note::GivenUp => match slot.last_failure.clone() {
                Some(failure) => EventKind::GivenUp { failure },
                None => return,
            },
            Note::Abandoned { waited } => EventKind::Abandoned {
                thread: home.thread_name.clone(),
                waited,
            },
            Note::EndedLate => EventKind::EndedLate,
            Note::Waiting => EventKind::Waiting {
                reason: reason(&self.core, &self.path, &slot.cell, &slot.cell.read()),
            },
        };
        home.emit(incarnation, kind);
    }
}
