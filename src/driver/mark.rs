//! Where the current thread belongs, so that nobody waits for their own end.

use std::cell::RefCell;
use std::sync::Arc;

use super::core::Core;
use crate::context::{Context, Home, Incarnation};
use crate::event::EventKind;
use crate::link::hub::{Emitter, Post};

/// A supervisor that has something done on another thread.
pub(crate) struct Supervisor {
    pub(crate) core: Arc<Core>,
    pub(crate) path: Arc<str>,
    pub(crate) emitter: Emitter,
    pub(crate) quiet: bool,
}

/// An event that was delivered, and whom what happens at its end is told.
pub(crate) struct Delivered {
    pub(crate) path: Arc<str>,
    pub(crate) incarnation: u64,
    pub(crate) emitter: Emitter,
    pub(crate) quiet: bool,
}

/// Whose code runs on a thread.
pub(crate) enum Owner {
    Service(Arc<Home>, u64),
    Supervisor(Arc<Supervisor>),
    Event(Arc<Delivered>),
}

impl Owner {
    pub(crate) fn is_quiet(&self) -> bool {
        match self {
            Owner::Service(home, _) => home.quiet,
            Owner::Supervisor(supervisor) => supervisor.quiet,
            Owner::Event(delivered) => delivered.quiet,
        }
    }

    /// Nobody listens to its tree any more.
    pub(crate) fn is_over(&self) -> bool {
        match self {
            Owner::Service(home, _) => home.emitter.post.is_closed(),
            Owner::Supervisor(supervisor) => supervisor.emitter.post.is_closed(),
            Owner::Event(delivered) => delivered.emitter.post.is_closed(),
        }
    }

    pub(crate) fn emit(&self, kind: EventKind) {
        match self {
            Owner::Service(home, incarnation) => home.emit(*incarnation, kind),
            Owner::Supervisor(s) => s.emitter.emit(&s.path, 0, kind),
            Owner::Event(e) => e.emitter.emit(&e.path, e.incarnation, kind),
        }
    }
}

/// What a thread of ours is doing.
#[derive(Clone, Default)]
pub(crate) struct Mark {
    /// The incarnation whose `run` or stop hook runs here.
    pub(crate) incarnation: Option<Arc<Incarnation>>,
    /// The service whose values are dropped here.
    pub(crate) home: Option<Arc<Home>>,
    /// The supervisor what is left of whose services is dropped here.
    pub(crate) supervisor: Option<Arc<Supervisor>>,
    /// This is a dispatcher thread of that tree.
    pub(crate) dispatcher: Option<Arc<Post>>,
    /// The event whose values are dropped here.
    pub(crate) delivered: Option<Arc<Delivered>>,
}

thread_local! {
    static MARK: RefCell<Mark> = const { RefCell::new(Mark { incarnation: None, home: None, supervisor: None, dispatcher: None, delivered: None }) };
}

impl Mark {
    pub(crate) fn of_home(home: Arc<Home>) -> Mark {
        Mark {
            home: Some(home),
            ..Mark::default()
        }
    }

    pub(crate) fn of_supervisor(supervisor: Arc<Supervisor>) -> Mark {
        Mark {
            supervisor: Some(supervisor),
            ..Mark::default()
        }
    }
}

/// Marks the thread until the guard is dropped; then it is what it was before.
pub(crate) fn enter(mark: Mark) -> Marked {
    Marked {
        before: MARK.with(|m| m.replace(mark)),
    }
}

pub(crate) struct Marked {
    before: Mark,
}

impl Drop for Marked {
    fn drop(&mut self) {
        let before = std::mem::take(&mut self.before);
        // The old mark is dropped after the borrow.
        drop(MARK.try_with(|m| m.replace(before)));
    }
}

/// The incarnation whose code runs on this thread.
pub(crate) fn incarnation() -> Option<Arc<Incarnation>> {
    MARK.try_with(|m| m.borrow().incarnation.clone())
        .ok()
        .flatten()
}

impl Context {
    /// The context of the service whose `run` or stop hook calls this, for code that is called from
    /// services and from elsewhere: a wait that should end at the stop of whoever waits. `None` on
    /// any other thread, also on one that a service has made itself.
    ///
    /// ```
    /// use backstay::Context;
    /// use std::time::Duration;
    ///
    /// /// Sleeps; in a service not beyond its stop.
    /// fn doze(d: Duration) {
    ///     match Context::current() {
    ///         Some(ctx) => drop(ctx.sleep(d)),
    ///         None => std::thread::sleep(d),
    ///     }
    /// }
    ///
    /// assert!(Context::current().is_none());
    /// doze(Duration::from_millis(1));
    /// ```
    #[must_use]
    pub fn current() -> Option<Context> {
        incarnation().map(Context::new)
    }
}

/// Whose code runs here, in `run`, in a stop hook or in a `Drop`.
pub(crate) fn owner() -> Option<Owner> {
    MARK.try_with(|m| {
        let mark = m.borrow();
        match (&mark.incarnation, &mark.home, &mark.supervisor) {
            (Some(incarnation), _, _) => {
                Some(Owner::Service(incarnation.home.clone(), incarnation.number))
            }
            (None, Some(home), _) => Some(Owner::Service(home.clone(), 0)),
            (None, None, Some(supervisor)) => Some(Owner::Supervisor(supervisor.clone())),
            (None, None, None) => mark.delivered.clone().map(Owner::Event),
        }
    })
    .ok()
    .flatten()
}

/// The service that this thread belongs to.
pub(crate) fn home() -> Option<Arc<Home>> {
    match owner()? {
        Owner::Service(home, _) => Some(home),
        Owner::Supervisor(_) | Owner::Event(_) => None,
    }
}

/// The supervisor that waits for this thread.
pub(crate) fn supervisor() -> Option<Arc<Core>> {
    match owner()? {
        Owner::Service(home, _) => Some(home.supervisor.core().clone()),
        Owner::Supervisor(supervisor) => Some(supervisor.core.clone()),
        Owner::Event(_) => None,
    }
}

pub(crate) fn is_dispatcher_of(post: &Arc<Post>) -> bool {
    MARK.try_with(|m| {
        m.borrow()
            .dispatcher
            .as_ref()
            .is_some_and(|p| Arc::ptr_eq(p, post))
    })
    .unwrap_or(false)
}
