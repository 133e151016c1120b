//! Events on their way to those who listen.
//!
//! Each supervisor has a hub with its own listeners. An event goes to the hub of the supervisor
//! where it happened and to those of all above it: subscribers are fed directly and never waited
//! for; observers and the log go through the tree's dispatcher threads, one for each.
//!
//! The number of an event is given out under the tree's one event lock, and the event is put into
//! every queue before that lock is released. So each queue has its events in the order of their
//! numbers. No user code runs under the lock.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use super::clock;
use super::lane::{Delivery, Lane};
use crate::error::Error;
use crate::event::{Event, EventKind};

/// An observer given to a builder.
pub(crate) type Observer = Box<dyn Fn(&Event) + Send + Sync>;

/// How long `stop`, `wait` and `run` wait at the end for observers and the log: all of them together, if
/// one follows another.
pub const EVENT_FLUSH_MAX: Duration = Duration::from_millis(500);

/// The listeners of one supervisor.
pub(crate) struct Hub {
    pub(crate) observers: Vec<Observer>,
    subscribers: Mutex<Subscribers>,
    listening: AtomicBool,
    /// A panic of an observer is told once.
    pub(crate) observer_panicked: AtomicBool,
    /// Panics of its services and of all below are not shown by the hook before ours.
    pub(crate) quiet: bool,
}

struct Subscribers {
    list: Vec<Subscriber>,
    closed: bool,
}

struct Subscriber {
    queue: Sender<Event>,
    tally: Arc<Tally>,
}

/// What a hub and an `Events` share besides the queue.
#[derive(Default)]
struct Tally {
    dropped: Mutex<u64>,
    /// Nothing more will be sent.
    closed: AtomicBool,
}

impl Hub {
    pub(crate) fn new(observers: Vec<Observer>, quiet: bool) -> Hub {
        Hub {
            observers,
            subscribers: Mutex::new(Subscribers {
                list: Vec::new(),
                closed: false,
            }),
            listening: AtomicBool::new(false),
            observer_panicked: AtomicBool::new(false),
            quiet,
        }
    }

    pub(crate) fn subscribe(self: &Arc<Hub>, capacity: usize) -> Events {
        let (queue, receiver) = bounded(capacity);
        let tally = Arc::new(Tally::default());
        let mut subscribers = self.subscribers.lock();
        if subscribers.closed {
            tally.closed.store(true, Ordering::Release);
        } else {
            subscribers.list.push(Subscriber {
                queue,
                tally: tally.clone(),
            });
            self.listening.store(true, Ordering::Release);
        }
        Events {
            queue: receiver,
            tally,
            hub: Arc::downgrade(self),
        }
    }

    /// The tree is gone: what is queued can still be read.
    pub(crate) fn close(&self) {
        let mut subscribers = self.subscribers.lock();
        subscribers.closed = true;
        for subscriber in subscribers.list.drain(..) {
            subscriber.tally.closed.store(true, Ordering::Release);
        }
        self.listening.store(false, Ordering::Release);
    }

    /// Nothing more goes into that queue.
    fn unsubscribe(&self, tally: &Arc<Tally>) {
        let mut subscribers = self.subscribers.lock();
        subscribers.list.retain(|s| !Arc::ptr_eq(&s.tally, tally));
        if subscribers.list.is_empty() {
            self.listening.store(false, Ordering::Release);
        }
    }

    fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    fn push(&self, event: &Event) {
        if !self.is_listening() {
            return;
        }
        for subscriber in &self.subscribers.lock().list {
            match subscriber.queue.try_send(event.clone()) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    *subscriber.tally.dropped.lock() += 1;
                }
            }
        }
    }
}

/// The events of a supervisor and everything below it, from the moment of
/// [`subscribe`](crate::Supervisor::subscribe) on.
///
/// A queue of bounded length: when it is full, events are dropped and counted, because nobody
/// waits for a slow listener. An iterator, too, that ends when the tree is gone.
pub struct Events {
    queue: Receiver<Event>,
    tally: Arc<Tally>,
    hub: Weak<Hub>,
}

impl Drop for Events {
    /// What was not read goes here, with its user's errors, and not under the locks of whoever tells the
    /// next event: a channel keeps its messages as long as one end is there, and ours is the last now.
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.unsubscribe(&self.tally);
        }
    }
}

impl Events {
    /// Waits for the next event. `None`: the tree is gone.
    #[must_use]
    pub fn recv(&self) -> Option<Event> {
        self.queue.recv().ok()
    }

    /// Waits at most `d`. `None`: nothing came in time, or the tree is gone; see
    /// [`is_closed`](Events::is_closed).
    #[must_use]
    pub fn recv_timeout(&self, d: Duration) -> Option<Event> {
        self.queue.recv_timeout(d).ok()
    }

    /// The next event, if there is one.
    #[must_use]
    pub fn try_recv(&self) -> Option<Event> {
        self.queue.try_recv().ok()
    }

    /// How many events found the queue full.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        *self.tally.dropped.lock()
    }

    /// Whether the tree is gone and everything was read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.tally.closed.load(Ordering::Acquire) && self.queue.is_empty()
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.recv()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("queued", &self.queue.len())
            .field("dropped", &self.dropped())
            .finish()
    }
}

/// Whom a dispatcher thread serves. Each has a queue of its own, so that an observer that blocks
/// doesn't keep the log from being written. A logger that blocks keeps observers only from going on
/// after what they themselves have to say in the log: a gap, or a panic after the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Audience {
    Observers,
    Log,
}

/// The way of events through a tree: the event lock and the queues of the dispatcher threads.
pub(crate) struct Post {
    numbered: Mutex<u64>,
    observers: Lane,
    log: Lane,
    /// When the last flush at the end of the tree is over, be it asked for once or several times.
    flush_until: Mutex<Option<Instant>>,
    /// That there is no thread is told once.
    told_no_thread: AtomicBool,
    staff: Staff,
}

/// What the driver does for a post.
pub(crate) struct Staff {
    /// Starts a dispatcher thread, the first time that it is needed.
    pub(crate) spawn: fn(&Arc<Post>, Audience) -> Result<(), Error>,
    /// Says that none is to be had. The path is that of an event that is lost.
    pub(crate) tell_no_thread: fn(&str, &Error),
}

impl Post {
    pub(crate) fn new(staff: Staff) -> Post {
        Post {
            numbered: Mutex::new(0),
            observers: Lane::default(),
            log: Lane::default(),
            flush_until: Mutex::new(None),
            told_no_thread: AtomicBool::new(false),
            staff,
        }
    }

    fn lane(&self, audience: Audience) -> &Lane {
        match audience {
            Audience::Observers => &self.observers,
            Audience::Log => &self.log,
        }
    }

    /// For a dispatcher thread: the next delivery. `None`: closed and empty.
    pub(crate) fn next(&self, audience: Audience) -> Option<Delivery> {
        self.lane(audience).next()
    }

    /// The tree is over: the dispatcher threads end when their queues are empty.
    pub(crate) fn close(&self) {
        self.observers.close();
        self.log.close();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.log.is_closed()
    }

    /// How many events the observers have missed.
    pub(crate) fn lost(&self) -> u64 {
        self.observers.lost()
    }

    /// Gives the dispatcher threads at most [`EVENT_FLUSH_MAX`] to deliver what is queued. After the end of
    /// the tree that is the time for all who wait for it together: a second call doesn't wait again for
    /// somebody who is stuck.
    pub(crate) fn flush(&self) {
        let Some(mut until) = clock::now().checked_add(EVENT_FLUSH_MAX) else {
            return;
        };
        if self.is_closed() {
            until = *self.flush_until.lock().get_or_insert(until);
        }
        self.log.wait_drained(until);
        self.observers.wait_drained(until);
    }
}

/// Where a supervisor's events go.
#[derive(Clone)]
pub(crate) struct Emitter {
    /// The supervisor's own hub first, the root's last.
    pub(crate) hubs: Arc<[Arc<Hub>]>,
    pub(crate) post: Arc<Post>,
}

impl Emitter {
    /// Tells everybody who listens. Cheap if nobody does: the event isn't made then.
    pub(crate) fn emit(&self, path: &Arc<str>, incarnation: u64, kind: EventKind) {
        let logged = kind.level(incarnation) <= log::max_level();
        let observed = self.hubs.iter().any(|h| !h.observers.is_empty());
        if !logged && !observed && !self.hubs.iter().any(|h| h.is_listening()) {
            return;
        }
        let mut number = self.post.numbered.lock();
        *number += 1;
        let event = Event::new(*number, path.clone(), incarnation, kind);
        for hub in self.hubs.iter() {
            hub.push(&event);
        }
        let mut staffed = Ok(());
        if logged {
            staffed = self.put(Audience::Log, &event, path);
        }
        if observed {
            staffed = staffed.and(self.put(Audience::Observers, &event, path));
        }
        // Before the logger, which is the user's, is called.
        drop(number);
        if let Err(why) = staffed {
            if !self.post.told_no_thread.swap(true, Ordering::AcqRel) {
                (self.post.staff.tell_no_thread)(path, &why);
            }
        }
    }

    fn put(&self, audience: Audience, event: &Event, path: &Arc<str>) -> Result<(), Error> {
        let post = &self.post;
        let spawn = || (post.staff.spawn)(post, audience);
        post.lane(audience).put(event, path, &self.hubs, spawn)
    }
}
