//! Restart types, and the limit of a supervisor.

use backstay::{ErrorKind, Exceeded, FailureKind, Limit, Restart, Spec, State, Supervisor};

use crate::common::watch::{
    assert_lives, blame, incarnations, is_listed, puppet, quiet, wait_gone,
};
use crate::common::{
    HOUR, Recorder, Tally, counted, failed, obedient, secs, unlimited, wait_state,
};

/// A root that fails when there are more restarts than that.
fn with_restarts(restarts: u32) -> Supervisor {
    quiet("app")
        .limit(Limit::window(restarts, HOUR).then(Exceeded::Fail))
        .build()
        .unwrap()
}

#[test]
fn always_restarts_after_ok() {
    let app = with_restarts(1);
    let mut events = Recorder::of(&app);
    let (a, service) = puppet();
    app.add_spec(Spec::new("a", service).restart(Restart::Always))
        .unwrap();
    app.start().unwrap();
    a.ok();
    events.wait_nth("app.a", "started", 2);
    a.ok();

    let error = app.wait().unwrap_err();
    assert_eq!(blame(&error), ("app.a", "returned unexpectedly"));
    let counts: Vec<f64> = (1..=2)
        .map(|n| failed(&events.wait_nth("app.a", "failed", n)).count)
        .collect();
    assert_eq!(counts, [1.0, 2.0]);
    assert_eq!(events.count("app.a", "started"), 2);
}

#[test]
fn always_restarts_after_error_and_panic() {
    let app = with_restarts(2);
    let mut events = Recorder::of(&app);
    let (a, service) = puppet();
    app.add_spec(Spec::new("a", service).restart(Restart::Always))
        .unwrap();
    app.start().unwrap();
    a.fail("first");
    events.wait_nth("app.a", "started", 2);
    a.panic("second");
    events.wait_nth("app.a", "started", 3);
    assert_lives(&app);
    a.fail("third");

    let error = app.wait().unwrap_err();
    assert_eq!(blame(&error), ("app.a", "third"));
    assert_eq!(events.count("app.a", "started"), 3);
}

#[test]
fn on_failure_is_done_after_ok() {
    let app = with_restarts(0);
    let mut events = Recorder::of(&app);
    let (runs, (a, service)) = (Tally::new(), puppet());
    let id = app
        .add_spec(Spec::new("a", counted(&runs, service)).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    a.ok();

    wait_state(&app, "app.a", State::Done);
    events.wait("app.a", "done");
    events.settle();
    assert_eq!((runs.get(), events.count("app.a", "started")), (1, 1));
    assert_lives(&app);
    assert_eq!(app.id("a"), Some(id));
    let taken = app.add("a", obedient()).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::DuplicateName);
    assert!(app.stop().is_empty());
}

#[test]
fn on_failure_restarts_after_error_and_panic() {
    let app = with_restarts(2);
    let mut events = Recorder::of(&app);
    let (runs, (a, service)) = (Tally::new(), puppet());
    app.add_spec(Spec::new("a", counted(&runs, service)).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    a.fail("first");
    a.panic("second");
    a.ok();

    wait_state(&app, "app.a", State::Done);
    events.settle();
    assert_eq!(runs.get(), 3);
    let words: Vec<_> = events.words("app.a");
    assert_eq!(
        words,
        [
            "added", "started", "failed", "started", "failed", "started", "done"
        ]
    );
    assert_lives(&app);
    assert!(app.stop().is_empty());
}

#[test]
fn never_ends_after_any_outcome() {
    let app = with_restarts(0);
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let [ok, error, panic] = ["ok", "error", "panic"].map(|name| {
        let (strings, service) = puppet();
        app.add_spec(Spec::new(name, counted(&runs, service)).restart(Restart::Never))
            .unwrap();
        strings
    });
    app.start().unwrap();
    ok.ok();
    error.fail("an error");
    panic.panic("a panic");

    for path in ["app.ok", "app.error", "app.panic"] {
        events.wait(path, "removed");
    }
    events.settle();
    assert_eq!((runs.get(), events.who("started").len()), (3, 3));
    for path in ["app.error", "app.panic"] {
        assert_eq!(failed(&events.wait(path, "failed")).count, 0.0);
    }
    assert_lives(&app);
    assert!(app.stop().is_empty());
}

#[test]
fn never_service_is_dropped_at_its_end() {
    let app = unlimited("app");
    let (job, service) = puppet();
    let id = app
        .add_spec(Spec::new("job", service).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    assert_eq!(app.id("job"), Some(id));
    job.ok();
    wait_gone(&app, "app.job");

    assert_eq!(app.id("job"), None);
    let runs = Tally::new();
    let again = app.add("job", counted(&runs, obedient())).unwrap();
    assert_ne!(again, id);
    runs.reach(1);
    assert!(is_listed(&app, "app.job"));
    assert!(app.stop().is_empty());
}

#[test]
fn window_of_zero_restarts_allows_none() {
    let app = quiet("app")
        .limit(Limit::window(0, secs(5)).then(Exceeded::Fail))
        .build()
        .unwrap();
    let (runs, (a, service)) = (Tally::new(), puppet());
    app.add("a", counted(&runs, service)).unwrap();
    app.start().unwrap();
    a.fail("the first");

    assert_eq!(blame(&app.wait().unwrap_err()), ("app.a", "the first"));
    assert_eq!(runs.get(), 1);
}

#[test]
fn ordered_restarts_do_not_count() {
    let app = with_restarts(0);
    let mut events = Recorder::of(&app);
    let id = app.add("a", obedient()).unwrap();
    app.start().unwrap();
    for n in 1..=10 {
        events.wait_nth("app.a", "started", n);
        app.restart_service(id).unwrap();
    }
    events.wait_nth("app.a", "started", 11);
    assert_eq!(incarnations(&app, ["a"]), [11]);
    assert_lives(&app);
    assert_eq!(events.who("failed").len(), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn exceeded_limit_stops_the_rest_in_reverse() {
    let app = quiet("app")
        .limit(Limit::window(0, secs(5)).then(Exceeded::Fail))
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let (b, service) = puppet();
    app.add("a", obedient()).unwrap();
    app.add("b", service).unwrap();
    app.add("c", obedient()).unwrap();
    app.start().unwrap();
    events.wait("app.c", "started");
    b.fail("disk full");

    let error = app.wait().unwrap_err();
    assert_eq!(
        events.story(&["failed", "stopping", "stopped", "started"])[3..],
        [
            "app.b failed",
            "app.c stopping",
            "app.c stopped",
            "app.a stopping",
            "app.a stopped",
        ]
    );
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert_eq!(blame(&error), ("app.b", "disk full"));
    assert_eq!(error.failure().unwrap().kind(), FailureKind::Error);
    let text = error.to_string();
    for part in ["limit", "app.b", "disk full"] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    let told = failed(&events.wait("app.b", "failed"));
    assert_eq!((told.count, told.limit), (1.0, 0.0));
    assert_eq!(told.next, backstay::Next::Ends);
}
