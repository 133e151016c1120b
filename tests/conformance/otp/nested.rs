//! Supervisors as services: their failures, and what comes back.

use backstay::{Context, Exceeded, Limit, Restart, Spec, State, Supervisor, SupervisorBuilder};

use crate::common::watch::{
    Crowd, Strings, blame, crowded, entry, failures, incarnations, is_listed, puppet, quiet,
};
use crate::common::{
    HOUR, PATIENCE, Recorder, Tally, counted, failed, ms, obedient, slow_to_stop, wait_state,
};

fn at_most(restarts: u32) -> Limit {
    Limit::window(restarts, HOUR).then(Exceeded::Fail)
}

fn root() -> SupervisorBuilder {
    quiet("app").limit(at_most(10))
}

/// `inner`, which fails with its service `a`.
fn fragile() -> (Supervisor, Strings) {
    let inner = quiet("inner").limit(at_most(0)).build().unwrap();
    let (a, service) = puppet();
    inner.add("a", service).unwrap();
    (inner, a)
}

#[test]
fn failed_sub_supervisor_comes_back_with_all_its_services() {
    let app = root().build().unwrap();
    let mut events = Recorder::of(&app);
    let (inner, a) = fragile();
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    events.wait("app.inner.a", "started");
    inner.add("b", obedient()).unwrap();
    events.wait("app.inner.b", "started");
    a.fail("boom");

    assert_eq!(events.wait_nth("app.inner", "started", 2).incarnation(), 2);
    events.wait_nth("app.inner.a", "started", 2);
    events.wait_nth("app.inner.b", "started", 2);
    events.settle();
    assert_eq!(events.who("failed"), ["app.inner.a", "app.inner"]);
    let told = failed(&events.wait("app.inner", "failed"));
    assert_eq!(told.count, 1.0);
    assert!(told.failure.message().contains("boom"), "{}", told.failure);
    for path in ["app.inner.a", "app.inner.b"] {
        assert_eq!(entry(&app, path).state(), State::Running);
    }
    assert!(app.stop().is_empty());
}

#[test]
fn removed_services_do_not_come_back() {
    let app = root().build().unwrap();
    let mut events = Recorder::of(&app);
    let (inner, a) = fragile();
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    events.wait("app.inner.a", "started");
    let b = inner.add("b", obedient()).unwrap();
    inner.remove_and_wait(b, PATIENCE).unwrap();
    a.fail("boom");

    events.wait_nth("app.inner.a", "started", 2);
    events.settle();
    assert!(!is_listed(&app, "app.inner.b"));
    assert_eq!(events.count("app.inner.b", "started"), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn restarted_supervisor_counts_from_zero() {
    let app = quiet("app").limit(at_most(1)).build().unwrap();
    let inner = quiet("inner").limit(at_most(1)).build().unwrap();
    let runs = Tally::new();
    let leaf = |_: &Context| Err("always".into());
    inner.add("leaf", counted(&runs, leaf)).unwrap();
    app.add("inner", inner).unwrap();

    let error = app.serve().unwrap_err();
    assert_eq!(runs.get(), 4);
    assert!(error.to_string().contains("app.inner.leaf"), "{error}");
    assert_eq!(blame(&error).0, "app.inner");
}

#[test]
fn on_failure_sub_supervisor_is_restarted_after_its_limit() {
    let app = root().build().unwrap();
    let mut events = Recorder::of(&app);
    let (inner, a) = fragile();
    app.add_spec(Spec::new("inner", inner).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    a.fail("boom");

    events.wait_nth("app.inner.a", "started", 2);
    events.settle();
    assert_eq!(incarnations(&app, ["inner"]), [2]);
    assert_eq!(entry(&app, "app.inner").state(), State::Running);
    assert!(app.stop().is_empty());
}

#[test]
fn no_grandchild_outlives_its_supervisors_restart() {
    let app = root().build().unwrap();
    let mut events = Recorder::of(&app);
    let (inner, a) = fragile();
    let (crowd, runs) = (Crowd::new(), Tally::new());
    let g = crowded(&crowd, counted(&runs, slow_to_stop(ms(200))));
    inner.add("g", g).unwrap();
    app.add("inner", inner).unwrap();
    app.start().unwrap();
    runs.reach(1);
    a.fail("boom");

    runs.reach(2);
    assert_eq!((crowd.now(), crowd.most()), (1, 1));
    events.wait_nth("app.inner.g", "started", 2);
    assert_eq!(
        events.words("app.inner.g"),
        ["added", "started", "stopping", "stopped", "started"]
    );
    assert!(app.stop().is_empty());
    assert_eq!(crowd.most(), 1);
}

#[test]
fn stopping_a_sub_supervisor_stops_its_subtree() {
    let app = root().build().unwrap();
    let mut events = Recorder::of(&app);
    let inner = Supervisor::new("inner");
    inner.add("a", obedient()).unwrap();
    inner.add("b", obedient()).unwrap();
    let id = app.add("inner", inner).unwrap();
    app.start().unwrap();
    events.wait("app.inner.b", "started");

    app.stop_service(id).unwrap();
    wait_state(&app, "app.inner", State::Stopped);
    assert_eq!(
        events.who("stopped"),
        ["app.inner.b", "app.inner.a", "app.inner"]
    );
    for path in ["app.inner.a", "app.inner.b"] {
        assert_eq!(entry(&app, path).state(), State::Stopped);
    }

    app.start_service(id).unwrap();
    events.wait_nth("app.inner.b", "started", 2);
    for path in ["app.inner.a", "app.inner.b"] {
        wait_state(&app, path, State::Running);
    }
    assert_eq!((events.who("failed").len(), failures(&app)), (0, 0));
    assert!(app.stop().is_empty());
}
