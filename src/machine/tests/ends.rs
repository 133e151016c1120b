//! Ends that come together with something else: what was planned for the service, a stop of the
//! supervisor, a restart of several, what runs below it.

use super::graph::{needy, provider, providing};
use super::harness::{HOUR, Stops, World, config, end, pause, policy, secs};
use crate::event::Next;
use crate::exit::Exit;
use crate::failure::FailureKind;
use crate::machine::message::{Command, Config, End, Input, Outcome, Policy, Verdict};
use crate::machine::policy::{Backoff, Limit, PanicPolicy, Restart};
use crate::machine::strategy::Strategy;
use crate::report::State;

fn alone(policy: Policy) -> World {
    World::running(config(), &[("a", policy)])
}

#[test]
fn what_a_panic_means_holds_for_every_restart_type() {
    for restart in [Restart::Always, Restart::OnFailure, Restart::Never] {
        let with = |panic_policy| Policy {
            restart,
            panic_policy,
            ..policy()
        };
        let services = [("a", with(PanicPolicy::Escalate)), ("b", policy())];
        let mut w = World::running(config(), &services);
        w.ends("a", Outcome::Panic);
        assert_eq!(w.blamed(), [("a", Verdict::Escalated)]);
        assert_eq!(w.over(), Some(secs(0)));

        let mut w = World::running(config(), &[("a", with(PanicPolicy::Abort))]);
        w.ends("a", Outcome::Panic);
        let aborts = |(_, command): &(_, Command)| matches!(command, Command::Abort { .. });
        assert!(w.log().iter().any(aborts), "{restart:?}");
    }
}

#[test]
fn service_that_failed_below_and_was_abandoned_is_judged_by_its_late_end() {
    let mut w = alone(Policy {
        backoff: Backoff::fixed(secs(5)),
        ..policy()
    });
    w.stops("a", Stops::Hangs);
    w.fails_below("a");
    w.at(secs(20));
    assert_eq!(w.view("a").state, State::Abandoned);
    w.fails("a");
    w.run_out();
    assert_eq!(
        w.told(&["ended late", "failed"]),
        [(secs(20), "a", "ended late"), (secs(20), "a", "failed")]
    );
    assert_eq!(w.starts(), [(secs(0), "a"), (secs(25), "a")]);
}

#[test]
fn service_that_failed_below_and_left_threads_behind_starts_when_they_have_ended() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.fails_below("a");
    w.at(secs(20));
    w.leaves_threads("a", Outcome::Error);
    assert_eq!(
        w.told(&["ended late", "failed"]),
        [(secs(20), "a", "ended late"), (secs(20), "a", "failed")]
    );
    assert_eq!(w.view("a").state, State::Abandoned);
    w.at(secs(30));
    w.clears("a");
    assert_eq!(w.starts(), [(secs(0), "a"), (secs(30), "a")]);
    assert_eq!(w.failures().len(), 1);
}

#[test]
fn overlapped_incarnation_that_leaves_threads_behind_has_ended_late() {
    let mut w = alone(Policy {
        overlap_max: 1,
        ..policy()
    });
    w.stops("a", Stops::Hangs);
    w.restart_service("a");
    w.at(secs(10));
    w.restart_service("a");
    w.at(secs(20));
    // The third has to wait for the first.
    assert_eq!(w.starts(), [(secs(0), "a"), (secs(10), "a")]);
    w.leaves_threads("a", Outcome::Ok);
    assert_eq!(w.times("a", "ended late"), [secs(20)]);
    assert_eq!(w.view("a").state, State::Abandoned);
    w.at(secs(30));
    w.clears("a");
    assert_eq!(w.starts().last(), Some(&(secs(30), "a")));
    assert_eq!(w.times("a", "ended late"), [secs(20)]);
}

#[test]
fn end_of_an_incarnation_that_is_over_changes_nothing() {
    let mut w = alone(policy());
    w.fails("a");
    w.clear_log();
    let id = w.id("a");
    for incarnation in [0, 1, 3] {
        w.act(Input::Ended {
            id,
            incarnation,
            end: end(Outcome::Error),
        });
        w.act(Input::Cleared { id, incarnation });
    }
    assert_eq!((w.log(), w.view("a").incarnation), (&[][..], 2));
}

#[test]
fn threads_of_an_earlier_incarnation_do_not_speak_for_an_abandoned_one() {
    let mut w = alone(policy());
    w.fails("a");
    w.stops("a", Stops::Hangs);
    w.restart_service("a");
    w.at(secs(10));
    let id = w.id("a");
    w.act(Input::Cleared { id, incarnation: 1 });
    assert_eq!(w.view("a").state, State::Abandoned);
    w.act(Input::Cleared { id, incarnation: 2 });
    assert_eq!(w.view("a").incarnation, 3);
}

#[test]
fn late_service_that_still_has_its_values_stays_if_it_takes_the_tree_down() {
    let mut w = alone(Policy {
        restart: Restart::Never,
        ready_timeout: Some(secs(1)),
        ..policy()
    });
    w.stops("a", Stops::Hangs);
    w.at(secs(1));
    w.ends_as("a", end(Outcome::Exit(Exit::TerminateTree)));
    assert_eq!(w.blamed(), [("a", Verdict::Terminated)]);
    assert_eq!(
        (w.over(), w.view("a").state),
        (Some(secs(1)), State::Stopped)
    );
}

#[test]
fn fatal_failure_takes_the_tree_down() {
    for restart in [Restart::Always, Restart::OnFailure, Restart::Never] {
        let mut w = alone(Policy {
            restart,
            ..policy()
        });
        let fatal = End {
            fatal: true,
            ..end(Outcome::Error)
        };
        w.ends_as("a", fatal);
        let failed = w.last_failure();
        assert_eq!((failed.kind, failed.next), (FailureKind::Error, Next::Ends));
        assert_eq!(w.blamed(), [("a", Verdict::Terminated)]);
        assert_eq!((w.view("a").failures, w.over()), (1, Some(secs(0))));
    }
}

#[test]
fn failure_while_the_supervisor_stops_is_told_and_counts_for_nothing() {
    let strict = Config {
        limit: Limit::window(0, HOUR),
        ..config()
    };
    let own = Policy {
        limit: Some(Box::new(Limit::window(0, HOUR))),
        ..policy()
    };
    let services = [("a", policy()), ("b", own), ("c", policy())];
    let mut w = World::running(strict, &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.shutdown();
    for name in ["a", "b"] {
        w.fails(name);
        let failed = w.last_failure();
        assert_eq!((failed.count, failed.next), (0.0, Next::Ends));
        assert_eq!(w.view(name).failures, 1);
    }
    w.run_out();
    assert_eq!((w.blamed(), w.over()), (vec![], Some(secs(1))));
}

#[test]
fn service_that_is_done_before_a_set_restart_asks_it_starts_with_the_others() {
    let all = Config {
        strategy: Strategy::OneForAll,
        ..config()
    };
    let on_failure = Policy {
        restart: Restart::OnFailure,
        ..policy()
    };
    let services = [("a", policy()), ("b", on_failure), ("c", policy())];
    let mut w = World::running(all, &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.fails("a");
    w.ends("b", Outcome::Ok);
    assert_eq!(w.when("done"), [(secs(0), "b")]);
    w.clear_log();
    w.run_out();
    assert_eq!(w.starts(), ["a", "b", "c"].map(|name| (secs(1), name)));
}

#[test]
fn service_without_its_values_goes_whatever_was_planned() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    for order in [World::restart_service, World::stop_service] {
        let mut w = providing(config(), &services);
        w.stops("c", Stops::After(secs(1), Outcome::Ok));
        order(&mut w, "p");
        w.ends_as(
            "p",
            End {
                discarded: true,
                ..end(Outcome::Exit(Exit::Uninstall))
            },
        );
        w.run_out();
        assert!(!w.is_there("p"));
        assert!(
            !w.log()
                .iter()
                .any(|(_, c)| matches!(c, Command::Discard { .. }))
        );
    }
}

#[test]
fn abandoned_member_of_a_set_starts_alone_when_it_has_ended() {
    let all = Config {
        strategy: Strategy::OneForAll,
        ..config()
    };
    let mut w = World::running(all, &[("a", policy()), ("b", policy())]);
    w.stops("b", Stops::Hangs);
    w.fails("a");
    w.at(secs(15));
    assert_eq!((w.view("a").incarnation, w.view("b").incarnation), (2, 1));
    w.ends("b", Outcome::Ok);
    assert_eq!((w.view("a").incarnation, w.view("b").incarnation), (2, 2));
    assert_eq!(w.asked().len(), 1);
}

#[test]
fn abandoned_service_that_is_started_by_hand_between_two_runs_waits_for_the_next() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.shutdown();
    w.run_out();
    w.start_service("a");
    w.ends("a", Outcome::Ok);
    assert_eq!(w.starts(), [(secs(0), "a")]);
    assert_eq!(w.view("a").state, State::Stopped);
    w.act(Input::Started);
    assert_eq!(w.view("a").incarnation, 2);
}

#[test]
fn service_that_misses_an_input_while_the_supervisor_stops_is_stopped() {
    let mut w = World::running(config(), &[("a", policy()), ("b", policy())]);
    w.stops("b", Stops::After(secs(1), Outcome::Ok));
    w.shutdown();
    w.clear_log();
    w.exits("a", Exit::Missing);
    assert_eq!(w.view("a").state, State::Stopped);
    assert_eq!(w.who("waiting"), [""; 0]);
}

/// It was late, which was too often for its own limit, and then it didn't stop in time.
fn abandoned_in_its_own_pause() -> World {
    let late = Policy {
        ready_timeout: Some(secs(1)),
        limit: Some(Box::new(Limit::decay(1.0, HOUR).then(pause(secs(20))))),
        ..policy()
    };
    let mut w = alone(late);
    w.fails("a");
    w.stops("a", Stops::Hangs);
    w.at(secs(12));
    assert_eq!(w.view("a").state, State::Abandoned);
    w
}

#[test]
fn own_pause_goes_on_when_an_abandoned_incarnation_has_ended() {
    let mut w = abandoned_in_its_own_pause();
    w.ends("a", Outcome::Ok);
    assert_eq!(w.view("a").state, State::Paused);
    w.clear_log();
    w.at(secs(21));
    assert_eq!(w.starts(), [(secs(21), "a")]);
    w.fails("a");
    assert_eq!(w.last_failure().count, 1.0);
}

#[test]
fn own_pause_that_passed_while_an_abandoned_incarnation_ran_counts_from_zero() {
    let mut w = abandoned_in_its_own_pause();
    w.at(secs(30));
    w.clear_log();
    w.ends("a", Outcome::Ok);
    assert_eq!(w.starts(), [(secs(30), "a")]);
    w.fails("a");
    assert_eq!(w.last_failure().count, 1.0);
}
