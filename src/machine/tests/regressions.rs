//! Holes that were found in the machine and closed, each as its shortest story.

use super::harness::{Stops, World, config, policy, secs};
use crate::exit::Exit;
use crate::machine::Moment;
use crate::machine::message::{Command, Config, End, Input, Outcome, Policy, Verdict};
use crate::machine::policy::{AutoShutdown, Backoff, Limit, Restart};
use crate::machine::strategy::Strategy;
use crate::report::State;

fn alone(policy: Policy) -> World {
    World::running(config(), &[("a", policy)])
}

/// Not ready within a second.
fn slow() -> Policy {
    Policy {
        ready_timeout: Some(secs(1)),
        ..policy()
    }
}

#[test]
fn a_start_request_cannot_undo_a_stop_of_the_supervisor() {
    for request in [World::start_service, World::restart_service] {
        let mut w = World::running(config(), &[("a", policy()), ("b", policy())]);
        let uninstall = Outcome::Exit(Exit::Uninstall);
        ["a", "b"]
            .iter()
            .for_each(|name| w.stops(name, Stops::After(secs(1), uninstall)));
        w.shutdown();
        request(&mut w, "a");
        request(&mut w, "b");
        w.run_out();
        assert_eq!(w.asked(), [(secs(0), "b"), (secs(1), "a")]);
        assert_eq!(
            (w.view("a").state, w.view("b").state),
            (State::Stopped, State::Stopped)
        );
    }
}

#[test]
fn removal_of_a_service_that_was_late_is_not_undone_by_its_answer() {
    for answer in [Exit::DoNotRestart, Exit::Missing, Exit::TerminateTree] {
        let mut w = alone(slow());
        w.stops("a", Stops::After(secs(2), Outcome::Exit(answer)));
        w.at(secs(2));
        w.remove("a");
        w.run_out();
        assert_eq!((w.is_there("a"), w.over()), (false, None));
    }
}

#[test]
fn a_drop_that_nobody_asked_for_forgets_nobody() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.remove("a");
    w.run_out();
    w.act(Input::Discarded(w.id("a")));
    assert_eq!(w.view("a").state, State::Abandoned);
    w.ends("a", Outcome::Ok);
    assert!(!w.is_there("a"));
}

#[test]
fn a_hung_drop_does_not_hold_up_a_stop() {
    let mut w = World::running(config(), &[("a", policy()), ("b", policy())]);
    w.drops_at_once = false;
    w.stop_service("b");
    w.remove("b");
    w.run_out();
    w.shutdown();
    assert_eq!(w.asked().last(), Some(&(secs(10), "a")));
    assert_eq!(w.over(), Some(secs(10)));
}

#[test]
fn the_drop_of_a_supervisor_keeps_to_the_deadline_of_a_stop() {
    let supervisor = Policy {
        stop_timeout: None,
        ..policy()
    };
    let capped = Config {
        stop_timeout: Some(secs(1)),
        ..config()
    };
    let mut w = World::running(capped, &[("a", supervisor)]);
    w.drops_at_once = false;
    w.stop_service("a");
    w.remove("a");
    w.shutdown();
    w.run_out();
    assert_eq!(w.over(), Some(secs(1)));
}

#[test]
fn a_service_without_its_values_goes_whatever_it_answered() {
    let mut w = alone(Policy {
        restart: Restart::Never,
        ..slow()
    });
    w.stops(
        "a",
        Stops::After(secs(1), Outcome::Exit(Exit::TerminateTree)),
    );
    w.run_out();
    assert_eq!((w.is_there("a"), w.over()), (false, Some(secs(2))));
}

#[test]
fn an_overlapped_thread_that_ends_in_the_delay_is_told() {
    let p = Policy {
        overlap_max: 1,
        backoff: Backoff::fixed(secs(60)),
        ..slow()
    };
    let mut w = alone(p);
    w.stops("a", Stops::Hangs);
    w.at(secs(20));
    assert_eq!(w.view("a").state, State::Backoff);
    w.ends("a", Outcome::Ok);
    assert_eq!(w.when("ended late"), [(secs(20), "a")]);
    assert_eq!(w.view("a").state, State::Backoff);
}

#[test]
fn a_hand_stopped_service_that_hung_stays_down_in_the_next_run() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.stop_service("a");
    w.run_out();
    w.shutdown();
    w.clear_log();
    w.act(Input::Started);
    w.ends("a", Outcome::Ok);
    assert_eq!(w.starts(), []);
    assert_eq!(w.view("a").state, State::Stopped);
}

#[test]
fn an_old_thread_that_outlives_a_run_is_told_in_the_next() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.act(Input::ShutdownRequested {
        deadline: Moment::at(secs(1)),
    });
    w.run_out();
    w.act(Input::Started);
    assert_eq!(w.view("a").incarnation, 2);
    w.ends("a", Outcome::Ok);
    assert_eq!(w.when("ended late"), [(secs(1), "a")]);
    assert_eq!(w.view("a").state, State::Running);
}

#[test]
fn values_are_dropped_once_also_over_two_runs() {
    let mut w = alone(policy());
    w.drops_at_once = false;
    w.stop_service("a");
    w.remove("a");
    w.run_out();
    w.shutdown();
    w.act(Input::Started);
    let drops = w
        .log()
        .iter()
        .filter(|(_, c)| matches!(c, Command::Discard { .. }));
    assert_eq!(drops.count(), 1);
}

#[test]
fn an_end_just_before_a_set_restart_would_have_asked_is_no_significant_end() {
    let s = Policy {
        restart: Restart::Never,
        significant: true,
        ..policy()
    };
    let all = Config {
        strategy: Strategy::OneForAll,
        auto_shutdown: AutoShutdown::AnySignificant,
        ..config()
    };
    for outcome in [Outcome::Ok, Outcome::Error] {
        let services = [("s", s.clone()), ("a", policy()), ("b", policy())];
        let mut w = World::running(all.clone(), &services);
        w.stops("b", Stops::After(secs(1), Outcome::Ok));
        w.fails("a");
        w.ends("s", outcome);
        w.run_out();
        assert_eq!((w.is_there("s"), w.over()), (false, None));
        assert_eq!((w.view("a").incarnation, w.view("b").incarnation), (2, 2));
    }
}

#[test]
fn the_last_significant_end_does_not_wait_for_those_that_a_set_restart_drops() {
    let s = Policy {
        restart: Restart::Never,
        significant: true,
        ..policy()
    };
    let rest = Config {
        strategy: Strategy::RestForOne,
        auto_shutdown: AutoShutdown::AllSignificant,
        ..config()
    };
    for significant in [true, false] {
        let t = Policy {
            significant,
            ..s.clone()
        };
        let services = [("s", s.clone()), ("a", policy()), ("t", t), ("b", policy())];
        let mut w = World::running(rest.clone(), &services);
        w.stops("b", Stops::After(secs(1), Outcome::Ok));
        w.fails("a");
        // `t` has not been asked yet.
        w.ends("s", Outcome::Ok);
        w.run_out();
        assert_eq!(w.blamed(), [("s", Verdict::AutoShutdown)]);
        assert_eq!(w.over(), Some(secs(1)));
    }
}

#[test]
fn a_service_that_is_late_before_a_set_restart_would_have_asked_is_no_significant_end() {
    let s = Policy {
        restart: Restart::Never,
        significant: true,
        ready_timeout: Some(secs(1)),
        ..policy()
    };
    let all = Config {
        strategy: Strategy::OneForAll,
        auto_shutdown: AutoShutdown::AnySignificant,
        ..config()
    };
    let mut w = World::running(all, &[("s", s), ("a", policy()), ("b", policy())]);
    w.stops("b", Stops::After(secs(2), Outcome::Ok));
    w.fails("a");
    w.run_out();
    assert_eq!((w.is_there("s"), w.over()), (false, None));
    assert_eq!(w.view("a").incarnation, 2);
}

#[test]
fn an_abandoned_service_that_leaves_threads_behind_has_ended_late() {
    let mut w = alone(policy());
    w.stops("a", Stops::Hangs);
    w.restart_service("a");
    w.run_out();
    assert_eq!(w.who("abandoned"), ["a"]);
    let id = w.id("a");
    w.act(Input::Ended {
        id,
        incarnation: 1,
        end: End {
            outcome: Outcome::Ok,
            fatal: false,
            discarded: false,
            stragglers: true,
        },
    });
    assert_eq!(w.who("ended late"), ["a"]);
    assert_eq!(w.view("a").state, State::Abandoned);
    w.act(Input::Cleared { id, incarnation: 1 });
    assert_eq!(w.who("ended late"), ["a"]);
    assert_eq!(w.view("a").incarnation, 2);
}

#[test]
fn late_service_that_ends_its_supervisor_is_asked_in_its_turn() {
    let strict = Config {
        limit: Limit::window(0, secs(5)),
        ..config()
    };
    let mut w = World::running(strict, &[("a", slow()), ("b", policy())]);
    w.stops("b", Stops::After(secs(1), Outcome::Ok));
    w.run_out();
    assert_eq!(w.blamed(), [("a", Verdict::LimitExceeded)]);
    assert_eq!(w.asked(), [(secs(1), "b"), (secs(2), "a")]);
}
