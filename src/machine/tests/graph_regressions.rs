//! Holes that were found where services provide for each other, each as its shortest story.

use super::graph::{assert_incarnations, linked, needy, provider, providing};
use super::harness::{HOUR, Stops, World, config, pausing, policy, secs};
use crate::exit::Exit;
use crate::machine::message::{Command, Config, Input, Outcome, Policy, Verdict};
use crate::machine::policy::{AutoShutdown, Backoff, Limit, Restart};
use crate::report::State;

fn grouped(policy: Policy) -> Policy {
    Policy {
        group: Some("g".into()),
        ..policy
    }
}

fn on_failure(policy: Policy) -> Policy {
    Policy {
        restart: Restart::OnFailure,
        ..policy
    }
}

/// Provides `k` when it starts; not ready in time, since it never provides `l`.
fn never_ready(policy: Policy) -> Policy {
    let late = Policy {
        ready_timeout: Some(secs(1)),
        ..policy
    };
    linked(late, &["k", "l"], &[], &[])
}

fn provides_only_k(config: Config, p: Policy) -> World {
    let mut w = World::new(config);
    w.add("p", p);
    w.add("c", needy(policy()));
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.act(Input::Started);
    w.provides("p", "k");
    assert_incarnations(&w, &[("p", 1), ("c", 1)]);
    w
}

#[test]
fn provider_whose_supervisor_failed_is_judged_after_its_users_have_ended() {
    let limited = Config {
        limit: Limit::window(1, HOUR),
        ..config()
    };
    let p = Policy {
        backoff: Backoff::fixed(secs(5)),
        ..provider(policy())
    };
    let mut w = providing(limited, &[("p", p), ("c", needy(policy()))]);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.stops("p", Stops::After(secs(0), Outcome::Error));
    w.clear_log();
    w.fails_below("p");
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "c"), (secs(1), "p")]);
    let failures = w.failures();
    assert_eq!(failures.len(), 1);
    assert_eq!((failures[0].name, failures[0].count), ("p", 1.0));
    assert_eq!(w.starts(), [(secs(6), "p"), (secs(6), "c")]);
}

#[test]
fn provider_whose_supervisor_failed_may_end_before_it_is_asked() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.fails_below("p");
    w.fails("p");
    w.run_out();
    assert_incarnations(&w, &[("p", 2), ("c", 2)]);
}

#[test]
fn significant_provider_whose_supervisor_failed_is_an_end_of_its_own() {
    let auto = Config {
        auto_shutdown: AutoShutdown::AnySignificant,
        ..config()
    };
    let p = Policy {
        restart: Restart::Never,
        significant: true,
        ..provider(policy())
    };
    let mut w = providing(auto, &[("p", p), ("c", needy(policy()))]);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.stops("p", Stops::After(secs(0), Outcome::Error));
    w.fails_below("p");
    w.run_out();
    assert_eq!(w.blamed(), [("p", Verdict::SignificantFailed)]);
}

#[test]
fn provider_that_is_late_and_causes_a_pause_starts_after_it() {
    let mut w = provides_only_k(pausing(), never_ready(policy()));
    w.clear_log();
    w.at(secs(16));
    assert_eq!(w.asked(), [(secs(1), "c"), (secs(2), "p")]);
    assert_eq!(w.starts(), [(secs(16), "p")]);
}

#[test]
fn provider_that_is_late_and_pauses_by_itself_starts_after_that() {
    let p = never_ready(Policy {
        limit: Some(Box::new(pausing().limit)),
        ..policy()
    });
    let mut w = provides_only_k(config(), p);
    w.clear_log();
    w.at(secs(16));
    assert_eq!(w.asked(), [(secs(1), "c"), (secs(2), "p")]);
    assert_eq!(w.starts(), [(secs(16), "p")]);
}

#[test]
fn failure_before_an_ordered_stop_is_not_counted() {
    let limited = Config {
        limit: Limit::window(0, HOUR),
        ..config()
    };
    for order in [World::remove, World::stop_service, World::restart_service] {
        let services = [("p", provider(policy())), ("c", needy(policy()))];
        let mut w = providing(limited.clone(), &services);
        w.stops("c", Stops::After(secs(1), Outcome::Ok));
        order(&mut w, "p");
        w.fails("p");
        w.run_out();
        assert_eq!((w.failures().len(), w.blamed()), (1, vec![]));
    }
}

#[test]
fn missing_as_the_answer_to_a_restart_is_no_early_end() {
    let c = linked(policy(), &["own"], &[], &["k"]);
    let mut w = World::running(config(), &[("p", provider(policy())), ("c", c)]);
    w.stops("c", Stops::After(secs(0), Outcome::Exit(Exit::Missing)));
    w.provides("p", "k");
    assert_incarnations(&w, &[("c", 2)]);
    let mut log = w.log().iter();
    assert!(!log.any(|(_, c)| matches!(c, Command::EndedEarly { .. })));
}

#[test]
fn group_goes_along_when_the_provider_of_one_is_done() {
    let services = [
        ("p", on_failure(provider(policy()))),
        ("c", grouped(needy(policy()))),
        ("mate", grouped(policy())),
    ];
    let mut w = providing(config(), &services);
    w.ends("p", Outcome::Ok);
    assert_eq!(w.view("c").state, State::Waiting);
    assert_incarnations(&w, &[("p", 1), ("c", 1), ("mate", 2)]);
}

#[test]
fn provider_that_is_done_is_not_brought_back_by_its_users_group() {
    let services = [
        ("p", grouped(on_failure(provider(policy())))),
        ("c", linked(policy(), &["l"], &["k"], &[])),
        ("d", grouped(linked(policy(), &[], &["l"], &[]))),
    ];
    let mut w = providing(config(), &services);
    w.ends("p", Outcome::Ok);
    assert_incarnations(&w, &[("p", 1), ("c", 1), ("d", 1)]);
    assert_eq!(w.view("p").state, State::Done);
}

#[test]
fn user_at_rest_does_not_take_its_group_along() {
    let services = [
        ("p", provider(policy())),
        ("c", grouped(needy(policy()))),
        ("mate", grouped(policy())),
    ];
    let mut w = providing(config(), &services);
    w.stop_service("c");
    w.fails("p");
    assert_incarnations(&w, &[("p", 2), ("c", 1), ("mate", 1)]);
}

#[test]
fn restarts_that_merge_leave_nothing_behind() {
    let cohorts = |w: &World| w.machine.waves.values().map(|w| w.cohorts.len()).sum();
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::Hangs);
    let mut most: usize = 0;
    for _ in 0..100 {
        w.restart_service("p");
        most = most.max(cohorts(&w));
    }
    for _ in 0..100 {
        w.stop_service("p");
        w.start_service("p");
        most = most.max(cohorts(&w));
    }
    assert!(most < 20, "{most} cohorts of two services");
    w.run_out();
    assert_eq!(w.view("p").incarnation, 2);
}

#[test]
fn service_whose_input_went_before_it_could_begin_has_not_ended() {
    let auto = Config {
        auto_shutdown: AutoShutdown::AnySignificant,
        ..config()
    };
    let c = Policy {
        restart: Restart::Never,
        significant: true,
        ..linked(policy(), &["own"], &["k"], &[])
    };
    let mut w = providing(auto, &[("p", provider(policy())), ("c", c)]);
    // The supervisor hears of the provider's end only then.
    w.ends("c", Outcome::NoInput);
    assert_eq!(w.view("c").state, State::Waiting);
    w.fails("p");
    assert_eq!((w.view("c").state, w.view("c").starts), (State::Ready, 1));
    assert_eq!(w.blamed(), []);
    let mut log = w.log().iter();
    assert!(!log.any(|(_, c)| matches!(c, Command::EndedEarly { .. })));
}

#[test]
fn who_waits_for_a_provider_at_rest_gives_its_thread_back() {
    let p = Policy {
        backoff: Backoff::fixed(HOUR),
        ..provider(policy())
    };
    for order in [World::stop_service, World::remove] {
        let mut w = providing(config(), &[("p", p.clone()), ("c", needy(policy()))]);
        w.clear_log();
        w.fails("p");
        let c = w.id("c");
        let releases = |w: &World| {
            w.log()
                .iter()
                .any(|(_, command)| *command == Command::Release { id: c })
        };
        assert!(!releases(&w), "its input is about to come back");
        order(&mut w, "p");
        assert!(releases(&w), "it waits for somebody to do something");
    }
}

#[test]
fn provider_whose_supervisor_fails_in_a_restart_of_its_own_starts_with_its_users() {
    let limited = Config {
        limit: Limit::window(0, HOUR),
        ..config()
    };
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(limited, &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.stops("p", Stops::After(secs(1), Outcome::Error));
    w.clear_log();
    w.restart_service("p");
    w.fails_below("p");
    w.run_out();
    assert_eq!(w.starts(), [(secs(2), "p"), (secs(2), "c")]);
    assert_eq!((w.last_failure().count, w.blamed()), (0.0, vec![]));
}
