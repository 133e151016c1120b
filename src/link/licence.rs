//! A service's licence to start again by itself.
//!
//! A supervisor starts a service under a licence when there would be nothing to decide at its
//! failures: nobody counts, delays or shares them. Its thread then goes on with the next incarnation
//! at once, publishes it, and the supervisor hears of it with the next thing that the service has to
//! tell. So the way to another thread and back, most of what a restart takes, is not on its path.
//!
//! Protocol. Every line is one critical section.
//!
//! * An incarnation hands on only if the licence isn't revoked; its heir is published and told then.
//! * Before it announces a stop and asks for one, the supervisor revokes the licence, and learns who runs:
//!   that one is asked, and nobody follows it by itself.
//! * What is counted here is taken once, by the supervisor: right after it has asked for a stop, when
//!   nothing can be added any more, and before it deals with anything that comes from a later
//!   incarnation than it knows of.
//!
//! A supervisor that stops makes all its licences void before it asks the first service.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::clock;
use crate::context::Incarnation;
use crate::failure::{Failure, FailureKind};

pub(crate) struct Licence {
    /// Of all licences of a run.
    valid: Arc<AtomicBool>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    revoked: bool,
    /// Who runs under it. Dangling: still the one that it was given to, or nobody any more.
    holder: Weak<Incarnation>,
    /// The number of the last one that has begun by itself; 0 if none has.
    last: u64,
    renewals: Renewals,
}

/// The restarts that the supervisor hasn't heard of.
#[derive(Default)]
pub(crate) struct Renewals {
    /// The number of the last one.
    pub(crate) incarnation: u64,
    pub(crate) failures: u32,
    pub(crate) panics: u32,
    pub(crate) last_failure: Option<Failure>,
}

impl Licence {
    pub(crate) fn new(valid: Arc<AtomicBool>) -> Licence {
        Licence {
            valid,
            state: Mutex::default(),
        }
    }

    /// Nobody begins under it any more. The one that runs, if it has begun by itself and hasn't gone, and
    /// its number; 0 if there was none.
    pub(crate) fn revoke(&self) -> (Option<Arc<Incarnation>>, u64) {
        let mut state = self.state.lock();
        state.revoked = true;
        (state.holder.upgrade(), state.last)
    }

    /// What the supervisor hasn't heard of yet, if there is something.
    pub(crate) fn take_renewals(&self) -> Option<Renewals> {
        let mut state = self.state.lock();
        (state.renewals.failures > 0).then(|| std::mem::take(&mut state.renewals))
    }

    /// Makes `heir` the one that runs after `failed` has failed, publishes it, and has it told. What comes
    /// back is for the caller to drop: it may hold the last references to users' errors. `None`: the
    /// supervisor is to decide.
    pub(crate) fn pass(
        &self,
        failed: &Incarnation,
        heir: &Arc<Incarnation>,
        failure: &Failure,
        tell: impl FnOnce(),
    ) -> Option<[Option<Failure>; 2]> {
        if !self.valid.load(Ordering::Acquire) {
            return None;
        }
        let now = clock::now();
        let mut state = self.state.lock();
        if state.revoked {
            return None;
        }
        state.holder = Arc::downgrade(heir);
        state.last = heir.number;
        let panics = u32::from(failure.kind() == FailureKind::Panic);
        let renewals = &mut state.renewals;
        renewals.incarnation = heir.number;
        renewals.failures = renewals.failures.saturating_add(1);
        renewals.panics = renewals.panics.saturating_add(panics);
        let unheard = renewals.last_failure.replace(failure.clone());
        // Under the same lock: whoever hears of the renewal finds it published, and it is told before
        // anything else of the heir, a stop included.
        let cell = &failed.home.cell;
        let shown = cell.update(|data| data.renew(heir.number, now, failure));
        tell();
        Some([unheard, shown])
    }
}
