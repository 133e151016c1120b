//! Significant services, and the automatic shutdown.

use backstay::{AutoShutdown, ErrorKind, Restart, Spec, State, Strategy, Supervisor};

use crate::common::watch::{Strings, assert_lives, blame, incarnations, puppet, quiet};
use crate::common::{Recorder, Tally, counted, obedient, state, wait_state};

fn root(when: AutoShutdown) -> Supervisor {
    quiet("app").auto_shutdown(when).build().unwrap()
}

fn significant(name: &str, restart: Restart) -> (Strings, Spec) {
    let (strings, service) = puppet();
    let spec = Spec::new(name, service).restart(restart).significant();
    (strings, spec)
}

/// `s`, then `a` and `b`, entered.
fn with_two(restart: Restart) -> (Supervisor, Recorder, Strings) {
    let app = root(AutoShutdown::AnySignificant);
    let (s, spec) = significant("s", restart);
    app.add_spec(spec).unwrap();
    let runs = Tally::new();
    app.add("a", counted(&runs, obedient())).unwrap();
    app.add("b", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    runs.reach(2);
    let mut events = Recorder::of(&app);
    events.forget();
    (app, events, s)
}

#[test]
fn any_significant_end_stops_the_supervisor() {
    let (app, mut events, s) = with_two(Restart::OnFailure);
    s.ok();
    app.wait().unwrap();
    assert_eq!(
        events.story(&["done", "stopping", "stopped"]),
        [
            "app.s done",
            "app.b stopping",
            "app.b stopped",
            "app.a stopping",
            "app.a stopped",
        ]
    );
    assert!(app.stop().is_empty());
}

#[test]
fn significant_failure_that_restarts_is_no_end() {
    let (app, mut events, s) = with_two(Restart::OnFailure);
    s.fail("once");
    events.wait("app.s", "started");
    events.settle();
    assert_eq!(incarnations(&app, ["s", "a", "b"]), [2, 1, 1]);
    assert_eq!(events.who("stopping").len(), 0);
    assert_lives(&app);
    assert!(app.stop().is_empty());
}

#[test]
fn significant_never_service_ends_the_supervisor_with_its_failure() {
    let (app, mut events, s) = with_two(Restart::Never);
    s.fail("out of paper");
    let error = app.wait().unwrap_err();
    assert_eq!(blame(&error), ("app.s", "out of paper"));
    assert_eq!(events.who("stopped"), ["app.b", "app.a"]);

    let (app, mut events, s) = with_two(Restart::Never);
    s.ok();
    app.wait().unwrap();
    assert_eq!(events.who("stopped"), ["app.b", "app.a"]);
}

#[test]
fn all_significant_waits_for_the_last() {
    let app = root(AutoShutdown::AllSignificant);
    let mut events = Recorder::of(&app);
    let (s1, spec1) = significant("s1", Restart::OnFailure);
    let (s2, spec2) = significant("s2", Restart::OnFailure);
    app.add_all([spec1, spec2]).unwrap();
    app.start().unwrap();
    s1.ok();
    events.wait("app.s1", "done");
    events.settle();
    assert_lives(&app);
    assert_eq!(state(&app, "app.s2"), State::Running);

    s2.ok();
    app.wait().unwrap();
    assert_eq!(events.who("done"), ["app.s1", "app.s2"]);
}

#[test]
fn all_significant_ends_with_the_failure_of_any() {
    let app = root(AutoShutdown::AllSignificant);
    let mut events = Recorder::of(&app);
    let (s1, spec1) = significant("s1", Restart::Never);
    let (s2, spec2) = significant("s2", Restart::Never);
    app.add_all([spec1, spec2]).unwrap();
    app.start().unwrap();
    s1.fail("lost");
    events.wait("app.s1", "failed");
    assert_lives(&app);
    s2.ok();
    let error = app.wait().unwrap_err();
    assert_eq!(blame(&error), ("app.s1", "lost"));
}

#[test]
fn ordered_end_of_a_significant_service_triggers_nothing() {
    for remove in [false, true] {
        let (app, mut events, _s) = with_two(Restart::OnFailure);
        let s = app.id("s").unwrap();
        let over = if remove {
            app.remove(s).unwrap();
            "removed"
        } else {
            app.stop_service(s).unwrap();
            "stopped"
        };
        events.wait("app.s", over);
        events.settle();
        assert_eq!(events.who("stopping"), ["app.s"]);
        for path in ["app.a", "app.b"] {
            assert_eq!(state(&app, path), State::Running);
        }
        assert_lives(&app);
        assert!(app.stop().is_empty());
    }
}

#[test]
fn set_restart_of_a_significant_service_triggers_nothing() {
    let app = quiet("app")
        .strategy(Strategy::OneForAll)
        .auto_shutdown(AutoShutdown::AnySignificant)
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let s = Spec::new("s", counted(&runs, obedient()));
    app.add_spec(s.restart(Restart::OnFailure).significant())
        .unwrap();
    let (a, service) = puppet();
    app.add("a", service).unwrap();
    app.start().unwrap();
    runs.reach(1);
    a.fail("boom");

    events.wait_nth("app.a", "started", 2);
    events.settle();
    assert_eq!(incarnations(&app, ["s", "a"]), [2, 2]);
    assert_lives(&app);
    assert!(app.stop().is_empty());
}

#[test]
fn insignificant_end_triggers_nothing() {
    let app = root(AutoShutdown::AnySignificant);
    let mut events = Recorder::of(&app);
    let (_s, spec) = significant("s", Restart::OnFailure);
    app.add_spec(spec).unwrap();
    let ((t, t_service), (u, u_service)) = (puppet(), puppet());
    app.add_spec(Spec::new("t", t_service).restart(Restart::OnFailure))
        .unwrap();
    app.add_spec(Spec::new("u", u_service).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    t.ok();
    u.ok();

    events.wait("app.t", "done");
    events.wait("app.u", "removed");
    events.settle();
    assert_eq!(events.who("stopping").len(), 0);
    assert_eq!(state(&app, "app.s"), State::Running);
    assert_lives(&app);
    assert!(app.stop().is_empty());
}

#[test]
fn auto_shutdown_climbs_through_a_significant_supervisor() {
    let app = root(AutoShutdown::AnySignificant);
    let mut events = Recorder::of(&app);
    let inner = quiet("inner")
        .auto_shutdown(AutoShutdown::AnySignificant)
        .build()
        .unwrap();
    let (s, spec) = significant("s", Restart::OnFailure);
    inner.add_spec(spec).unwrap();
    let as_service = Spec::new("inner", inner).restart(Restart::OnFailure);
    app.add_spec(as_service.significant()).unwrap();
    app.add("a", obedient()).unwrap();
    app.start().unwrap();
    s.ok();

    app.wait().unwrap();
    assert_eq!(
        events.story(&["done", "stopped", "ended"]),
        [
            "app.inner.s done",
            "app.inner ended",
            "app.inner done",
            "app.a stopped",
            "app ended",
        ]
    );
}

#[test]
fn significant_needs_a_service_that_may_end() {
    let any = root(AutoShutdown::AnySignificant);
    let never = root(AutoShutdown::Never);
    let refused = [(&any, Restart::Always), (&never, Restart::OnFailure)];
    for (app, restart) in refused {
        let (_s, spec) = significant("s", restart);
        let error = app.add_spec(spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("significant"), "{error}");
        assert!(app.report().services().is_empty());
    }
    // It is the combination that is refused.
    let (_s, spec) = significant("s", Restart::OnFailure);
    any.add_spec(spec).unwrap();
    any.start().unwrap();
    wait_state(&any, "app.s", State::Running);
    assert!(any.stop().is_empty());
}
