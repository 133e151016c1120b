//! One incarnation of a pool, as its workers see it.
//!
//! A shift is *open*, then perhaps *draining*, then *halted*; it never goes back. While it is open
//! workers wait for jobs; while it drains they take what is in the queue, up to a time; once it is
//! halted no job begins. Whoever moves it on wakes the workers that sleep.
//!
//! No job begins after a stop request before it is settled what that means for the queue: a worker that
//! sees the request first settles it.
//!
//! Whatever a job does, its worker counts it as ended, tells who waits for it, and goes on.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once, OnceLock};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::ledger::{How, Pen};
use super::{AtStop, Drain, Shared};
use crate::services::clock;
use crate::services::job::{self, Job, Ticket, Waits};
use crate::services::outcome::{exit_in, is_panic};
use crate::services::queue::Wish;
use crate::{BoxError, Context, Failure, Never, Stopping};

const OPEN: usize = 0;
const DRAINING: usize = 1;
const HALTED: usize = 2;

pub(in crate::services) struct Shift {
    pub(super) pool: Arc<Shared>,
    /// The pool's own, and that of its jobs.
    pub(in crate::services) ctx: Context,
    phase: AtomicUsize,
    /// Until when jobs begin while it drains; `None` is for ever. Set before the phase.
    until: OnceLock<Option<Instant>>,
    /// A stop request has been acted on.
    stop: Once,
    /// The error that has ended it: the first one.
    verdict: Mutex<Option<BoxError>>,
    /// Disconnects when it is halted.
    halted: Receiver<Never>,
    halt: Mutex<Option<Sender<Never>>>,
}

/// What a failure that was looked at leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::services) enum Then {
    GoOn,
    /// A stop has cut it short, which is no failure.
    CutShort,
    Halt,
}

/// What a worker is at, for the case of a panic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Code of ours.
    Between,
    Job,
    /// A job that was counted: what is left of it is being dropped.
    Remains,
}

impl Shift {
    pub(super) fn new(pool: &Arc<Shared>, ctx: &Context) -> Arc<Shift> {
        let (halt, halted) = bounded(0);
        Arc::new(Shift {
            pool: pool.clone(),
            ctx: ctx.clone(),
            phase: AtomicUsize::new(OPEN),
            until: OnceLock::new(),
            stop: Once::new(),
            verdict: Mutex::new(None),
            halted,
            halt: Mutex::new(Some(halt)),
        })
    }

    /// Disconnects when no job begins any more.
    pub(in crate::services) fn halted(&self) -> &Receiver<Never> {
        &self.halted
    }

    pub(super) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == OPEN
    }

    pub(in crate::services) fn is_halted(&self) -> bool {
        self.phase.load(Ordering::Acquire) == HALTED
    }

    /// From now on only what is in the queue is done, and nothing begins after `until`.
    pub(in crate::services) fn drain(&self, until: Option<Instant>) {
        let _ = self.until.set(until);
        self.move_on(DRAINING);
    }

    /// Settles what a stop request means. The jobs that it discards are left to the caller.
    pub(super) fn begin_stop(&self) {
        self.stop.call_once(|| {
            match self.pool.at_stop {
                AtStop::Items { .. } => self.drain(None),
                // The next incarnation goes on with them.
                AtStop::Jobs(_) if !self.is_final() => self.halt(),
                AtStop::Jobs(drain) => {
                    self.pool.queue.pause();
                    match drain {
                        Drain::Finish(time) => self.drain(clock::now().checked_add(time)),
                        Drain::Discard => self.halt(),
                    }
                }
            }
        });
    }

    /// Whether it was asked to stop for good.
    pub(super) fn is_final(&self) -> bool {
        self.ctx.stop_cause().is_some_and(|cause| cause.is_final())
    }

    /// When it is halted, if it drains and there is such a time.
    pub(super) fn drains_until(&self) -> Option<Instant> {
        match self.phase.load(Ordering::Acquire) {
            DRAINING => self.until.get().copied().flatten(),
            _ => None,
        }
    }

    /// From now on no job begins.
    pub(in crate::services) fn halt(&self) {
        self.move_on(HALTED);
        drop(self.halt.lock().take());
    }

    fn move_on(&self, phase: usize) {
        if self.phase.fetch_max(phase, Ordering::AcqRel) < phase {
            self.pool.queue.look_again();
        }
    }

    /// Ends it with an error. Only the first is the verdict; others are kept.
    pub(in crate::services) fn abort(&self, error: BoxError) {
        let mut verdict = self.verdict.lock();
        let late = match &*verdict {
            None => {
                *verdict = Some(error);
                None
            }
            Some(_) => Some(error),
        };
        drop(verdict);
        self.halt();
        if let Some(error) = late {
            self.keep(error);
        }
    }

    pub(super) fn take_verdict(&self) -> Option<BoxError> {
        self.verdict.lock().take()
    }

    /// Puts a job in, from a source that keeps its own bound.
    pub(in crate::services) fn begin(&self, job: Job) {
        if let Err(refused) = self.pool.queue.push(job) {
            self.bury(refused);
        }
    }

    /// Drops a value of the user's.
    pub(in crate::services) fn bury<T>(&self, value: T) {
        self.pool.bury(value);
    }

    /// For a thread of the pool: does jobs until there are no more for it.
    pub(super) fn work(&self) {
        let worker = Worker {
            shift: self,
            pen: self.pool.ledger.pen(),
            at: Cell::new(At::Between),
            waits: Waits::new(None),
        };
        // One capture for many jobs, because it costs as much as handing over a job.
        while let Err(panic) = Failure::catch(|| worker.work()) {
            worker.panicked(panic);
        }
    }

    fn wish(&self) -> Wish {
        match self.phase.load(Ordering::Acquire) {
            OPEN if self.ctx.is_stopping() => Wish::Leave,
            OPEN => Wish::Wait,
            DRAINING => match self.drains_until() {
                Some(until) if until <= clock::now() => Wish::Leave,
                Some(_) | None => Wish::Take,
            },
            _ => Wish::Leave,
        }
    }

    /// The next job, when there is one. `None`: there are no more for this worker.
    fn next(&self, pen: &Pen<'_>) -> Option<Job> {
        loop {
            let job = (self.pool.queue).pop_as_wished(None, || self.wish(), || pen.begin());
            match job {
                Ok(job) => return Some(job),
                Err(_) if self.is_open() && self.ctx.is_stopping() => self.begin_stop(),
                Err(_) => return None,
            }
        }
    }

    /// Applies the rules to an error or a panic of a job, and counts it. Calls the user's closures and
    /// drops the user's errors; whatever those do, it does not panic.
    fn judge(&self, error: BoxError, ticket: Option<&dyn Ticket>, count: impl FnOnce(How)) -> Then {
        let told = |error| match ticket {
            Some(ticket) => job::tell(ticket, error),
            None => error,
        };
        let rules = &self.pool.rules;
        if error.is::<Stopping>() && self.ctx.is_stopping() {
            count(How::Done);
            self.bury(told(error));
            return Then::CutShort;
        }
        if exit_in(&error).is_some() {
            count(How::Done);
            self.abort(told(error));
            return Then::Halt;
        }
        let is_panic = is_panic(&error);
        if !is_panic && self.excludes(&error) {
            count(How::Done);
            self.bury(told(error));
            return Then::GoOn;
        }
        let (how, goes_on) = match is_panic {
            true => (How::Panicked, rules.continue_on_panic),
            false => (How::Failed, rules.continue_on_error),
        };
        count(how);
        self.call_handlers(&error);
        let error = told(error);
        if !goes_on {
            self.abort(error);
            return Then::Halt;
        }
        match rules.handlers.is_empty() {
            true => self.keep(error),
            false => self.bury(error),
        }
        Then::GoOn
    }

    /// Applies the rules to a failure that is no job's answer, but counts as if it were one.
    pub(in crate::services) fn fail(&self, error: BoxError) -> Then {
        self.judge(error, None, |_| {})
    }

    fn excludes(&self, error: &BoxError) -> bool {
        self.pool
            .rules
            .excludes
            .iter()
            .any(|excludes| match Failure::catch(|| excludes(error)) {
                Ok(yes) => yes,
                Err(panic) => {
                    self.keep(panic.into());
                    false
                }
            })
    }

    fn call_handlers(&self, error: &BoxError) {
        for handler in &self.pool.rules.handlers {
            if let Err(panic) = Failure::catch(|| handler(error)) {
                self.keep(panic.into());
            }
        }
    }

    /// Keeps an error for the answer. One too many is dropped here.
    pub(in crate::services) fn keep(&self, error: BoxError) {
        if let Some(error) = self.pool.ledger.keep(error) {
            self.bury(error);
        }
    }
}

struct Worker<'a> {
    shift: &'a Shift,
    pen: Pen<'a>,
    at: Cell<At>,
    /// For the job that is being done.
    waits: Waits,
}

impl Worker<'_> {
    fn work(&self) {
        while let Some(job) = self.shift.next(&self.pen) {
            self.run(job);
        }
    }

    fn run(&self, job: Job) {
        self.at.set(At::Job);
        let answer = job.into_work().run(&self.shift.ctx, &self.waits);
        self.at.set(At::Remains);
        match answer {
            Ok(()) => {
                self.pen.end(How::Done);
                // Whoever waits for the job sees its end, now that it is counted.
                drop(self.waits.take());
            }
            Err(error) => self.judge(error),
        }
        self.at.set(At::Between);
    }

    fn judge(&self, error: BoxError) {
        let ticket = self.waits.take();
        let count = |how| self.pen.end(how);
        self.shift.judge(error, ticket.as_deref(), count);
        self.shift.bury(ticket);
    }

    fn panicked(&self, panic: Failure) {
        match self.at.replace(At::Remains) {
            At::Job => self.judge(panic.into()),
            // A `Drop` of the user's.
            At::Remains => self.shift.keep(panic.into()),
            At::Between => self.shift.abort(panic.into()),
        }
        self.shift.bury(self.waits.take());
        self.at.set(At::Between);
    }
}
