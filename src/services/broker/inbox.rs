//! The broker's own queue: what was accepted, and who may deliver it.
//!
//! Whoever delivers has the turn, one at a time, and takes some messages in one go; so publishers and
//! the deliverer seldom meet at the lock. Of what it has in hand one is being delivered, the others
//! wait all the same and count as such.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::look::look;
use crate::services::refused::PushError;

/// For how many messages an idle broker keeps memory.
const IDLE_MESSAGES_MAX: usize = 1024;

pub(super) struct Inbox<T> {
    capacity: usize,
    state: Mutex<State<T>>,
    /// There is something in the queue, for a look without the lock.
    filled: AtomicBool,
    to_deliver: Condvar,
    room: Condvar,
    turn: Condvar,
}

struct State<T> {
    queue: VecDeque<T>,
    /// How many the deliverer has taken besides the one that is being delivered.
    in_hand: usize,
    published: u64,
    closed: bool,
    /// Somebody has the turn.
    delivering: bool,
}

impl<T> State<T> {
    fn waiting(&self) -> usize {
        self.queue.len() + self.in_hand
    }
}

/// What came of asking for the turn.
pub(super) enum Turn {
    Mine,
    Closed,
    GaveUp,
}

impl<T> Inbox<T> {
    pub(super) fn new(capacity: usize) -> Inbox<T> {
        Inbox {
            capacity,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                in_hand: 0,
                published: 0,
                closed: false,
                delivering: false,
            }),
            filled: AtomicBool::new(false),
            to_deliver: Condvar::new(),
            room: Condvar::new(),
            turn: Condvar::new(),
        }
    }

    pub(super) fn push(&self, message: T) -> Result<(), PushError<T>> {
        self.put(self.state.lock(), message, PushError::Full)
    }

    pub(super) fn push_timeout(&self, message: T, d: Duration) -> Result<(), PushError<T>> {
        let mut state = self.state.lock();
        if !state.closed && self.is_full(&state) && !d.is_zero() {
            self.room
                .wait_while_for(&mut state, |s| !s.closed && self.is_full(s), d);
        }
        self.put(state, message, PushError::Timeout)
    }

    fn put(
        &self,
        mut state: MutexGuard<'_, State<T>>,
        message: T,
        refused: fn(T) -> PushError<T>,
    ) -> Result<(), PushError<T>> {
        if state.closed {
            return Err(PushError::Closed(message));
        }
        if self.is_full(&state) {
            return Err(refused(message));
        }
        state.queue.push_back(message);
        state.published += 1;
        self.filled.store(true, Ordering::Release);
        drop(state);
        self.to_deliver.notify_one();
        Ok(())
    }

    fn is_full(&self, state: &State<T>) -> bool {
        state.waiting() >= self.capacity
    }

    /// How many were accepted, and how many of them wait.
    pub(super) fn counts(&self) -> (u64, usize) {
        let state = self.state.lock();
        (state.published, state.waiting())
    }

    /// Whether somebody has the turn.
    pub(super) fn is_taken(&self) -> bool {
        self.state.lock().delivering
    }

    /// Waits for the turn.
    pub(super) fn claim(&self, give_up: impl Fn() -> bool) -> Turn {
        let mut state = self.state.lock();
        self.turn
            .wait_while(&mut state, |s| s.delivering && !s.closed && !give_up());
        if state.closed {
            Turn::Closed
        } else if state.delivering {
            Turn::GaveUp
        } else {
            state.delivering = true;
            Turn::Mine
        }
    }

    /// For whoever has the turn and has delivered what it had in hand: waits for messages and puts up to
    /// `max` into `hand`. Answers how many; none when it is closed and empty, or time to give up.
    pub(super) fn take(&self, hand: &mut Vec<T>, max: usize, give_up: impl Fn() -> bool) -> usize {
        let mut state = self.state.lock();
        let delivered = std::mem::take(&mut state.in_hand) > 0;
        if state.queue.is_empty() {
            if delivered {
                self.room.notify_all();
            }
            state = self.wait(state, give_up);
        }
        let taken = state.queue.len().min(max);
        hand.extend(state.queue.drain(..taken));
        // The first of them waits no longer.
        state.in_hand = taken.saturating_sub(1);
        self.filled
            .store(!state.queue.is_empty(), Ordering::Release);
        drop(state);
        if taken > 0 {
            self.room.notify_all();
        }
        taken
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<T>>,
        give_up: impl Fn() -> bool,
    ) -> MutexGuard<'a, State<T>> {
        if !give_up() && !state.closed {
            MutexGuard::unlocked(&mut state, || look(|| self.filled.load(Ordering::Acquire)));
        }
        if state.queue.is_empty() {
            state.queue.shrink_to(IDLE_MESSAGES_MAX);
            self.to_deliver.wait_while(&mut state, |s| {
                s.queue.is_empty() && !s.closed && !give_up()
            });
        }
        state
    }

    /// Ends the turn, with nothing in hand. False: it is closed, so nobody gets the next one, and the rest
    /// is for the caller to deliver.
    pub(super) fn end_turn(&self) -> bool {
        let mut state = self.state.lock();
        state.in_hand = 0;
        state.delivering = false;
        let ended = !state.closed;
        drop(state);
        self.room.notify_all();
        self.turn.notify_one();
        ended
    }

    /// Takes nothing any more. True: nobody has the turn, so the rest is for the caller to deliver.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        state.closed = true;
        let nobody_delivers = !state.delivering;
        drop(state);
        self.notify();
        nobody_delivers
    }

    /// Has everybody look again, because somebody may want to give up.
    pub(super) fn wake(&self) {
        // Who has looked and does not sleep yet holds it.
        drop(self.state.lock());
        self.notify();
    }

    fn notify(&self) {
        self.to_deliver.notify_all();
        self.room.notify_all();
        self.turn.notify_all();
    }
}
