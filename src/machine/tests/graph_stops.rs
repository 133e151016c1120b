//! Services that use what others provide, and stops, pauses and strategies: who is asked when.

use super::exhaustive::keys::hold;
use super::graph::{assert_incarnations, delayed, linked, needy, provider, providing, wanting};
use super::harness::{Stops, World, config, pausing, policy, secs};
use crate::exit::Exit;
use crate::machine::message::{Cause, Config, Input, Outcome, Policy};
use crate::machine::policy::StopOrder;
use crate::machine::strategy::Strategy;
use crate::report::State;

#[test]
fn stop_by_hand_waits_for_the_users() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.clear_log();
    w.stop_service("p");
    assert_eq!(w.asked(), [(secs(0), "c")]);
    assert_eq!(w.view("p").state, State::Stopping);
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "c"), (secs(1), "p")]);
    assert_eq!(w.view("p").state, State::Stopped);
    assert_eq!(w.view("c").state, State::Waiting);
    w.clear_log();
    w.start_service("p");
    assert_eq!(w.who("started"), ["p", "c"]);
}

#[test]
fn start_by_hand_takes_a_stop_back_that_waits_for_users() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.stop_service("p");
    w.start_service("p");
    w.run_out();
    assert_incarnations(&w, &[("p", 2), ("c", 2)]);
    w.remove("p");
    w.run_out();
    assert!(!w.is_there("p"));
    assert_eq!(w.view("c").state, State::Waiting);
}

#[test]
fn doomed_provider_that_fails_goes_all_the_same() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.remove("p");
    w.fails("p");
    assert!(!w.is_there("p"));
    w.run_out();
    assert_eq!(w.view("c").state, State::Waiting);
    assert_eq!(w.failures().len(), 1);
}

#[test]
fn user_that_hangs_holds_its_provider_until_its_deadline() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::Hangs);
    w.clear_log();
    w.restart_service("p");
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "c"), (secs(10), "p")]);
    assert_eq!(w.view("c").state, State::Abandoned);
    assert_eq!(w.view("p").incarnation, 2);
    w.ends("c", Outcome::Ok);
    assert_eq!(w.view("c").state, State::Running);
}

#[test]
fn removed_user_still_holds_its_provider() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::After(secs(2), Outcome::Ok));
    w.clear_log();
    w.remove("c");
    w.restart_service("p");
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "c"), (secs(2), "p")]);
    assert_eq!(w.view("p").incarnation, 2);
}

#[test]
fn user_removed_while_it_stops_still_holds_its_provider() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::After(secs(2), Outcome::Ok));
    w.clear_log();
    w.restart_service("p");
    w.remove("c");
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "c"), (secs(2), "p")]);
    assert_eq!(w.view("p").incarnation, 2);
    assert!(!w.is_there("c"));
}

#[test]
fn pause_defers_the_users_restart() {
    let services = [
        ("p", provider(policy())),
        ("c", needy(policy())),
        ("x", policy()),
    ];
    let mut w = providing(pausing(), &services);
    w.clear_log();
    w.fails("x");
    w.provides("p", "k");
    assert_eq!(w.asked(), []);
    w.at(secs(15));
    assert_eq!(w.asked(), [(secs(15), "c")]);
    assert_incarnations(&w, &[("p", 1), ("c", 2), ("x", 2)]);
}

#[test]
fn provider_that_fails_in_a_pause_keeps_its_users_until_it_is_over() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(pausing(), &services);
    w.clear_log();
    w.fails("p");
    assert_eq!((w.asked(), w.view("c").state), (vec![], State::Running));
    w.run_out();
    assert_eq!(w.asked(), [(secs(15), "c")]);
    assert_incarnations(&w, &[("p", 2), ("c", 2)]);
}

#[test]
fn all_at_once_still_goes_from_users_to_providers() {
    let parallel = Config {
        stop_order: StopOrder::Parallel,
        ..config()
    };
    let services = [
        ("p", provider(policy())),
        ("c", needy(policy())),
        ("d", needy(policy())),
        ("x", policy()),
    ];
    for restart in [true, false] {
        let mut w = providing(parallel.clone(), &services);
        w.stops("c", Stops::After(secs(1), Outcome::Ok));
        w.stops("d", Stops::After(secs(2), Outcome::Ok));
        w.clear_log();
        if restart {
            w.restart_service("p");
            w.run_out();
            assert_eq!(w.asked(), [(secs(0), "d"), (secs(0), "c"), (secs(2), "p")]);
        } else {
            w.shutdown();
            w.run_out();
            let asked = [
                (secs(0), "x"),
                (secs(0), "d"),
                (secs(0), "c"),
                (secs(2), "p"),
            ];
            assert_eq!(w.asked(), asked);
            assert_eq!(w.over(), Some(secs(2)));
        }
    }
}

#[test]
fn strategies_and_keys_share_one_barrier() {
    let all = Config {
        strategy: Strategy::OneForAll,
        ..config()
    };
    let services = [
        ("p", provider(delayed(secs(2)))),
        ("c", needy(policy())),
        ("x", policy()),
    ];
    let mut w = providing(all, &services);
    w.clear_log();
    w.fails("p");
    assert_eq!(w.who("stopped"), ["x", "c"]);
    w.run_out();
    // Together, after the delay of who failed.
    let starts = [(secs(2), "p"), (secs(2), "x"), (secs(2), "c")];
    assert_eq!(w.starts(), starts);
}

#[test]
fn group_of_a_user_goes_along_when_its_provider_ends_only() {
    let grouped = |policy: Policy| Policy {
        group: Some("g".into()),
        ..policy
    };
    let services = [
        ("p", provider(policy())),
        ("c", grouped(needy(policy()))),
        ("mate", grouped(policy())),
    ];
    let mut w = providing(config(), &services);
    w.provides("p", "k");
    assert_incarnations(&w, &[("p", 1), ("c", 2), ("mate", 1)]);
    w.fails("p");
    assert_incarnations(&w, &[("p", 2), ("c", 3), ("mate", 2)]);
}

#[test]
fn users_are_told_the_key_and_its_provider() {
    let services = [
        ("p", provider(policy())),
        ("c", linked(policy(), &["k2"], &["k"], &[])),
        ("d", linked(policy(), &[], &["k2"], &[])),
    ];
    let mut w = providing(config(), &services);
    w.clear_log();
    w.provides("p", "k");
    let causes: Vec<_> = w
        .asks()
        .iter()
        .map(|&(_, name, cause, _)| (name, cause))
        .collect();
    let input = |key, provider| Cause::Input {
        key,
        provider: w.id(provider),
    };
    assert_eq!(causes, [("d", input("k2", "c")), ("c", input("k", "p"))]);
}

#[test]
fn provider_removed_while_the_supervisor_stops_keeps_to_the_order() {
    let services = [
        ("p", provider(policy())),
        ("c", needy(policy())),
        ("x", policy()),
    ];
    let mut w = providing(config(), &services);
    w.stops("x", Stops::After(secs(1), Outcome::Ok));
    w.shutdown();
    w.remove("p");
    w.run_out();
    assert_eq!(w.asked(), [(secs(0), "x"), (secs(1), "c"), (secs(1), "p")]);
    assert!(!w.is_there("p"));
}

#[test]
fn user_that_is_to_start_after_all_starts_with_its_provider() {
    let services = [("p", provider(policy())), ("c", wanting(policy()))];
    let mut w = providing(config(), &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.stops("p", Stops::After(secs(1), Outcome::Ok));
    w.restart_service("p");
    w.stop_service("c");
    w.start_service("c");
    w.clear_log();
    w.at(secs(2));
    assert_eq!(w.starts()[..2], [(secs(2), "p"), (secs(2), "c")]);
}

#[test]
fn user_in_a_delay_does_not_wait_for_its_provider_to_stop() {
    let services = [("p", provider(policy())), ("c", wanting(delayed(secs(5))))];
    let mut w = providing(config(), &services);
    w.stops("p", Stops::After(secs(8), Outcome::Ok));
    w.fails("c");
    w.restart_service("p");
    assert_eq!(w.view("c").state, State::Backoff);
    w.clear_log();
    w.run_out();
    let starts = [(secs(5), "c"), (secs(8), "p"), (secs(8), "c")];
    assert_eq!(w.starts(), starts);
}

#[test]
fn provider_does_not_wait_for_a_restart_that_its_user_takes_part_in() {
    let grouped = |policy: Policy| Policy {
        group: Some("g".into()),
        ..policy
    };
    let services = [
        ("p", provider(policy())),
        ("x", grouped(policy())),
        ("c", needy(grouped(policy()))),
    ];
    let mut w = providing(config(), &services);
    w.stops("x", Stops::After(secs(1), Outcome::Ok));
    w.fails("c");
    w.at(secs(0));
    assert_eq!(w.view("c").state, State::Waiting);
    w.fails("p");
    assert_incarnations(&w, &[("p", 2), ("x", 1), ("c", 1)]);
    w.run_out();
    assert_incarnations(&w, &[("p", 2), ("x", 2), ("c", 2)]);
}

#[test]
fn who_fails_joins_the_restart_that_its_group_waits_in() {
    let grouped = |policy: Policy| Policy {
        group: Some("g".into()),
        ..policy
    };
    let services = [
        ("p", provider(policy())),
        ("slow", needy(policy())),
        ("c", needy(grouped(policy()))),
        ("mate", grouped(policy())),
    ];
    let mut w = providing(config(), &services);
    w.stops("slow", Stops::After(secs(2), Outcome::Ok));
    w.provides("p", "k");
    w.at(secs(1));
    w.clear_log();
    w.fails("mate");
    w.run_out();
    let starts = ["slow", "c", "mate"].map(|name| (secs(2), name));
    assert_eq!(w.starts(), starts);
}

#[test]
fn all_at_once_asks_a_provider_when_its_last_user_has_ended() {
    let parallel = Config {
        stop_order: StopOrder::Parallel,
        ..config()
    };
    let services = [
        ("p", provider(policy())),
        ("c", needy(policy())),
        ("d", needy(policy())),
        ("x", policy()),
    ];
    let mut w = providing(parallel, &services);
    w.stops("c", Stops::After(secs(1), Outcome::Ok));
    w.stops("d", Stops::After(secs(2), Outcome::Ok));
    w.stops("x", Stops::After(secs(5), Outcome::Ok));
    w.shutdown();
    w.run_out();
    assert_eq!(w.asked().last(), Some(&(secs(2), "p")));
    assert_eq!(w.over(), Some(secs(5)));
}

#[test]
fn unused_provider_is_removed_at_once_also_while_the_supervisor_stops() {
    let services = [("p", provider(policy())), ("x", policy())];
    let mut w = providing(config(), &services);
    w.stops("x", Stops::After(secs(1), Outcome::Ok));
    w.shutdown();
    w.remove("p");
    assert_eq!(w.asked(), [(secs(0), "x"), (secs(0), "p")]);
}

#[test]
fn who_runs_without_a_value_is_not_stopped_for_its_provider() {
    // It wants another key, too, and has that.
    let c = linked(policy(), &[], &[], &["k", "l"]);
    let services = [
        ("p", linked(policy(), &["k"], &[], &[])),
        ("q", linked(policy(), &["l"], &[], &[])),
        ("c", c),
    ];
    let mut w = World::running(config(), &services);
    w.provides("q", "l");
    w.clear_log();
    w.restart_service("p");
    w.fails("p");
    assert_eq!(w.asked(), [(secs(0), "p")]);
    assert_incarnations(&w, &[("p", 3), ("q", 1), ("c", 2)]);
}

#[test]
fn nobody_starts_with_the_value_of_a_provider_that_is_about_to_stop() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    // It is stopped after its user, or alone.
    for users in [true, false] {
        let mut w = providing(config(), if users { &services } else { &services[..1] });
        w.stops("c", Stops::After(secs(1), Outcome::Ok));
        w.stops("p", Stops::After(secs(1), Outcome::Ok));
        w.restart_service("p");
        w.add("d", needy(policy()));
        assert_eq!(w.view("d").state, State::Waiting);
        w.run_out();
        assert_incarnations(&w, &[("p", 2), ("d", 1)]);
        assert_eq!(w.view("d").state, State::Running);
    }
}

#[test]
fn user_waits_the_bounce_delay_also_in_a_restart_by_hand() {
    let merging = Config {
        bounce_delay: secs(1),
        ..config()
    };
    let services = [("p", provider(policy())), ("c", wanting(policy()))];
    let mut w = providing(merging, &services);
    w.run_out();
    assert_incarnations(&w, &[("p", 1), ("c", 2)]);
    w.provides_at_start = false;
    w.clear_log();
    w.restart_service("p");
    w.run_out();
    assert_eq!(w.starts(), [(secs(1), "p"), (secs(2), "c")]);
}

#[test]
fn user_restarts_with_its_provider_by_hand_also_in_a_pause() {
    let services = [
        ("p", provider(policy())),
        ("c", wanting(policy())),
        ("x", policy()),
    ];
    let mut w = providing(pausing(), &services);
    w.provides_at_start = false;
    w.fails("x");
    w.clear_log();
    w.restart_service("p");
    assert_eq!(w.starts(), [(secs(0), "p"), (secs(0), "c")]);
}

#[test]
fn user_of_a_provider_that_misses_an_input_itself_is_told_that_its_value_went() {
    let services = [("p", provider(policy())), ("c", needy(policy()))];
    let mut w = providing(config(), &services);
    w.exits("p", Exit::Missing);
    assert_eq!(w.view("p").state, State::Waiting);
    assert_eq!(w.view("c").state, State::Waiting);
}

#[test]
fn parked_service_waits_for_a_change_also_when_its_provider_comes_to_rest() {
    let services = [("p", provider(policy())), ("c", wanting(policy()))];
    let mut w = World::running(config(), &services);
    w.exits("c", Exit::Missing);
    w.stop_service("p");
    assert_incarnations(&w, &[("p", 1), ("c", 1)]);
    assert_eq!(w.view("c").state, State::Waiting);
}

#[test]
fn services_added_together_are_placed_after_their_providers_only() {
    let services = [
        ("c", needy(policy())),
        ("p", provider(policy())),
        ("x", policy()),
    ];
    let mut w = World::new(config());
    w.add_all(&services);
    w.provides_at_start = true;
    w.act(Input::Started);
    assert_eq!(w.who("started"), ["p", "x", "c"]);
    w.clear_log();
    w.shutdown();
    assert_eq!(w.who("stopped"), ["x", "c", "p"]);
}

#[test]
fn stop_in_a_pause_leaves_no_change_to_be_looked_after() {
    let services = [
        ("p", provider(policy())),
        ("c", wanting(policy())),
        ("x", policy()),
    ];
    let mut w = providing(pausing(), &services);
    w.fails("x");
    w.provides("p", "k");
    w.shutdown();
    hold(&w.machine);
}
