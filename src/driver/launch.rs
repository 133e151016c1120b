//! Starting an incarnation: what it gets by key, a thread, and its order.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::engine::Remains;
use super::run::Run;
use super::thread::{Job, Order, Seat};
use crate::context::Incarnation;
use crate::error::{Error, ErrorKind};
use crate::event::EventKind;
use crate::failure::{Failure, FailureKind, FailureParts};
use crate::id::ChildId;
use crate::link::fact::{self, Fact};
use crate::link::licence::Licence;
use crate::link::life::Life;
use crate::link::shelf::Shelf;
use crate::machine::message::Outcome;
use crate::trade::Trade;

impl Run {
    pub(super) fn start(&mut self, id: ChildId, number: u64) {
        self.take_down_below(id);
        let trade = self.trade(id);
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        let (Some(home), Some(body)) = (slot.home.clone(), slot.body.clone()) else {
            return;
        };
        // The values of a fresh thread are its own; so is the decision to start one.
        let licensed = !body.fresh_thread && self.engine.machine.needs_no_decision(id);
        let incarnation = Arc::new(Incarnation {
            home,
            number,
            life: Life::new(),
            below: Mutex::default(),
            trade,
            told: OnceLock::new(),
            licence: licensed.then(|| Arc::new(Licence::new(self.line.licences.clone()))),
        });
        slot.incarnation = Some(incarnation.clone());
        slot.ended_by = None;
        let job = Job {
            incarnation,
            body,
            trash: std::mem::take(&mut slot.trash),
            // A supervisor does so by itself.
            tells_entry: slot.tells_entry && !slot.is_supervisor,
        };
        // A fresh thread lets go of the old one, which ends.
        let seat = slot.seat.take().filter(|_| !job.body.fresh_thread);
        let seat = match seat {
            Some(seat) => seat,
            None => match Seat::spawn(&job, self.fence.clone()) {
                Ok(seat) => seat,
                Err(error) => return self.has_no_thread(id, number, &error, job),
            },
        };
        // Only now: without a thread there would be nobody to let go of the values.
        let supplied = self.supply(id, &job.incarnation);
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        if !supplied {
            // Its provider's end is on the way, and with it the news that the value is gone.
            slot.seat = Some(seat);
            self.could_not_start(id, number, Outcome::NoInput, None, job);
            return;
        }
        // It has a thread, which does nothing before it has its order: this comes first of all that is
        // told of the incarnation.
        job.incarnation.home.emit(number, EventKind::Started);
        match seat.order(Order::Run(job)) {
            Ok(()) => slot.seat = Some(seat),
            Err(Order::Run(job)) => {
                let lost = Error::new(ErrorKind::Spawn, "its thread is gone");
                self.has_no_thread(id, number, &lost, job);
            }
            // It was a run.
            Err(Order::Leave { .. } | Order::Discard { .. }) => {}
        }
    }

    /// The supervisor that the last incarnation ran below itself is not shown any more.
    fn take_down_below(&mut self, id: ChildId) {
        let slot = self.engine.slots.get_mut(&id);
        if let Some(number) = slot.and_then(|slot| slot.supervises.take()) {
            self.hide_below(id, number);
        }
    }

    /// An incarnation has shown that it runs a supervisor below itself. One that was abandoned since, and that
    /// another has followed, has come too late.
    pub(super) fn shows_below(&mut self, id: ChildId, number: u64) {
        let view = self.engine.machine.view(id);
        if view.is_none_or(|view| view.incarnation != number) {
            self.hide_below(id, number);
        } else if let Some(slot) = self.engine.slots.get_mut(&id) {
            slot.supervises = Some(number);
        }
    }

    fn hide_below(&mut self, id: ChildId, number: u64) {
        let hidden = self.core.board.hide_below(id, number);
        self.set_aside(Remains {
            supervisors: hidden.into_iter().collect(),
            ..Remains::default()
        });
    }

    /// What an incarnation that starts now gives by key.
    fn trade(&self, id: ChildId) -> Option<Box<Trade>> {
        let trade = self.engine.slots.get(&id)?.cell.trade.as_ref()?;
        let shelf = Arc::new(Shelf::new(&trade.links.provides));
        trade.set_shelf(shelf.clone());
        Some(Box::new(Trade {
            shelf,
            inputs: Mutex::new(None),
        }))
    }

    /// Hands an incarnation what it gets by key. False: not all it was to be started with, since a
    /// provider has ended, which is yet to be heard.
    fn supply(&self, id: ChildId, incarnation: &Incarnation) -> bool {
        let sources = self.engine.machine.sources_of(id);
        let (Some((links, sources)), Some(trade)) = (sources, &incarnation.trade) else {
            return true;
        };
        let mut supplied = true;
        let inputs = links.inputs().zip(sources).map(|(key, source)| {
            let slot = source.and_then(|id| self.engine.slots.get(&id));
            let trade = slot.and_then(|s| s.incarnation.as_ref()?.trade.as_ref());
            let value = trade.and_then(|trade| trade.shelf.get(key.name));
            supplied &= source.is_none() || value.is_some();
            (*key, value)
        });
        *trade.inputs.lock() = Some(inputs.collect());
        supplied
    }

    fn has_no_thread(&mut self, id: ChildId, number: u64, error: &Error, job: Job) {
        let failure = Failure::new(FailureParts {
            path: job.incarnation.home.path.clone(),
            incarnation: number,
            kind: FailureKind::Spawn,
            message: error.to_string().into(),
            location: None,
            thread_name: None,
            run_time: Duration::ZERO,
            error: None,
            quiet: job.incarnation.home.quiet,
            mapped_from: None,
            trace: None,
        });
        self.could_not_start(id, number, Outcome::NoThread, Some(failure), job);
    }

    /// A failed start: dealt with in its turn like every other end.
    fn could_not_start(
        &mut self,
        id: ChildId,
        number: u64,
        outcome: Outcome,
        failure: Option<Failure>,
        job: Job,
    ) {
        let Some(slot) = self.engine.slots.get_mut(&id) else {
            return;
        };
        slot.trash.extend(job.trash);
        let left = job.incarnation.life.finish();
        if let Some(trade) = &job.incarnation.trade {
            let values = trade.close();
            self.set_aside(Remains {
                values,
                ..Remains::default()
            });
        }
        debug_assert!(
            left.discard.is_none(),
            "asked to stop before it was started"
        );
        // Through the channel like every other end, so that it keeps nobody else waiting.
        drop(self.line.facts.send(Fact::Ended(fact::Ended {
            child: id,
            incarnation: number,
            outcome,
            fatal: false,
            failure,
            run_time: Duration::ZERO,
            discarded: false,
            stragglers: Vec::new(),
            licence: None,
            unheard: None,
        })));
    }
}
