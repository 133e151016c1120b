//! Restarts of several services, in virtual time: rows of `conformance/otp.md` and
//! `conformance/monogon.md` under their ids.

use super::harness::{Stops, World, config, millis, policy, secs};
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
