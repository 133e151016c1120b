//! The end of a run: what came of it, and putting everything away.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::core::Ended;
use super::inbox::Other;
use super::panic::{self, Caught};
use super::request::Ticket;
use super::run::{Run, RunEnded};
use super::stop::Job as StopJob;
use crate::error::{Error, ErrorKind};
use crate::event::{EventKind, StopCause};
use crate::id::ChildId;
use crate::link::clock::{self, Clock};
use crate::link::fact::{Fact, Straggler};
use crate::link::hub::Emitter;
use crate::link::life::Stop;
use crate::machine::message::Verdict;
use crate::machine::policy::DEFAULT_STOP_TIMEOUT;
use crate::report::{State, StopReport, Unstopped};

/// How many failures [`SupervisorBuilder::rank_failures`](crate::SupervisorBuilder::rank_failures) chooses from at the
/// most, besides the first.
pub const RANKED_MAX: usize = 64;

/// How long that may take.
pub const RANK_TIME_MAX: Duration = Duration::from_secs(1);

impl Run {
    /// Whether nothing of this supervisor is needed again.
    pub(super) fn is_final(&self) -> bool {
        match &self.above {
            None => true,
            Some(_) if self.one_run => true,
            Some(context) => context
                .incarnation
                .life
                .stop_terms()
                .is_some_and(|(_, discard)| discard),
        }
    }

    /// Another failure that would have ended it: one of those that `rank_failures` chooses from.
    pub(super) fn note_candidate(&mut self, id: ChildId) {
        if self.core.settings.rank_failures.is_none() || self.candidates.len() >= RANKED_MAX {
            return;
        }
        let slot = self.engine.slots.get(&id);
        if let (Some(failure), Some(_)) = (slot.and_then(|s| s.last_failure.clone()), &self.blamed)
        {
            self.candidates.push(failure);
        }
    }

    /// Has the failures ranked that would each have ended it, if the user wants to say.
    pub(super) fn choose_failure(&mut self) {
        let Some(rank) = self.core.settings.rank_failures.clone() else {
            return;
        };
        let Some((_, Some(first))) = &self.blamed else {
            return;
        };
        if self.candidates.is_empty() {
            return;
        }
        let mut failures = vec![first.clone()];
        failures.extend(self.candidates.iter().cloned());
        let (done, chosen) = bounded(1);
        self.tree.stop_threads.push(StopJob::Rank {
            failures,
            rank,
            of: self.as_owner(),
            done,
        });
        let chosen = self.wait_for_other(&chosen, RANK_TIME_MAX).flatten();
        // The others, and the first, may hold the last reference to a user's error.
        let mut failures = std::mem::take(&mut self.candidates);
        if let (Some(index), Some((_, blamed))) = (chosen, &mut self.blamed) {
            if let Some(place) = index.checked_sub(1).and_then(|i| failures.get_mut(i)) {
                if let Some(first) = blamed {
                    std::mem::swap(first, place);
                }
            }
        }
        self.forgotten.failures.append(&mut failures);
    }

    /// Has the root of a tree write to the log why it begins to end. A record and no event: those who
    /// follow events have the cause from each service that is stopped.
    pub(super) fn log_end(&self, cause: StopCause) {
        if self.above.is_none() {
            let log_only = Emitter {
                hubs: Arc::new([]),
                post: self.tree.post.clone(),
            };
            log_only.emit(&self.path, 0, EventKind::Stopping { cause });
        }
    }

    /// Why it ends by itself.
    pub(super) fn cause_of_end(&self, id: ChildId, verdict: Verdict) -> StopCause {
        let path = self.path_of(id);
        match verdict {
            Verdict::Stopped => self.stop_cause.clone(),
            Verdict::AutoShutdown | Verdict::SignificantFailed => StopCause::AutoShutdown { path },
            Verdict::LimitExceeded => StopCause::Limit,
            Verdict::Terminated | Verdict::Escalated => StopCause::Terminated { path },
        }
    }

    pub(super) fn result(&self) -> Result<(), Error> {
        let Some((verdict, failure)) = &self.blamed else {
            return Ok(());
        };
        let path = &self.path;
        let text = match verdict {
            Verdict::Stopped | Verdict::AutoShutdown => return Ok(()),
            Verdict::SignificantFailed => format!("{path} ended with a significant service"),
            Verdict::LimitExceeded => format!(
                "{path} failed, {} exceeded",
                self.core.settings.config.limit
            ),
            Verdict::Terminated => format!("{path} was terminated"),
            Verdict::Escalated => format!("{path} failed with a panic"),
        };
        Err(match failure {
            Some(failure) => Error::failed(format!("{text}: {failure}"), failure.clone()),
            None => Error::new(ErrorKind::Failed, text),
        })
    }

    /// A bug of ours: loud, and the end of the tree as a failure. Whoever runs is asked to stop and
    /// not waited for.
    pub(super) fn break_off(&mut self, bug: &Caught) -> Error {
        let text = format!(
            "{}: the supervisor itself panicked, which is a bug in backstay: {}{}",
            self.path,
            bug.message,
            bug.location
                .as_ref()
                .map(|l| format!(" at {l}"))
                .unwrap_or_default()
        );
        drop(panic::guarded(|| log::error!(target: &self.path, "{text}")));
        self.line.licences.store(false, Ordering::Release);
        for slot in self.engine.slots.values() {
            let Some(body) = &slot.body else {
                continue;
            };
            let stop = Stop {
                cause: StopCause::Limit,
                deadline: None,
                discard: None,
            };
            if let Ok((incarnation, handout)) = slot.ask(stop, body.has_interrupt) {
                self.hand_out(&incarnation, &Arc::downgrade(body), handout);
            }
        }
        Error::new(ErrorKind::Failed, text)
    }

    /// Puts everything away and tells who waits.
    pub(super) fn end(mut self, result: Result<(), Error>) -> RunEnded {
        let terminated = matches!(self.blamed, Some((Verdict::Terminated, _)));
        let is_final = self.is_final();
        // Late ends that came with the last one.
        let late: Vec<Fact> = self.inbox.drain().collect();
        self.unless_broken(|run| late.into_iter().for_each(|fact| run.deal_with(fact)));
        self.unless_broken(|run| run.put_slots_away(is_final));
        let mut stragglers: Vec<Straggler> = std::mem::take(&mut self.left_behind)
            .into_iter()
            .map(|(_, _, straggler)| straggler)
            .collect();
        // Those who were below one of its services may have ended without its having heard of it. The fence
        // says when the next run may begin.
        let there = stragglers.iter().filter(|s| s.is_there());
        let unstopped: Vec<Unstopped> = there.map(|s| s.unstopped.clone()).collect();
        if let (Some(context), false) = (&self.above, stragglers.is_empty()) {
            let mut below = context.incarnation.below.lock();
            below.nested_mut().stragglers.append(&mut stragglers);
            drop(below);
            if let Some(fence) = &self.fence {
                fence.await_clearing();
            }
        }
        let abandoned = unstopped.len();
        let report = StopReport {
            unstopped,
            only_requested: false,
        };
        let state = if result.is_ok() {
            State::Stopped
        } else {
            State::GivenUp
        };
        self.core.board.set_state(state, 0);
        self.emitter
            .emit(&self.path, 0, EventKind::Ended { abandoned });
        if is_final {
            self.core.hub.close();
        }
        if self.above.is_none() {
            self.tree.post.close();
        }
        self.engine.emitter = Some(self.emitter);
        let engine = (!is_final).then_some(self.engine);
        let ended = Ended {
            result: result.clone(),
            report,
        };
        if self.core.finish(engine, ended) {
            self.tree.stop_threads.push(StopJob::Hear {
                core: self.core.clone(),
                fence: self.fence.clone(),
            });
        }
        self.core.pulse();
        // Only now the inbox goes: a call that comes until then finds the desk's new stage.
        drop(self.inbox);
        RunEnded { result, terminated }
    }

    /// Whatever else happens, the end must be told. A bug of ours is only said aloud here.
    fn unless_broken(&mut self, f: impl FnOnce(&mut Run)) {
        if let Err(bug) = panic::catch(false, || f(self)) {
            let text = format!("{}: a bug in backstay: {}", self.path, bug.message);
            drop(panic::guarded(|| log::error!(target: "backstay", "{text}")));
        }
    }

    fn put_slots_away(&mut self, is_final: bool) {
        let mut remains = std::mem::take(&mut self.forgotten);
        for slot in self.engine.slots.values_mut() {
            slot.incarnation = None;
            slot.seat = None;
            slot.leave_entry(&self.core.board);
            if is_final {
                remains.bodies.extend(slot.body.take());
                remains.failures.append(&mut slot.trash);
                slot.cell.update(|data| data.orphaned = true);
            }
        }
        if let Some(buried) = self.bury(remains) {
            self.wait_for_burial(&buried);
        }
        // Only now: who has ended meanwhile was told of.
        for slot in self.engine.slots.values_mut() {
            slot.home = None;
        }
    }

    /// That long from now, but not beyond a deadline of the stop.
    fn patience(&self, time: Duration) -> Option<Instant> {
        // Taken note of before it is looked at: the next one sends a wake-up again.
        drop(self.core.changed_levels());
        let above = self.above.as_ref().and_then(|context| {
            let (deadline, _) = context.incarnation.life.stop_terms()?;
            deadline
        });
        let own = self.tree.clock.instant(self.engine.machine.stop_deadline());
        [Clock::deadline(time), self.core.stop_deadline(), above, own]
            .into_iter()
            .flatten()
            .min()
    }

    /// For `stop` to mean that the values are gone. A `Drop` that blocks is not waited for longer
    /// than a service would be, nor beyond a deadline that was set for the stop.
    fn wait_for_burial(&mut self, buried: &Receiver<()>) {
        self.wait_for_other(buried, DEFAULT_STOP_TIMEOUT);
    }

    /// Waits for something else at the end of the run. `None`: not in that time, or not before a
    /// deadline of the stop.
    fn wait_for_other<T>(&mut self, other: &Receiver<T>, time_max: Duration) -> Option<T> {
        let begun = clock::now();
        loop {
            let waited = clock::now().saturating_duration_since(begun);
            let until = self.patience(time_max.saturating_sub(waited));
            match self.inbox.wait_for(other, until)? {
                Other::Answer(answer) => return Some(answer),
                Other::Fact(fact) => self.deal_with(fact),
                Other::Command(ticket) => self.refuse(ticket),
            }
        }
    }

    /// What is refused because the end has begun.
    pub(super) fn stopping(&self) -> Error {
        let text = format!("{}: the supervisor is stopping", self.path);
        Error::new(ErrorKind::Stopping, text)
    }

    /// Who asks may be what is waited for: a `Drop`. So it is told that it comes too late, and has its
    /// values back.
    fn refuse(&self, ticket: Ticket) {
        let Some(ask) = ticket.take() else { return };
        match self.check(&ask) {
            Err(e) => ticket.answer(Err(e), Some(ask)),
            Ok(Some(done)) => ticket.answer(Ok(done), Some(ask)),
            Ok(None) => ticket.answer(Err(self.stopping()), Some(ask)),
        }
    }
}
