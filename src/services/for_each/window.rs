//! How far a source is pulled ahead of those who do something with its items.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use crate::Never;
use crate::services::select::{First, first};

/// Counts the items that were pulled and are not finished.
pub(super) struct Window {
    max: usize,
    state: Mutex<State>,
    /// Rung once for somebody who waits; one ring may be left over.
    bell: Sender<()>,
    rings: Receiver<()>,
}

struct State {
    out: usize,
    is_awaited: bool,
}

/// Room for one item, until it is dropped.
pub(super) struct Permit(Arc<Window>);

impl Window {
    pub(super) fn new(max: usize) -> Arc<Window> {
        let (bell, rings) = bounded(1);
        let state = State {
            out: 0,
            is_awaited: false,
        };
        Arc::new(Window {
            max,
            state: Mutex::new(state),
            bell,
            rings,
        })
    }

    /// Waits for room. `None`: it is not wanted any more; one of `interrupts` says when to look.
    pub(super) fn take(
        self: &Arc<Window>,
        is_wanted: impl Fn() -> bool,
        interrupts: &[&Receiver<Never>],
    ) -> Option<Permit> {
        loop {
            // Also after a ring: what has made room may be the stop.
            if !is_wanted() {
                return None;
            }
            let mut state = self.state.lock();
            if state.out < self.max {
                state.out += 1;
                return Some(Permit(self.clone()));
            }
            state.is_awaited = true;
            drop(state);
            match first(interrupts, &self.rings, None) {
                First::Item(()) => {}
                First::Interrupt(_) | First::Closed | First::Timeout => return None,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.out -= 1;
        let is_awaited = std::mem::take(&mut state.is_awaited);
        drop(state);
        if is_awaited {
            // Full: it rings already.
            let _ = self.0.bell.try_send(());
        }
    }
}
