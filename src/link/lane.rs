//! The queue of a dispatcher thread: events, and in their places how many were lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::hub::Hub;
use crate::error::Error;
use crate::event::{Event, EventKind};

/// How many events wait for the observers of a tree, and as many for the log; more are dropped and
/// counted. Two places more are kept for what the root says of its end.
pub const DISPATCH_QUEUE_MAX: usize = 8192;

/// An event and the hubs whose observers shall see it, innermost first; or a gap.
pub(crate) enum Delivery {
    Event(Event, Arc<[Arc<Hub>]>),
    /// That many were lost here, the first of them at this path.
    Lost(u64, Arc<str>),
}

#[derive(Default)]
pub(crate) struct Lane {
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Delivery>,
    delivering: bool,
    /// Its thread exists.
    running: bool,
    closed: bool,
    /// In all.
    lost: u64,
}

impl Queue {
    /// The end of a tree is told, whatever was lost before.
    fn has_room(&self, event: &Event, hubs: &[Arc<Hub>]) -> bool {
        // Without a hub it is why the tree begins to end, which only the log is told.
        let is_of_the_end = match hubs {
            [] => true,
            [_root] => matches!(event.kind(), EventKind::Ended { .. }),
            [..] => false,
        };
        is_of_the_end || self.items.len() < DISPATCH_QUEUE_MAX
    }

    /// In its place among the others, so that a gap is told where it is, also if nothing follows.
    fn lose(&mut self, path: &Arc<str>) {
        self.lost = self.lost.saturating_add(1);
        match self.items.back_mut() {
            Some(Delivery::Lost(count, _)) => *count = count.saturating_add(1),
            Some(Delivery::Event(..)) | None => {
                self.items.push_back(Delivery::Lost(1, path.clone()));
            }
        }
    }
}

impl Lane {
    /// Puts an event in. The first one has the thread started.
    ///
    /// # Errors
    /// No thread is to be had. The event is lost; the next one tries again.
    pub(crate) fn put(
        &self,
        event: &Event,
        path: &Arc<str>,
        hubs: &Arc<[Arc<Hub>]>,
        spawn: impl FnOnce() -> Result<(), Error>,
    ) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        if queue.closed {
            return Ok(());
        }
        if !queue.running {
            if let Err(e) = spawn() {
                queue.lose(path);
                return Err(e);
            }
            queue.running = true;
        }
        if queue.has_room(event, hubs) {
            let delivery = Delivery::Event(event.clone(), hubs.clone());
            queue.items.push_back(delivery);
        } else {
            queue.lose(path);
        }
        drop(queue);
        self.filled.notify_one();
        Ok(())
    }

    /// For its thread: the next delivery. `None`: closed and empty.
    pub(crate) fn next(&self) -> Option<Delivery> {
        let mut queue = self.queue.lock();
        queue.delivering = false;
        loop {
            if let Some(delivery) = queue.items.pop_front() {
                queue.delivering = true;
                return Some(delivery);
            }
            self.drained.notify_all();
            if queue.closed {
                queue.running = false;
                return None;
            }
            self.filled.wait(&mut queue);
        }
    }

    /// Nothing more is put in: the thread ends when it is empty.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// How many were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.queue.lock().lost
    }

    /// Waits until everything is delivered.
    pub(crate) fn wait_drained(&self, until: Instant) {
        let mut queue = self.queue.lock();
        while queue.running && (queue.delivering || !queue.items.is_empty()) {
            if self.drained.wait_until(&mut queue, until).timed_out() {
                return;
            }
        }
    }
}
