//! `Failure::catch`: the capture of panics, for threads and calls that a service makes itself.

use std::sync::Arc;
use std::time::Duration;

use super::{mark, panic};
use crate::error::BoxError;
use crate::failure::{Failure, FailureKind, FailureParts};
use crate::link::clock;

impl Failure {
    /// The failure by an error that something done for a service has answered: for those who pass it
    /// on to several. Path and incarnation are those of the service whose thread this is; elsewhere
    /// empty and 0. An error that is a failure comes back as it is.
    ///
    /// ```
    /// let failure = backstay::Failure::of("no luck");
    /// assert_eq!(failure.message(), "no luck");
    /// assert_eq!(failure.kind(), backstay::FailureKind::Error);
    /// assert_eq!(failure.error().unwrap().to_string(), "no luck");
    /// ```
    pub fn of(error: impl Into<BoxError>) -> Failure {
        let error = match error.into().downcast::<Failure>() {
            Ok(failure) => return *failure,
            Err(error) => error,
        };
        let message = panic::guarded(|| error.to_string())
            .unwrap_or_else(|_| "an error whose text panicked".to_owned());
        let incarnation = mark::incarnation();
        let quiet = incarnation.as_ref().is_some_and(|i| i.home.quiet);
        Failure::new(FailureParts {
            path: incarnation
                .as_ref()
                .map_or_else(|| Arc::from(""), |i| i.home.path.clone()),
            incarnation: incarnation.as_ref().map_or(0, |i| i.number),
            kind: FailureKind::Error,
            message: message.into_boxed_str(),
            location: None,
            thread_name: std::thread::current().name().map(Arc::from),
            run_time: Duration::ZERO,
            error: Some(error),
            quiet,
            mapped_from: None,
            trace: None,
        })
    }

    /// Runs `f` as a service is run: a panic becomes a [`Failure`] with message, location and
    /// backtrace. Returned from [`Service::run`](crate::Service::run) it counts as that panic. Path
    /// and incarnation are those of the service whose thread this is; elsewhere empty and 0.
    ///
    /// ```
    /// let failure = backstay::Failure::catch(|| -> u32 { panic!("no luck") }).unwrap_err();
    /// assert_eq!(failure.message(), "no luck");
    /// assert_eq!(failure.kind(), backstay::FailureKind::Panic);
    /// assert!(failure.location().unwrap().contains(":"));
    /// ```
    ///
    /// # Errors
    /// The panic.
    pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Failure> {
        // Without the hook only location and backtrace are missing.
        drop(panic::install());
        let incarnation = mark::incarnation();
        let quiet = incarnation.as_ref().is_some_and(|i| i.home.quiet);
        let begun = clock::now();
        panic::catch(quiet, f).map_err(|caught| {
            Failure::new(FailureParts {
                path: incarnation
                    .as_ref()
                    .map_or_else(|| Arc::from(""), |i| i.home.path.clone()),
                incarnation: incarnation.as_ref().map_or(0, |i| i.number),
                kind: FailureKind::Panic,
                message: caught.message.into_boxed_str(),
                location: caught.location.map(String::into_boxed_str),
                thread_name: std::thread::current().name().map(Arc::from),
                run_time: clock::now().saturating_duration_since(begun),
                error: None,
                quiet,
                mapped_from: None,
                trace: caught.trace,
            })
        })
    }
}
