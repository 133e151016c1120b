//! Services that start again by themselves: who may, and what the machine makes of it.

use super::graph::{linked, provider};
use super::harness::{HOUR, Stops, World, config, millis, policy, secs};
use crate::machine::message::{Command, Config, Input, Outcome, Policy};
use crate::machine::policy::{Backoff, Limit, PanicPolicy, Restart};
use crate::machine::strategy::Strategy;
use crate::report::State;

fn may(config: Config, policy: Policy) -> bool {
    let w = World::running(config, &[("a", policy)]);
    w.machine.needs_no_decision(w.id("a"))
}

#[test]
fn who_is_counted_delayed_or_shared_is_decided_about() {
    assert!(may(config(), policy()));
    let on_failure = Policy {
        restart: Restart::OnFailure,
        ..policy()
    };
    assert!(may(config(), on_failure));
    let none = Some(Box::new(Limit::none()));
    let unlimited = Policy {
        limit: none,
        panic_backoff: Some(Box::new(Backoff::none())),
        ..policy()
    };
    assert!(may(config(), unlimited));

    let under = |limit| Config { limit, ..config() };
    assert!(!may(under(Limit::window(9, HOUR)), policy()));
    assert!(!may(under(Limit::decay(9.0, HOUR)), policy()));
    for strategy in [Strategy::OneForAll, Strategy::RestForOne] {
        let config = Config {
            strategy,
            ..config()
        };
        assert!(!may(config, policy()));
    }
    let decided: [fn(&mut Policy); 10] = [
        |p| p.restart = Restart::Never,
        |p| p.panic_policy = PanicPolicy::Escalate,
        |p| p.backoff = Backoff::fixed(millis(1)),
        |p| p.panic_backoff = Some(Box::new(Backoff::fixed(millis(1)))),
        |p| p.group = Some("g".into()),
        |p| *p = provider(p.clone()),
        |p| *p = linked(p.clone(), &[], &[], &["k"]),
        |p| p.ready_timeout = Some(secs(1)),
        |p| p.stop_timeout = None,
        |p| p.overlap_max = 1,
    ];
    for (n, change) in decided.into_iter().enumerate() {
        let mut policy = policy();
        change(&mut policy);
        assert!(!may(config(), policy), "the {n}th");
    }
    let own = Policy {
        limit: Some(Box::new(Limit::budget(9, 9))),
        ..policy()
    };
    assert!(!may(config(), own));
}

#[test]
fn nobody_may_before_the_start_or_in_a_stop() {
    let mut w = World::new(config());
    w.add("a", policy());
    assert!(!w.machine.needs_no_decision(w.id("a")));
    w.act(Input::Started);
    assert!(w.machine.needs_no_decision(w.id("a")));
    w.stops("a", Stops::Hangs);
    w.shutdown();
    assert!(!w.machine.needs_no_decision(w.id("a")));
}

#[test]
fn renewals_are_counted_and_change_nothing_else() {
    let mut w = World::running(config(), &[("a", policy())]);
    w.at(secs(5));
    w.clear_log();
    w.renews("a", 3, secs(4));
    let view = w.view("a");
    assert_eq!((view.state, view.incarnation), (State::Running, 4));
    assert_eq!((view.starts, view.failures, view.panics), (4, 3, 1));
    assert_eq!(view.since.since_start(), secs(4));
    // It told all that itself.
    assert_eq!(w.log(), []);
    let id = w.id("a");
    assert_eq!(w.machine.take_changed().next_back(), Some(id));

    // From there on as ever.
    w.fails("a");
    let view = w.view("a");
    assert_eq!((view.incarnation, view.starts, view.failures), (5, 5, 4));
}

#[test]
fn a_renewal_that_is_known_changes_nothing() {
    let mut w = World::running(config(), &[("a", policy())]);
    w.renews("a", 3, secs(0));
    let known = w.view("a");
    for incarnation in [1, 4] {
        w.act(Input::Renewed {
            id: w.id("a"),
            incarnation,
            since: crate::machine::Moment::START,
            failures: 1,
            panics: 1,
        });
        assert_eq!(w.view("a"), known);
    }
}

#[test]
fn who_was_renewed_before_it_was_asked_ends_as_it_was_asked_to() {
    let mut w = World::running(config(), &[("a", policy())]);
    w.at(secs(5));
    w.stops("a", Stops::Hangs);
    w.stop_service("a");
    w.renews("a", 2, secs(4));
    let view = w.view("a");
    assert_eq!((view.state, view.incarnation), (State::Stopping, 3));
    assert_eq!(view.since.since_start(), secs(5));
    w.ends("a", Outcome::Ok);
    let view = w.view("a");
    assert_eq!((view.state, view.starts), (State::Stopped, 3));
}

#[test]
fn who_was_renewed_before_it_was_abandoned_is_one_incarnation_still() {
    let hasty = Policy {
        stop_timeout: Some(secs(0)),
        ..policy()
    };
    let mut w = World::running(config(), &[("a", hasty)]);
    w.stops("a", Stops::Hangs);
    w.restart_service("a");
    assert_eq!(w.view("a").state, State::Abandoned);
    w.renews("a", 2, secs(0));
    assert_eq!(w.view("a").state, State::Abandoned);
    w.clear_log();
    w.ends("a", Outcome::Ok);
    let view = w.view("a");
    assert_eq!((view.state, view.incarnation), (State::Running, 4));
    let id = w.id("a");
    let starts = w
        .log()
        .iter()
        .filter(|(_, c)| *c == Command::Start { id, incarnation: 4 });
    assert_eq!(starts.count(), 1);
}
