//! Calls to a running supervisor: they are valid in every state, and never block.

use backstay::{Context, ErrorKind, Spec, State, Supervisor};

use crate::common::watch::{
    SOON, assert_lives, failures, hooked, incarnations, is_listed, wait_gone,
};
use crate::common::{
    PATIENCE, Recorder, Tally, add_running, counted, ms, obedient, pass, state, timed, unlimited,
    wait_state,
};

#[test]
fn stop_service_keeps_the_service() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let calls = Tally::new();
    app.start().unwrap();
    let a = add_running(&app, "a", hooked(&calls));
    for _ in 0..4 {
        app.stop_service(a).unwrap();
    }

    wait_state(&app, "app.a", State::Stopped);
    app.stop_service(a).unwrap();
    events.settle();
    assert_eq!(calls.get(), 1);
    assert_eq!(
        (app.id("a"), state(&app, "app.a")),
        (Some(a), State::Stopped)
    );
    assert_eq!(events.count("app.a", "started"), 1);
    assert_eq!(events.count("app.a", "failed"), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn start_service_starts_the_next_incarnation() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let a = app.add("a", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    runs.reach(1);
    app.stop_service(a).unwrap();
    wait_state(&app, "app.a", State::Stopped);

    app.start_service(a).unwrap();
    runs.reach(2);
    assert_eq!(events.wait_nth("app.a", "started", 2).incarnation(), 2);
    assert_eq!(incarnations(&app, ["a"]), [2]);
    assert!(app.stop().is_empty());
}

#[test]
fn start_service_on_a_running_one_changes_nothing() {
    let app = unlimited("app");
    app.start().unwrap();
    let a = add_running(&app, "a", obedient());
    let mut events = Recorder::of(&app);
    app.start_service(a).unwrap();

    events.settle();
    assert_eq!(events.all().len(), 0);
    assert_eq!(incarnations(&app, ["a"]), [1]);
    assert!(app.stop().is_empty());
}

#[test]
fn restart_service_makes_one_new_incarnation() {
    let app = unlimited("app");
    app.start().unwrap();
    let a = add_running(&app, "a", obedient());
    let mut events = Recorder::of(&app);
    app.restart_service(a).unwrap();

    events.wait("app.a", "started");
    events.settle();
    assert_eq!(events.words("app.a"), ["stopping", "stopped", "started"]);
    assert_eq!(incarnations(&app, ["a"]), [2]);
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn admin_calls_on_a_removed_id() {
    let app = unlimited("app");
    app.start().unwrap();
    let a = add_running(&app, "a", obedient());
    app.remove_and_wait(a, PATIENCE).unwrap();

    for call in [
        Supervisor::stop_service,
        Supervisor::start_service,
        Supervisor::restart_service,
    ] {
        let error = call(&app, a).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownService, "{error}");
    }
    app.remove(a).unwrap();
    assert!(app.stop().is_empty());
}

#[test]
fn name_is_taken_until_removed() {
    let app = unlimited("app");
    app.start().unwrap();
    let a = add_running(&app, "a", obedient());
    let taken = || {
        let error = app.add("a", obedient()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateName, "{error}");
        assert!(error.to_string().contains("\"a\""), "{error}");
    };
    taken();
    app.stop_service(a).unwrap();
    wait_state(&app, "app.a", State::Stopped);
    taken();
    app.remove_and_wait(a, PATIENCE).unwrap();
    let again = add_running(&app, "a", obedient());
    assert_ne!(again, a);
    assert_eq!(app.id("a"), Some(again));
    assert!(app.stop().is_empty());
}

#[test]
fn admin_calls_are_served_during_a_restart_loop() {
    let app = unlimited("app");
    let runs = Tally::new();
    let fails_always = |_: &Context| Err("again".into());
    let a = app.add("a", counted(&runs, fails_always)).unwrap();
    app.start().unwrap();
    runs.reach(100);

    let (added, took) = timed(|| app.add("b", obedient()));
    added.unwrap();
    assert!(took < SOON, "{took:?}");
    let (stopped, took) = timed(|| app.stop_service(a));
    stopped.unwrap();
    assert!(took < SOON, "{took:?}");
    wait_state(&app, "app.a", State::Stopped);
    let stands_at = runs.get();
    pass(ms(50));
    assert_eq!(runs.get(), stands_at);

    app.start_service(a).unwrap();
    runs.reach(stands_at + 100);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn bad_names_are_refused() {
    let app = unlimited("app");
    app.start().unwrap();
    let runs = Tally::new();
    for name in ["", "a.b", "a\u{7}"] {
        let quoted = format!("{name:?}");
        let added = app.add(name, counted(&runs, obedient())).unwrap_err();
        let built = Supervisor::builder(name).build().unwrap_err();
        for error in [added, built] {
            assert_eq!(error.kind(), ErrorKind::BadName);
            assert!(error.to_string().contains(&quoted), "{error}");
        }
        assert_eq!(app.id(name), None);
    }
    assert!(app.report().services().is_empty());
    assert!(app.stop().is_empty());
    assert_eq!(runs.get(), 0);
}

#[test]
fn add_all_is_all_or_nothing() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let runs = Tally::new();
    let specs = ["x", "y", "x"].map(|name| Spec::new(name, counted(&runs, obedient())));
    let error = app.add_all(specs).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::DuplicateName);
    assert!(error.to_string().contains("\"x\""), "{error}");
    assert!(!is_listed(&app, "app.x") && !is_listed(&app, "app.y"));
    events.settle();
    assert_eq!((events.all().len(), runs.get()), (0, 0));
    // Neither name is taken.
    let x = add_running(&app, "x", obedient());
    assert_lives(&app);
    app.remove(x).unwrap();
    wait_gone(&app, "app.x");
    assert!(app.stop().is_empty());
}
