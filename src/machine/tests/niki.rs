//! `conformance/niki.md`: the rows in virtual time and the budgets, under their ids.

use std::time::Duration;

use super::harness::{HOUR, Stops, World, config, policy, secs};
use crate::event::Next;
use crate::failure::FailureKind;
use crate::machine::message::{Cause, Config, Outcome, Policy, Verdict};
use crate::machine::policy::{Backoff, Exceeded, Limit, StopOrder};
use crate::report::State;

fn budget(errors: u32, panics: u32) -> Config {
    Config {
        limit: Limit::budget(errors, panics).then(Exceeded::Fail),
        ..config()
    }
}

/// Ends `p` this way until the supervisor is over; how often it ran.
fn runs_until_over(w: &mut World, outcome: Outcome) -> usize {
    while w.over().is_none() {
        w.ends("p", outcome);
    }
    w.starts().len()
}

#[test]
fn error_budget_allows_exactly_its_restarts() {
    let mut w = World::running(budget(3, 10), &[("p", policy())]);
    assert_eq!(runs_until_over(&mut w, Outcome::Error), 4);
    assert_eq!(w.blamed(), [("p", Verdict::LimitExceeded)]);
    let last = w.last_failure();
    assert_eq!(
        (last.incarnation, last.kind, last.next),
        (4, FailureKind::Error, Next::Ends)
    );
}

#[test]
fn panic_budget_allows_exactly_its_restarts() {
    let mut w = World::running(budget(3, 10), &[("p", policy())]);
    assert_eq!(runs_until_over(&mut w, Outcome::Panic), 11);
    assert_eq!(w.blamed(), [("p", Verdict::LimitExceeded)]);
    assert_eq!(w.last_failure().kind, FailureKind::Panic);
}

#[test]
fn budgets_are_separate() {
    for sixth in [Outcome::Error, Outcome::Panic] {
        let mut w = World::running(budget(3, 2), &[("p", policy())]);
        for nth in 0..5 {
            w.ends("p", [Outcome::Error, Outcome::Panic][nth % 2]);
            assert_eq!(w.view("p").state, State::Running);
        }
        w.ends("p", sixth);
        assert_eq!(w.starts().len(), 6);
        assert_eq!(w.over(), Some(secs(0)));
    }
}

#[test]
fn zero_budget_runs_once() {
    for outcome in [
        Outcome::Ok,
        Outcome::Error,
        Outcome::Panic,
        Outcome::NoThread,
    ] {
        let mut w = World::running(budget(0, 0), &[("p", policy())]);
        assert_eq!(runs_until_over(&mut w, outcome), 1);
    }
}

#[test]
fn spent_budget_can_end_the_service_alone() {
    let limit = Limit::budget(2, 0).then(Exceeded::StopService);
    let mut w = World::running(
        Config { limit, ..config() },
        &[("p", policy()), ("q", policy())],
    );
    for _ in 0..3 {
        w.fails("p");
    }
    assert_eq!(w.view("p").state, State::GivenUp);
    assert_eq!(w.last_failure().next, Next::Stays);
    assert_eq!(w.when("given up"), [(secs(0), "p")]);
    assert_eq!(w.starts().len(), 4);
    let q = w.view("q");
    assert_eq!((q.state, q.incarnation), (State::Running, 1));
    assert_eq!((w.over(), w.asked().len()), (None, 0));
}

#[test]
fn own_budget_leaves_the_supervisor_alone() {
    let limit = Limit::window(0, HOUR).then(Exceeded::Fail);
    let own = Policy {
        limit: Some(Box::new(Limit::budget(3, 0).then(Exceeded::StopService))),
        ..policy()
    };
    let mut w = World::running(Config { limit, ..config() }, &[("p", own), ("q", policy())]);
    for _ in 0..4 {
        w.fails("p");
    }
    assert_eq!(w.view("p").state, State::GivenUp);
    assert_eq!(w.over(), None);
    w.fails("q");
    assert_eq!(w.last_failure().count, 1.0);
    assert_eq!(w.blamed(), [("q", Verdict::LimitExceeded)]);
    assert_eq!(w.over(), Some(secs(0)));
}

#[test]
fn partial_options_keep_the_other_defaults() {
    let p = Policy {
        limit: Some(Box::new(Limit::budget(1, 1))),
        ..policy()
    };
    let mut w = World::running(config(), &[("p", p)]);
    w.ends("p", Outcome::Ok);
    let failure = w.last_failure();
    assert_eq!(failure.kind, FailureKind::Returned);
    assert_eq!(
        failure.next,
        Next::Restart {
            delay: Duration::ZERO
        }
    );
    assert_eq!(w.starts().len(), 2);
    w.stops("p", Stops::Hangs);
    w.stop_service("p");
    w.run_out();
    assert_eq!(w.when("abandoned"), [(secs(10), "p")]);
}

#[test]
fn errors_and_panics_have_their_own_delays() {
    let p = Policy {
        backoff: Backoff::fixed(secs(3)),
        panic_backoff: Some(Box::new(Backoff::fixed(secs(2)))),
        ..policy()
    };
    let mut w = World::running(budget(3, 10), &[("p", p)]);
    w.fails("p");
    assert_eq!(w.deadline(), Some(secs(3)));
    w.at(secs(10));
    w.ends("p", Outcome::Panic);
    w.run_out();
    assert_eq!(w.starts(), [0, 3, 12].map(|at| (secs(at), "p")));
}

#[test]
fn no_delay_after_the_last_failure() {
    let p = Policy {
        backoff: Backoff::fixed(secs(3)),
        ..policy()
    };
    let mut w = World::running(budget(1, 0), &[("p", p), ("q", policy())]);
    w.stops("q", Stops::After(secs(1), Outcome::Ok));
    w.fails("p");
    w.at(secs(5));
    w.fails("p");
    assert_eq!(w.asked(), [(secs(5), "q")]);
    w.run_out();
    assert_eq!(w.over(), Some(secs(6)));
}

#[test]
fn stop_interrupts_a_restart_delay() {
    let p = Policy {
        backoff: Backoff::fixed(secs(3)),
        ..policy()
    };
    let mut w = World::running(config(), &[("p", p)]);
    w.fails("p");
    w.at(secs(1));
    w.shutdown();
    assert_eq!(w.over(), Some(secs(1)));
    assert_eq!(w.deadline(), None);
    w.at(secs(10));
    assert_eq!(w.starts().len(), 1);
}

#[test]
fn stable_run_refills_the_budget() {
    let forgetful = Backoff::fixed(secs(2)).reset_after(secs(60));
    for (backoff, restarts) in [(forgetful, 1000), (Backoff::fixed(secs(2)), 10)] {
        let p = Policy {
            backoff,
            ..policy()
        };
        let mut w = World::running(budget(0, 10), &[("p", p)]);
        for _ in 0..1000 {
            w.at(w.now() + 24 * HOUR);
            w.ends("p", Outcome::Panic);
            w.at(w.now() + secs(2));
            if w.over().is_some() {
                break;
            }
        }
        assert_eq!(w.starts().len(), restarts + 1);
        assert_eq!(w.over().is_some(), restarts == 10);
    }
}

#[test]
fn unfinished_process_is_named() {
    let names = ["a", "b", "p", "c", "d"];
    let parallel = Config {
        stop_order: StopOrder::Parallel,
        stop_timeout: Some(secs(5)),
        ..config()
    };
    let mut w = World::running(parallel, &names.map(|name| (name, policy())));
    w.stops("p", Stops::Hangs);
    w.shutdown();
    w.run_out();
    assert_eq!(w.over(), Some(secs(5)));
    assert_eq!(w.when("abandoned"), [(secs(5), "p")]);
}

#[test]
fn ok_during_shutdown_is_clean() {
    use crate::machine::policy::{AutoShutdown, Restart};
    let auto = Config {
        auto_shutdown: AutoShutdown::AnySignificant,
        ..config()
    };
    let p = Policy {
        restart: Restart::OnFailure,
        significant: true,
        ..policy()
    };
    let mut w = World::running(auto, &[("p", p), ("q", policy())]);
    w.stops("p", Stops::After(secs(1), Outcome::Ok));
    w.shutdown();
    w.run_out();
    assert!(w.asks().iter().all(|ask| ask.2 == Cause::Shutdown));
    assert_eq!((w.failures(), w.blamed()), (vec![], vec![]));
    assert_eq!(w.over(), Some(secs(1)));
}

#[test]
fn many_fatal_ends_at_once() {
    use crate::machine::policy::{AutoShutdown, Restart};
    let auto = Config {
        auto_shutdown: AutoShutdown::AnySignificant,
        ..config()
    };
    let p = Policy {
        restart: Restart::OnFailure,
        significant: true,
        ..policy()
    };
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let mut w = World::running(auto, &names.map(|name| (name, p.clone())));
    let first_nine = &names[..9];
    names.iter().for_each(|name| w.stops(name, Stops::Hangs));
    first_nine.iter().for_each(|name| w.ends(name, Outcome::Ok));
    assert_eq!(w.asked(), [(secs(0), "j")]);
    w.ends("j", Outcome::Ok);
    assert_eq!(w.over(), Some(secs(0)));
    assert_eq!(w.blamed(), [("a", Verdict::AutoShutdown)]);
}
