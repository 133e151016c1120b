//! One incarnation of a pool, as its own thread sees it: gets workers, waits for a stop or for their
//! end, and answers.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};

use super::shift::Shift;
use super::{AtStop, Drain, Shared};
use crate::services::select::{First, first};
use crate::services::{clock, crew};
use crate::{BoxError, Context, Exit, Failure, Never, ServiceResult, StopCause};

/// However the pool's thread leaves, its workers come to an end.
struct HaltAtEnd<'a>(&'a Shift);

impl Drop for HaltAtEnd<'_> {
    fn drop(&mut self) {
        self.0.halt();
    }
}

impl Shared {
    /// `feed` puts jobs in, until there are no more, a stop is asked for, or the shift is halted.
    pub(in crate::services) fn run(
        self: &Arc<Shared>,
        ctx: &Context,
        feed: impl FnOnce(&Arc<Shift>),
    ) -> ServiceResult {
        let shift = Shift::new(self, ctx);
        let _halt = HaltAtEnd(&shift);
        self.queue.resume();
        // Disconnects when every worker has ended and its closure was dropped.
        let (alive, ended) = bounded::<Never>(0);
        let crew = crew::begin(ctx, self.workers, {
            let shift = shift.clone();
            move |_: &Context| {
                let _alive = &alive;
                shift.work();
                Ok(())
            }
        });
        match crew {
            Ok(_) => {
                ctx.ready();
                feed(&shift);
                self.attend(&shift, &ended);
            }
            // The stop came before the workers.
            Err(_) if ctx.is_stopping() => drop(self.begin_stop(&shift)),
            Err(error) => return Err(error.into()),
        }
        if !shift.is_open() {
            // A stop wins over workers that were not there yet. What they were to finish is not lost.
            shift.work();
        }
        self.end(&shift)
    }

    /// Sees to a stop, until all workers have ended.
    fn attend(&self, shift: &Shift, ended: &Receiver<Never>) {
        let stop = [shift.ctx.stop_signal()];
        let mut interrupts = &stop[..];
        let mut until = None;
        loop {
            match first(interrupts, ended, until) {
                First::Interrupt(_) => {
                    interrupts = &[];
                    until = self.begin_stop(shift);
                }
                First::Timeout => {
                    until = None;
                    shift.halt();
                    self.discard();
                }
                First::Closed => return,
                First::Item(never) => match never {},
            }
        }
    }

    /// Until when jobs begin, if there is a limit and there are any.
    fn begin_stop(&self, shift: &Shift) -> Option<Instant> {
        let is_final = shift
            .ctx
            .stop_cause()
            .as_ref()
            .is_some_and(StopCause::is_final);
        match self.at_stop {
            AtStop::Items { .. } => {
                shift.drain(None);
                None
            }
            // The next incarnation goes on with them.
            AtStop::Jobs(_) if !is_final => {
                shift.halt();
                None
            }
            AtStop::Jobs(Drain::Finish(time)) => {
                self.queue.pause();
                let until = clock::now().checked_add(time);
                shift.drain(until);
                until
            }
            AtStop::Jobs(Drain::Discard) => {
                self.queue.pause();
                shift.halt();
                self.discard();
                None
            }
        }
    }

    /// All workers have ended.
    fn end(&self, shift: &Shift) -> ServiceResult {
        shift.halt();
        let cause = shift.ctx.stop_cause();
        match self.at_stop {
            AtStop::Jobs(_) if cause.as_ref().is_some_and(StopCause::is_final) => {
                self.discard();
                self.queue.resume();
            }
            AtStop::Items { keeps_left: false } => self.discard(),
            AtStop::Jobs(_) | AtStop::Items { keeps_left: true } => {}
        }
        self.answer(shift.take_verdict())?;
        // Somebody has closed the queue: there is nothing to start again for.
        if cause.is_none() && self.queue.is_closed() {
            return Err(Exit::DoNotRestart.into());
        }
        Ok(())
    }

    /// The error that has ended it comes first.
    fn answer(&self, verdict: Option<BoxError>) -> ServiceResult {
        match Failure::catch(|| self.ledger.take(verdict).into_result()) {
            Ok(answer) => answer,
            Err(panic) => Err(panic.into()),
        }
    }
}
