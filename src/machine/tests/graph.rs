//! Services that provide for each other: rows of `conformance/juju.md` in virtual time under their
//! ids, and what else decides who waits for whom.

use std::sync::Arc;
use std::time::Duration;

use super::harness::{Stops, World, config, millis, policy, secs};
use crate::exit::Exit;
use crate::key::{Key, KeyDecl, Links};
use crate::machine::message::{Config, Outcome, Policy};
use crate::machine::policy::{Backoff, Restart};
use crate::report::State;

pub(super) fn key(name: &'static str) -> KeyDecl {
    Key::<u32>::new(name).declared()
}

fn keys(names: &[&'static str]) -> Vec<KeyDecl> {
    names.iter().map(|name| key(name)).collect()
}

/// A policy with keys: what it provides, needs and wants.
pub(super) fn linked(
    policy: Policy,
    provides: &[&'static str],
    needs: &[&'static str],
    wants: &[&'static str],
) -> Policy {
    let links = Links {
        provides: keys(provides),
        needs: keys(needs),
        wants: keys(wants),
    };
    Policy {
        links: Some(Arc::new(links)),
        ..policy
    }
}

pub(super) fn provider(policy: Policy) -> Policy {
    linked(policy, &["k"], &[], &[])
}

pub(super) fn needy(policy: Policy) -> Policy {
    linked(policy, &[], &["k"], &[])
}

pub(super) fn wanting(policy: Policy) -> Policy {
    linked(policy, &[], &[], &["k"])
}

pub(super) fn delayed(delay: Duration) -> Policy {
    Policy {
        backoff: Backoff::fixed(delay),
        ..policy()
    }
}

fn growing() -> Policy {
    Policy {
        backoff: Backoff::exponential(secs(1), secs(60)).jitter(0.0),
        ..policy()
    }
}

/// Started, with these services, each of which provides what it declares when it starts.
pub(super) fn providing(config: Config, services: &[(&'static str, Policy)]) -> World {
    let mut world = World::new(config);
    world.provides_at_start = true;
    for (name, policy) in services {
        world.add(name, policy.clone());
    }
    world.act(crate::machine::message::Input::Started);
    world
}

#[track_caller]
pub(super) fn assert_incarnations(w: &World, expected: &[(&str, u64)]) {
    let found: Vec<_> = expected
        .iter()
        .map(|&(name, _)| (name, w.view(name).incarnation))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn parking_is_no_failure_and_no_backoff() {
    let services = [("p", provider(policy())), ("c", wanting(growing()))];
    let mut w = providing(config(), &services);
    for _ in 0..10 {
        w.exits("c", Exit::Missing);
        assert_eq!(w.view("c").state, State::Waiting);
        let before = w.view("c").incarnation;
        w.stop_service("p");
        // It went: that is a change, too.
        assert_eq!(w.view("c").incarnation, before + 1);
        w.exits("c", Exit::Missing);
        w.start_service("p");
        assert_eq!(w.view("c").state, State::Running);
    }
    assert_eq!(w.view("c").failures, 0);
    w.at(w.now() + secs(1));
    let failed = w.now();
    w.clear_log();
    w.fails("c");
    w.run_out();
    assert_eq!(w.starts(), [(failed + secs(1), "c")]);
}

#[test]
fn a_change_before_the_parking_answer_is_not_lost() {
    // The value came while it was on its way to say that there is none.
    let services = [("p", provider(policy())), ("c", wanting(policy()))];
    let mut w = World::running(config(), &services);
    w.stops("c", Stops::After(secs(1), Outcome::Exit(Exit::Missing)));
    w.provides("p", "k");
    w.run_out();
    assert_incarnations(&w, &[("p", 1), ("c", 2)]);
    assert_eq!(w.view("c").state, State::Running);
}

#[test]
fn dependents_wait_through_the_inputs_backoff() {
    let services = [("p", provider(delayed(secs(1)))), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::After(millis(100), Outcome::Ok));
    w.clear_log();
    w.fails("p");
    assert_eq!(w.asked(), [(secs(0), "c")]);
    w.at(millis(100));
    assert_eq!(w.view("c").state, State::Waiting);
    w.at(millis(999));
    assert_eq!(w.starts(), []);
    w.run_out();
    assert_eq!(w.starts(), [(secs(1), "p"), (secs(1), "c")]);
    assert_eq!((w.view("c").failures, w.failures().len()), (0, 1));
}

#[test]
fn dependents_own_delay_still_holds_after_its_input_is_back() {
    let services = [
        ("p", provider(delayed(secs(1)))),
        ("c", needy(delayed(secs(5)))),
    ];
    let mut w = providing(config(), &services);
    w.clear_log();
    w.fails("c");
    w.at(secs(1));
    w.fails("p");
    w.run_out();
    assert_eq!(w.starts(), [(secs(2), "p"), (secs(5), "c")]);
}

#[test]
fn wanted_input_that_goes_and_comes_restarts_twice() {
    let services = [("p", provider(delayed(secs(1)))), ("c", wanting(policy()))];
    let mut w = World::new(config());
    w.add("p", services[0].1.clone());
    w.input(crate::machine::message::Input::Started);
    w.provides("p", "k");
    w.provides_at_start = true;
    w.add("c", services[1].1.clone());
    w.at(secs(0));
    assert_incarnations(&w, &[("p", 1), ("c", 1)]);
    w.clear_log();
    w.fails("p");
    w.run_out();
    assert_eq!(w.starts(), [(secs(0), "c"), (secs(1), "p"), (secs(1), "c")]);
    assert_eq!(w.view("c").failures, 0);
}

#[test]
fn bounce_waits_the_first_delay_and_never_grows_it() {
    let mut w = providing(config(), &[("p", provider(growing()))]);
    for n in 1..=5 {
        w.exits("p", Exit::Bounce);
        assert_eq!(w.view("p").state, State::Backoff);
        w.run_out();
        assert_eq!(w.now(), secs(n));
    }
    w.fails("p");
    w.run_out();
    assert_eq!(w.now(), secs(6));
}

#[test]
fn bounced_dependent_restarts_without_a_delay_of_its_own() {
    let services = [("p", provider(policy())), ("c", needy(growing()))];
    let mut w = providing(config(), &services);
    w.clear_log();
    w.fails("p");
    assert_eq!(w.starts(), [(secs(0), "p"), (secs(0), "c")]);
}

#[test]
fn map_failure_can_turn_an_error_into_any_answer() {
    // What the filter answers is all the machine hears of.
    let job = || Policy {
        restart: Restart::OnFailure,
        ..growing()
    };
    let services = [
        ("missing", growing()),
        ("bounce", growing()),
        ("uninstall", growing()),
        ("done", growing()),
        ("ok", job()),
    ];
    let mut w = World::running(config(), &services);
    w.exits("missing", Exit::Missing);
    w.exits("bounce", Exit::Bounce);
    w.exits("uninstall", Exit::Uninstall);
    w.exits("done", Exit::DoNotRestart);
    w.ends("ok", Outcome::Ok);
    w.run_out();
    assert_eq!(w.view("missing").state, State::Waiting);
    assert_eq!(w.view("bounce").state, State::Running);
    assert!(!w.is_there("uninstall"));
    assert_eq!(w.view("done").state, State::Done);
    assert_eq!(w.view("ok").state, State::Done);
    assert_eq!(w.failures().len(), 0);
    // Their first delay is still the first.
    let now = w.now();
    w.clear_log();
    w.fails("bounce");
    w.run_out();
    assert_eq!(w.starts(), [(now + secs(1), "bounce")]);
}

#[test]
fn bounce_delay_merges_changes() {
    let merging = Config {
        bounce_delay: secs(1),
        ..config()
    };
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(merging, &services);
    w.clear_log();
    w.provides("p", "k");
    w.at(millis(300));
    w.provides("p", "k");
    w.run_out();
    assert_eq!(w.starts(), [(secs(1), "c")]);
}

#[test]
fn bounce_delay_counts_from_the_first_request_also_while_it_stops() {
    let merging = Config {
        bounce_delay: secs(1),
        ..config()
    };
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(merging, &services);
    w.stops("c", Stops::After(millis(500), Outcome::Ok));
    w.clear_log();
    w.provides("p", "k");
    w.at(millis(300));
    w.fails("p");
    w.run_out();
    // The provider waits for its user only.
    assert_eq!(w.starts(), [(millis(500), "p"), (secs(1), "c")]);
}

#[test]
fn diamond_restarts_its_sink_once() {
    let services = [
        ("top", linked(policy(), &["t"], &[], &[])),
        ("left", linked(policy(), &["l"], &["t"], &[])),
        ("right", linked(policy(), &["r"], &["t"], &[])),
        ("sink", linked(policy(), &[], &["l", "r"], &[])),
    ];
    let mut w = providing(config(), &services);
    w.clear_log();
    w.fails("top");
    assert_eq!(w.who("stopped"), ["sink", "right", "left"]);
    assert_eq!(w.who("started"), ["top", "left", "right", "sink"]);
}

#[test]
fn providers_added_later_come_first_in_the_order() {
    let mut w = World::new(config());
    w.provides_at_start = true;
    w.act(crate::machine::message::Input::Started);
    w.add("leaf", linked(policy(), &[], &["m"], &[]));
    w.add("mid", linked(policy(), &["m"], &["t"], &[]));
    w.add("beside", policy());
    w.add("top", linked(policy(), &["t"], &[], &[]));
    w.at(secs(0));
    assert_eq!(w.who("started"), ["beside", "top", "mid", "leaf"]);
    w.clear_log();
    w.shutdown();
    assert_eq!(w.who("stopping"), ["leaf", "mid", "top", "beside"]);
}

#[test]
fn values_provided_together_are_one_change() {
    let services = [
        ("p", linked(policy(), &["k", "l"], &[], &[])),
        ("c", linked(policy(), &[], &["k"], &["l"])),
    ];
    let mut w = providing(config(), &services);
    assert_incarnations(&w, &[("p", 1), ("c", 1)]);
    w.fails("p");
    assert_incarnations(&w, &[("p", 2), ("c", 2)]);
}
