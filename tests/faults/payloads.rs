//! Panics within panics: payloads that panic in their turn, and values that use the library while a
//! panic unwinds.

use std::fmt;
use std::panic::panic_any;

use backstay::{
    BoxError, Context, Exceeded, Failure, FailureKind, Limit, ServiceResult, Spec, Supervisor,
};

use crate::common::{Recorder, failed, obedient, panics_once, secs, unlimited};

/// Panics when it is dropped, unless a panic unwinds already.
struct Second;

impl Drop for Second {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("the payload's payload");
        }
    }
}

/// Its text panics with a payload that panics when it is dropped.
#[derive(Debug)]
struct BadText;

impl fmt::Display for BadText {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic_any(Second)
    }
}

impl std::error::Error for BadText {}

#[test]
fn payload_whose_text_panics_with_a_payload_that_panics() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let service = panics_once(|| panic_any::<BoxError>(Box::new(BadText)));
    app.add("a", service).unwrap();
    app.start().unwrap();
    let told = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(told.kind(), FailureKind::Panic);
    assert_eq!(told.message(), "a panic whose payload is no text");
    events.wait_nth("app.a", "started", 2);
    assert!(app.stop().is_empty());
    assert_eq!(events.count("app.a", "failed"), 1);
}

/// What is known of a panic during whose unwinding a value of that type is dropped.
fn record_while<T: Default + 'static>() -> Failure {
    let app = Supervisor::builder("app").quiet_panics().build().unwrap();
    let service = |_: &Context| -> ServiceResult {
        let _dropped = T::default();
        panic!("no luck")
    };
    let limit = Limit::window(0, secs(1)).then(Exceeded::StopService);
    let mut events = Recorder::of(&app);
    app.add_spec(Spec::new("a", service).limit(limit)).unwrap();
    app.start().unwrap();
    let told = failed(&events.wait("app.a", "failed")).failure;
    assert!(app.stop().is_empty());
    assert_eq!(told.message(), "no luck");
    told
}

/// Catches, as it is dropped, a panic or none.
#[derive(Default)]
struct Catches<const PANICS: bool>;

impl<const PANICS: bool> Drop for Catches<PANICS> {
    fn drop(&mut self) {
        let caught = Failure::catch(|| {
            if PANICS {
                panic!("another one");
            }
        });
        assert_eq!(caught.is_err(), PANICS);
        let location = caught.err().map(|f| f.location().map(str::to_owned));
        assert!(location.is_none_or(|l| l.is_some_and(|l| l.contains("payloads.rs"))));
    }
}

/// A supervisor of the service's own that was never started; its values are dropped with it.
struct Unused(#[allow(dead_code, reason = "held to be dropped")] Supervisor);

impl Default for Unused {
    fn default() -> Unused {
        let unused = Supervisor::new("unused");
        unused.add("x", obedient()).unwrap();
        Unused(unused)
    }
}

#[test]
fn a_panic_is_recorded_whatever_is_dropped_while_it_unwinds() {
    for told in [
        record_while::<()>(),
        record_while::<Catches<false>>(),
        record_while::<Catches<true>>(),
        record_while::<Unused>(),
    ] {
        let location = told.location().expect("a location");
        assert!(location.contains("payloads.rs"), "{location}");
        assert_eq!(told.backtrace().is_some(), cfg!(feature = "backtrace"));
    }
}
