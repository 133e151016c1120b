//! Events on their way to those who listen.
//!
//! Each supervisor has a hub with its own listeners. An event goes to the hub of the supervisor
//! where it happened and to those of all above it: subscribers are fed directly and never waited
//! for; observers and the log go through the tree's dispatcher thread.
//!
//! The number of an event is given out under the tree's one event lock, and the event is put into
//! every queue before that lock is released. So each queue has its events in the order of their
//! numbers. No user code runs under the lock.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::{Condvar, Mutex};

use super::clock;
use crate::event::{Event, EventKind};

/// An observer given to a builder.
pub(crate) type Observer = Box<dyn Fn(&Event) + Send + Sync>;

/// How many events wait for the observers and the log of a tree; more are dropped and counted.
pub const DISPATCH_QUEUE_MAX: usize = 8192;

/// How long `stop`, `wait` and `run` wait at the end for observers and the log.
pub const EVENT_FLUSH_MAX: Duration = Duration::from_millis(500);

/// The listeners of one supervisor.
pub(crate) struct Hub {
    pub(crate) observers: Vec<Observer>,
    subscribers: Mutex<Subscribers>,
    listening: AtomicBool,
    /// A panic of an observer is told once.
    pub(crate) observer_panicked: AtomicBool,
}

struct Subscribers {
    list: Vec<Subscriber>,
    closed: bool,
}

struct Subscriber {
    queue: Sender<Event>,
    tally: Weak<Tally>,
}

/// What a hub and an `Events` share besides the queue.
#[derive(Default)]
struct Tally {
    dropped: Mutex<u64>,
    /// Nothing more will be sent.
    closed: AtomicBool,
}

impl Hub {
    pub(crate) fn new(observers: Vec<Observer>) -> Hub {
        Hub {
            observers,
            subscribers: Mutex::new(Subscribers {
                list: Vec::new(),
                closed: false,
            }),
            listening: AtomicBool::new(false),
            observer_panicked: AtomicBool::new(false),
        }
    }

    pub(crate) fn subscribe(&self, capacity: usize) -> Events {
        let (queue, receiver) = bounded(capacity);
        let tally = Arc::new(Tally::default());
        let mut subscribers = self.subscribers.lock();
        if subscribers.closed {
            tally.closed.store(true, Ordering::Release);
        } else {
            subscribers.list.push(Subscriber {
                queue,
                tally: Arc::downgrade(&tally),
            });
            self.listening.store(true, Ordering::Release);
        }
        Events {
            queue: receiver,
            tally,
        }
    }

    /// The tree is gone: what is queued can still be read.
    pub(crate) fn close(&self) {
        let mut subscribers = self.subscribers.lock();
        subscribers.closed = true;
        for subscriber in subscribers.list.drain(..) {
            if let Some(tally) = subscriber.tally.upgrade() {
                tally.closed.store(true, Ordering::Release);
            }
        }
        self.listening.store(false, Ordering::Release);
    }

    fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    fn push(&self, event: &Event) {
        if !self.is_listening() {
            return;
        }
        let mut subscribers = self.subscribers.lock();
        // `Events` that were dropped leave here.
        subscribers
            .list
            .retain(|s| match s.queue.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => match s.tally.upgrade() {
                    Some(tally) => {
                        *tally.dropped.lock() += 1;
                        true
                    }
                    None => false,
                },
                Err(TrySendError::Disconnected(_)) => false,
            });
        if subscribers.list.is_empty() {
            self.listening.store(false, Ordering::Release);
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

/// The way of events through a tree: the event lock and the dispatcher's queue.
pub(crate) struct Post {
    numbered: Mutex<u64>,
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    /// Starts the dispatcher thread the first time it is needed.
    spawn: Box<dyn Fn(Arc<Post>) -> bool + Send + Sync>,
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Delivery>,
    delivering: bool,
    running: bool,
    closed: bool,
    dropped: u64,
}

/// An event and the hubs whose observers shall see it, innermost first.
pub(crate) struct Delivery {
    pub(crate) event: Event,
    pub(crate) hubs: Arc<[Arc<Hub>]>,
    /// How many were dropped before this one because the queue was full.
    pub(crate) dropped_before: u64,
}

impl Post {
    pub(crate) fn new(spawn: impl Fn(Arc<Post>) -> bool + Send + Sync + 'static) -> Post {
        Post {
            numbered: Mutex::new(0),
            queue: Mutex::new(Queue::default()),
            filled: Condvar::new(),
            drained: Condvar::new(),
            spawn: Box::new(spawn),
        }
    }

    fn deliver(self: &Arc<Post>, event: Event, hubs: &Arc<[Arc<Hub>]>) {
        let mut queue = self.queue.lock();
        if queue.closed {
            return;
        }
        if queue.items.len() >= DISPATCH_QUEUE_MAX {
            queue.dropped += 1;
            return;
        }
        let dropped_before = std::mem::take(&mut queue.dropped);
        queue.items.push_back(Delivery {
            event,
            hubs: hubs.clone(),
            dropped_before,
        });
        if !queue.running {
            queue.running = (self.spawn)(self.clone());
            if !queue.running {
                // No thread to be had: the next event tries again.
                queue.items.clear();
                queue.dropped += 1;
            }
        }
        drop(queue);
        self.filled.notify_one();
    }

    /// For the dispatcher: the next delivery. `None`: closed and empty.
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

    /// The tree is over: the dispatcher ends when its queue is empty.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.filled.notify_one();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().closed
    }

    /// Gives the dispatcher at most [`EVENT_FLUSH_MAX`] to deliver what is queued.
    pub(crate) fn flush(&self) {
        let Some(until) = clock::now().checked_add(EVENT_FLUSH_MAX) else {
            return;
        };
        self.flush_until(until);
    }

    fn flush_until(&self, until: Instant) {
        let mut queue = self.queue.lock();
        while queue.running && (queue.delivering || !queue.items.is_empty()) {
            if self.drained.wait_until(&mut queue, until).timed_out() {
                return;
            }
        }
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
        let observed = logged || self.hubs.iter().any(|h| !h.observers.is_empty());
        if !observed && !self.hubs.iter().any(|h| h.is_listening()) {
            return;
        }
        let mut number = self.post.numbered.lock();
        *number += 1;
        let event = Event::new(*number, path.clone(), incarnation, kind);
        for hub in self.hubs.iter() {
            hub.push(&event);
        }
        if observed {
            self.post.deliver(event, &self.hubs);
        }
    }
}
