//! One incarnation of a pool, as its own thread sees it: gets workers, waits for a stop or for their
//! end, and answers.

use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use super::shift::Shift;
use super::{AtStop, Drain, Shared};
use crate::services::select::{First, first};
use crate::services::{clock, crew};
use crate::{BoxError, Context, Exit, Failure, Never, ServiceResult, Supervisor};

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
            Ok(crew) => {
                ctx.ready();
                feed(&shift);
                self.attend(&shift, &crew, &ended);
            }
            // The stop came first.
            Err(_) if ctx.is_stopping() => {}
            Err(error) => return Err(error.into()),
        }
        if ctx.is_stopping() {
            // It wins over workers that were not there yet. What they were to finish is not lost.
            self.see_to_stop(&shift);
            shift.work();
        }
        self.end(&shift)
    }

    /// Waits for the end of the workers, and sees to a stop meanwhile.
    fn attend(&self, shift: &Shift, crew: &Supervisor, ended: &Receiver<Never>) {
        match first(&[shift.ctx.stop_signal()], ended, None) {
            First::Interrupt(_) => self.see_to_stop(shift),
            First::Closed | First::Timeout => {}
            First::Item(never) => match never {},
        }
        if let Some(until) = shift.drains_until() {
            let time = until.saturating_duration_since(clock::now());
            if crew.wait_timeout(time).is_none() {
                shift.halt();
                self.discard();
            }
        }
        // How it has ended, the supervisor of this service knows as well. It ends in time, also if one
        // of the workers does not.
        drop(crew.wait());
    }

    fn see_to_stop(&self, shift: &Shift) {
        shift.begin_stop();
        if self.at_stop == AtStop::Jobs(Drain::Discard) && shift.is_final() {
            self.discard();
        }
    }

    /// All workers have ended.
    fn end(&self, shift: &Shift) -> ServiceResult {
        shift.halt();
        match self.at_stop {
            AtStop::Jobs(_) if shift.is_final() => {
                self.discard();
                self.queue.resume();
            }
            AtStop::Items { keeps_left: false } => self.discard(),
            AtStop::Jobs(_) | AtStop::Items { keeps_left: true } => {}
        }
        self.answer(shift.take_verdict())?;
        // Somebody has closed the queue: there is nothing to start again for.
        if !shift.ctx.is_stopping() && self.queue.is_closed() {
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
