//! Knows when the last thread of a supervisor's incarnation has ended.
//!
//! A supervisor that is a service may end while threads that it had to abandon still exist. Every
//! thread below it holds a reference to the supervisor's fence, and the fence one to the fence
//! around it. When the last reference goes, the parent is told, which may then start the supervisor
//! again. So "never run twice at the same time" holds for whole trees.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::id::ChildId;
use crate::link::fact::Fact;

pub(crate) struct Fence {
    parent: Sender<Fact>,
    child: ChildId,
    incarnation: u64,
    /// The fence of the supervisor above; released after the parent was told.
    _outer: Option<Arc<Fence>>,
}

impl Fence {
    pub(crate) fn new(
        parent: Sender<Fact>,
        child: ChildId,
        incarnation: u64,
        outer: Option<Arc<Fence>>,
    ) -> Fence {
        Fence {
            parent,
            child,
            incarnation,
            _outer: outer,
        }
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        // If the parent is gone, its own fence tells the one above.
        drop(self.parent.send(Fact::Cleared {
            child: self.child,
            incarnation: self.incarnation,
        }));
    }
}
