//! What a spec says about failures: `map_failure` and `fatal_if`, called on the service's thread.

use std::error::Error as StdError;
use std::time::Duration;

use super::panic::guarded_as;
use super::thread::parts;
use crate::context::Incarnation;
use crate::error::{BoxError, SOURCE_DEPTH_MAX, ServiceResult};
use crate::event::StopCause;
use crate::failure::{Failure, FailureKind, Text};
use crate::machine::message::Outcome;
use crate::spec::{FatalIf, MapFailure};

/// Has an error turned into another answer. Its text before comes along; if the filter panics, that
/// is all there is left of it.
pub(super) fn map_failure(
    incarnation: &Incarnation,
    map: &MapFailure,
    error: BoxError,
) -> (ServiceResult, String) {
    let home = &incarnation.home;
    let tell = |what, panic: &str| {
        home.emit_hook_panic(incarnation.number, what, panic);
    };
    let text = guarded_as(home.quiet, || error.to_string()).unwrap_or_else(|panic| {
        tell("display", &panic);
        "an error whose text panicked".to_owned()
    });
    let result = guarded_as(home.quiet, || map(error)).unwrap_or_else(|panic| {
        tell("map_failure", &panic);
        Err(Box::new(Text(text.clone().into())))
    });
    (result, text)
}

/// The failure that `fatal_if` is asked about, if there is one. `unwanted`: nobody asked it to end,
/// and it is to run for ever.
pub(super) fn judged(
    incarnation: &Incarnation,
    outcome: Outcome,
    failure: Option<&Failure>,
    unwanted: bool,
    run_time: Duration,
) -> Option<Failure> {
    let cause = incarnation.life.stop_cause();
    // Whatever comes of a stop for good is only reported.
    if cause.as_ref().is_some_and(StopCause::is_final) {
        return None;
    }
    let known_later = |kind, text: &str| {
        let parts = parts(incarnation, kind, text.to_owned(), run_time);
        Some(Failure::new(parts))
    };
    match (cause, outcome) {
        (Some(StopCause::ReadyTimeout), _) => {
            known_later(FailureKind::ReadyTimeout, FailureKind::READY_TIMEOUT)
        }
        (_, Outcome::Error | Outcome::Panic) => failure.cloned(),
        (_, Outcome::Ok) if unwanted => known_later(FailureKind::Returned, FailureKind::RETURNED),
        (_, Outcome::Ok | Outcome::NoThread | Outcome::NoInput | Outcome::Exit(_)) => None,
    }
}

/// Whether the spec says that a failure takes the supervisor down.
pub(super) fn is_fatal(incarnation: &Incarnation, fatal_if: &FatalIf, failure: &Failure) -> bool {
    let home = &incarnation.home;
    guarded_as(home.quiet, || fatal_if(failure)).unwrap_or_else(|panic| {
        home.emit_hook_panic(incarnation.number, "fatal_if", &panic);
        false
    })
}

/// Whether a text is that of an error, or of one of its sources. Runs the user's `Display`.
pub(super) fn is_in_chain(error: &(dyn StdError + 'static), text: &str) -> bool {
    let mut next = Some(error);
    for _ in 0..SOURCE_DEPTH_MAX {
        let Some(error) = next else { return false };
        if error.to_string() == text {
            return true;
        }
        next = error.source();
    }
    false
}
