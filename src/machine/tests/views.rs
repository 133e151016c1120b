//! What is published of services and of their supervisor.

use super::graph::{linked, needy, provider, providing, wanting};
use super::harness::{Stops, World, config, end, pausing, policy, secs};
use crate::exit::Exit;
use crate::machine::message::{Config, Input, Outcome, Policy, WaitsFor};
use crate::machine::policy::Backoff;
use crate::machine::strategy::Strategy;

/// What it waits for, and whether it is missing.
fn waits(w: &World, name: &str) -> (Option<WaitsFor>, bool) {
    let view = w.view(name);
    (view.waiting_for, view.missing)
}

#[test]
fn who_waits_says_for_what() {
    let mut w = World::new(config());
    w.add("p", provider(policy()));
    w.add("c", needy(policy()));
    w.add("d", wanting(policy()));
    assert_eq!(waits(&w, "c"), (Some(WaitsFor::Supervisor), true));
    assert_eq!(w.machine.missing(), 3);
    w.act(Input::Started);
    // A provider must provide, to be ready.
    assert_eq!(waits(&w, "p"), (None, true));
    assert_eq!(waits(&w, "c"), (Some(WaitsFor::Inputs), true));
    assert_eq!(waits(&w, "d"), (None, false));
    w.exits("d", Exit::Missing);
    assert_eq!(waits(&w, "d"), (Some(WaitsFor::Change), true));
    assert_eq!(w.machine.missing(), 3);
    w.provides("p", "k");
    assert_eq!(w.machine.missing(), 0);
}

#[test]
fn who_waits_for_the_end_of_a_pause_or_for_others_says_so() {
    let mut w = World::running(pausing(), &[("a", policy())]);
    assert!(!w.machine.is_paused());
    w.fails("a");
    assert_eq!(waits(&w, "a"), (Some(WaitsFor::EndOfPause), true));
    assert!(w.machine.is_paused());
    w.run_out();
    assert_eq!(waits(&w, "a"), (None, false));
    assert!(!w.machine.is_paused());

    let all = Config {
        strategy: Strategy::OneForAll,
        ..config()
    };
    let mut w = World::running(all, &[("a", policy()), ("b", policy())]);
    w.stops("b", Stops::Hangs);
    w.fails("a");
    assert_eq!(waits(&w, "a"), (Some(WaitsFor::Others), true));
    // It stops, to start again.
    assert_eq!(waits(&w, "b"), (None, true));
    w.stop_service("b");
    assert_eq!(waits(&w, "b"), (None, false));
    assert_eq!(w.machine.missing(), 0);
}

#[test]
fn who_is_in_a_delay_is_missing_and_who_rests_is_not() {
    let slow = Policy {
        backoff: Backoff::fixed(secs(5)),
        ..policy()
    };
    let mut w = World::running(config(), &[("a", slow)]);
    assert_eq!((waits(&w, "a"), w.machine.missing()), ((None, false), 0));
    w.fails("a");
    assert_eq!((waits(&w, "a"), w.machine.missing()), ((None, true), 1));
    assert_eq!(
        w.view("a").next_start.map(|at| at.since_start()),
        Some(secs(5))
    );
    w.stop_service("a");
    assert_eq!((waits(&w, "a"), w.machine.missing()), ((None, false), 0));
}

#[test]
fn who_is_being_removed_is_leaving() {
    let leaves = |w: &World| w.machine.is_leaving(w.id("a"));
    let mut w = World::running(config(), &[("a", policy())]);
    w.drops_at_once = false;
    w.stops("a", Stops::Hangs);
    assert!(!leaves(&w));
    w.stop_service("a");
    assert!(!leaves(&w));
    w.remove("a");
    assert!(leaves(&w));
    w.run_out();
    assert!(leaves(&w), "abandoned");
    w.ends_as("a", end(Outcome::Ok));
    assert!(leaves(&w), "its values are being dropped");
    w.act(Input::Discarded(w.id("a")));
    assert!(!leaves(&w), "nobody is left");
}

#[test]
fn supervisor_runs_from_its_start_to_its_stop() {
    let mut w = World::new(config());
    w.add("a", policy());
    w.stops("a", Stops::After(secs(1), Outcome::Ok));
    assert!(!w.machine.is_running());
    w.act(Input::Started);
    assert!(w.machine.is_running());
    w.shutdown();
    assert!(!w.machine.is_running());
    w.run_out();
    assert!(!w.machine.is_running());
}

#[test]
fn service_is_announced_once_when_its_supervisor_runs() {
    let mut w = World::new(config());
    w.add("a", policy());
    assert_eq!(w.who("added"), [""; 0]);
    w.act(Input::Started);
    w.add("b", policy());
    assert_eq!(w.who("added"), ["a", "b"]);
    w.shutdown();
    w.add("c", policy());
    w.act(Input::Started);
    assert_eq!(w.who("added"), ["a", "b", "c"]);
}

#[test]
fn every_change_is_to_be_published() {
    let mut w = World::running(config(), &[("a", policy()), ("b", policy())]);
    let changed = |w: &mut World| w.machine.take_changed().collect::<Vec<_>>();
    let (a, b) = (w.id("a"), w.id("b"));
    let first = changed(&mut w);
    assert!(first.contains(&a) && first.contains(&b));
    w.stop_service("b");
    assert_eq!(changed(&mut w), [b]);
    w.fails("a");
    assert_eq!(changed(&mut w), [a]);
    assert_eq!(changed(&mut w), []);
}

#[test]
fn sources_are_those_whose_values_it_was_started_with() {
    let services = [
        ("p", provider(policy())),
        ("q", linked(policy(), &["l"], &[], &[])),
        ("c", linked(policy(), &[], &["k"], &["l"])),
        ("x", policy()),
    ];
    let mut w = World::running(config(), &services);
    w.provides("p", "k");
    let sources = |w: &World| w.machine.sources_of(w.id("c")).map(|(_, who)| who);
    assert_eq!(sources(&w), Some(vec![Some(w.id("p")), None]));
    w.provides("q", "l");
    assert_eq!(sources(&w), Some(vec![Some(w.id("p")), Some(w.id("q"))]));
    assert!(w.machine.sources_of(w.id("x")).is_none());
}

#[test]
fn who_waits_for_long_gives_its_thread_back_when_that_becomes_certain() {
    let services = [
        ("p", provider(policy())),
        ("q", linked(policy(), &["l"], &[], &[])),
        ("c", linked(policy(), &[], &["k", "l"], &[])),
    ];
    let mut w = providing(config(), &services);
    w.provides_at_start = false;
    w.stop_service("p");
    w.fails("q");
    let before = w.released();
    assert!(before.contains(&(secs(0), "c")));
    // Nothing that it could start with comes or goes.
    w.fails("q");
    assert_eq!(w.released(), before);
}
