//! Knows when the last thread of a supervisor's incarnation has ended.
//!
//! A supervisor that is a service may end while threads that it had to abandon still exist. Every
//! thread below it holds a reference to the supervisor's fence, and the fence one to the fence
//! around it. When the last reference goes, the parent is told, which may then start the supervisor
//! again. So "never run twice at the same time" holds for whole trees.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use super::rest::tell;
use crate::context::{Home, Incarnation};
use crate::link::fact::Fact;

pub(crate) struct Fence {
    /// Of the service that the supervisor is, or that runs it.
    home: Arc<Home>,
    incarnation: u64,
    /// Somebody was left behind, so the parent waits.
    awaited: AtomicBool,
    /// The fence of the supervisor above; released after the parent was told.
    _outer: Option<Arc<dyn Any + Send + Sync>>,
}

impl Fence {
    /// The fence of an incarnation: made by the first supervisor that runs in it, and released by
    /// its thread after that has told its end. So the parent hears of the end first.
    pub(crate) fn of(incarnation: &Incarnation) -> Arc<Fence> {
        let mut below = incarnation.below.lock();
        let nested = below.nested_mut();
        let made = nested.fence.clone().and_then(|fence| fence.downcast().ok());
        let fence: Arc<Fence> = made.unwrap_or_else(|| {
            Arc::new(Fence {
                home: incarnation.home.clone(),
                incarnation: incarnation.number,
                awaited: AtomicBool::new(false),
                _outer: incarnation.home.fence.as_ref().and_then(Weak::upgrade),
            })
        });
        nested.fence = Some(fence.clone());
        fence
    }

    /// Somebody is left behind this fence.
    pub(crate) fn await_clearing(&self) {
        self.awaited.store(true, Ordering::Release);
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        if self.awaited.load(Ordering::Acquire) {
            // If the parent is gone, its own fence tells the one above.
            let cleared = Fact::Cleared {
                child: self.home.cell.id.child,
                incarnation: self.incarnation,
            };
            tell(&self.home, cleared);
        }
    }
}
