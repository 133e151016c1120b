//! Several failures as one.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use backstay::{
    BoxError, Context, Errors, Exit, Failure, FailureKind, Restart, SOURCE_DEPTH_MAX, Spec,
};

use crate::common::watch::quiet;
use crate::common::{Failed, Recorder, Tally, add_running, answer, failed, unlimited};

fn several<const N: usize>(texts: [&str; N]) -> Errors {
    let mut errors = Errors::new();
    texts.into_iter().for_each(|text| errors.push(text));
    errors
}

/// Wraps an error and has it as its source, or as transparent wrappers do that one's own source.
#[derive(Debug)]
struct Wrapped {
    inner: BoxError,
    transparent: bool,
}

fn wrapped(inner: impl Into<BoxError>) -> Wrapped {
    Wrapped {
        inner: inner.into(),
        transparent: false,
    }
}

fn transparent(inner: impl Into<BoxError>) -> Wrapped {
    Wrapped {
        inner: inner.into(),
        transparent: true,
    }
}

impl fmt::Display for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wrapped {}", self.inner)
    }
}

impl StdError for Wrapped {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if self.transparent {
            self.inner.source()
        } else {
            Some(&*self.inner)
        }
    }
}

#[test]
fn errors_resolve_by_number() {
    Errors::new().into_result().unwrap();

    let mut one = Errors::new();
    one.push_result(Ok(()));
    one.push_result(Err(io::Error::from(io::ErrorKind::TimedOut).into()));
    let error = one.into_result().unwrap_err();
    let io = error.downcast_ref::<io::Error>().unwrap();
    assert_eq!(io.kind(), io::ErrorKind::TimedOut);

    let error = several(["one", "two", "three"]).into_result().unwrap_err();
    assert!(error.is::<Errors>());
    assert_eq!(error.to_string(), "one; two; three");
    assert_eq!(format!("{error:#}"), "one\ntwo\nthree");
    let shown = format!("{error:?}");
    assert_eq!(shown.lines().count(), 4, "{shown}");
}

#[test]
fn errors_flatten_and_are_bounded() {
    let mut errors = Errors::keeping(3);
    errors.push(several(["one", "two"]));
    for text in ["three", "four", "five", "six"] {
        errors.push(text);
    }
    assert_eq!((errors.len(), errors.dropped()), (3, 3));
    assert!(errors.iter().all(|e| !e.is::<Errors>()));
    assert_eq!(errors.to_string(), "one; two; three; 3 more not kept");

    // What was dropped counts as dropped where it is added to.
    let mut more = Errors::new();
    more.push("zero");
    more.push(errors);
    assert_eq!((more.len(), more.dropped()), (4, 3));
    let texts: Vec<String> = more.into_iter().map(|e| e.to_string()).collect();
    assert_eq!(texts, ["zero", "one", "two", "three"]);
}

/// Counts its drops.
struct Counted(Tally);

impl fmt::Debug for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Counted")
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counted")
    }
}

impl StdError for Counted {}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add();
    }
}

#[test]
fn errors_keep_nothing_of_what_they_drop() {
    for (mut errors, kept) in [
        (Errors::keeping(0), 0),
        (Errors::keeping_last(0), 0),
        (Errors::keeping(2), 2),
        (Errors::keeping_last(2), 2),
    ] {
        let drops = Tally::new();
        (0..10).for_each(|_| errors.push(Counted(drops.clone())));
        assert_eq!(drops.get(), 10 - kept);
        assert_eq!((errors.len() as u64, errors.dropped()), (kept, 10 - kept));
        // None is kept, but there were some.
        assert!(!errors.is_empty());
        errors.into_result().unwrap_err();
        assert_eq!(drops.get(), 10);
    }
}

#[test]
fn errors_lead_to_every_source() {
    let mut errors = Errors::new();
    errors.push(wrapped(io::Error::from(io::ErrorKind::NotFound)));
    errors.push("two");
    // By `source()` to the first and what caused it, by `iter` to all.
    let chain: Vec<_> =
        std::iter::successors(Some(&errors as &(dyn StdError + 'static)), |&e| e.source())
            .collect();
    assert!(chain.iter().any(|e| e.is::<Wrapped>()));
    assert!(chain.iter().any(|e| e.is::<io::Error>()));
    assert_eq!(errors.iter().count(), 2);
    assert!(Errors::new().source().is_none());
}

#[test]
fn errors_show_the_outermost_exit_then_the_first() {
    let find = |e: BoxError| Exit::find(&*e);
    assert_eq!(find(several(["one", "two"]).into()), None);

    let mut errors = several(["one"]);
    errors.push(wrapped(Exit::Bounce));
    errors.push(Exit::DoNotRestart);
    errors.push(Exit::TerminateTree.because("late"));
    assert_eq!(find(errors.into()), Some(Exit::DoNotRestart));

    // Behind wrappers of both kinds, and in an `Errors` that is a cause.
    let exit = || {
        let mut errors = several(["one"]);
        errors.push(wrapped(Exit::Uninstall));
        errors
    };
    assert_eq!(find(wrapped(exit()).into()), Some(Exit::Uninstall));
    assert_eq!(find(transparent(exit()).into()), Some(Exit::Uninstall));
    let mut nested = several(["zero"]);
    nested.push(transparent(wrapped(transparent(exit()))));
    assert_eq!(find(nested.into()), Some(Exit::Uninstall));
    assert_eq!(
        find(Exit::Bounce.because(exit()).into()),
        Some(Exit::Bounce)
    );
}

#[test]
fn errors_do_not_lose_an_exit_with_what_they_drop() {
    let find = |e: BoxError| Exit::find(&*e);
    let mut first = Errors::keeping(1);
    first.push("one");
    first.push(Exit::TerminateTree);
    first.push(Exit::Bounce);
    let mut last = Errors::keeping_last(1);
    last.push(wrapped(Exit::DoNotRestart));
    last.push("two");
    assert_eq!(find(last.into()), Some(Exit::DoNotRestart));
    let mut both = several(["zero"]);
    both.push(first);
    both.push(wrapped(Exit::Uninstall));
    // What is still there comes first.
    assert_eq!(find(both.into()), Some(Exit::Uninstall));
}

/// Its own source.
#[derive(Debug)]
struct Circle;

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("circle")
    }
}

impl StdError for Circle {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self)
    }
}

#[test]
fn errors_end_a_search_in_a_circle() {
    let mut errors = Errors::keeping(10_000);
    (0..5_000).for_each(|_| errors.push(Circle));
    assert_eq!(Exit::find(&errors), None);
    // Every member is looked at before any source.
    errors.push(Exit::Bounce);
    assert_eq!(Exit::find(&errors), Some(Exit::Bounce));

    let deep = |levels: usize| {
        let innermost: BoxError = Exit::Bounce.into();
        (1..levels).fold(innermost, |inner, _| wrapped(inner).into())
    };
    assert_eq!(Exit::find(&*deep(SOURCE_DEPTH_MAX)), Some(Exit::Bounce));
    assert_eq!(Exit::find(&*deep(SOURCE_DEPTH_MAX + 1)), None);
    // The causes of each are shown to the same depth.
    let mut one = Errors::new();
    one.push(Circle);
    let lines = format!("{one:?}").lines().count();
    assert_eq!(lines, SOURCE_DEPTH_MAX + 1);
}

#[test]
fn errors_expose_an_exit_in_any_member() {
    let app = unlimited("app");
    app.add("a", |_: &Context| {
        let mut errors = several(["e"]);
        errors.push(Exit::TerminateTree);
        errors.into_result()
    })
    .unwrap();
    let error = app.serve().unwrap_err();
    let failure = error.failure().unwrap();
    for text in [error.to_string(), failure.to_string()] {
        assert!(text.contains("e; terminate the tree"), "{text}");
    }
    assert!(failure.error().unwrap().is::<Errors>());
}

#[test]
fn errors_with_a_caught_failure_keep_it_beside_the_exit() {
    let app = unlimited("app");
    app.add("a", |_: &Context| {
        let mut errors = Errors::new();
        errors.push_result(Failure::catch(|| panic!("boom")).map_err(Into::into));
        errors.push(Exit::TerminateTree.because("the key expired"));
        errors.into_result()
    })
    .unwrap();
    let error = app.serve().unwrap_err();
    let text = error.failure().unwrap().to_string();
    assert!(
        text.contains("boom") && text.contains("key expired"),
        "{text}"
    );
}

/// The failure of a service that answers what `f` does, once.
fn failure_of(f: impl Fn() -> Errors + Send + Sync + 'static) -> Failed {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let service = move |_: &Context| f().into_result();
    app.add_spec(Spec::new("a", service).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    let event = events.wait("app.a", "failed");
    assert!(app.stop().is_empty());
    failed(&event)
}

#[test]
fn errors_with_a_panic_in_any_member_count_as_that_panic() {
    let failure = failure_of(|| {
        let mut errors = several(["one"]);
        errors.push(Failure::catch(|| panic!("boom")).unwrap_err());
        errors.push(Failure::catch(|| panic!("later")).unwrap_err());
        errors
    })
    .failure;
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert!(failure.location().unwrap().contains("errors.rs"));
    // Nothing of the others is lost, and the text tells each place once.
    let errors = failure.error().unwrap();
    assert_eq!(errors.downcast_ref::<Errors>().unwrap().len(), 3);
    let text = failure.to_string();
    assert!(
        text.starts_with("app.a (incarnation 1) panicked: one; boom (panicked at"),
        "{text}"
    );
    assert_eq!(text.matches("errors.rs").count(), 2, "{text}");

    // Alone it is that panic itself.
    let alone = failure_of(|| {
        let mut errors = Errors::new();
        errors.push(Failure::catch(|| panic!("boom")).unwrap_err());
        errors
    })
    .failure;
    assert_eq!(
        (alone.kind(), alone.message()),
        (FailureKind::Panic, "boom")
    );
    assert!(alone.location().is_some());

    // As the cause of something else it is no panic of this service.
    let cause = failure_of(|| {
        let mut errors = several(["one"]);
        errors.push(wrapped(Failure::catch(|| panic!("boom")).unwrap_err()));
        errors
    })
    .failure;
    assert_eq!(cause.kind(), FailureKind::Error);
}

/// Panics when somebody looks at it.
#[derive(Debug)]
struct Touchy;

impl fmt::Display for Touchy {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("no text");
    }
}

impl StdError for Touchy {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        panic!("no source");
    }
}

#[test]
fn errors_with_members_that_panic_go_no_further() {
    let app = quiet("app").build().unwrap();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    add_running(&app, "a", |ctx: &Context| {
        ctx.wait_stop();
        let mut errors = several(["one"]);
        errors.push(Touchy);
        errors.into_result()
    });
    assert!(app.stop().is_empty());
    events.wait("app.a", "hook panicked");
    assert!(answer(&events.wait("app.a", "stopped")).is_some());
}
