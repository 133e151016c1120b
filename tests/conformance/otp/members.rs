//! Who is left out of a restart of several, and who is dropped by it.

use backstay::{Restart, Spec, State, Strategy, Supervisor};

use crate::common::watch::{
    Strings, assert_lives, incarnations, is_listed, puppet, quiet, wait_gone,
};
use crate::common::{HOUR, Recorder, Tally, counted, failed, state, wait_state};
use backstay::{Exceeded, Limit};

fn root(strategy: Strategy) -> Supervisor {
    quiet("app")
        .strategy(strategy)
        .limit(Limit::window(100, HOUR).then(Exceeded::Fail))
        .build()
        .unwrap()
}

/// Started, with these services entered.
fn running<const N: usize>(
    strategy: Strategy,
    services: [(&str, Restart); N],
) -> (Supervisor, Recorder, [Strings; N]) {
    let app = root(strategy);
    let runs = Tally::new();
    let strings = services.map(|(name, restart)| {
        let (strings, service) = puppet();
        app.add_spec(Spec::new(name, counted(&runs, service)).restart(restart))
            .unwrap();
        strings
    });
    app.start().unwrap();
    runs.reach(N as u64);
    let mut events = Recorder::of(&app);
    events.forget();
    (app, events, strings)
}

#[test]
fn never_bystander_is_dropped_by_a_set_restart() {
    let services = [("n", Restart::Never), ("a", Restart::Always)];
    let (app, mut events, [_n, a]) = running(Strategy::OneForAll, services);
    a.fail("boom");

    events.wait("app.a", "started");
    events.wait("app.n", "removed");
    events.settle();
    assert_eq!(events.words("app.n"), ["stopping", "stopped", "removed"]);
    assert!(!is_listed(&app, "app.n"));
    assert_eq!(incarnations(&app, ["a"]), [2]);
    assert_lives(&app);
    assert!(app.stop().is_empty());
}

#[test]
fn never_service_outside_the_set_is_left_alone() {
    let services = [
        ("n", Restart::Never),
        ("a", Restart::Always),
        ("m", Restart::Never),
    ];
    let (app, mut events, [_n, a, _m]) = running(Strategy::RestForOne, services);
    a.fail("boom");

    events.wait("app.a", "started");
    events.wait("app.m", "removed");
    events.settle();
    assert_eq!(events.words("app.n"), [""; 0]);
    assert_eq!(events.words("app.m"), ["stopping", "stopped", "removed"]);
    assert!(!is_listed(&app, "app.m"));
    assert_eq!(incarnations(&app, ["n", "a"]), [1, 2]);
    assert_eq!(state(&app, "app.n"), State::Running);
    assert!(app.stop().is_empty());
}

#[test]
fn never_failure_does_not_trigger_a_set_restart() {
    let services = [("n", Restart::Never), ("a", Restart::Always)];
    let (app, mut events, [n, _a]) = running(Strategy::OneForAll, services);
    n.panic("gone");

    events.wait("app.n", "removed");
    wait_gone(&app, "app.n");
    events.settle();
    assert_eq!(events.words("app.a"), [""; 0]);
    assert_eq!(incarnations(&app, ["a"]), [1]);
    let told = failed(&events.wait("app.n", "failed"));
    assert_eq!((told.failure.message(), told.count), ("gone", 0.0));
    assert!(app.stop().is_empty());
}

#[test]
fn set_restart_leaves_out_who_was_told_to_stop() {
    let services = ["a", "b", "c"].map(|name| (name, Restart::Always));
    let (app, mut events, [a, _b, _c]) = running(Strategy::OneForAll, services);
    let b = app.id("b").unwrap();
    app.stop_service(b).unwrap();
    wait_state(&app, "app.b", State::Stopped);
    events.forget();
    a.fail("boom");

    events.wait("app.c", "started");
    events.settle();
    assert_eq!(events.words("app.b"), [""; 0]);
    assert_eq!(incarnations(&app, ["a", "b", "c"]), [2, 1, 2]);
    assert_eq!(state(&app, "app.b"), State::Stopped);
    app.start_service(b).unwrap();
    assert_eq!(events.wait("app.b", "started").incarnation(), 2);
    assert!(app.stop().is_empty());
}
