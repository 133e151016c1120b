//! Significant services: rows of `conformance/otp.md` under their ids. Its stops are in
//! `shutdown`, its limits and restart types in `limits`, its requests in `requests`.

use super::harness::{Stops, World, config, policy, secs};
use crate::error::ErrorKind;
use crate::exit::Exit;
use crate::machine::Machine;
use crate::machine::message::{Cause, Config, Outcome, Policy, Verdict};
use crate::machine::policy::{AutoShutdown, Exceeded, Limit, Restart};
use crate::report::State;

fn auto(auto_shutdown: AutoShutdown) -> Config {
    Config {
        auto_shutdown,
        ..config()
    }
}

fn any() -> Config {
    auto(AutoShutdown::AnySignificant)
}

fn restarting(restart: Restart) -> Policy {
    Policy {
        restart,
        ..policy()
    }
}

fn significant(restart: Restart) -> Policy {
    Policy {
        significant: true,
        ..restarting(restart)
    }
}

/// `s` and two others.
fn with_two(config: Config, s: Policy) -> World {
    World::running(config, &[("s", s), ("a", policy()), ("b", policy())])
}

#[test]
fn any_significant_end_stops_the_supervisor() {
    let mut w = with_two(any(), significant(Restart::OnFailure));
    w.ends("s", Outcome::Ok);
    assert_eq!(w.who("stopped"), ["b", "a"]);
    assert!(
        w.asks()
            .iter()
            .all(|ask| ask.2 == Cause::AutoShutdown(w.id("s")))
    );
    assert_eq!(w.blamed(), [("s", Verdict::AutoShutdown)]);
    assert_eq!(w.over(), Some(secs(0)));
}

#[test]
fn significant_failure_that_restarts_is_no_end() {
    let mut w = with_two(any(), significant(Restart::OnFailure));
    w.fails("s");
    assert_eq!(w.view("s").incarnation, 2);
    assert_eq!((w.asked(), w.over()), (vec![], None));
}

#[test]
fn significant_never_service_ends_the_supervisor_with_its_failure() {
    let ends = [
        (Outcome::Error, Verdict::SignificantFailed),
        (Outcome::Panic, Verdict::SignificantFailed),
        (Outcome::Ok, Verdict::AutoShutdown),
    ];
    for (outcome, verdict) in ends {
        let mut w = with_two(any(), significant(Restart::Never));
        w.ends("s", outcome);
        assert_eq!(w.blamed(), [("s", verdict)]);
        assert_eq!(w.over(), Some(secs(0)));
        assert!(!w.is_there("s"));
    }
}

#[test]
fn significant_service_that_is_given_up_has_ended() {
    let own = Limit::window(0, secs(1)).then(Exceeded::StopService);
    let s = Policy {
        limit: Some(Box::new(own)),
        ..significant(Restart::OnFailure)
    };
    let mut w = with_two(any(), s);
    w.fails("s");
    assert_eq!(w.blamed(), [("s", Verdict::SignificantFailed)]);
    assert_eq!(w.over(), Some(secs(0)));
}

#[test]
fn all_significant_waits_for_the_last() {
    let s = significant(Restart::OnFailure);
    let services = [("s1", s.clone()), ("s2", s), ("a", policy())];
    let mut w = World::running(auto(AutoShutdown::AllSignificant), &services);
    w.ends("s1", Outcome::Ok);
    assert_eq!((w.asked(), w.over()), (vec![], None));
    w.ends("s2", Outcome::Ok);
    assert_eq!(w.blamed(), [("s2", Verdict::AutoShutdown)]);
    assert_eq!(w.over(), Some(secs(0)));
}

#[test]
fn all_significant_does_not_forget_who_has_failed() {
    let s = significant(Restart::Never);
    let services = [("s1", s.clone()), ("s2", s.clone()), ("s3", s)];
    for last in [Outcome::Ok, Outcome::Error] {
        let mut w = World::running(auto(AutoShutdown::AllSignificant), &services);
        w.ends("s1", Outcome::Ok);
        w.ends("s2", Outcome::Panic);
        assert_eq!(w.over(), None);
        w.ends("s3", last);
        assert_eq!(w.blamed(), [("s2", Verdict::SignificantFailed)]);
        assert_eq!(w.over(), Some(secs(0)));
    }
}

#[test]
fn all_significant_forgives_who_is_started_again() {
    let s = Policy {
        limit: Some(Box::new(Limit::budget(0, 0).then(Exceeded::StopService))),
        ..significant(Restart::OnFailure)
    };
    let mut w = World::running(
        auto(AutoShutdown::AllSignificant),
        &[("s1", s.clone()), ("s2", s)],
    );
    w.fails("s1");
    assert_eq!(w.view("s1").state, State::GivenUp);
    w.start_service("s1");
    w.ends("s1", Outcome::Ok);
    w.ends("s2", Outcome::Ok);
    assert_eq!(w.blamed(), [("s2", Verdict::AutoShutdown)]);
}

#[test]
fn all_significant_counts_who_is_in_a_delay_or_starts_again() {
    use crate::machine::policy::Backoff;
    let slow = Backoff::fixed(secs(5));
    let s = Policy {
        backoff: slow,
        ..significant(Restart::OnFailure)
    };
    let services = [("s1", s.clone()), ("s2", s)];
    let mut w = World::running(auto(AutoShutdown::AllSignificant), &services);
    w.fails("s1");
    w.ends("s2", Outcome::Ok);
    assert_eq!(w.over(), None);
    w.at(secs(5));
    w.ends("s1", Outcome::Ok);
    assert_eq!(w.over(), Some(secs(5)));
}

#[test]
fn ordered_end_of_a_significant_service_triggers_nothing() {
    let requests: [fn(&mut World); 3] = [
        |w| w.stop_service("s"),
        |w| w.remove("s"),
        |w| w.restart_service("s"),
    ];
    for request in requests {
        for answer in [Outcome::Ok, Outcome::Error] {
            let mut w = with_two(any(), significant(Restart::OnFailure));
            w.stops("s", Stops::After(secs(1), answer));
            request(&mut w);
            w.run_out();
            assert_eq!((w.asked(), w.over()), (vec![(secs(0), "s")], None));
        }
    }
}

#[test]
fn insignificant_end_triggers_nothing() {
    let services = [
        ("s", significant(Restart::OnFailure)),
        ("t", restarting(Restart::OnFailure)),
        ("u", restarting(Restart::Never)),
    ];
    let mut w = World::running(any(), &services);
    w.ends("t", Outcome::Ok);
    w.ends("u", Outcome::Ok);
    assert_eq!((w.view("s").state, w.over()), (State::Running, None));
}

#[test]
fn significant_needs_a_service_that_may_end() {
    let refused = [
        (any(), significant(Restart::Always)),
        (
            auto(AutoShutdown::AllSignificant),
            significant(Restart::Always),
        ),
        (config(), significant(Restart::OnFailure)),
        (config(), significant(Restart::Never)),
    ];
    for (config, policy) in refused {
        let error = Machine::new(config)
            .admit([&policy].into_iter(), false)
            .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("significant"), "{error}");
    }
    let admitted = Machine::new(any()).admit([&significant(Restart::OnFailure)].into_iter(), false);
    assert!(admitted.is_ok());
}

#[test]
fn terminate_stops_everything_whatever_the_restart_type() {
    for restart in [Restart::Always, Restart::OnFailure, Restart::Never] {
        let mut w = with_two(config(), restarting(restart));
        w.exits("s", Exit::TerminateTree);
        assert_eq!(w.blamed(), [("s", Verdict::Terminated)]);
        assert_eq!(w.who("stopped"), ["b", "a"]);
        assert_eq!(w.over(), Some(secs(0)));
    }
}

#[test]
fn max_services_refuses_the_next() {
    for (max, running) in [(2, 2), (0, 0)] {
        let mut w = World::new(Config {
            services_max: max,
            ..config()
        });
        ["a", "b"].iter().take(running).for_each(|name| {
            w.add(name, policy());
        });
        let error = w
            .machine
            .admit([&policy()].into_iter(), false)
            .expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.to_string().contains(&max.to_string()), "{error}");
    }
}

#[test]
fn add_all_respects_the_bound_as_a_whole() {
    let w = World::running(
        Config {
            services_max: 3,
            ..config()
        },
        &[("a", policy())],
    );
    let named = |name: &str| Policy {
        name: name.into(),
        ..policy()
    };
    let three = ["x", "y", "z"].map(named);
    assert!(w.machine.admit(three.iter(), false).is_err());
    assert!(w.machine.admit(three[..2].iter(), false).is_ok());
    let twice = ["x", "y", "x"].map(named);
    assert_eq!(
        w.machine
            .admit(twice.iter(), false)
            .expect_err("refused")
            .kind(),
        ErrorKind::DuplicateName
    );
}
