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
//! * Before it shows, announces or answers that a service is to stop, the supervisor revokes the licence,
//!   and learns who runs: that one is asked, and nobody follows it by itself.
//! * What is counted here is taken once, by the supervisor: when it has revoked the licence, so that
//!   nothing can be added any more, and before it deals with anything that comes from a later
//!   incarnation than it knows of.
//!
//! Who has told the supervisor something beside its end, as that it is ready, hands on nothing: both
//! are heard in their order then, and no more than the supervisor can keep up with.
//!
//! Whoever asks a whole supervisor to stop makes all its licences void first; so does the supervisor when
//! it ends by itself, before it asks the first service.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

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
    /// Once somebody has begun by itself: few do.
    used: Option<Box<Used>>,
}

#[derive(Default)]
struct Used {
    /// Who runs under it, unless that is gone.
    holder: Weak<Incarnation>,
    /// The number of the last one that has begun.
    last: u64,
    renewals: Renewals,
}

/// The restarts that the supervisor hasn't heard of.
#[derive(Default)]
pub(crate) struct Renewals {
    /// The number of the last one, and when it began.
    pub(crate) incarnation: u64,
    pub(crate) since: Option<Instant>,
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
        match &state.used {
            Some(used) => (used.holder.upgrade(), used.last),
            None => (None, 0),
        }
    }

    /// What the supervisor hasn't heard of yet, if there is something.
    pub(crate) fn take_renewals(&self) -> Option<Renewals> {
        let mut state = self.state.lock();
        let renewals = &mut state.used.as_mut()?.renewals;
        (renewals.failures > 0).then(|| std::mem::take(renewals))
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
        let used = state.used.get_or_insert_default();
        used.holder = Arc::downgrade(heir);
        used.last = heir.number;
        let panics = u32::from(failure.kind() == FailureKind::Panic);
        let renewals = &mut used.renewals;
        renewals.incarnation = heir.number;
        renewals.since = Some(now);
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
