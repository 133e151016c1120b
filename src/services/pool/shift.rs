//! One incarnation of a pool, as its workers see it.
//!
//! A shift is *open*, then perhaps *draining*, then *halted*; it never goes back. While it is open
//! workers wait for jobs; while it drains they take what is in the queue, up to a time; once it is
//! halted no job begins. Whoever moves it on wakes the workers that sleep. Whatever a job does, its
//! worker counts it as ended, tells who waits for it, and goes on.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::Shared;
use super::ledger::{How, Tally};
use crate::services::clock;
use crate::services::job::{self, Job, Ticket};
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
    until: Mutex<Option<Instant>>,
    /// The error that has ended it: the first one.
    verdict: Mutex<Option<BoxError>>,
    /// How many threads have begun to work.
    workers: AtomicUsize,
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
            until: Mutex::new(None),
            verdict: Mutex::new(None),
            workers: AtomicUsize::new(0),
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
        if self.is_open() {
            *self.until.lock() = until;
            self.move_on(DRAINING);
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
        let number = self.workers.fetch_add(1, Ordering::Relaxed);
        let tally = self.pool.ledger.tally(number);
        let worker = Worker {
            shift: self,
            tally,
            at: Cell::new(At::Between),
            ticket: RefCell::new(None),
        };
        // One capture for many jobs, because it costs as much as handing over a job.
        while let Err(panic) = Failure::catch(|| worker.work()) {
            worker.panicked(panic);
        }
    }

    fn wish(&self) -> Wish {
        match self.phase.load(Ordering::Acquire) {
            OPEN => Wish::Wait,
            DRAINING => match *self.until.lock() {
                Some(until) if until <= clock::now() => Wish::Leave,
                Some(_) | None => Wish::Take,
            },
            _ => Wish::Leave,
        }
    }

    /// Applies the rules to an error or a panic of a job, and counts it. Calls the user's closures.
    fn judge(&self, error: BoxError, ticket: Option<&dyn Ticket>, count: impl FnOnce(How)) -> Then {
        let told = |error| match ticket {
            Some(ticket) => job::tell(ticket, error),
            None => error,
        };
        let rules = &self.pool.rules;
        if error.is::<Stopping>() && self.ctx.is_stopping() {
            count(How::Done);
            drop(told(error));
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
            drop(told(error));
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
            false => drop(error),
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
    tally: &'a Tally,
    at: Cell<At>,
    /// Of the job that is being done.
    ticket: RefCell<Option<Arc<dyn Ticket>>>,
}

impl Worker<'_> {
    fn work(&self) {
        let Worker { shift, tally, .. } = self;
        while let Ok(job) =
            (shift.pool.queue).pop_as_wished(None, || shift.wish(), || tally.begin())
        {
            self.run(job);
        }
    }

    fn run(&self, job: Job) {
        let work = job.into_work();
        if let Some(ticket) = work.ticket() {
            *self.ticket.borrow_mut() = Some(ticket);
        }
        self.at.set(At::Job);
        let answer = work.run(&self.shift.ctx);
        self.at.set(At::Remains);
        match answer {
            Ok(()) => self.tally.end(How::Done),
            Err(error) => self.judge(error),
        }
        self.settle();
        self.at.set(At::Between);
    }

    fn judge(&self, error: BoxError) {
        let ticket = self.ticket.borrow().clone();
        let count = |how| self.tally.end(how);
        self.shift.judge(error, ticket.as_deref(), count);
    }

    /// Whoever waits for the job sees its end, now that it is counted.
    fn settle(&self) {
        let ticket = self.ticket.take();
        drop(ticket);
    }

    fn panicked(&self, panic: Failure) {
        match self.at.replace(At::Remains) {
            At::Job => {
                // What is called here may panic in turn.
                if let Err(panic) = Failure::catch(|| self.judge(panic.into())) {
                    self.shift.keep(panic.into());
                }
            }
            // A `Drop` of the user's.
            At::Remains => self.shift.keep(panic.into()),
            At::Between => self.shift.abort(panic.into()),
        }
        if let Err(panic) = Failure::catch(|| self.settle()) {
            self.shift.keep(panic.into());
        }
        self.at.set(At::Between);
    }
}
