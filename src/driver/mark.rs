//! Where the current thread belongs, so that nobody waits for their own end.

use std::cell::RefCell;
use std::sync::Arc;

use crate::context::Incarnation;
use crate::link::hub::Post;

/// What a thread of ours is doing.
#[derive(Clone, Default)]
pub(crate) struct Mark {
    /// The incarnation whose `run` or stop hook runs here.
    pub(crate) incarnation: Option<Arc<Incarnation>>,
    /// This is the dispatcher of that tree.
    pub(crate) dispatcher: Option<Arc<Post>>,
}

thread_local! {
    static MARK: RefCell<Mark> = const { RefCell::new(Mark { incarnation: None, dispatcher: None }) };
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

pub(crate) fn is_dispatcher_of(post: &Arc<Post>) -> bool {
    MARK.try_with(|m| {
        m.borrow()
            .dispatcher
            .as_ref()
            .is_some_and(|p| Arc::ptr_eq(p, post))
    })
    .unwrap_or(false)
}
