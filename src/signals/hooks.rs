//! The functions of a builder for signals. They are called on a short-lived thread, so that none of them
//! holds up a stop; one after the other, and once for all signals of a number that came meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::driver::core::Core;
use crate::driver::limits;
use crate::driver::panic::{guarded, guarded_as};
use crate::event::EventKind;
use crate::link::hub::Emitter;

pub(super) struct Hooks {
    core: Arc<Core>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Signals that have come; as many as there are numbers.
    pending: BTreeSet<i32>,
    /// The thread exists.
    running: bool,
    over: bool,
}

impl Hooks {
    pub(super) fn new(core: Arc<Core>) -> Arc<Hooks> {
        Arc::new(Hooks {
            core,
            state: Mutex::default(),
        })
    }

    /// The signals that there are functions for.
    pub(super) fn signals(&self) -> BTreeSet<i32> {
        let hooks = &self.core.settings.signal_hooks;
        hooks.iter().map(|(number, _)| *number).collect()
    }

    /// Has the functions for a signal called. Never blocks.
    pub(super) fn call(self: &Arc<Hooks>, number: i32) {
        let mut state = self.state.lock();
        if state.over {
            return;
        }
        state.pending.insert(number);
        if std::mem::replace(&mut state.running, true) {
            return;
        }
        drop(state);
        let hooks = self.clone();
        let spawned = limits::take_room().is_ok()
            && std::thread::Builder::new()
                .name("backstay-hook".to_owned())
                .spawn(move || hooks.work())
                .is_ok();
        if !spawned {
            // The next signal tries again.
            self.state.lock().running = false;
            let text = Arc::from(format!("no thread for the functions of signal {number}"));
            self.tell(EventKind::Log { text });
        }
    }

    /// Nothing is called any more. What is being called goes on.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.over = true;
        state.pending.clear();
    }

    fn work(&self) {
        while let Some(signal) = self.next() {
            for (number, hook) in &self.core.settings.signal_hooks {
                if *number != signal || self.state.lock().over {
                    continue;
                }
                let quiet = self.core.settings.quiet_panics;
                if let Err(message) = guarded_as(quiet, || hook(&self.core)) {
                    let message = Arc::from(format!("on_signal {number}: {message}"));
                    self.tell(EventKind::HookPanicked { message });
                }
            }
        }
    }

    fn next(&self) -> Option<i32> {
        let mut state = self.state.lock();
        let next = state.pending.pop_first();
        state.running = next.is_some();
        next
    }

    /// With the path of the supervisor. Where nobody is left to listen, in the log.
    fn tell(&self, kind: EventKind) {
        let path: Arc<str> = Arc::from(self.core.path());
        match self.core.post() {
            Some(post) if !post.is_closed() => {
                let hubs = Arc::new([self.core.hub.clone()]);
                Emitter { hubs, post }.emit(&path, 0, kind);
            }
            Some(_) | None => drop(guarded(|| log::warn!(target: &path, "{kind}"))),
        }
    }
}
