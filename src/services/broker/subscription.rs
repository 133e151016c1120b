//! What waits for one subscriber, and the subscriber's end of it.

use std::collections::VecDeque;
use std::fmt;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::hub::Hub;
use super::look::look;
use crate::services::refused::{Closed, PopError};
use crate::{Context, Stopping};

/// By how much the memory for what waits grows, up to the capacity.
const GROWTH: usize = 4;

/// What a subscription loses that has no room for one more message.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// That message: what waits is kept.
    #[default]
    DropNewest,
    /// The message that has waited longest: for those who want the present rather than the past.
    DropOldest,
}

/// One subscriber's end of a [`Broker`](super::Broker): its messages in the order of publishing. Dropping
/// it ends the subscription.
///
/// May be shared between threads; each message goes to one of them.
///
/// ```
/// use backstay::services::{Broker, Overflow};
/// use backstay::Supervisor;
/// use std::time::Duration;
///
/// let prices = Broker::new(100)?;
/// let latest = prices.subscribe_with(1, Overflow::DropOldest)?;
/// let all = prices.subscribe(100)?;
/// for price in 1..=3 {
///     prices.publish(price)?;
/// }
/// let app = Supervisor::new("app");
/// app.add("prices", prices.clone())?;
/// app.start()?;
/// assert!(app.stop().is_empty()); // delivers what was accepted
///
/// assert_eq!(latest.recv(), Ok(3));
/// assert_eq!(latest.dropped(), 2);
/// assert_eq!(all.len(), 3);
/// assert_eq!(all.recv_timeout(Duration::from_secs(1)), Ok(1));
/// # Ok::<(), backstay::Error>(())
/// ```
#[must_use = "dropping a subscription ends it"]
pub struct Subscription<T> {
    hub: Arc<Hub<T>>,
    id: u64,
    mailbox: Arc<Mailbox<T>>,
}

impl<T> Subscription<T> {
    pub(super) fn new(hub: Arc<Hub<T>>, id: u64, mailbox: Arc<Mailbox<T>>) -> Subscription<T> {
        Subscription { hub, id, mailbox }
    }

    /// Waits for the next message. In a service rather [`recv_or_stop`](Subscription::recv_or_stop),
    /// which a stop ends.
    ///
    /// # Errors
    /// The broker is closed, and everything was received.
    pub fn recv(&self) -> Result<T, Closed> {
        let mut letters = self.mailbox.wait(|received, letters| {
            received.wait_while(letters, |l| l.is_awaited());
        });
        self.mailbox.next(&mut letters).map_err(|_| Closed)
    }

    /// Waits at most `d`; zero doesn't wait.
    ///
    /// # Errors
    /// Nothing came in time; or the broker is closed, and everything was received.
    pub fn recv_timeout(&self, d: Duration) -> Result<T, PopError> {
        if d.is_zero() {
            return self.try_recv();
        }
        let mut letters = self.mailbox.wait(|received, letters| {
            received.wait_while_for(letters, |l| l.is_awaited(), d);
        });
        self.mailbox.next(&mut letters)
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// [`PopError::Timeout`] if there is none; [`PopError::Closed`] if there will be none either.
    pub fn try_recv(&self) -> Result<T, PopError> {
        self.mailbox.next(&mut self.mailbox.letters.lock())
    }

    /// How many messages wait to be received.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mailbox.letters.lock().queue.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many messages it has lost, because there was no room or their `Clone` panicked.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.mailbox.tally().dropped
    }
}

impl<T: Send + 'static> Subscription<T> {
    /// Waits for the next message, or until the service that `ctx` is of shall stop. `None`: the broker
    /// is closed, and everything was received.
    ///
    /// ```
    /// use backstay::services::Broker;
    /// use backstay::{Context, Supervisor};
    ///
    /// let lines = Broker::<String>::new(100)?;
    /// let subscription = lines.subscribe(100)?;
    /// let app = Supervisor::new("app");
    /// app.add("printer", move |ctx: &Context| {
    ///     while let Some(line) = subscription.recv_or_stop(ctx)? {
    ///         println!("{line}");
    ///     }
    ///     Ok(())
    /// })?;
    /// app.start()?;
    /// assert!(app.stop().is_empty());
    /// # Ok::<(), backstay::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Stopping`] if it shall, also when messages are waiting: with `?` that makes a clean end. What
    /// waits is there for the next incarnation.
    pub fn recv_or_stop(&self, ctx: &Context) -> Result<Option<T>, Stopping> {
        if ctx.is_stopping() {
            return Err(Stopping::default());
        }
        match self.try_recv() {
            Ok(message) => return Ok(Some(message)),
            Err(PopError::Closed) => return Ok(None),
            Err(PopError::Timeout) => {}
        }
        let mailbox = self.mailbox.clone();
        let _woken = ctx.on_stop(move || mailbox.wake());
        let mut letters = self.mailbox.wait(|received, letters| {
            received.wait_while(letters, |l| l.is_awaited() && !ctx.is_stopping());
        });
        if !ctx.is_stopping() {
            return Ok(self.mailbox.next(&mut letters).ok());
        }
        // The wake-up for a message may have come here; another thread may wait for it.
        drop(letters);
        self.mailbox.received.notify_one();
        Err(Stopping::default())
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.hub.leave(self.id, &self.mailbox);
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("waiting", &self.len())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

pub(super) struct Mailbox<T> {
    capacity: usize,
    overflow: Overflow,
    letters: Mutex<Letters<T>>,
    /// There is something to receive, for a look without the lock.
    filled: AtomicBool,
    received: Condvar,
}

struct Letters<T> {
    queue: VecDeque<T>,
    tally: Tally,
    /// The broker is closed, or the subscription gone.
    closed: bool,
}

impl<T> Letters<T> {
    fn is_awaited(&self) -> bool {
        self.queue.is_empty() && !self.closed
    }
}

/// What became of messages.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    /// Put into a mailbox and not pushed out of it.
    pub(super) delivered: u64,
    pub(super) dropped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.delivered += other.delivered;
        self.dropped += other.dropped;
    }
}

impl<T> Mailbox<T> {
    pub(super) fn new(capacity: usize, overflow: Overflow) -> Mailbox<T> {
        Mailbox {
            capacity,
            overflow,
            letters: Mutex::new(Letters {
                queue: VecDeque::new(),
                tally: Tally::default(),
                closed: false,
            }),
            filled: AtomicBool::new(false),
            received: Condvar::new(),
        }
    }

    /// Puts messages in, and counts what becomes of them. Those that nobody will read go to `lost`, to be
    /// dropped without the lock.
    pub(super) fn offer(&self, messages: &mut Vec<T>, lost: &mut Vec<T>) {
        let mut letters = self.letters.lock();
        if letters.closed {
            drop(letters);
            lost.append(messages);
            return;
        }
        let offered = messages.len();
        let fit = match self.overflow {
            Overflow::DropNewest => offered.min(self.capacity - letters.queue.len()),
            Overflow::DropOldest => offered,
        };
        self.make_room(&mut letters.queue, fit);
        letters.queue.extend(messages.drain(..fit));
        let too_many = letters.queue.len().saturating_sub(self.capacity);
        lost.extend(letters.queue.drain(..too_many));
        letters.tally.delivered += fit as u64;
        letters.tally.delivered -= too_many as u64;
        letters.tally.dropped += (offered - fit + too_many) as u64;
        self.filled.store(true, Ordering::Release);
        drop(letters);
        if fit > 1 {
            self.received.notify_all();
        } else {
            self.received.notify_one();
        }
        lost.append(messages);
    }

    /// Memory for more messages: a lot of it at a time, because every time what waits is moved.
    fn make_room(&self, queue: &mut VecDeque<T>, more: usize) {
        let needed = queue.len() + more;
        if needed > queue.capacity() {
            let room = needed.saturating_mul(GROWTH).min(self.capacity);
            queue.reserve_exact(room.max(needed) - queue.len());
        }
    }

    /// A message that could not be made for it.
    pub(super) fn lose(&self) {
        let mut letters = self.letters.lock();
        if !letters.closed {
            letters.tally.dropped += 1;
        }
    }

    pub(super) fn tally(&self) -> Tally {
        self.letters.lock().tally
    }

    /// Takes nothing any more; what is there can be read.
    pub(super) fn close(&self) -> Tally {
        let mut letters = self.letters.lock();
        letters.closed = true;
        let tally = letters.tally;
        self.filled.store(true, Ordering::Release);
        drop(letters);
        self.received.notify_all();
        tally
    }

    /// Nobody reads any more: what was left unread.
    pub(super) fn empty(&self) -> (Tally, VecDeque<T>) {
        let mut letters = self.letters.lock();
        letters.closed = true;
        (letters.tally, std::mem::take(&mut letters.queue))
    }

    /// Waits with `sleep` if there is nothing to receive.
    fn wait(
        &self,
        sleep: impl FnOnce(&Condvar, &mut MutexGuard<'_, Letters<T>>),
    ) -> MutexGuard<'_, Letters<T>> {
        let mut letters = self.letters.lock();
        if letters.is_awaited() {
            MutexGuard::unlocked(&mut letters, || {
                look(|| self.filled.load(Ordering::Acquire))
            });
            sleep(&self.received, &mut letters);
        }
        letters
    }

    fn next(&self, letters: &mut Letters<T>) -> Result<T, PopError> {
        let message = letters.queue.pop_front().ok_or(match letters.closed {
            true => PopError::Closed,
            false => PopError::Timeout,
        });
        self.filled
            .store(!letters.queue.is_empty(), Ordering::Release);
        message
    }

    fn wake(&self) {
        // Who has looked and does not sleep yet holds it.
        drop(self.letters.lock());
        self.received.notify_all();
    }
}
