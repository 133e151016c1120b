//! The way of orders to a service thread: room for one, which is all that ever waits.
//!
//! Not a channel, because there is one for each thread: a bounded channel of crossbeam's takes about
//! 1 KiB and spins before each sleep, which a thousand threads that fail in turns pay for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::thread::Order;
use crate::link::sleepers::{self, Sleepers, Watched};
use crate::link::spin::Spin;

struct Slot {
    state: Mutex<State>,
    /// Mirrors "there is something to see" for a look without the lock.
    news: AtomicBool,
}

struct State {
    order: Option<Order>,
    /// One end is gone.
    closed: bool,
    sleepers: Sleepers,
}

impl Watched for State {
    fn sleepers(&mut self) -> &mut Sleepers {
        &mut self.sleepers
    }
}

/// The supervisor's end.
pub(crate) struct OrderSender(Arc<Slot>);

/// The thread's end.
pub(crate) struct OrderReceiver {
    slot: Arc<Slot>,
    spin: Spin,
}

/// A way to a thread that is about to be started.
pub(crate) fn orders() -> (OrderSender, OrderReceiver) {
    let slot = Arc::new(Slot {
        state: Mutex::new(State {
            order: None,
            closed: false,
            sleepers: Sleepers::default(),
        }),
        news: AtomicBool::new(false),
    });
    // The first order follows the start of the thread.
    let spin = Spin::expecting();
    (OrderSender(slot.clone()), OrderReceiver { slot, spin })
}

impl Slot {
    /// One end goes. What was not taken comes back.
    fn close(&self) -> Option<Order> {
        let mut state = self.state.lock();
        state.closed = true;
        let order = state.order.take();
        self.news.store(true, Ordering::Release);
        sleepers::wake(state);
        order
    }
}

impl OrderSender {
    /// Never blocks.
    ///
    /// # Errors
    /// The thread is gone, or hasn't taken the order before; the order comes back.
    pub(crate) fn send(&self, order: Order) -> Result<(), Order> {
        let slot = &*self.0;
        let mut state = slot.state.lock();
        if state.closed || state.order.is_some() {
            return Err(order);
        }
        state.order = Some(order);
        slot.news.store(true, Ordering::Release);
        sleepers::wake(state);
        Ok(())
    }
}

impl Drop for OrderSender {
    /// The thread does what it was told last, and leaves.
    fn drop(&mut self) {
        let slot = &*self.0;
        let mut state = slot.state.lock();
        state.closed = true;
        slot.news.store(true, Ordering::Release);
        sleepers::wake(state);
    }
}

impl OrderReceiver {
    /// The next order; waits for it. `None`: there will be none.
    pub(crate) fn recv(&mut self) -> Option<Order> {
        let slot = &*self.slot;
        self.spin.wait(
            || slot.news.load(Ordering::Acquire),
            || {
                let mut state = slot.state.lock();
                loop {
                    if let Some(order) = state.order.take() {
                        slot.news.store(false, Ordering::Release);
                        return Some(order);
                    }
                    if state.closed {
                        return None;
                    }
                    sleepers::sleep(&mut state, None);
                }
            },
        )
    }
}

impl Drop for OrderReceiver {
    fn drop(&mut self) {
        // What was not taken is dropped here, on the service's thread; a run that never began has
        // ended all the same.
        if let Some(order) = self.slot.close() {
            super::thread::refuse(order);
        }
    }
}
