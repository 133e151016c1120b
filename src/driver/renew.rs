//! A restart on the service's own thread, where there is nothing to decide about it; see
//! [`licence`](crate::link::licence).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::context::Incarnation;
use crate::event::{EventKind, Next};
use crate::link::fact::Ended;
use crate::link::life::Life;
use crate::machine::message::Outcome;
use crate::machine::policy::UNCOUNTED;

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
