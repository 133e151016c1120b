//! What follows when an incarnation ends.

use super::child::{Fate, Lingering, Phase, Readiness, Rest};
use super::classify::{Asked, Directive, classify};
use super::message::{Cause, Command, End, Note, Outcome, Verdict};
use super::policy::{AutoShutdown, Counted, Exceeded, PanicPolicy};
use super::shutdown::Mode;
use super::{Machine, Moment};
use crate::event::Next;
use crate::failure::FailureKind;
use crate::id::ChildId;

impl Machine {
    pub(super) fn ended(
        &mut self,
        id: ChildId,
        incarnation: u64,
        end: End,
        out: &mut Vec<Command>,
    ) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        if child.incarnation != incarnation || child.leftovers.contains(&incarnation) {
            self.leftover_ended(id, incarnation, end.stragglers, out);
            return;
        }
        if child.lingering.is_some() {
            // Stale, like the phases without an incarnation below.
            return;
        }
        if let Outcome::NoThread | Outcome::NoInput = end.outcome {
            // It was decided, and came to nothing.
            child.starts = child.starts.saturating_sub(1);
        }
        match child.phase {
            Phase::Running(_) => self.ended_unasked(id, end, None, out),
            Phase::Doomed { fate, .. } => self.ended_unasked(id, end, Some(fate), out),
            Phase::Stopping {
                fate: Fate::Judge, ..
            } => self.ended_unasked(id, end, None, out),
            Phase::Stopping { cause, fate, .. } => {
                self.ended_as_asked(id, end, cause, fate, out);
            }
            Phase::Abandoned { fate: Fate::Judge } => {
                self.announce(id, Note::EndedLate, out);
                self.ended_unasked(id, end, None, out);
            }
            Phase::Abandoned { fate } if !end.stragglers => {
                self.announce(id, Note::EndedLate, out);
                self.settle_late(id, fate, end.discarded, out);
            }
            // It has ended itself, and leaves threads behind: `Cleared` comes.
            Phase::Abandoned { .. } => self.announce(id, Note::EndedLate, out),
            // Stale: an incarnation ends once.
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Discarding { .. } => {}
        }
    }

    /// An incarnation that others have overlapped, or will, has ended.
    fn leftover_ended(
        &mut self,
        id: ChildId,
        incarnation: u64,
        stragglers: bool,
        out: &mut Vec<Command>,
    ) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        if !child.leftovers.contains(&incarnation) {
            return;
        }
        out.push(Command::Announce {
            id,
            incarnation,
            note: Note::EndedLate,
        });
        // Else `Cleared` comes.
        if !stragglers {
            self.leftover_gone(id, incarnation, out);
        }
    }

    fn leftover_gone(&mut self, id: ChildId, incarnation: u64, out: &mut Vec<Command>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        child.leftovers.retain(|&l| l != incarnation);
        let was_last = child.leftovers.is_empty();
        match child.lingering.filter(|_| was_last) {
            None => self.overlap(id, out),
            Some(Lingering { discarded }) => {
                child.lingering = None;
                self.remove(id, discarded, out);
            }
        }
    }

    /// The threads that a supervisor left behind have ended.
    pub(super) fn cleared(&mut self, id: ChildId, incarnation: u64, out: &mut Vec<Command>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        if child.leftovers.contains(&incarnation) {
            self.leftover_gone(id, incarnation, out);
            return;
        }
        if child.incarnation != incarnation || child.lingering.is_some() {
            return;
        }
        match child.phase {
            Phase::Abandoned { fate } => self.settle_late(id, fate, false, out),
            // An overlap: the next incarnation's business.
            Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Running(_)
            | Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Discarding { .. } => {}
        }
    }

    pub(super) fn discarded(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        match child.phase {
            Phase::Discarding { abandoned, .. } => {
                if abandoned {
                    self.announce(id, Note::EndedLate, out);
                }
                self.put(id, Phase::Resting(Rest::Stopped { by_hand: true }));
                self.forget(id, out);
            }
            // Nobody asked for it.
            Phase::Abandoned { .. }
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Running(_)
            | Phase::Doomed { .. }
            | Phase::Stopping { .. } => {}
        }
    }

    fn ended_as_asked(
        &mut self,
        id: ChildId,
        end: End,
        cause: Cause,
        fate: Fate,
        out: &mut Vec<Command>,
    ) {
        self.announce(id, Note::Stopped, out);
        // Nothing of it runs any more; what follows decides where it rests.
        self.put(id, Phase::Held);
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let asked = match (fate, cause) {
            (Fate::Start { .. }, _) | (_, Cause::ReadyTimeout) => Asked::ForRestart,
            (Fate::Stay(_) | Fate::Judge | Fate::Park | Fate::Remove, _) => Asked::Final,
        };
        // If it was over when it was asked, that has been said then.
        let early = child.says_ready() && !child.ever_ready && fate.is_start();
        // Told to drop its values it can only go, whatever it answered.
        let goes = fate == Fate::Remove && end.discarded;
        let directive = classify(end.outcome, child.policy.restart, asked);
        // What is fatal is so as the answer to a stop for a restart, too.
        let directive = match (end.fatal, asked) {
            (true, Asked::ForRestart) => Directive::Terminate,
            (true, Asked::Final | Asked::No) | (false, _) => directive,
        };
        let fate = match directive {
            Directive::AsAsked | Directive::Bounce => fate,
            Directive::Done { told } => self.done(id, told),
            Directive::Park => Fate::Park,
            Directive::Uninstall | Directive::Leave(_) => Fate::Remove,
            Directive::Terminate => self.terminate(id, out),
            // Not in this table's rows for a stop.
            Directive::Restart(_) => fate,
        };
        let fate = if goes { Fate::Remove } else { fate };
        // One that waits for an input is not over.
        let over = !fate.may_start() && fate != Fate::Park;
        if early && over && self.mode == Mode::Running {
            out.push(Command::EndedEarly { id });
        }
        self.settle_or_wait(id, fate, end, out);
    }

    /// `planned`: what was to become of it, had it been asked.
    fn ended_unasked(
        &mut self,
        id: ChildId,
        end: End,
        planned: Option<Fate>,
        out: &mut Vec<Command>,
    ) {
        let child = self.children.get(&id);
        let in_wave =
            child.is_some_and(|c| c.wave.is_some() && matches!(c.phase, Phase::Running(_)));
        self.put(id, Phase::Held);
        let Some(child) = self.children.get(&id) else {
            return;
        };
        let directive = classify(end.outcome, child.policy.restart, Asked::No);
        let early = child.says_ready() && !child.ever_ready;
        let significant = child.policy.significant;
        let with_others = self.starts_with_others(id);
        // It was going to be stopped anyway.
        let foreseen = with_others || planned.is_some_and(|fate| fate != Fate::Judge);
        // While the supervisor stops, nobody starts again and nothing counts.
        let running = self.mode == Mode::Running;
        let (fate, over) = match directive {
            Directive::Restart(kind) | Directive::Leave(Some(kind)) if end.fatal => {
                self.count_failure(id, kind);
                self.announce_failed(id, kind, Next::Ends, out);
                (self.terminate(id, out), None)
            }
            Directive::Restart(kind) if running => self.failed(id, kind, foreseen, out),
            Directive::Restart(kind) => {
                self.count_failure(id, kind);
                self.announce_failed(id, kind, Next::Ends, out);
                (Fate::STOPPED, None)
            }
            // A restart of several that it takes part in brings it back.
            Directive::Done { told: false } if with_others => {
                self.announce(id, Note::Done, out);
                (Fate::START_WITH_OTHERS, None)
            }
            Directive::Done { told } => {
                let fate = self.done(id, told);
                self.announce(id, Note::Done, out);
                (fate, Some(Over::Well))
            }
            Directive::Leave(None) => {
                self.announce(id, Note::Done, out);
                (Fate::Remove, Some(Over::Well))
            }
            // What a panic means holds for who starts never again, too.
            Directive::Leave(Some(kind)) if running && self.panics_upwards(id, kind) => {
                self.failed(id, kind, foreseen, out)
            }
            Directive::Leave(Some(kind)) => {
                self.count_failure(id, kind);
                self.announce_failed(id, kind, Next::Stays, out);
                (Fate::Remove, Some(Over::Failed))
            }
            Directive::Uninstall => {
                self.announce(id, Note::Done, out);
                (Fate::Remove, Some(Over::Well))
            }
            Directive::Bounce => {
                self.announce(id, Note::Stopped, out);
                (self.bounced(id), None)
            }
            Directive::Park => {
                self.announce(id, Note::Stopped, out);
                (Fate::Park, None)
            }
            Directive::Terminate => {
                self.announce_failed(id, FailureKind::Error, Next::Ends, out);
                (self.terminate(id, out), None)
            }
            // Not in this table's rows for an unasked end.
            Directive::AsAsked => (Fate::STOPPED, None),
        };
        let (fate, over) = match planned {
            // Without its values it can only go.
            Some(_) if end.discarded => (Fate::Remove, None),
            // Ordered: what it has ended by changes nothing.
            Some(planned) if planned != Fate::Judge => (planned, None),
            Some(_) | None => (fate, over),
        };
        let fate = match self.mode {
            Mode::Running => fate,
            Mode::Idle | Mode::Stopping(_) | Mode::Ended => fate.at_shutdown(),
        };
        if early && over.is_some() {
            out.push(Command::EndedEarly { id });
        }
        // That restart was about to drop it, so nobody has to ask whether it ended just before it was
        // asked or just after: neither is an end of its own.
        let bystander = in_wave && matches!(directive, Directive::Leave(_));
        // Blamed while the service is still known; it may be forgotten by the next line.
        if let (Some(over), true, true, false) = (over, significant, running, bystander) {
            self.significant_ended(id, over, out);
        }
        self.settle_or_wait(id, fate, end, out);
    }

    /// A supervisor that left threads behind is not over before they are.
    fn settle_or_wait(&mut self, id: ChildId, fate: Fate, end: End, out: &mut Vec<Command>) {
        if end.stragglers {
            self.put(id, Phase::Abandoned { fate });
            self.overlap(id, out);
            return;
        }
        self.settle(id, fate, end.discarded, out);
    }

    /// An abandoned incarnation has ended: if it starts again, then alone. The others that restart
    /// with it have not waited, unless a pause of its own comes first.
    pub(super) fn settle_late(
        &mut self,
        id: ChildId,
        fate: Fate,
        discarded: bool,
        out: &mut Vec<Command>,
    ) {
        match fate {
            Fate::Start {
                not_before,
                suspended: false,
                by_hand: false,
            } => self.start_when_allowed(id, not_before, out),
            Fate::Start { .. } | Fate::Stay(_) | Fate::Judge | Fate::Park | Fate::Remove => {
                self.settle(id, fate, discarded, out);
            }
        }
    }

    /// The incarnation has ended: do what was decided for then.
    pub(super) fn settle(
        &mut self,
        id: ChildId,
        fate: Fate,
        discarded: bool,
        out: &mut Vec<Command>,
    ) {
        match fate {
            Fate::Start { .. } if self.starts_with_others(id) => self.put(id, Phase::Held),
            Fate::Start { by_hand: true, .. } if self.mode == Mode::Running => self.start(id, out),
            // If it is over already, the timer passes in this step.
            Fate::Start {
                not_before,
                suspended: true,
                ..
            } => self.put(
                id,
                Phase::Backoff {
                    until: not_before,
                    suspended: true,
                },
            ),
            Fate::Start { not_before, .. } => {
                self.restart_set(id, not_before, false, Cause::RestartWith(id), out);
            }
            // One has changed since it was started.
            Fate::Park if self.mode == Mode::Running && self.is_stale(id) => {
                self.start_when_allowed(id, Moment::START, out);
            }
            Fate::Park if self.mode == Mode::Running => {
                self.put(id, Phase::Waiting { parked: true });
                self.announce(id, Note::Waiting, out);
                out.push(Command::Release { id });
            }
            // Judged by its end before it gets here.
            Fate::Judge | Fate::Park => self.settle(id, Fate::STOPPED, discarded, out),
            Fate::Stay(rest) => {
                self.put(id, Phase::Resting(rest));
                if rest == Rest::GivenUp {
                    self.announce(id, Note::GivenUp, out);
                }
                out.push(Command::Release { id });
            }
            Fate::Remove => self.remove(id, discarded, out),
        }
    }

    /// Has the values of a service without an incarnation dropped, unless they are, and forgets it. Not
    /// before every thread of it has ended: they have its values, too, and one that ends late is told.
    pub(super) fn remove(&mut self, id: ChildId, discarded: bool, out: &mut Vec<Command>) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        if !child.leftovers.is_empty() {
            child.lingering = Some(Lingering { discarded });
            self.held.remove(&self.rank(id));
            self.put(id, Phase::Abandoned { fate: Fate::Remove });
            out.push(Command::Release { id });
            return;
        }
        if discarded {
            self.put(id, Phase::Resting(Rest::Stopped { by_hand: true }));
            self.forget(id, out);
            return;
        }
        let asked = self.now;
        let timeout = child.policy.drop_timeout();
        let deadline = asked.plus(timeout).min(self.mode.hard_deadline());
        self.held.remove(&child.rank);
        self.put(
            id,
            Phase::Discarding {
                asked,
                deadline,
                abandoned: false,
            },
        );
        out.push(Command::Discard { id });
    }

    fn done(&mut self, id: ChildId, told: bool) -> Fate {
        if let Some(child) = self.children.get_mut(&id) {
            child.reset_backoff();
        }
        Fate::Stay(Rest::Done { told })
    }

    /// A bounce waits the first delay and neither grows nor resets it.
    fn bounced(&mut self, id: ChildId) -> Fate {
        let random = self.random.next();
        let delay = match self.children.get(&id) {
            Some(child) => child.policy.backoff.delay(0, random),
            None => std::time::Duration::ZERO,
        };
        Fate::Start {
            not_before: self.now.plus(delay),
            suspended: false,
            by_hand: false,
        }
    }

    fn terminate(&mut self, id: ChildId, out: &mut Vec<Command>) -> Fate {
        if let Mode::Stopping(_) = self.mode {
            // Somebody else's failure came first; the driver decides which one is told.
            out.push(Command::Candidate { id });
        }
        self.begin_shutdown(
            Verdict::Terminated,
            Cause::Terminated(id),
            Some(id),
            Moment::NEVER,
            out,
        );
        Fate::STOPPED
    }

    fn panics_upwards(&self, id: ChildId, kind: FailureKind) -> bool {
        let child = self.children.get(&id);
        kind == FailureKind::Panic
            && child.is_some_and(|c| c.policy.panic_policy != PanicPolicy::Restart)
    }

    fn count_failure(&mut self, id: ChildId, kind: FailureKind) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        child.failures = child.failures.saturating_add(1);
        if kind == FailureKind::Panic {
            child.panics = child.panics.saturating_add(1);
        }
    }

    fn announce_failed(&self, id: ChildId, kind: FailureKind, next: Next, out: &mut Vec<Command>) {
        let limit = self.limiter_of(id).peek();
        self.announce(
            id,
            Note::Failed {
                kind,
                count: limit.0,
                limit: limit.1,
                next,
            },
            out,
        );
    }

    fn limiter_of(&self, id: ChildId) -> &super::Limiter {
        match self.children.get(&id).and_then(|c| c.limiter.as_ref()) {
            Some(own) => own,
            None => &self.limiter,
        }
    }

    /// Counts a failure and says what becomes of the service, and whether it is over with it.
    /// `foreseen`: it was going to be stopped anyway, so that this is no second failure.
    pub(super) fn failed(
        &mut self,
        id: ChildId,
        kind: FailureKind,
        foreseen: bool,
        out: &mut Vec<Command>,
    ) -> (Fate, Option<Over>) {
        self.count_failure(id, kind);
        let counted = match kind {
            FailureKind::Panic => Counted::Panic,
            FailureKind::Error
            | FailureKind::Returned
            | FailureKind::Spawn
            | FailureKind::ReadyTimeout => Counted::Error,
        };
        let now = self.now;
        let limit_now = self.limit_clock.read(now);
        let Some(child) = self.children.get_mut(&id) else {
            return (Fate::STOPPED, None);
        };
        match (kind, child.policy.panic_policy) {
            (FailureKind::Panic, PanicPolicy::Abort) => {
                self.announce_failed(id, kind, Next::Ends, out);
                out.push(Command::Abort { id });
                return (Fate::STOPPED, None);
            }
            (FailureKind::Panic, PanicPolicy::Escalate) => {
                self.announce_failed(id, kind, Next::Ends, out);
                self.begin_shutdown(
                    Verdict::Escalated,
                    Cause::Terminated(id),
                    Some(id),
                    Moment::NEVER,
                    out,
                );
                return (Fate::STOPPED, None);
            }
            (_, PanicPolicy::Restart | PanicPolicy::Escalate | PanicPolicy::Abort) => {}
        }
        if foreseen {
            // Its delay counts all the same.
            let delay = child.next_delay(counted, self.random.next());
            self.delay_wave(id, now.plus(delay));
            self.announce_failed(id, kind, Next::Waits, out);
            return (Fate::START_WITH_OTHERS, None);
        }
        let stable = child.was_stable(now);
        if stable {
            child.reset_backoff();
        }
        // Its own limit runs on the plain clock: the supervisor's stops are not its doing.
        let (own, limiter, limit_now) = match child.limiter.as_deref_mut() {
            Some(own) => (true, own, now),
            None => (false, &mut self.limiter, limit_now),
        };
        if stable {
            limiter.refill();
        }
        let count = limiter.count(limit_now, counted);
        let delay = child.next_delay(counted, self.random.next());
        let start = |not_before, suspended| Fate::Start {
            not_before,
            suspended,
            by_hand: false,
        };
        let (fate, over, next) = match count.exceeded {
            None if self.paused_until.is_some() => {
                (start(now.plus(delay), false), None, Next::Queued)
            }
            None => (start(now.plus(delay), false), None, Next::Restart { delay }),
            Some(Exceeded::Pause { time, jitter }) => {
                let time = lengthened(time, jitter, self.random.next());
                if own {
                    let delay = delay.max(time);
                    (start(now.plus(delay), true), None, Next::Restart { delay })
                } else {
                    self.announce_counted(id, kind, count.count, count.limit, Next::Queued, out);
                    self.pause(time, out);
                    return (start(now.plus(delay), false), None);
                }
            }
            Some(Exceeded::StopService) => {
                (Fate::Stay(Rest::GivenUp), Some(Over::Failed), Next::Stays)
            }
            Some(Exceeded::Fail) => {
                self.announce_counted(id, kind, count.count, count.limit, Next::Ends, out);
                self.begin_shutdown(
                    Verdict::LimitExceeded,
                    Cause::Limit,
                    Some(id),
                    Moment::NEVER,
                    out,
                );
                return (Fate::STOPPED, None);
            }
        };
        self.announce_counted(id, kind, count.count, count.limit, next, out);
        (fate, over)
    }

    fn announce_counted(
        &self,
        id: ChildId,
        kind: FailureKind,
        count: f64,
        limit: f64,
        next: Next,
        out: &mut Vec<Command>,
    ) {
        self.announce(
            id,
            Note::Failed {
                kind,
                count,
                limit,
                next,
            },
            out,
        );
    }

    /// A failure during a pause neither extends nor repeats it.
    fn pause(&mut self, time: std::time::Duration, out: &mut Vec<Command>) {
        if self.paused_until.is_none() {
            self.paused_until = Some(self.now.plus(time));
            out.push(Command::AnnouncePause(time));
        }
    }

    pub(super) fn ready_timed_out(&mut self, id: ChildId, out: &mut Vec<Command>) {
        if self.mode != Mode::Running {
            // It is about to be asked to stop anyway.
            self.put(id, Phase::Running(Readiness::Assumed));
            return;
        }
        // The timer is gone; the phase must say so before anything looks at it.
        self.put(id, Phase::Running(Readiness::Assumed));
        let never = self
            .children
            .get(&id)
            .is_some_and(|c| c.policy.restart == super::Restart::Never);
        let (fate, over) = if never {
            self.count_failure(id, FailureKind::ReadyTimeout);
            self.announce_failed(id, FailureKind::ReadyTimeout, Next::Stays, out);
            (Fate::Remove, Some(Over::Failed))
        } else {
            let foreseen = self.starts_with_others(id);
            self.failed(id, FailureKind::ReadyTimeout, foreseen, out)
        };
        if let Some(over) = over {
            let child = self.children.get(&id);
            if child.is_some_and(|c| !c.ever_ready) {
                out.push(Command::EndedEarly { id });
            }
            // Not one that a set restart was about to drop.
            if child.is_some_and(|c| c.policy.significant && c.wave.is_none()) {
                self.significant_ended(id, over, out);
            }
        }
        // A shutdown that has just begun may have asked it already.
        let runs = self
            .children
            .get(&id)
            .is_some_and(|c| matches!(c.phase, Phase::Running(_)));
        if !runs || self.mode != Mode::Running {
            return;
        }
        match fate {
            Fate::Start {
                not_before,
                suspended: false,
                ..
            } if self.paused_until.is_none() => {
                self.restart_set(id, not_before, false, Cause::ReadyTimeout, out);
            }
            Fate::Start { .. } | Fate::Stay(_) | Fate::Judge | Fate::Park | Fate::Remove => {
                self.ask_after_users(id, Cause::ReadyTimeout, fate, out);
            }
        }
    }

    fn significant_ended(&mut self, id: ChildId, over: Over, out: &mut Vec<Command>) {
        let is_active = |id| {
            let child = self.children.get(&id);
            child.is_some_and(|c| c.policy.significant && c.phase.is_active())
        };
        let own = usize::from(is_active(id));
        let triggers = match self.config.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => {
                // A restart of several that hasn't come to asking them drops them all the same.
                let others = self.about_to_be_dropped().filter(|&other| other != id);
                self.counts.significant_active == own + others.filter(|&o| is_active(o)).count()
            }
        };
        if over == Over::Failed && self.lost.is_none() {
            self.lost = Some(id);
            out.push(Command::Mourn { id });
        }
        if triggers {
            let (verdict, blamed) = match self.lost {
                None => (Verdict::AutoShutdown, id),
                Some(first) => (Verdict::SignificantFailed, first),
            };
            self.begin_shutdown(
                verdict,
                Cause::AutoShutdown(id),
                Some(blamed),
                Moment::NEVER,
                out,
            );
        }
    }
}

/// How a service that will not start again has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Over {
    Well,
    Failed,
}

fn lengthened(time: std::time::Duration, jitter: f64, random: f64) -> std::time::Duration {
    let secs = time.as_secs_f64() * (1.0 + jitter * random);
    std::time::Duration::try_from_secs_f64(secs).unwrap_or(std::time::Duration::MAX)
}
