//! What is asked for from outside, in virtual time: rows of `conformance/otp.md` under their ids,
//! pauses, removal and the thread that will not stop.

use std::time::Duration;

use super::harness::{Stops, World, config, pausing, policy, secs};
use crate::exit::Exit;
use crate::machine::message::{Cause, Command, End, Input, Outcome, Policy};
use crate::machine::policy::{Backoff, Restart};
use crate::machine::{Moment, SUPERVISE_GRACE};
use crate::report::State;

fn delayed(delay: u64) -> Policy {
    Policy {
        backoff: Backoff::fixed(secs(delay)),
        ..policy()
    }
}

fn alone(policy: Policy) -> World {
    World::running(config(), &[("a", policy)])
}

/// `a` waits for its restart at t=10 s; it is t=4 s.
fn in_a_delay() -> World {
    let mut w = alone(delayed(10));
    w.fails("a");
    w.at(secs(4));
    w.clear_log();
    w
}

#[test]
fn stop_service_cancels_a_pending_restart() {
    let mut w = in_a_delay();
    w.stop_service("a");
    assert_eq!(w.when("stopped"), [(secs(4), "a")]);
    assert_eq!((w.view("a").state, w.deadline()), (State::Stopped, None));
    w.at(secs(20));
    assert_eq!(w.starts(), []);
}

#[test]
fn start_service_cuts_a_delay_short() {
    let mut w = in_a_delay();
    w.start_service("a");
    w.at(secs(20));
    assert_eq!(w.starts(), [(secs(4), "a")]);
}

#[test]
fn restart_service_cuts_a_delay_short_as_well() {
    let mut w = in_a_delay();
    w.restart_service("a");
    w.at(secs(20));
    assert_eq!(w.starts(), [(secs(4), "a")]);
    assert_eq!(w.asked(), []);
}

#[test]
fn removal_during_backoff_is_immediate() {
    let mut w = in_a_delay();
    w.remove("a");
    assert_eq!(w.when("removed"), [(secs(4), "a")]);
    assert_eq!(w.deadline(), None);
}

#[test]
fn stop_service_keeps_the_service() {
    let mut w = alone(policy());
    (0..4).for_each(|_| w.stop_service("a"));
    assert_eq!(w.asks(), [(secs(0), "a", Cause::Ordered, secs(10))]);
    assert_eq!(w.view("a").state, State::Stopped);
    assert_eq!((w.failures(), w.starts().len()), (vec![], 1));
}

#[test]
fn start_service_starts_the_next_incarnation() {
    let mut w = alone(policy());
    w.stop_service("a");
    w.start_service("a");
    assert_eq!(
        (w.view("a").incarnation, w.view("a").state),
        (2, State::Running)
    );
}

#[test]
fn start_service_on_a_running_one_changes_nothing() {
    let mut w = alone(policy());
    w.clear_log();
    w.start_service("a");
    assert_eq!(w.log(), []);
}

#[test]
fn restart_service_makes_one_new_incarnation() {
    let mut w = alone(delayed(10));
    w.stops("a", Stops::After(secs(1), Outcome::Error));
    w.restart_service("a");
    w.restart_service("a");
    w.run_out();
    assert_eq!(
        w.asks(),
        [(secs(0), "a", Cause::RestartWith(w.id("a")), secs(10))]
    );
    assert_eq!(w.starts(), [(secs(0), "a"), (secs(1), "a")]);
    assert_eq!(w.failures(), []);
}

#[test]
fn the_last_of_several_requests_counts() {
    let mut w = alone(policy());
    w.stops("a", Stops::After(secs(1), Outcome::Ok));
    w.stop_service("a");
    w.start_service("a");
    w.run_out();
    assert_eq!(w.view("a").state, State::Running);
    w.restart_service("a");
    w.stop_service("a");
    w.run_out();
    assert_eq!(w.view("a").state, State::Stopped);
    w.start_service("a");
    w.stop_service("a");
    w.remove("a");
    w.start_service("a");
    w.run_out();
    assert!(!w.is_there("a"));
    assert_eq!(w.starts().len(), 3);
}

#[test]
fn a_service_is_started_by_hand_also_in_a_pause() {
    let services = [("a", policy()), ("b", policy()), ("c", policy())];
    let mut w = World::running(pausing(), &services);
    ["a", "b"].iter().for_each(|name| w.fails(name));
    w.at(secs(3));
    w.clear_log();
    w.start_service("a");
    w.restart_service("c");
    w.stop_service("b");
    w.run_out();
    assert_eq!(w.starts(), [(secs(3), "a"), (secs(3), "c")]);
    assert_eq!(w.when("resumed"), [(secs(15), "")]);
}

#[test]
fn before_the_start_requests_only_say_what_the_start_does() {
    let mut w = World::new(config());
    ["a", "b", "c", "d"].iter().for_each(|name| {
        w.add(name, policy());
    });
    w.stop_service("a");
    w.remove("b");
    w.stop_service("c");
    w.start_service("c");
    w.restart_service("d");
    assert_eq!(w.starts(), []);
    w.act(Input::Started);
    assert_eq!(w.starts(), [(secs(0), "c"), (secs(0), "d")]);
    assert_eq!(w.view("a").state, State::Stopped);
    assert!(!w.is_there("b"));
}

#[test]
fn an_answer_to_a_stop_for_a_restart_is_honoured() {
    let states = [
        (Outcome::Exit(Exit::DoNotRestart), Some(State::Done)),
        (Outcome::Exit(Exit::Missing), Some(State::Waiting)),
        (Outcome::Exit(Exit::Uninstall), None),
        (Outcome::Exit(Exit::Bounce), Some(State::Running)),
        (Outcome::Error, Some(State::Running)),
        (Outcome::Panic, Some(State::Running)),
    ];
    for (answer, state) in states {
        let mut w = alone(delayed(30));
        w.stops("a", Stops::After(secs(1), answer));
        w.restart_service("a");
        w.at(secs(1));
        let now = w.is_there("a").then(|| w.view("a").state);
        assert_eq!(now, state, "{answer:?}");
        assert_eq!(w.failures(), []);
    }
}

#[test]
fn an_abandoned_service_starts_when_its_old_thread_has_ended() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.restart_service("a");
    w.at(secs(60));
    assert_eq!(w.when("abandoned"), [(secs(10), "a")]);
    assert_eq!(
        (w.view("a").state, w.view("a").stop_timeouts),
        (State::Abandoned, 1)
    );
    w.ends("a", Outcome::Panic);
    assert_eq!(
        w.told(&["ended late", "failed"]),
        [(secs(60), "a", "ended late")]
    );
    assert_eq!(w.starts(), [(secs(0), "a"), (secs(60), "a")]);
}

#[test]
fn overlap_is_allowed_up_to_its_bound() {
    let mut w = alone(Policy {
        overlap_max: 2,
        ..policy()
    });
    w.stops("a", Stops::Hangs);
    for _ in 0..3 {
        w.restart_service("a");
        w.at(w.now() + secs(10));
    }
    assert_eq!(w.starts(), [0, 10, 20].map(|at| (secs(at), "a")));
    assert_eq!(w.view("a").state, State::Abandoned);
    w.at(secs(50));
    w.ends("a", Outcome::Ok);
    assert_eq!(w.starts().last(), Some(&(secs(50), "a")));
    assert_eq!(w.times("a", "ended late"), [secs(50)]);
}

#[test]
fn a_removal_waits_for_overlapped_threads() {
    let mut w = alone(Policy {
        overlap_max: 2,
        ..policy()
    });
    w.stops("a", Stops::Hangs);
    for _ in 0..2 {
        w.restart_service("a");
        w.at(w.now() + secs(10));
    }
    w.stops("a", Stops::After(secs(1), Outcome::Ok));
    w.remove("a");
    w.at(secs(30));
    assert_eq!(w.times("a", "stopped"), [secs(21)]);
    assert_eq!(w.view("a").state, State::Abandoned);
    assert_eq!(w.deadline(), None);
    w.ends("a", Outcome::Ok);
    assert!(w.is_there("a"));
    w.start_service("a");
    w.at(secs(40));
    w.ends("a", Outcome::Ok);
    assert_eq!(w.times("a", "ended late"), [secs(30), secs(40)]);
    assert_eq!(w.when("removed"), [(secs(40), "a")]);
    assert!(!w.is_there("a"));
    assert_eq!(w.starts().len(), 3);
}

#[test]
fn a_stop_does_not_wait_for_overlapped_threads_of_a_removed_one() {
    let mut w = alone(Policy {
        overlap_max: 1,
        ..policy()
    });
    w.stops("a", Stops::Hangs);
    w.restart_service("a");
    w.at(secs(10));
    w.stops("a", Stops::After(secs(0), Outcome::Ok));
    w.remove("a");
    w.shutdown();
    assert_eq!(w.over(), Some(secs(10)));
    // Heard in the next run.
    w.act(Input::Started);
    w.ends("a", Outcome::Ok);
    assert_eq!(w.times("a", "ended late"), [secs(10)]);
    assert!(!w.is_there("a"));
}

#[test]
fn removal_has_two_ends() {
    let mut w = alone(policy());
    w.drops_at_once = false;
    w.stop_service("a");
    w.remove("a");
    assert_eq!((w.when("stopped").len(), w.when("removed").len()), (1, 0));
    assert!(w.is_there("a"));
    w.at(secs(2));
    w.act(Input::Discarded(w.id("a")));
    assert_eq!(w.when("removed"), [(secs(2), "a")]);
    assert!(!w.is_there("a"));
}

#[test]
fn a_drop_that_blocks_is_abandoned_too() {
    let mut w = alone(Policy {
        stop_timeout: Some(secs(3)),
        ..policy()
    });
    w.drops_at_once = false;
    w.stop_service("a");
    w.remove("a");
    w.run_out();
    assert_eq!(w.when("abandoned"), [(secs(3), "a")]);
    w.at(secs(9));
    w.act(Input::Discarded(w.id("a")));
    let late = w.told(&["ended late", "removed"]);
    assert_eq!(
        late,
        [(secs(9), "a", "ended late"), (secs(9), "a", "removed")]
    );
}

#[test]
fn a_removed_service_drops_its_values_on_the_way_out() {
    let mut w = alone(policy());
    w.stops("a", Stops::After(secs(1), Outcome::Ok));
    w.remove("a");
    w.run_out();
    assert_eq!(w.when("removed"), [(secs(1), "a")]);
    assert!(
        !w.log()
            .iter()
            .any(|(_, c)| matches!(c, Command::Discard { .. }))
    );
}

#[test]
fn a_supervisor_with_stragglers_starts_when_they_have_ended() {
    for (overlap_max, started) in [(0, 30), (1, 20)] {
        let mut w = alone(Policy {
            stop_timeout: None,
            overlap_max,
            ..policy()
        });
        w.stops("a", Stops::Hangs);
        w.restart_service("a");
        w.at(secs(20));
        let id = w.id("a");
        let end = |stragglers| Input::Ended {
            id,
            incarnation: 1,
            end: End {
                outcome: Outcome::Ok,
                fatal: false,
                discarded: false,
                stragglers,
            },
        };
        w.act(end(true));
        w.at(secs(30));
        w.act(Input::Cleared { id, incarnation: 1 });
        assert_eq!(w.starts(), [(Duration::ZERO, "a"), (secs(started), "a")]);
        assert_eq!(w.when("abandoned"), []);
    }
}

#[test]
fn restart_service_does_not_wait_for_a_pause() {
    let mut w = World::running(pausing(), &[("a", policy())]);
    w.fails("a");
    w.at(secs(3));
    w.restart_service("a");
    w.run_out();
    assert_eq!(w.starts(), [(secs(0), "a"), (secs(3), "a")]);
}

#[test]
fn service_that_never_restarts_is_gone_in_the_next_run_if_it_has_run() {
    let never = Policy {
        restart: Restart::Never,
        ..policy()
    };
    let services = [("a", never.clone()), ("b", never.clone())];
    let mut w = World::running(config(), &services);
    w.stops("b", Stops::Hangs);
    w.shutdown();
    w.run_out();
    w.add("c", never);
    w.clear_log();
    w.act(Input::Started);
    assert!(!w.is_there("a"));
    assert_eq!(w.starts(), [(secs(10), "c")]);
    assert_eq!(w.view("b").state, State::Abandoned);
    w.ends("b", Outcome::Ok);
    assert!(!w.is_there("b"));
    assert_eq!(w.starts().len(), 1);
}

#[test]
fn service_that_runs_a_supervisor_has_a_little_longer() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.supervises("a");
    w.stop_service("a");
    assert_eq!(w.asks()[0].3, secs(10));
    w.run_out();
    let longer = secs(10) + SUPERVISE_GRACE;
    assert_eq!(w.when("abandoned"), [(longer, "a")]);
}

#[test]
fn hurried_stop_reaches_what_a_service_runs_below_itself() {
    let mut w = World::running(config(), &[("a", policy()), ("b", policy())]);
    for name in ["a", "b"] {
        w.stops(name, Stops::Hangs);
        w.supervises(name);
    }
    w.shutdown();
    assert_eq!(w.asks().len(), 1);
    w.at(secs(1));
    w.clear_log();
    let by = |deadline| Input::ShutdownRequested {
        deadline: Moment::at(deadline),
    };
    w.act(by(secs(2)));
    // `a` is told when it is asked.
    let told = Command::Hasten {
        id: w.id("b"),
        incarnation: 1,
        deadline: Moment::at(secs(2)),
    };
    assert_eq!(w.log(), [(secs(1), told)]);
    w.clear_log();
    w.act(by(secs(2)));
    assert_eq!(w.log(), []);
    w.run_out();
    let longer = secs(2) + SUPERVISE_GRACE;
    assert_eq!(w.asks()[0].3, secs(2));
    assert_eq!(w.when("abandoned")[0], (longer, "b"));
}

#[test]
fn service_that_ends_before_a_hurried_deadline_is_not_told_of_it() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.supervises("a");
    w.shutdown();
    w.clear_log();
    w.act(Input::ShutdownRequested {
        deadline: Moment::at(secs(10)),
    });
    assert_eq!(w.log(), []);
    w.run_out();
    assert_eq!(w.when("abandoned"), [(secs(10) + SUPERVISE_GRACE, "a")]);
}

#[test]
fn service_has_no_longer_for_a_supervisor_of_its_last_incarnation() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.supervises("a");
    w.fails("a");
    let id = w.id("a");
    w.act(Input::Supervising { id, incarnation: 1 });
    w.stop_service("a");
    w.run_out();
    assert_eq!(w.when("abandoned"), [(secs(10), "a")]);
}
