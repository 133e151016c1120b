//! The restart limits in virtual time: the window rows of `conformance/otp.md` under their ids, and
//! what the limits' clock and counts do beside them.

use std::time::Duration;

use super::harness::{HOUR, Stops, World, config, end, policy, secs};
use crate::error::ErrorKind;
use crate::event::Next;
use crate::failure::FailureKind;
use crate::machine::message::{Config, End, Input, Outcome, Policy, Verdict};
use crate::machine::policy::{Exceeded, Limit, Restart};
use crate::report::State;

fn window(restarts: u32, period: Duration) -> Config {
    Config {
        limit: Limit::window(restarts, period).then(Exceeded::Fail),
        ..config()
    }
}

fn alone(config: Config, policy: Policy) -> World {
    World::running(config, &[("a", policy)])
}

fn restarting(restart: Restart) -> Policy {
    Policy {
        restart,
        ..policy()
    }
}

#[test]
fn window_allows_exactly_its_restarts() {
    let mut w = alone(window(2, secs(10)), policy());
    for at in 0..3 {
        w.at(secs(at));
        w.fails("a");
    }
    assert_eq!(w.starts(), [0, 0, 1].map(|at| (secs(at), "a")));
    assert_eq!(w.over(), Some(secs(2)));
    assert_eq!(w.blamed(), [("a", Verdict::LimitExceeded)]);
}

#[test]
fn window_slides() {
    let mut w = alone(window(1, secs(10)), policy());
    for nth in 0..100 {
        w.at(secs(11 * nth));
        w.fails("a");
        assert_eq!(w.last_failure().count, 1.0);
    }
    assert_eq!((w.starts().len(), w.over()), (101, None));
}

#[test]
fn window_edge_belongs_to_the_window() {
    let nano = Duration::from_nanos(1);
    for (second, over) in [(secs(10), Some(secs(10))), (secs(10) + nano, None)] {
        let mut w = alone(window(1, secs(10)), policy());
        w.fails("a");
        w.at(second);
        w.fails("a");
        assert_eq!(w.over(), over);
        assert_eq!(w.view("a").state == State::Running, over.is_none());
    }
}

#[test]
fn window_of_zero_restarts_allows_none() {
    let mut w = alone(window(0, secs(5)), policy());
    w.fails("a");
    assert_eq!((w.starts().len(), w.over()), (1, Some(secs(0))));
}

#[test]
fn exceeded_window_goes_on_counting_when_only_the_service_stops() {
    let limit = Limit::window(1, secs(10)).then(Exceeded::StopService);
    let services = ["a", "b", "c", "d"].map(|name| (name, policy()));
    let mut w = World::running(Config { limit, ..config() }, &services);
    ["a", "b", "c"].iter().for_each(|name| w.fails(name));
    w.at(secs(11));
    w.fails("d");
    let counts: Vec<_> = w
        .failures()
        .into_iter()
        .map(|f| (f.count, f.next == Next::Stays))
        .collect();
    assert_eq!(
        counts,
        [(1.0, false), (2.0, true), (2.0, true), (1.0, false)]
    );
}

/// The clock of a window stands still while the supervisor stops somebody for a restart.
#[test]
fn slow_stops_cannot_dodge_a_window() {
    let services = [("a", policy()), ("slow", policy())];
    let mut w = World::running(window(1, secs(5)), &services);
    w.stops("slow", Stops::After(secs(8), Outcome::Ok));
    w.fails("a");
    w.at(secs(1));
    w.restart_service("slow");
    w.at(secs(9));
    assert_eq!(w.view("slow").incarnation, 2);
    w.at(secs(12));
    w.fails("a");
    assert_eq!(w.last_failure().count, 2.0);
    w.run_out();
    assert_eq!(w.over(), Some(secs(20)));
}

/// A stop for good is not a stop for a restart.
#[test]
fn a_stop_by_hand_does_not_hold_the_clock_of_a_window() {
    let services = [("a", policy()), ("slow", policy())];
    let mut w = World::running(window(1, secs(5)), &services);
    w.stops("slow", Stops::After(secs(8), Outcome::Ok));
    w.fails("a");
    w.stop_service("slow");
    w.at(secs(6));
    w.fails("a");
    assert_eq!((w.last_failure().count, w.over()), (1.0, None));
}

#[test]
fn failed_starts_count() {
    let slow = Policy {
        ready_timeout: Some(secs(1)),
        ..policy()
    };
    let mut w = alone(window(4, HOUR), slow);
    w.run_out();
    assert_eq!(w.starts(), [0, 1, 2, 3, 4].map(|at| (secs(at), "a")));
    assert!(
        w.failures()
            .iter()
            .all(|f| f.kind == FailureKind::ReadyTimeout)
    );
    assert_eq!(w.over(), Some(secs(5)));
}

#[test]
fn no_limit_never_gives_up() {
    let mut w = alone(config(), policy());
    for _ in 0..10_000 {
        w.fails("a");
        w.clear_log();
        w.machine.take_changed();
    }
    assert_eq!(w.view("a").incarnation, 10_001);
    assert_eq!(w.view("a").state, State::Running);
    let empty = format!("{:?}", alone(config(), policy()).machine).len();
    let grown = format!("{:?}", w.machine).len();
    assert!(grown < empty + 100, "{grown} characters after {empty}");
}

#[test]
fn ordered_restarts_do_not_count() {
    let mut w = alone(window(0, HOUR), policy());
    (0..10).for_each(|_| w.restart_service("a"));
    assert_eq!(
        (w.view("a").incarnation, w.over(), w.failures()),
        (11, None, vec![])
    );
}

#[test]
fn always_restarts_after_ok() {
    let mut w = alone(window(1, HOUR), policy());
    w.ends("a", Outcome::Ok);
    assert_eq!((w.view("a").incarnation, w.over()), (2, None));
    w.ends("a", Outcome::Ok);
    assert_eq!(w.over(), Some(secs(0)));
    assert_eq!(w.last_failure().kind, FailureKind::Returned);
}

#[test]
fn always_restarts_after_error_and_panic() {
    let mut w = alone(window(2, HOUR), policy());
    w.ends("a", Outcome::Error);
    w.ends("a", Outcome::Panic);
    assert_eq!((w.view("a").incarnation, w.over()), (3, None));
    w.ends("a", Outcome::Error);
    assert_eq!(w.over(), Some(secs(0)));
}

#[test]
fn on_failure_is_done_after_ok() {
    let mut w = alone(window(0, HOUR), restarting(Restart::OnFailure));
    w.ends("a", Outcome::Ok);
    assert_eq!(w.view("a").state, State::Done);
    assert_eq!((w.starts().len(), w.over()), (1, None));
    let again = Policy {
        name: "a".into(),
        ..policy()
    };
    assert!(w.machine.admit([&again].into_iter(), false).is_err());
}

#[test]
fn on_failure_restarts_after_error_and_panic() {
    let mut w = alone(window(2, HOUR), restarting(Restart::OnFailure));
    w.ends("a", Outcome::Error);
    w.ends("a", Outcome::Panic);
    w.ends("a", Outcome::Ok);
    assert_eq!((w.starts().len(), w.over()), (3, None));
    assert_eq!(w.view("a").state, State::Done);
}

#[test]
fn never_ends_after_any_outcome() {
    let services = ["a", "b", "c"].map(|name| (name, restarting(Restart::Never)));
    let mut w = World::running(window(0, HOUR), &services);
    w.ends("a", Outcome::Ok);
    w.ends("b", Outcome::Error);
    w.ends("c", Outcome::Panic);
    assert_eq!((w.starts().len(), w.over()), (3, None));
    assert!(
        w.failures()
            .iter()
            .all(|f| f.count == 0.0 && f.next == Next::Stays)
    );
}

#[test]
fn never_service_is_dropped_at_its_end() {
    let mut w = alone(config(), restarting(Restart::Never));
    w.ends("a", Outcome::Ok);
    assert!(!w.is_there("a"));
    assert!(w.machine.report().is_empty());
    let first = w.id("a");
    let second = w.add("a", restarting(Restart::Never));
    assert_ne!(first, second);
    assert_eq!(w.view("a").state, State::Running);
}

/// What a failed sub-supervisor brings back, and from which count.
#[test]
fn restarted_supervisor_counts_from_zero() {
    let mut w = World::running(window(1, HOUR), &[("a", policy()), ("b", policy())]);
    w.fails("a");
    w.fails("a");
    assert_eq!(w.over(), Some(secs(0)));
    w.clear_log();
    w.act(Input::Started);
    assert_eq!(w.starts(), [(secs(0), "a"), (secs(0), "b")]);
    w.fails("a");
    assert_eq!((w.last_failure().count, w.over()), (1.0, None));
}

#[track_caller]
fn assert_refuses(limit: &Limit, words: &[&str]) {
    let error = limit.check().expect_err("it is refused");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "{word:?} in {text:?}");
    }
}

#[test]
fn limit_that_makes_no_sense_is_refused() {
    let pause = |jitter| {
        Limit::none().then(Exceeded::Pause {
            time: secs(1),
            jitter,
        })
    };
    let nothing = Duration::ZERO;
    assert_refuses(&Limit::window(1, nothing), &["limit", "period", "zero"]);
    assert_refuses(&Limit::decay(1.0, nothing), &["half life", "zero"]);
    for threshold in [-0.1, f64::NAN, f64::NEG_INFINITY] {
        assert_refuses(&Limit::decay(threshold, secs(1)), &["limit", "threshold"]);
    }
    for jitter in [-0.1, 1.1, f64::NAN] {
        assert_refuses(&pause(jitter), &["limit", "jitter"]);
    }
    for limit in [
        Limit::none(),
        Limit::default(),
        Limit::window(0, secs(1)),
        Limit::decay(0.0, secs(1)),
        Limit::decay(f64::INFINITY, secs(1)),
        Limit::budget(0, 0),
        pause(0.0),
        pause(1.0),
    ] {
        assert!(limit.check().is_ok(), "{limit}");
    }
}

#[test]
fn limit_says_what_it_allows() {
    let texts = [
        (Limit::none(), "no limit"),
        (Limit::window(2, secs(10)), "limit of 2 restarts in 10s"),
        (
            Limit::decay(5.0, secs(30)),
            "limit of 5 failures, halved every 30s",
        ),
        (Limit::budget(1, 0), "budget of 1 errors and 0 panics"),
    ];
    for (limit, text) in texts {
        assert_eq!(limit.to_string(), text);
    }
}

/// What is told of a failure that isn't counted is the count as it stands.
#[test]
fn fatal_failure_tells_the_count_so_far() {
    let counts = [
        (Limit::none(), 0.0, f64::INFINITY),
        (Limit::window(3, HOUR), 2.0, 3.0),
        (Limit::decay(3.0, HOUR), 2.0, 3.0),
        (Limit::budget(3, 1), 2.0, 3.0),
    ];
    for (limit, count, max) in counts {
        let mut w = alone(Config { limit, ..config() }, policy());
        w.fails("a");
        w.fails("a");
        let fatal = End {
            fatal: true,
            ..end(Outcome::Error)
        };
        w.ends_as("a", fatal);
        let told = w.last_failure();
        assert_eq!((told.count, told.limit), (count, max));
    }
}
