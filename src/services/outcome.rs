//! What user code that a toolkit service calls has answered.

use crate::{BoxError, Context, Errors, Exit, Failure, FailureKind, ServiceResult, Stopping};

/// Calls `f`; a panic is its error.
pub(super) fn caught(f: impl FnOnce() -> ServiceResult) -> ServiceResult {
    match Failure::catch(f) {
        Ok(answer) => answer,
        Err(panic) => Err(panic.into()),
    }
}

/// The same answer, unless it is the [`Stopping`] of a wait that a stop request has cut short: that is
/// what was asked for.
pub(super) fn unless_stopping(ctx: &Context, answer: ServiceResult) -> ServiceResult {
    match answer {
        Err(error) if error.is::<Stopping>() && ctx.stop_cause().is_some() => Ok(()),
        answer => answer,
    }
}

/// Whether it counts as a panic: caught by [`Failure::catch`], alone or among others.
pub(super) fn is_panic(error: &BoxError) -> bool {
    let caught = |failure: &Failure| failure.kind() == FailureKind::Panic;
    match error.downcast_ref::<Errors>() {
        Some(errors) => errors
            .iter()
            .filter_map(|e| e.downcast_ref::<Failure>())
            .any(caught),
        None => error.downcast_ref::<Failure>().is_some_and(caught),
    }
}

/// What it says explicitly. A `source()` that panics says nothing.
pub(super) fn exit_in(error: &BoxError) -> Option<Exit> {
    Failure::catch(|| Exit::find(&**error)).unwrap_or(None)
}

/// Adds `error`. Another one may have to go for it, and the `Drop` of a user's error may panic.
pub(super) fn keep(ctx: &Context, errors: &mut Errors, error: BoxError) {
    if let Err(panic) = Failure::catch(|| errors.push(error)) {
        ctx.log(format!("drop of an error that is not kept: {panic}"));
    }
}
