//! Where the current thread belongs, so that nobody waits for their own end.

use std::cell::RefCell;
use std::sync::Arc;

use super::core::Core;
use crate::context::{Context, Home, Incarnation};
use crate::link::hub::Post;

/// What a thread of ours is doing.
#[derive(Clone, Default)]
pub(crate) struct Mark {
    /// The incarnation whose `run` or stop hook runs here.
    pub(crate) incarnation: Option<Arc<Incarnation>>,
    /// The service whose values are dropped here.
    pub(crate) home: Option<Arc<Home>>,
    /// The supervisor what is left of whose services is dropped here.
    pub(crate) core: Option<Arc<Core>>,
    /// This is a dispatcher thread of that tree.
    pub(crate) dispatcher: Option<Arc<Post>>,
}

thread_local! {
    static MARK: RefCell<Mark> = const { RefCell::new(Mark { incarnation: None, home: None, core: None, dispatcher: None }) };
}

impl Mark {
    pub(crate) fn of_home(home: Arc<Home>) -> Mark {
        Mark {
            home: Some(home),
            ..Mark::default()
        }
    }

    pub(crate) fn of_supervisor(core: Arc<Core>) -> Mark {
        Mark {
            core: Some(core),
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

/// The service that this thread belongs to, in `run`, in a stop hook or in a `Drop` of its values.
pub(crate) fn home() -> Option<Arc<Home>> {
    MARK.try_with(|m| {
        let mark = m.borrow();
        match &mark.incarnation {
            Some(incarnation) => Some(incarnation.home.clone()),
            None => mark.home.clone(),
        }
    })
    .ok()
    .flatten()
}

/// The supervisor that waits for this thread.
pub(crate) fn supervisor() -> Option<Arc<Core>> {
    match home() {
        Some(home) => Some(home.supervisor.core().clone()),
        None => MARK.try_with(|m| m.borrow().core.clone()).ok().flatten(),
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
