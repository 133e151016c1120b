//! Where items come from: pulled by the service's own thread, one at a time.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::window::{Permit, Window};
use crate::services::job::Job;
use crate::services::pool::Shift;
use crate::services::select::{First, first};

/// Pulls items and gives them away as long as it may.
pub(super) type Source<T> = dyn Fn(&mut Feeder<'_, T>) -> Pulled + Send + Sync;

/// Makes the job of each item of one incarnation.
pub(super) type MakeJob<T> = dyn FnMut(T, Permit) -> Job;

/// How the pulling has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pulled {
    /// There is nothing more.
    All,
    /// By a stop or an error.
    Interrupted,
}

pub(super) fn of_iterator<T, I>(source: impl Fn() -> I + Send + Sync + 'static) -> Arc<Source<T>>
where
    I: IntoIterator<Item = T>,
{
    Arc::new(move |feeder| {
        let mut items = source().into_iter();
        // Room first: an item that was pulled is to be done.
        while let Some(room) = feeder.room() {
            match items.next() {
                Some(item) => feeder.give(item, room),
                None => return Pulled::All,
            }
        }
        Pulled::Interrupted
    })
}

pub(super) fn of_receiver<T: Send + 'static>(items: Receiver<T>) -> Arc<Source<T>> {
    Arc::new(move |feeder| {
        while let Some(room) = feeder.room() {
            let interrupts = [feeder.shift.ctx.stop_signal(), feeder.shift.halted()];
            match first(&interrupts, &items, None) {
                First::Item(item) => feeder.give(item, room),
                First::Closed => return Pulled::All,
                First::Interrupt(_) | First::Timeout => break,
            }
        }
        Pulled::Interrupted
    })
}

/// Takes the items of one incarnation.
pub(super) struct Feeder<'a, T> {
    pub(super) shift: &'a Shift,
    pub(super) window: Arc<Window>,
    pub(super) make_job: Box<MakeJob<T>>,
}

impl<T> Feeder<'_, T> {
    /// Waits for room for one item. `None`: no more are wanted.
    fn room(&self) -> Option<Permit> {
        let is_wanted = || !self.shift.ctx.is_stopping() && !self.shift.is_halted();
        let interrupts = [self.shift.ctx.stop_signal(), self.shift.halted()];
        self.window.take(is_wanted, &interrupts)
    }

    fn give(&mut self, item: T, room: Permit) {
        let job = (self.make_job)(item, room);
        self.shift.begin(job);
    }
}
