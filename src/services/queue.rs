//! `Queue`: a bounded queue between threads, with credit for bursts.

mod spin;
mod state;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use self::state::{After, State, Turn};
use super::clock;
use super::refused::{PopError, PushError};
use crate::{Error, ErrorKind};

/// A bounded queue, first in, first out, for any number of threads on both ends. A cheap handle;
/// clones are the same queue.
///
/// # Limits and credit
///
/// A queue has a *hard* limit, at which it is full, and a *soft* one, up to which pushing is free. What
/// goes beyond the soft limit costs credit, one for each item. One is earned by each pop that leaves
/// fewer items than the soft limit, and there is never more than would fill the queue up. So a short
/// burst gets in, and whoever pushes faster than others pop for long is told before the queue is
/// full. [`Queue::new`] has one limit and no credit.
///
/// | items | a push |
/// |---|---|
/// | fewer than soft | is free |
/// | soft or more, fewer than hard | costs one credit; without credit: [`PushError::NoCredit`] |
/// | hard | [`PushError::Full`] |
///
/// ```
/// use backstay::services::{PushError, Queue};
///
/// let queue = Queue::with_burst(2, 4, 1)?;
/// for n in 1..=3 {
///     queue.push(n)?; // the third one on credit
/// }
/// assert_eq!(queue.push(4), Err(PushError::NoCredit(4)));
/// assert_eq!(queue.pop(), Some(1)); // leaves two: no credit
/// assert_eq!(queue.pop(), Some(2)); // leaves one: one credit
/// for n in 5..=6 {
///     queue.push(n)?; // the second one on credit
/// }
/// assert_eq!(queue.push(7), Err(PushError::NoCredit(7)));
/// assert_eq!(queue.len(), 3);
/// # Ok::<(), backstay::Error>(())
/// ```
///
/// # Waiting
///
/// Who waits in [`push_timeout`](Queue::push_timeout) stands in line: room goes to whoever has waited
/// longest, and a [`push`](Queue::push) in between does not take it away. An item wakes one of those
/// who wait for one. [`close`](Queue::close) wakes all.
///
/// Memory is taken for items, not for the limit: a limit of [`usize::MAX`] costs nothing. When a
/// burst is over, it is given back.
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// How many items there are, for a look without the lock. Written under it.
    len: AtomicUsize,
}

/// What somebody who waits for an item wants, as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    /// An item, when there is one.
    Wait,
    /// An item, if there is one.
    Take,
    /// Nothing any more.
    Leave,
}

impl<T> Queue<T> {
    /// A queue for up to `hard` items.
    ///
    /// # Errors
    /// `hard` is zero.
    pub fn new(hard: usize) -> Result<Queue<T>, Error> {
        Queue::with_burst(hard, hard, 0)
    }

    /// A queue for up to `hard` items, of which those beyond `soft` cost credit; it begins with
    /// `credit`. With `soft` equal to `hard` the same as [`new`](Queue::new).
    ///
    /// # Errors
    /// Unless 1 <= `soft` <= `hard` and `credit` <= `hard` - `soft`. The text names the field.
    pub fn with_burst(soft: usize, hard: usize, credit: usize) -> Result<Queue<T>, Error> {
        if hard == 0 {
            return Err(Error::invalid("hard", "a queue for no items takes none"));
        }
        if soft == 0 || soft > hard {
            let why = format!("{soft} is not between 1 and the hard limit, {hard}");
            return Err(Error::invalid("soft", why));
        }
        if credit > hard - soft {
            let why =
                format!("{credit} is more than the hard limit {hard} less the soft limit {soft}");
            return Err(Error::invalid("credit", why));
        }
        Ok(Queue {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(soft, hard, credit)),
                len: AtomicUsize::new(0),
            }),
        })
    }

    /// Puts an item in. Never blocks.
    ///
    /// # Errors
    /// Why not, with the item: see [`PushError`]. Never [`PushError::Timeout`].
    pub fn push(&self, item: T) -> Result<(), PushError<T>> {
        let mut state = self.lock();
        let after = state.push(item)?;
        self.release(state, after);
        Ok(())
    }

    /// Puts an item in, and waits for room for up to `d`. [`Duration::MAX`] is for ever; zero does not
    /// wait.
    ///
    /// # Errors
    /// With the item: [`PushError::Timeout`]; and [`PushError::Closed`] or
    /// [`PushError::Draining`], also when that begins during the wait.
    pub fn push_timeout(&self, item: T, d: Duration) -> Result<(), PushError<T>> {
        let (item, len) = match self.push_or_len(item) {
            Ok(()) => return Ok(()),
            Err((PushError::Full(item) | PushError::NoCredit(item), len)) => (item, len),
            Err((refused, _)) => return Err(refused),
        };
        if d.is_zero() {
            return Err(PushError::Timeout(item));
        }
        let until = clock::now().checked_add(d);
        spin::look(|| self.len() < len);
        let mut state = self.lock();
        let item = match state.push(item) {
            Ok(after) => {
                self.release(state, after);
                return Ok(());
            }
            Err(PushError::Full(item) | PushError::NoCredit(item)) => item,
            Err(refused) => return Err(refused),
        };
        let ticket = state.stand_in_line(item, thread::current());
        drop(state);
        self.wait_in_line(ticket, until)
    }

    fn push_or_len(&self, item: T) -> Result<(), (PushError<T>, usize)> {
        let mut state = self.lock();
        match state.push(item) {
            Ok(after) => {
                self.release(state, after);
                Ok(())
            }
            Err(refused) => Err((refused, state.len())),
        }
    }

    fn wait_in_line(&self, ticket: u64, until: Option<Instant>) -> Result<(), PushError<T>> {
        loop {
            let timed_out = park(until);
            let mut state = self.lock();
            match state.turn_of(ticket) {
                Turn::Taken => return Ok(()),
                Turn::Refused(refused) => return Err(refused),
                Turn::NotYet if timed_out => {
                    return match state.leave_line(ticket) {
                        Some(item) => Err(PushError::Timeout(item)),
                        None => Ok(()),
                    };
                }
                Turn::NotYet => {}
            }
        }
    }

    /// Puts an item in, also when there is no room: the oldest item makes some and comes back. That is
    /// an exchange, which costs no credit and earns none, and overtakes those who wait for room.
    /// Never blocks.
    ///
    /// ```
    /// use backstay::services::Queue;
    ///
    /// let latest = Queue::new(2)?;
    /// assert_eq!(latest.push_evicting("one")?, None);
    /// assert_eq!(latest.push_evicting("two")?, None);
    /// assert_eq!(latest.push_evicting("three")?, Some("one"));
    /// assert_eq!(latest.pop(), Some("two"));
    /// # Ok::<(), backstay::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`PushError::Closed`] or [`PushError::Draining`], with the item.
    pub fn push_evicting(&self, item: T) -> Result<Option<T>, PushError<T>> {
        let mut state = self.lock();
        let (evicted, after) = state.push_evicting(item)?;
        self.release(state, after);
        Ok(evicted)
    }

    /// Takes the oldest item out, if there is one. Never blocks. Goes on after a close until nothing
    /// is left.
    pub fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        let (item, after) = state.pop()?;
        self.release(state, after);
        Some(item)
    }

    /// Takes the oldest item out, and waits for one for up to `d`. [`Duration::MAX`] is for ever; zero
    /// does not wait.
    ///
    /// # Errors
    /// None came in time; or none is left and none will come, because the queue is closed.
    pub fn pop_timeout(&self, d: Duration) -> Result<T, PopError> {
        if let Some(item) = self.pop() {
            return Ok(item);
        }
        let until = clock::now().checked_add(d);
        self.pop_as_wished(until, || Wish::Wait, || {})
    }

    /// Takes an item out for somebody whose wish may change. Whoever changes it calls
    /// [`Queue::look_again`] afterwards. `taken` is called under the lock, when the item is out.
    ///
    /// # Errors
    /// [`PopError::Closed`] also for [`Wish::Leave`], and for [`Wish::Take`] if there is none.
    pub(super) fn pop_as_wished(
        &self,
        until: Option<Instant>,
        wish: impl Fn() -> Wish,
        taken: impl FnOnce(),
    ) -> Result<T, PopError> {
        let mut thread: Option<Thread> = None;
        let mut has_looked = false;
        loop {
            let mut state = self.lock();
            if let Some(thread) = &thread {
                state.wake_as_popper(thread);
            }
            let wish = wish();
            if wish == Wish::Leave {
                let after = state.pass_on();
                self.release(state, after);
                return Err(PopError::Closed);
            }
            if let Some((item, after)) = state.pop() {
                taken();
                self.release(state, after);
                return Ok(item);
            }
            if wish == Wish::Take || state.is_closed() {
                return Err(PopError::Closed);
            }
            if until.is_some_and(|at| at <= clock::now()) {
                return Err(PopError::Timeout);
            }
            if !has_looked {
                has_looked = true;
                drop(state);
                spin::look(|| !self.is_empty());
                continue;
            }
            let thread = thread.get_or_insert_with(thread::current);
            state.sleep_as_popper(thread.clone());
            drop(state);
            park(until);
        }
    }

    /// Has everybody who waits for an item look at their wish again.
    pub(super) fn look_again(&self) {
        let mut state = self.lock();
        let after = state.wake_all_poppers();
        self.release(state, after);
    }

    /// Takes everything out. `taken` is called under the lock with how many those are.
    pub(super) fn take_all(&self, taken: impl FnOnce(usize)) -> VecDeque<T> {
        let mut state = self.lock();
        let (items, after) = state.take_all();
        taken(items.len());
        self.release(state, after);
        items
    }

    /// Refuses pushes as [`PushError::Draining`], until [`Queue::resume`].
    pub(super) fn pause(&self) {
        let mut state = self.lock();
        let after = state.pause();
        self.release(state, after);
    }

    pub(super) fn resume(&self) {
        self.lock().resume();
    }

    /// Whether nobody else has a handle.
    pub(super) fn is_last_handle(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Calls `f` under the lock, with how many items there are.
    pub(super) fn with_len<R>(&self, f: impl FnOnce(usize) -> R) -> R {
        f(self.lock().len())
    }

    /// How many items are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.len.load(Ordering::Acquire)
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes no more items, for good: whoever waits for room gets [`PushError::Closed`] with their
    /// item. What is in it can still be popped; after that [`PopError::Closed`] is the answer to those who
    /// wait. Again: nothing.
    pub fn close(&self) {
        let mut state = self.lock();
        let after = state.close();
        self.release(state, after);
    }

    /// Whether it was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().is_closed()
    }

    /// Refuses pushes as [`PushError::Draining`] until others have popped everything, and waits for
    /// that for up to `d`. Then it takes them again, whatever the answer. An empty queue is drained at
    /// once.
    ///
    /// Several may wait for it; pushes are refused as long as one does.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`]: there was something in it all the time.
    pub fn drain(&self, d: Duration) -> Result<(), Error> {
        let until = clock::now().checked_add(d);
        let thread = thread::current();
        let mut state = self.lock();
        let (waits, after) = state.sleep_as_drainer(thread.clone());
        self.release(state, after);
        if !waits {
            return Ok(());
        }
        loop {
            let timed_out = park(until);
            let mut state = self.lock();
            if state.is_drained_for(&thread) {
                return Ok(());
            }
            if timed_out {
                let left = state.len();
                state.give_up_draining(&thread);
                let text = format!("the queue is not empty after {d:?}: it holds {left}");
                return Err(Error::new(ErrorKind::Timeout, text));
            }
        }
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.shared.state.lock()
    }

    /// Lets go of the lock and does what the change has left to do.
    #[inline]
    fn release(&self, state: MutexGuard<'_, State<T>>, after: After<T>) {
        self.shared.len.store(state.len(), Ordering::Release);
        drop(state);
        after.act();
    }
}

/// Sleeps until somebody wakes the thread, or without a reason until earlier. True: the time is over.
fn park(until: Option<Instant>) -> bool {
    match until {
        None => {
            thread::park();
            false
        }
        Some(at) => {
            thread::park_timeout(at.saturating_duration_since(clock::now()));
            at <= clock::now()
        }
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue {
            shared: self.shared.clone(),
        }
    }
}

/// With how many wait for room.
impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Queue")
            .field("len", &state.len())
            .field("in_line", &state.in_line())
            .field("closed", &state.is_closed())
            .finish_non_exhaustive()
    }
}
