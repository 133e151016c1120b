//! How many services a supervisor takes.

use backstay::{Backoff, Context, Error, ErrorKind, Spec, State, Supervisor};

use crate::common::watch::{is_listed, quiet};
use crate::common::{Tally, add_running, counted, obedient, secs, wait_state};

fn with_room_for(services: usize) -> Supervisor {
    let app = quiet("app").max_services(services).build().unwrap();
    app.start().unwrap();
    app
}

/// Refused for the bound, which is named.
#[track_caller]
fn assert_full(error: &Error, bound: usize) {
    assert_eq!(error.kind(), ErrorKind::Full);
    let text = error.to_string();
    assert!(text.contains("max_services"), "{text}");
    assert!(text.contains(&bound.to_string()), "{text}");
}

#[test]
fn max_services_refuses_the_next() {
    let runs = Tally::new();
    let (two, none) = (with_room_for(2), with_room_for(0));
    add_running(&two, "a", obedient());
    add_running(&two, "b", obedient());

    let error = two.add("c", counted(&runs, obedient())).unwrap_err();
    assert_full(&error, 2);
    let error = none.add("c", counted(&runs, obedient())).unwrap_err();
    assert_full(&error, 0);
    for app in [two, none] {
        assert!(!is_listed(&app, "app.c"));
        assert!(app.stop().is_empty());
    }
    assert_eq!(runs.get(), 0);
}

#[test]
fn restarting_services_count_for_the_bound() {
    let app = with_room_for(2);
    add_running(&app, "a", obedient());
    let failing = Spec::new("b", |_: &Context| Err("boom".into()));
    app.add_spec(failing.backoff(Backoff::fixed(secs(10))))
        .unwrap();
    wait_state(&app, "app.b", State::Backoff);

    assert_full(&app.add("c", obedient()).unwrap_err(), 2);
    assert!(app.stop().is_empty());
}

#[test]
fn ended_removal_frees_a_place() {
    let app = with_room_for(1);
    let a = add_running(&app, "a", obedient());
    app.remove_and_wait(a, secs(1)).unwrap();
    add_running(&app, "b", obedient());
    assert!(app.stop().is_empty());
}

#[test]
fn add_all_respects_the_bound_as_a_whole() {
    let app = with_room_for(3);
    add_running(&app, "a", obedient());
    let runs = Tally::new();
    let specs = |n| {
        let names = ["x", "y", "z"].into_iter().take(n);
        names.map(|name| Spec::new(name, counted(&runs, obedient())))
    };

    assert_full(&app.add_all(specs(3)).unwrap_err(), 3);
    for path in ["app.x", "app.y", "app.z"] {
        assert!(!is_listed(&app, path));
    }
    assert_eq!(app.add_all(specs(2)).unwrap().len(), 2);
    runs.reach(2);
    assert!(app.stop().is_empty());
    assert_eq!(runs.get(), 2);
}
