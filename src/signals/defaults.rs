//! What signals do while no `run` is under way.
//!
//! A handler can't be taken back, so it stays, and does what the system would have done, unless
//! somebody holds the signal.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use signal_hook::flag::register_conditional_default;

static KNOWN: Mutex<BTreeMap<i32, Known>> = Mutex::new(BTreeMap::new());

/// A signal that was held once.
struct Known {
    acts_by_default: Arc<AtomicBool>,
    held: usize,
}

/// Has handlers installed that act by default. Before those that don't: a signal in between is not lost.
pub(super) fn install(signals: &[i32]) -> io::Result<()> {
    let mut known = KNOWN.lock();
    for signal in signals {
        if known.contains_key(signal) {
            continue;
        }
        let acts_by_default = Arc::new(AtomicBool::new(true));
        register_conditional_default(*signal, acts_by_default.clone())?;
        let new = Known {
            acts_by_default,
            held: 0,
        };
        known.insert(*signal, new);
    }
    Ok(())
}

/// While it lives these signals don't act by default.
pub(super) struct Hold {
    signals: Vec<i32>,
}

impl Hold {
    pub(super) fn new(signals: Vec<i32>) -> Hold {
        change(&signals, |held| held + 1);
        Hold { signals }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        change(&self.signals, |held| held - 1);
    }
}

fn change(signals: &[i32], by: impl Fn(usize) -> usize) {
    let mut known = KNOWN.lock();
    for signal in signals {
        if let Some(known) = known.get_mut(signal) {
            known.held = by(known.held);
            known
                .acts_by_default
                .store(known.held == 0, Ordering::SeqCst);
        }
    }
}
