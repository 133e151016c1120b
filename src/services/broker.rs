//! Every message to every subscriber.

mod delivery;
mod hub;
mod inbox;
mod look;
mod subscription;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::refused::PushError;
use crate::{Context, Error, ErrorKind, Exit, Service, ServiceResult};

use delivery::Ended;
use hub::Hub;
pub use subscription::{Overflow, Subscription};

/// Hands every message to every subscriber, and waits for none of them.
///
/// A cheap handle: one clone runs as a service, others publish and subscribe. Published messages wait
/// in the broker's own queue, which is bounded, until the service hands each to all who are
/// subscribed at that moment, in the order of publishing; each subscriber has a bounded queue of its
/// own. What doesn't fit there is lost for that subscriber alone and counted, by [`Overflow`] the
/// newest message or the oldest.
///
/// ```
/// use backstay::services::{Broker, Closed};
/// use backstay::{Context, Supervisor};
///
/// let readings = Broker::<u32>::new(100)?;
/// let display = readings.subscribe(10)?;
/// let app = Supervisor::new("app");
/// app.add("readings", readings.clone())?;
/// let logger = readings.subscribe(10)?;
/// app.add("logger", move |ctx: &Context| {
///     // Ends at a stop, and when the broker is closed.
///     while let Some(reading) = logger.recv_or_stop(ctx)? {
///         ctx.log(format!("read {reading}"));
///     }
///     Ok(())
/// })?;
/// app.start()?;
///
/// readings.publish(20)?;
/// readings.publish(21)?;
/// assert_eq!(display.recv(), Ok(20));
/// assert!(app.stop().is_empty());
///
/// // What was accepted is delivered, then it is closed.
/// assert_eq!(display.recv(), Ok(21));
/// assert_eq!(display.recv(), Err(Closed));
/// assert_eq!(readings.publish(22).unwrap_err().into_inner(), 22);
/// # Ok::<(), backstay::Error>(())
/// ```
///
/// # Restarts and the end
///
/// Queue and subscriptions belong to the broker and not to an incarnation: they outlive a restart, and
/// what was accepted is delivered afterwards, once. Before its first start and while it is stopped by
/// [`stop_service`](crate::Supervisor::stop_service) it accepts messages until its queue is full.
///
/// It closes when its supervisor lets go of it, after a removal or at the end of the tree
/// ([`Service::retire`]); when a handle whose `run` was called by a service of yours is dropped with that
/// service; and when its last handle is gone. Then it takes nothing any more, delivers what it had
/// accepted, and closes its subscriptions, which can be read to their end. Added once more it ends at
/// once, done. At a stop for good it delivers what was accepted until then before it ends.
///
/// # The messages' own code
///
/// No lock is held while a message is cloned or dropped. A `Clone` that panics loses the message for
/// that subscriber, which counts as dropped, and for nobody else; the first one of an incarnation is
/// told with [`Context::log`]. A `Clone` that is slow delays the deliveries behind it, never a
/// publisher or a subscriber that has messages waiting. Where messages are large, publish an `Arc`.
pub struct Broker<T> {
    owner: Arc<Owner<T>>,
    /// It is the service, or within it: `run` was called on this very handle.
    ran: AtomicBool,
}

/// Shared by all handles.
struct Owner<T> {
    hub: Arc<Hub<T>>,
    /// A pointer, because a `Drop` can't ask for what the messages have to be.
    close: fn(&Hub<T>),
}

impl<T: Clone + Send + 'static> Broker<T> {
    /// A broker that accepts up to `capacity` messages that it has not begun to deliver. The memory
    /// for them is taken as they come.
    ///
    /// # Errors
    /// A capacity of zero; the text names the field.
    pub fn new(capacity: usize) -> Result<Broker<T>, Error> {
        if capacity == 0 {
            return Err(Error::invalid(
                "capacity",
                "a broker needs room for a message",
            ));
        }
        Ok(Broker {
            owner: Arc::new(Owner {
                hub: Arc::new(Hub::new(capacity)),
                close: delivery::close,
            }),
            ran: AtomicBool::new(false),
        })
    }

    /// Has a message delivered to everybody who is subscribed. Never blocks.
    ///
    /// # Errors
    /// [`Full`](PushError::Full) when `capacity` messages are waiting for their delivery,
    /// [`Closed`](PushError::Closed) once the broker is closed. The message comes back.
    pub fn publish(&self, message: T) -> Result<(), PushError<T>> {
        self.owner.hub.inbox.push(message)
    }

    /// The same, but waits for room; at most `d`, zero doesn't wait. A stop of the service that calls it
    /// does not end the wait.
    ///
    /// # Errors
    /// [`Timeout`](PushError::Timeout), or [`Closed`](PushError::Closed), also when it is closed
    /// meanwhile. The message comes back.
    pub fn publish_timeout(&self, message: T, d: Duration) -> Result<(), PushError<T>> {
        self.owner.hub.inbox.push_timeout(message, d)
    }

    /// A subscription that loses the newest message when it is full: see
    /// [`subscribe_with`](Broker::subscribe_with).
    ///
    /// # Errors
    /// As there.
    pub fn subscribe(&self, capacity: usize) -> Result<Subscription<T>, Error> {
        self.subscribe_with(capacity, Overflow::default())
    }

    /// Every message from now on, including those that still wait for their delivery. Up to
    /// `capacity` may wait to be received; what becomes of more is for `overflow` to say. Dropping the
    /// subscription ends it.
    ///
    /// # Errors
    /// A capacity of zero, named in the text; or the broker is closed: [`ErrorKind::Gone`].
    pub fn subscribe_with(
        &self,
        capacity: usize,
        overflow: Overflow,
    ) -> Result<Subscription<T>, Error> {
        if capacity == 0 {
            return Err(Error::invalid(
                "capacity",
                "a subscription needs room for a message",
            ));
        }
        Hub::subscribe(&self.owner.hub, capacity, overflow).ok_or_else(closed)
    }

    /// What it has done so far. Counts of all incarnations, and of subscribers that have left.
    #[must_use]
    pub fn stats(&self) -> BrokerStats {
        self.owner.hub.stats()
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Gone, "the broker is closed")
}

impl<T: Clone + Send + 'static> Service for Broker<T> {
    /// Delivers until it is asked to stop. One delivers at a time: while another incarnation that was
    /// abandoned, or another service with the same broker, is at it, this one waits.
    fn run(&self, ctx: &Context) -> ServiceResult {
        self.ran.store(true, Ordering::Release);
        match delivery::run(&self.owner.hub, ctx) {
            Ended::Stopped => Ok(()),
            Ended::Closed => Err(Exit::DoNotRestart.because(closed()).into()),
        }
    }

    fn retire(&self) {
        (self.owner.close)(&self.owner.hub);
    }

    // `run` has itself woken up.
    fn has_interrupt(&self) -> bool {
        false
    }
}

impl<T> Clone for Broker<T> {
    /// Another handle of the same broker.
    fn clone(&self) -> Broker<T> {
        Broker {
            owner: self.owner.clone(),
            ran: AtomicBool::new(false),
        }
    }
}

impl<T> Drop for Broker<T> {
    fn drop(&mut self) {
        if self.ran.load(Ordering::Acquire) {
            (self.owner.close)(&self.owner.hub);
        }
    }
}

impl<T> Drop for Owner<T> {
    fn drop(&mut self) {
        (self.close)(&self.hub);
    }
}

impl<T> fmt::Debug for Broker<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("stats", &self.owner.hub.stats())
            .finish_non_exhaustive()
    }
}

/// What a [`Broker`] has done: from [`Broker::stats`].
///
/// Every published message is delivered or dropped once for everybody who is subscribed when its turn
/// comes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BrokerStats {
    /// How many are subscribed now.
    pub subscribers: usize,
    /// How many messages were accepted.
    pub published: u64,
    /// How many of these wait for their delivery.
    pub queued: usize,
    /// How many messages subscribers have been given, all of them together. What one left unread when
    /// it went was delivered, too.
    pub delivered: u64,
    /// How many messages subscribers have lost, all of them together: no room, or a `Clone` that
    /// panicked.
    pub dropped: u64,
}

impl fmt::Display for BrokerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "subscribers {}, published {}, queued {}, delivered {}, dropped {}",
            self.subscribers, self.published, self.queued, self.delivered, self.dropped
        )
    }
}
