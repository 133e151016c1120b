//! A restart on the service's own thread, where there is nothing to decide about it, and how its
//! supervisor learns of that; see [`licence`](crate::link::licence).

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;

use super::engine::Slot;
use super::run::Run;
use crate::context::Incarnation;
use crate::event::{EventKind, Next};
use crate::id::ChildId;
use crate::link::fact::Ended;
use crate::link::licence::Licence;
use crate::link::life::Life;
use crate::machine::message::{Command, Input, Outcome};
use crate::machine::policy::UNCOUNTED;
use crate::machine::time::Moment;

/// The next incarnation after a failure, published and told. `None`: the supervisor decides.
pub(super) fn renew(failed: &Arc<Incarnation>, ended: &Ended) -> Option<Arc<Incarnation>> {
    let (Some(licence), Some(failure)) = (&ended.licence, &ended.failure) else {
        return None;
    };
    let plain = matches!(ended.outcome, Outcome::Error | Outcome::Panic) && !ended.fatal;
    if !plain {
        return None;
    }
    let heir = Arc::new(Incarnation {
        home: failed.home.clone(),
        number: failed.number + 1,
        life: Life::new(),
        below: Mutex::default(),
        trade: None,
        told: OnceLock::new(),
        licence: Some(licence.clone()),
    });
    let tell = || {
        let (count, limit) = UNCOUNTED;
        let event = EventKind::Failed {
            failure: failure.clone(),
            count,
            limit,
            next: Next::Restart {
                delay: Duration::ZERO,
            },
        };
        failed.home.emit(failed.number, event);
        failed.home.emit(heir.number, EventKind::Started);
    };
    drop(licence.pass(failed, &heir, failure, tell)?);
    Some(heir)
}

impl Run {
    /// Before anything is dealt with that the last incarnation of a service has told.
    pub(super) fn catch_up(&mut self, child: ChildId) {
        let licence = self.engine.slots.get(&child).and_then(Slot::licence);
        if let Some(renewed) = licence.and_then(|l| self.renewals(child, &l)) {
            self.step(renewed);
        }
    }

    /// What the machine hasn't heard of yet.
    pub(super) fn renewals(&mut self, child: ChildId, licence: &Licence) -> Option<Input> {
        let renewals = licence.take_renewals()?;
        if let (Some(failure), Some(slot)) =
            (renewals.last_failure, self.engine.slots.get_mut(&child))
        {
            slot.set_failure(failure);
        }
        let since = renewals.since.map(|at| self.tree.clock.moment(at));
        Some(Input::Renewed {
            id: child,
            incarnation: renewals.incarnation,
            since: since.unwrap_or(self.engine.machine.now()),
            failures: renewals.failures,
            panics: renewals.panics,
        })
    }

    /// Before it is published, told or answered that somebody will be asked to stop: who fails from then
    /// on isn't started again. Who runs is known from here on, to the machine as well.
    pub(super) fn end_licences(&mut self, now: Moment) {
        if self.has_started && !self.engine.machine.is_running() {
            self.line.licences.store(false, Ordering::Release);
        }
        let mut at = 0;
        while let Some(command) = self.out.get(at) {
            at += 1;
            let &Command::Stop { id, .. } = command else {
                continue;
            };
            let Some(licence) = self.engine.slots.get(&id).and_then(Slot::licence) else {
                continue;
            };
            licence.revoke();
            if let Some(renewed) = self.renewals(id, &licence) {
                self.engine.machine.step(now, renewed, &mut self.out);
            }
        }
    }
}
