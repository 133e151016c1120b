//! Restarts of several services, in virtual time: rows of `conformance/otp.md` and
//! `conformance/monogon.md` under their ids.

use super::harness::{Stops, World, config, millis, policy, secs};
use crate::event::Next;
use crate::exit::Exit;
use crate::machine::message::{Config, Outcome, Policy, Verdict};
use crate::machine::policy::{Backoff, Exceeded, Limit, Restart};
use crate::machine::strategy::Strategy;
use crate::report::State;

fn one_for_all() -> Config {
    Config {
        strategy: Strategy::OneForAll,
        ..config()
    }
}

fn delayed(backoff: Backoff) -> Policy {
    Policy {
        backoff,
        ..policy()
    }
}

fn grouped(policy: Policy) -> Policy {
    Policy {
        group: Some("group".into()),
        ..policy
    }
}

/// Everybody who was started since the log was cleared, at the same moment.
#[track_caller]
fn assert_started(w: &World, at: std::time::Duration, names: &[&str]) {
    let expected: Vec<_> = names.iter().map(|&name| (at, name)).collect();
    assert_eq!(w.starts(), expected);
}

#[test]
fn one_failure_of_a_set_counts_once() {
    let config = Config {
        limit: Limit::window(1, secs(10)).then(Exceeded::Fail),
        ..one_for_all()
    };
    let names = ["a", "b", "c", "d", "e"];
    let mut w = World::running(config, &names.map(|name| (name, policy())));
    w.clear_log();
    w.fails("c");
    assert_started(&w, secs(0), &names);
    assert_eq!((w.last_failure().count, w.failures().len()), (1.0, 1));

    w.at(secs(5));
    w.fails("a");
    assert_eq!(w.last_failure().count, 2.0);
    assert_eq!(w.blamed(), [("a", Verdict::LimitExceeded)]);
    assert_eq!(w.over(), Some(secs(5)));
    assert_started(&w, secs(0), &names);
}

#[test]
fn set_restart_waits_at_the_barrier() {
    let names = ["a", "b", "c"];
    let mut w = World::running(one_for_all(), &names.map(|name| (name, policy())));
    w.stops("c", Stops::After(secs(3), Outcome::Ok));
    w.clear_log();
    w.fails("a");
    assert_eq!(w.asked(), [(secs(0), "c")]);

    w.at(secs(3));
    assert_eq!(w.asked(), [(secs(0), "c"), (secs(3), "b")]);
    // The machine itself asserts that whom it starts does not run.
    assert_started(&w, secs(3), &names);
    assert_eq!(names.map(|name| w.view(name).incarnation), [2, 2, 2]);
}

#[test]
fn backoff_and_barrier_run_together() {
    // The delay counts from the death, not from the barrier.
    for (stops_in, starts_at) in [(secs(3), secs(5)), (secs(7), secs(7))] {
        let services = [
            ("a", delayed(Backoff::fixed(secs(5)))),
            ("b", policy()),
            ("c", policy()),
        ];
        let mut w = World::running(one_for_all(), &services);
        w.stops("b", Stops::After(stops_in, Outcome::Ok));
        w.clear_log();
        w.fails("a");
        w.run_out();
        assert_started(&w, starts_at, &["a", "b", "c"]);
    }
}

#[test]
fn group_starts_together_after_the_failed_members_delay() {
    let services = [
        ("a", grouped(policy())),
        ("b", grouped(policy())),
        ("bad", grouped(delayed(Backoff::fixed(secs(2))))),
    ];
    let mut w = World::running(config(), &services);
    for name in ["a", "b"] {
        w.stops(name, Stops::After(millis(50), Outcome::Ok));
    }
    w.clear_log();
    w.fails("bad");
    w.at(millis(100));
    assert_eq!(w.who("stopped"), ["b", "a"]);
    assert_eq!(w.starts(), []);

    w.run_out();
    assert_started(&w, secs(2), &["a", "b", "bad"]);
}

#[test]
fn done_resets_backoff() {
    let growing = Backoff::exponential(secs(1), secs(60)).jitter(0.0);
    let job = Policy {
        restart: Restart::OnFailure,
        ..grouped(delayed(growing))
    };
    let services = [("job", job), ("peer", grouped(policy()))];
    let mut w = World::running(config(), &services);
    let fails_after = |w: &mut World, delay| {
        let died = w.now();
        w.clear_log();
        w.fails("job");
        w.run_out();
        assert_started(w, died + secs(delay), &["job", "peer"]);
    };
    for delay in [1, 2, 4] {
        fails_after(&mut w, delay);
    }

    w.ends("job", Outcome::Ok);
    assert_eq!(w.view("job").state, State::Done);
    w.fails("peer");
    assert_eq!(w.view("job").state, State::Running);
    fails_after(&mut w, 1);
}

#[test]
fn set_restart_by_hand_waits_for_no_delay() {
    let slow = delayed(Backoff::fixed(secs(10)));
    let services = [("a", policy()), ("b", slow), ("c", policy())];
    let mut w = World::running(one_for_all(), &services);
    w.fails("b");
    w.at(secs(1));
    w.clear_log();
    w.restart_service("a");
    assert_started(&w, secs(1), &["a", "b", "c"]);
}

#[test]
fn set_restart_drops_who_never_restarts_also_if_nobody_else_takes_part() {
    let never = Policy {
        restart: Restart::Never,
        ..policy()
    };
    let mut w = World::running(one_for_all(), &[("a", policy()), ("n", never)]);
    w.stops("n", Stops::After(secs(1), Outcome::Ok));
    w.clear_log();
    w.fails("a");
    assert_eq!(w.asked(), [(secs(0), "n")]);
    w.run_out();
    assert!(!w.is_there("n"));
    assert_started(&w, secs(1), &["a"]);
}

#[test]
fn late_service_takes_its_set_along() {
    let late = Policy {
        ready_timeout: Some(secs(1)),
        ..policy()
    };
    let mut w = World::running(one_for_all(), &[("a", late), ("b", policy())]);
    w.at(secs(1));
    // The order of stopping, as always.
    assert_eq!(w.asked(), [(secs(1), "b"), (secs(1), "a")]);
    assert_eq!((w.view("a").incarnation, w.view("b").incarnation), (2, 2));
}

#[test]
fn set_restart_waits_for_the_delay_of_who_has_failed_already() {
    let rest = Config {
        strategy: Strategy::RestForOne,
        ..config()
    };
    let slow = delayed(Backoff::fixed(secs(10)));
    let mut w = World::running(rest, &[("a", policy()), ("b", slow)]);
    w.fails("b");
    w.at(secs(1));
    w.clear_log();
    w.fails("a");
    w.run_out();
    assert_started(&w, secs(10), &["a", "b"]);
}

/// `a` and `b`, `c` and `d`.
fn two_groups() -> World {
    let of = |group: &'static str| Policy {
        group: Some(group.into()),
        ..policy()
    };
    let services = [
        ("a", of("g")),
        ("b", of("g")),
        ("c", of("h")),
        ("d", of("h")),
    ];
    World::running(config(), &services)
}

#[test]
fn two_groups_restart_beside_each_other() {
    let mut w = two_groups();
    w.stops("b", Stops::After(secs(2), Outcome::Ok));
    w.stops("d", Stops::After(secs(1), Outcome::Ok));
    w.clear_log();
    w.fails("a");
    w.fails("c");
    w.run_out();
    let starts = [(1, "c"), (1, "d"), (2, "a"), (2, "b")].map(|(at, name)| (secs(at), name));
    assert_eq!(w.starts(), starts);
}

#[test]
fn member_that_fails_before_it_is_asked_adds_its_delay() {
    let slow = delayed(Backoff::fixed(secs(10)));
    let services = [("a", policy()), ("b", slow), ("c", policy())];
    let mut w = World::running(one_for_all(), &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.clear_log();
    w.fails("a");
    w.fails("b");
    w.run_out();
    assert_started(&w, secs(10), &["a", "b", "c"]);
    assert_eq!(w.last_failure().next, Next::Waits);
}

#[test]
fn member_that_is_stopped_for_good_holds_the_others_no_longer() {
    for order in [World::stop_service, World::remove] {
        let mut w = World::running(one_for_all(), &[("a", policy()), ("b", policy())]);
        w.stops("b", Stops::After(secs(5), Outcome::Ok));
        w.clear_log();
        w.fails("a");
        assert_eq!(w.starts(), []);
        w.at(secs(1));
        order(&mut w, "b");
        assert_started(&w, secs(1), &["a"]);
    }
}

#[test]
fn member_that_is_started_by_hand_waits_for_the_barrier_and_no_delay() {
    let slow = delayed(Backoff::fixed(secs(10)));
    for order in [World::start_service, World::restart_service] {
        let services = [("a", slow.clone()), ("b", policy()), ("c", policy())];
        let mut w = World::running(one_for_all(), &services);
        w.stops("c", Stops::After(secs(3), Outcome::Ok));
        w.clear_log();
        w.fails("a");
        w.at(secs(1));
        order(&mut w, "a");
        assert_eq!(w.starts(), []);
        w.run_out();
        let starts = [(secs(3), "a"), (secs(10), "b"), (secs(10), "c")];
        assert_eq!(w.starts(), starts);
    }
}

#[test]
fn groups_that_restart_at_the_same_time_have_their_own_barriers() {
    let mut w = two_groups();
    w.stops(
        "b",
        Stops::After(secs(1), Outcome::Exit(Exit::DoNotRestart)),
    );
    w.stops(
        "d",
        Stops::After(secs(2), Outcome::Exit(Exit::DoNotRestart)),
    );
    w.clear_log();
    w.fails("a");
    w.fails("c");
    w.run_out();
    assert_eq!(w.starts(), [(secs(1), "a"), (secs(2), "c")]);
}

#[test]
fn set_restart_does_not_wait_for_who_is_being_stopped_for_good() {
    for order in [World::stop_service, World::remove] {
        let mut w = World::running(one_for_all(), &[("a", policy()), ("b", policy())]);
        w.stops("b", Stops::After(secs(5), Outcome::Ok));
        order(&mut w, "b");
        w.clear_log();
        w.fails("a");
        w.run_out();
        assert_started(&w, secs(0), &["a"]);
    }
}

#[test]
fn rest_for_one_reaches_back_to_the_first_of_a_group() {
    let rest = Config {
        strategy: Strategy::RestForOne,
        ..config()
    };
    let services = [
        ("first", policy()),
        ("x", grouped(policy())),
        ("between", policy()),
        ("a", policy()),
        ("y", grouped(policy())),
    ];
    let mut w = World::running(rest, &services);
    w.clear_log();
    w.fails("a");
    assert_started(&w, secs(0), &["x", "between", "a", "y"]);
}
