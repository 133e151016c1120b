//! How a supervisor stops: the rows of `conformance/otp.md` in virtual time, and the deadline that
//! comes from above.

use std::time::Duration;

use super::classify::{OUTCOMES, RESTARTS};
use super::harness::{HOUR, Stops, World, config, policy, secs};
use crate::exit::Exit;
use crate::machine::Moment;
use crate::machine::message::{Cause, Command, Config, End, Input, Outcome, Policy};
use crate::machine::policy::{Backoff, Exceeded, Limit, StopOrder};
use crate::report::State;

fn patience(timeout: Duration) -> Policy {
    Policy {
        stop_timeout: Some(timeout),
        ..policy()
    }
}

fn all_hung(config: Config, services: &[(&'static str, Policy)]) -> World {
    let mut w = World::running(config, services);
    services
        .iter()
        .for_each(|service| w.stops(service.0, Stops::Hangs));
    w
}

fn told_to_stop_by(w: &mut World, deadline: Duration) {
    w.act(Input::ShutdownRequested {
        deadline: Moment::at(deadline),
    });
}

#[test]
fn each_stop_has_its_own_deadline() {
    let mut w = all_hung(
        config(),
        &[("a", patience(secs(1))), ("b", patience(secs(2)))],
    );
    w.shutdown();
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "b"), (secs(2), "a")]);
    assert_eq!(w.when("abandoned"), [(secs(2), "b"), (secs(3), "a")]);
    assert_eq!(w.over(), Some(secs(3)));
}

#[test]
fn next_is_asked_as_soon_as_the_last_has_ended() {
    let mut w = World::running(
        config(),
        &[("a", patience(secs(2))), ("b", patience(secs(2)))],
    );
    w.stops("a", Stops::Hangs);
    w.stops("b", Stops::After(secs(1) / 2, Outcome::Ok));
    w.shutdown();
    w.at(secs(1));
    let a = w.asks()[1];
    assert_eq!((a.0, a.1, a.3), (secs(1) / 2, "a", secs(5) / 2));
}

#[test]
fn zero_stop_timeout_does_not_wait() {
    let mut w = World::running(
        config(),
        &[("a", policy()), ("b", patience(Duration::ZERO))],
    );
    w.stops("b", Stops::Hangs);
    w.shutdown();
    assert_eq!(w.asked(), [(secs(0), "b"), (secs(0), "a")]);
    assert_eq!(w.when("abandoned"), [(secs(0), "b")]);
    assert_eq!(w.over(), Some(secs(0)));
}

#[test]
fn endless_stop_timeout_does_not_overflow() {
    let mut w = World::running(config(), &[("a", patience(Duration::MAX))]);
    w.at(secs(1));
    w.stops("a", Stops::After(1000 * HOUR - secs(1), Outcome::Ok));
    w.shutdown();
    assert_eq!(w.deadline(), None);
    w.run_out();
    assert_eq!(w.when("abandoned"), []);
    assert_eq!(w.over(), Some(1000 * HOUR));
}

#[test]
fn services_dying_by_themselves_during_a_stop_are_reaped() {
    const NAMES: [&str; 12] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    let told = Outcome::Exit(Exit::DoNotRestart);
    let ends = [Outcome::Ok, Outcome::Error, Outcome::Panic, told];
    let kinds = RESTARTS
        .into_iter()
        .flat_map(|restart| ends.map(|end| (restart, end)));
    let services: Vec<_> = NAMES.into_iter().zip(kinds).collect();
    let mut w = World::new(config());
    for (name, (restart, _)) in &services {
        w.add(
            name,
            Policy {
                restart: *restart,
                ..policy()
            },
        );
    }
    w.add("last", policy());
    w.input(Input::Started);
    w.stops("last", Stops::After(secs(1), Outcome::Ok));
    w.shutdown();
    w.at(secs(1) / 2);
    services
        .iter()
        .for_each(|(name, (_, outcome))| w.ends(name, *outcome));
    w.run_out();
    assert_eq!(w.starts().len(), 13);
    assert_eq!(w.over(), Some(secs(1)));
    assert!(w.failures().iter().all(|f| f.count == 0.0));
    let ends = w.told(&["failed", "done", "stopped"]);
    assert!(
        NAMES
            .iter()
            .all(|name| ends.iter().filter(|end| end.1 == *name).count() == 1)
    );
    assert_eq!(w.asked(), [(secs(0), "last")]);
}

#[test]
fn an_exit_answer_after_a_final_request_is_only_reported() {
    for outcome in OUTCOMES {
        for restart in RESTARTS {
            let services = [
                (
                    "a",
                    Policy {
                        restart,
                        ..policy()
                    },
                ),
                ("b", policy()),
            ];
            let mut w = World::running(config(), &services);
            w.stops("a", Stops::After(secs(1), outcome));
            w.stop_service("a");
            w.run_out();
            assert_eq!(
                w.told(&["stopped", "failed", "done", "removed"]),
                [(secs(1), "a", "stopped")]
            );
            assert_eq!(w.view("a").state, State::Stopped);
            assert_eq!((w.blamed(), w.view("b").state), (vec![], State::Running));
        }
    }
}

/// The machine of `inner` below that of `app`: the sum of its services' own deadlines.
#[test]
fn parent_waits_for_its_childrens_sum() {
    let mut inner = all_hung(
        config(),
        &[("a", patience(secs(2))), ("b", patience(secs(3)))],
    );
    let mut app = World::running(
        config(),
        &[(
            "inner",
            Policy {
                stop_timeout: None,
                ..policy()
            },
        )],
    );
    app.stops("inner", Stops::Hangs);
    app.shutdown();
    assert_eq!(app.deadline(), None);
    told_to_stop_by(&mut inner, app.asks()[0].3);
    inner.run_out();
    assert_eq!(inner.when("abandoned"), [(secs(3), "b"), (secs(5), "a")]);
    assert_eq!(inner.over(), Some(secs(5)));
    app.at(secs(5));
    let id = app.id("inner");
    let left = Input::Ended {
        id,
        incarnation: 1,
        end: End {
            outcome: Outcome::Ok,
            fatal: false,
            discarded: false,
            stragglers: true,
        },
    };
    app.act(left);
    assert_eq!((app.over(), app.when("abandoned")), (Some(secs(5)), vec![]));
}

#[test]
fn parallel_stop_takes_the_longest_not_the_sum() {
    let parallel = Config {
        stop_order: StopOrder::Parallel,
        ..config()
    };
    let services = [
        ("a", policy()),
        ("b", patience(secs(1))),
        ("c", patience(secs(3))),
    ];
    let mut w = all_hung(parallel, &services);
    w.stops("a", Stops::After(secs(1), Outcome::Ok));
    w.shutdown();
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "c"), (secs(0), "b"), (secs(0), "a")]);
    assert_eq!(w.when("abandoned"), [(secs(1), "b"), (secs(3), "c")]);
    assert_eq!(w.over(), Some(secs(3)));
}

#[test]
fn root_deadline_caps_the_whole_tree() {
    let capped = Config {
        stop_timeout: Some(secs(3)),
        ..config()
    };
    let mut w = all_hung(
        capped,
        &["a", "b", "c"].map(|name| (name, patience(secs(2)))),
    );
    w.shutdown();
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "c"), (secs(2), "b"), (secs(3), "a")]);
    assert_eq!(
        w.when("abandoned"),
        [(secs(2), "c"), (secs(3), "b"), (secs(3), "a")]
    );
    assert_eq!(w.over(), Some(secs(3)));
}

#[test]
fn the_earlier_of_own_and_parents_deadline_holds() {
    for (own, parents) in [(3, 5), (5, 3)] {
        let capped = Config {
            stop_timeout: Some(secs(own)),
            ..config()
        };
        let mut w = all_hung(capped, &[("a", policy()), ("b", policy())]);
        told_to_stop_by(&mut w, secs(parents));
        w.run_out();
        assert_eq!(w.over(), Some(secs(3)));
        assert_eq!(w.who("abandoned"), ["b", "a"]);
    }
}

#[test]
fn a_second_request_with_less_time_hurries() {
    let supervisor = Policy {
        stop_timeout: None,
        ..policy()
    };
    let mut w = all_hung(
        config(),
        &[("a", policy()), ("b", policy()), ("s", supervisor)],
    );
    w.stops("s", Stops::After(secs(2), Outcome::Ok));
    w.shutdown();
    w.at(secs(1));
    told_to_stop_by(&mut w, secs(4));
    let told = Command::Hasten {
        id: w.id("s"),
        incarnation: 1,
        deadline: Moment::at(secs(4)),
    };
    assert_eq!(w.log().last(), Some(&(secs(1), told)));
    // No less time than that: nothing to say.
    w.clear_log();
    told_to_stop_by(&mut w, secs(4));
    told_to_stop_by(&mut w, secs(9));
    assert_eq!(w.log(), []);
    w.run_out();
    assert_eq!(w.asked(), [(secs(2), "b"), (secs(4), "a")]);
    assert_eq!(w.when("abandoned"), [(secs(4), "b"), (secs(4), "a")]);
    assert_eq!(w.over(), Some(secs(4)));
}

#[test]
fn a_stop_hurries_who_is_being_stopped_or_dropped_already() {
    let capped = Config {
        stop_timeout: Some(secs(1)),
        ..config()
    };
    let mut w = all_hung(capped, &[("a", policy()), ("b", policy()), ("c", policy())]);
    w.drops_at_once = false;
    w.stops("b", Stops::After(secs(0), Outcome::Ok));
    w.restart_service("a");
    w.fails("c");
    w.stop_service("c");
    w.remove("b");
    w.at(secs(2));
    w.shutdown();
    w.run_out();
    assert_eq!(w.over(), Some(secs(3)));
    let mut abandoned = w.when("abandoned");
    abandoned.sort();
    assert_eq!(abandoned, ["a", "c"].map(|name| (secs(3), name)));
}

#[test]
fn a_stop_wins_over_a_restart_under_way() {
    let late = Policy {
        backoff: Backoff::fixed(secs(5)),
        ready_timeout: Some(secs(1)),
        ..policy()
    };
    let mut w = World::running(config(), &[("a", policy()), ("b", policy()), ("c", late)]);
    ["a", "b", "c"]
        .iter()
        .for_each(|name| w.stops(name, Stops::After(secs(2), Outcome::Ok)));
    w.restart_service("a");
    w.at(secs(1));
    w.fails("b");
    w.restart_service("b");
    w.shutdown();
    w.clear_log();
    w.run_out();
    assert_eq!(w.starts(), []);
    assert_eq!(w.over(), Some(secs(3)));
}

#[test]
fn done_service_keeps_its_place_in_the_order() {
    use crate::machine::policy::Restart;
    let on_failure = Policy {
        restart: Restart::OnFailure,
        ..policy()
    };
    let mut w = World::running(
        config(),
        &[("a", policy()), ("b", on_failure), ("c", policy())],
    );
    w.ends("b", Outcome::Ok);
    w.start_service("b");
    assert_eq!(w.view("b").incarnation, 2);
    w.shutdown();
    assert_eq!(w.who("stopped"), ["c", "b", "a"]);
}

#[test]
fn a_limit_stops_the_rest_and_blames_before_it_asks() {
    use crate::machine::message::Verdict;
    use crate::machine::policy::Limit;
    let strict = Config {
        limit: Limit::window(0, secs(5)),
        ..config()
    };
    let mut w = World::running(strict, &["a", "b", "c"].map(|name| (name, policy())));
    w.fails("b");
    assert_eq!(w.blamed(), [("b", Verdict::LimitExceeded)]);
    assert!(w.asks().iter().all(|ask| ask.2 == Cause::Limit));
    assert_eq!(w.who("stopped"), ["c", "a"]);
    assert_eq!(w.over(), Some(secs(0)));
}

/// As many ends as starts: who waits for its next start when the supervisor stops has had its end.
#[test]
fn a_stop_says_nothing_of_who_has_failed_and_waits() {
    let delayed = Policy {
        backoff: Backoff::fixed(HOUR),
        ..policy()
    };
    let pausing = Limit::decay(1.0, HOUR).then(Exceeded::Pause {
        time: HOUR,
        jitter: 0.0,
    });
    let config = Config {
        limit: pausing,
        ..config()
    };
    let mut w = World::running(config, &[("a", delayed), ("b", policy()), ("c", policy())]);
    w.fails("a");
    w.fails("b");
    let states = ["a", "b", "c"].map(|name| w.view(name).state);
    assert_eq!(states, [State::Backoff, State::Paused, State::Running]);
    w.clear_log();
    w.shutdown();
    assert_eq!(w.who("stopped"), ["c"]);
    assert_eq!(w.over(), Some(secs(0)));
    assert!(
        ["a", "b", "c"]
            .iter()
            .all(|name| w.view(name).state == State::Stopped)
    );
}

#[test]
fn a_stop_without_a_deadline_hurries_nobody() {
    let supervisor = Policy {
        stop_timeout: None,
        ..policy()
    };
    let mut w = World::running(config(), &[("s", supervisor)]);
    w.stops("s", Stops::After(secs(1), Outcome::Ok));
    w.restart_service("s");
    w.shutdown();
    let mut log = w.log().iter();
    assert!(!log.any(|(_, c)| matches!(c, Command::Hasten { .. })));
}

#[test]
fn an_answer_to_a_restart_is_only_reported_if_the_supervisor_stops_meanwhile() {
    for answer in [Exit::DoNotRestart, Exit::Missing, Exit::Uninstall] {
        let mut w = World::running(config(), &[("a", policy())]);
        w.stops("a", Stops::After(secs(1), Outcome::Exit(answer)));
        w.restart_service("a");
        w.shutdown();
        w.run_out();
        assert_eq!(w.view("a").state, State::Stopped, "{answer:?}");
        assert_eq!(w.over(), Some(secs(1)));
    }
}
