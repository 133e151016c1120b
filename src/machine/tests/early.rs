//! Who waits for a service to be ready is told when it is over for good before that.

use super::harness::{Stops, World, config, policy, secs};
use crate::exit::Exit;
use crate::machine::message::{Outcome, Policy};
use crate::machine::policy::{Exceeded, Limit, Restart};
use crate::report::State;

const TOLD: Outcome = Outcome::Exit(Exit::DoNotRestart);
const UNINSTALL: Outcome = Outcome::Exit(Exit::Uninstall);
const TERMINATE: Outcome = Outcome::Exit(Exit::TerminateTree);
const MISSING: Outcome = Outcome::Exit(Exit::Missing);

/// It has an hour to say that it is ready.
fn patient() -> Policy {
    Policy {
        ready_timeout: Some(secs(3600)),
        ..policy()
    }
}

fn restarting(restart: Restart) -> Policy {
    Policy {
        restart,
        ..patient()
    }
}

fn alone(policy: Policy) -> World {
    World::running(config(), &[("a", policy)])
}

#[test]
fn service_that_ends_for_good_before_it_is_ready_has_ended_early() {
    let cases = [
        (Restart::Always, TOLD, true),
        (Restart::Always, UNINSTALL, true),
        (Restart::Always, Outcome::Error, false),
        (Restart::Always, Outcome::Ok, false),
        (Restart::Always, MISSING, false),
        (Restart::OnFailure, Outcome::Ok, true),
        (Restart::OnFailure, Outcome::Error, false),
        (Restart::Never, Outcome::Ok, true),
        (Restart::Never, Outcome::Error, true),
    ];
    for (restart, outcome, early) in cases {
        let mut w = alone(restarting(restart));
        w.ends("a", outcome);
        let expected: &[&str] = if early { &["a"] } else { &[] };
        assert_eq!(w.ended_early(), expected, "{restart:?} {outcome:?}");
    }
}

#[test]
fn service_that_is_given_up_before_it_is_ready_has_ended_early() {
    let mut w = alone(Policy {
        limit: Some(Box::new(Limit::budget(0, 0).then(Exceeded::StopService))),
        ..patient()
    });
    w.fails("a");
    assert_eq!((w.ended_early(), w.who("given up")), (vec!["a"], vec!["a"]));
}

#[test]
fn service_that_was_ready_once_does_not_end_early() {
    let mut w = alone(patient());
    w.says_ready("a");
    w.fails("a");
    assert_eq!(w.view("a").state, State::Starting);
    w.ends("a", TOLD);
    assert_eq!(w.ended_early(), [""; 0]);
    w.start_service("a");
    w.stops("a", Stops::After(secs(0), TOLD));
    w.restart_service("a");
    assert_eq!(w.view("a").state, State::Done);
    assert_eq!(w.ended_early(), [""; 0]);
}

#[test]
fn service_that_need_not_say_it_is_ready_does_not_end_early() {
    for restart in [false, true] {
        let mut w = alone(policy());
        w.stops("a", Stops::After(secs(0), TOLD));
        if restart {
            w.restart_service("a");
        } else {
            w.ends("a", TOLD);
        }
        assert_eq!(w.view("a").state, State::Done);
        assert_eq!(w.ended_early(), [""; 0]);
    }
}

#[test]
fn answer_to_a_restart_may_be_an_early_end() {
    let cases = [
        (TOLD, true),
        (UNINSTALL, true),
        (MISSING, false),
        (Outcome::Ok, false),
        (Outcome::Error, false),
        // The supervisor ends with it.
        (TERMINATE, false),
    ];
    for (answer, early) in cases {
        let mut w = alone(patient());
        w.stops("a", Stops::After(secs(0), answer));
        w.restart_service("a");
        let expected: &[&str] = if early { &["a"] } else { &[] };
        assert_eq!(w.ended_early(), expected, "{answer:?}");
    }
}

#[test]
fn ordered_end_is_no_early_end() {
    for order in [World::stop_service, World::remove] {
        let mut w = alone(patient());
        w.stops("a", Stops::After(secs(0), TOLD));
        order(&mut w, "a");
        assert_eq!(w.ended_early(), [""; 0]);
    }
    let mut w = alone(patient());
    w.shutdown();
    assert_eq!((w.ended_early(), w.over()), (vec![], Some(secs(0))));
}

#[test]
fn late_service_that_goes_for_good_has_ended_early_once() {
    let mut w = alone(Policy {
        restart: Restart::Never,
        ready_timeout: Some(secs(1)),
        ..policy()
    });
    w.run_out();
    assert_eq!((w.ended_early(), w.is_there("a")), (vec!["a"], false));
}

#[test]
fn late_service_that_starts_again_has_not_ended_early() {
    let mut w = alone(Policy {
        ready_timeout: Some(secs(1)),
        ..policy()
    });
    w.at(secs(1));
    assert_eq!((w.ended_early(), w.view("a").incarnation), (vec![], 2));
}

#[test]
fn late_service_that_was_ready_once_does_not_end_early() {
    let mut w = alone(Policy {
        ready_timeout: Some(secs(1)),
        limit: Some(Box::new(Limit::budget(1, 1).then(Exceeded::StopService))),
        ..policy()
    });
    w.says_ready("a");
    w.fails("a");
    w.run_out();
    assert_eq!((w.ended_early(), w.who("given up")), (vec![], vec!["a"]));
}
