//! `conformance/suture.md`: the rows in virtual time, under their ids.

use std::collections::BTreeSet;
use std::time::Duration;

use super::harness::{Stops, World, config, millis, policy, secs};
use crate::event::Next;
use crate::exit::Exit;
use crate::failure::FailureKind;
use crate::machine::message::{Config, End, Input, Outcome, Policy};
use crate::machine::policy::{Backoff, Exceeded, Limit};
use crate::report::State;

const AT_ONCE: Next = Next::Restart {
    delay: Duration::ZERO,
};
const PAUSE: Exceeded = Exceeded::Pause {
    time: secs(15),
    jitter: 0.0,
};

/// suture's default limit, jitter off.
fn default_limit() -> Config {
    Config {
        limit: Limit::default().then(PAUSE),
        ..config()
    }
}

fn decay(threshold: f64) -> Config {
    Config {
        limit: Limit::decay(threshold, secs(30)).then(PAUSE),
        ..config()
    }
}

/// `a` to `d` under suture's default limit, which `c` has exceeded at t=0.
fn paused_by_c() -> World {
    let services = ["a", "b", "c", "d"].map(|name| (name, policy()));
    let mut w = World::running(default_limit(), &services);
    for _ in 0..6 {
        w.fails("c");
    }
    assert!(w.machine.is_paused());
    w
}

fn count_of(w: &World) -> f64 {
    w.last_failure().count
}

#[test]
fn panic_counts_like_an_error() {
    let mut w = World::running(decay(3.5), &[("a", policy())]);
    w.fails("a");
    w.fails("a");
    w.ends("a", Outcome::Panic);
    let last = w.last_failure();
    assert_eq!(
        (last.count, last.kind, last.next),
        (3.0, FailureKind::Panic, AT_ONCE)
    );
    assert_eq!(w.starts().len(), 4);
    assert_eq!(w.view("a").panics, 1);
}

#[test]
fn first_failures_count_one_and_two() {
    let mut w = World::running(decay(3.5), &[("a", policy()), ("b", policy())]);
    w.clear_log();
    w.fails("a");
    assert_eq!(count_of(&w), 1.0);
    assert_eq!(w.starts(), [(secs(0), "a")]);
    w.fails("b");
    assert_eq!(count_of(&w), 2.0);
    assert_eq!(w.starts(), [(secs(0), "a"), (secs(0), "b")]);
}

#[test]
fn decay_over_one_half_life_is_exact() {
    let mut w = World::running(decay(3.5), &[("a", policy())]);
    w.fails("a");
    w.fails("a");
    w.at(secs(30));
    w.fails("a");
    assert_eq!(count_of(&w), 2.0);
    assert_eq!(w.starts().last(), Some(&(secs(30), "a")));
}

#[test]
fn default_limit_pauses_at_the_sixth() {
    let mut w = World::running(
        Config {
            limit: Limit::default(),
            ..config()
        },
        &[("a", policy())],
    );
    for nth in 1..=5u32 {
        w.fails("a");
        let last = w.last_failure();
        assert_eq!(
            (last.count, last.limit, last.next),
            (f64::from(nth), 5.0, AT_ONCE)
        );
        assert_eq!(w.view("a").incarnation, u64::from(nth) + 1);
    }
    assert_eq!(w.when("paused"), []);
    w.fails("a");
    assert_eq!(count_of(&w), 6.0);
    assert_eq!(w.when("paused"), [(secs(0), "")]);
    assert_eq!(w.starts().len(), 6);
    assert_eq!(w.view("a").state, State::Paused);
}

#[test]
fn zero_threshold_means_zero() {
    for threshold in [0.0, 0.5] {
        let mut w = World::running(decay(threshold), &[("a", policy())]);
        w.fails("a");
        assert_eq!(count_of(&w), 1.0);
        assert_eq!(w.last_failure().next, Next::Queued);
        assert_eq!(w.when("paused").len(), 1);
        assert_eq!(w.starts().len(), 1);
    }
}

#[test]
fn steady_rate_below_the_limit_never_pauses() {
    let mut w = World::running(default_limit(), &[("a", policy())]);
    for nth in 0..1000 {
        w.at(secs(10 * nth));
        w.fails("a");
        assert_eq!(w.view("a").state, State::Running);
    }
    assert_eq!(w.starts().len(), 1001);
    assert_eq!(w.when("paused"), []);
    assert!(w.failures().iter().all(|f| f.count <= 4.85));
}

#[test]
fn steady_rate_above_the_limit_pauses() {
    let mut w = World::running(default_limit(), &[("a", policy())]);
    for nth in 0..14 {
        assert_eq!(w.view("a").state, State::Running);
        w.at(secs(9 * nth));
        w.fails("a");
    }
    assert_eq!(w.when("paused"), [(secs(117), "")]);
    let above: Vec<_> = w.failures().into_iter().filter(|f| f.count > 5.0).collect();
    assert_eq!(above.len(), 1);
    assert!(
        (above[0].count - 5.036).abs() < 0.0005,
        "{}",
        above[0].count
    );
}

#[test]
fn pause_lasts_exactly_its_time() {
    let mut w = paused_by_c();
    assert_eq!(w.deadline(), Some(secs(15)));
    w.clear_log();
    w.at(secs(15) - Duration::from_nanos(1));
    w.input(Input::Ticked);
    assert_eq!(w.log(), []);
    w.at(secs(15));
    let said = w.told(&["resumed", "started"]);
    assert_eq!(
        said,
        [(secs(15), "", "resumed"), (secs(15), "c", "started")]
    );
    assert_eq!(w.starts(), [(secs(15), "c")]);
    assert_eq!(w.deadline(), None);
}

#[test]
fn pause_jitter_stays_in_range() {
    let mut different = BTreeSet::new();
    for seed in 0..1000 {
        let limit = Limit::default();
        let mut w = World::running(
            Config {
                limit,
                seed,
                ..config()
            },
            &[("a", policy())],
        );
        for _ in 0..6 {
            w.fails("a");
        }
        let pause = w.deadline().expect("a pause");
        assert!((secs(15)..millis(22_500)).contains(&pause), "{pause:?}");
        different.insert(pause);
    }
    assert!(different.len() >= 100);
}

#[test]
fn resume_sets_the_count_to_zero() {
    let mut w = paused_by_c();
    w.at(secs(15));
    w.fails("c");
    let last = w.last_failure();
    assert_eq!((last.count, last.next), (1.0, AT_ONCE));
    assert_eq!(w.when("paused").len(), 1);
    assert_eq!(w.view("c").state, State::Running);
}

#[test]
fn running_sibling_runs_on_during_a_pause() {
    let mut w = paused_by_c();
    w.at(secs(7));
    let b = w.view("b");
    assert_eq!((b.state, b.incarnation), (State::Running, 1));
    w.at(secs(20));
    assert_eq!(w.view("b").incarnation, 1);
    assert_eq!(w.asked(), []);
}

#[test]
fn failure_during_a_pause_neither_extends_nor_repeats_it() {
    let services = ["a", "b", "c", "d"].map(|name| (name, policy()));
    let mut w = World::running(default_limit(), &services);
    for _ in 0..6 {
        w.fails("a");
    }
    for (at, name) in [(5, "b"), (10, "c"), (14, "d")] {
        w.at(secs(at));
        w.fails(name);
        assert_eq!(w.last_failure().next, Next::Queued);
        assert_eq!(w.deadline(), Some(secs(15)));
    }
    w.run_out();
    assert_eq!(w.when("paused"), [(secs(0), "")]);
    assert_eq!(w.when("resumed"), [(secs(15), "")]);
    assert_eq!(
        w.starts()[9..],
        ["a", "b", "c", "d"].map(|name| (secs(15), name))
    );
}

#[test]
fn queued_restarts_start_in_order_of_adding() {
    let mut w = paused_by_c();
    w.at(secs(2));
    w.fails("b");
    w.at(secs(4));
    w.fails("a");
    w.clear_log();
    w.at(secs(20));
    assert_eq!(w.starts(), ["a", "b", "c"].map(|name| (secs(15), name)));
}

#[test]
fn add_during_a_pause_waits_for_it() {
    let mut w = paused_by_c();
    w.at(secs(5));
    w.clear_log();
    w.add("e", policy());
    assert_eq!(w.view("e").state, State::Waiting);
    assert_eq!(w.starts(), []);
    w.at(secs(20));
    assert_eq!(w.starts(), [(secs(15), "c"), (secs(15), "e")]);
}

#[test]
fn remove_during_a_pause_cancels_the_restart() {
    let mut w = paused_by_c();
    w.at(secs(5));
    w.remove("c");
    assert_eq!(w.when("removed"), [(secs(5), "c")]);
    assert!(!w.is_there("c"));
    w.clear_log();
    w.at(secs(20));
    assert_eq!(w.starts(), []);
}

#[test]
fn stop_during_a_pause_is_immediate() {
    let mut w = World::running(decay(0.0), &[("a", policy())]);
    w.fails("a");
    w.at(secs(5));
    w.shutdown();
    assert_eq!(w.over(), Some(secs(5)));
    assert_eq!(w.deadline(), None);
    w.at(secs(60));
    assert_eq!(w.starts(), [(secs(0), "a")]);
}

#[test]
fn paused_and_resumed_come_in_pairs() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut w = World::running(default_limit(), &names.map(|name| (name, policy())));
    for name in names {
        w.fails(name);
    }
    w.at(secs(15));
    for name in names {
        w.fails(name);
    }
    w.at(secs(30));
    let events = [
        (secs(0), "paused"),
        (secs(15), "resumed"),
        (secs(15), "paused"),
        (secs(30), "resumed"),
    ];
    assert_eq!(
        w.told(&["paused", "resumed"]),
        events.map(|(at, word)| (at, "", word))
    );
}

#[test]
fn failed_event_comes_before_the_next_start() {
    let mut w = World::running(config(), &[("a", policy())]);
    for _ in 0..20 {
        w.fails("a");
    }
    let words: Vec<_> = w
        .told(&["failed", "started"])
        .into_iter()
        .map(|told| told.2)
        .collect();
    assert_eq!(words[0], "started");
    assert!(
        words[1..]
            .chunks(2)
            .all(|pair| pair == ["failed", "started"])
    );
    let incarnations: Vec<_> = w.failures().into_iter().map(|f| f.incarnation).collect();
    assert_eq!(incarnations, (1..=20).collect::<Vec<_>>());
}

#[test]
fn one_count_for_all_services_of_a_supervisor() {
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut w = World::running(default_limit(), &names.map(|name| (name, policy())));
    for name in names {
        assert_eq!(w.when("paused"), []);
        w.fails(name);
    }
    assert_eq!(w.when("paused").len(), 1);
    let queued: Vec<_> = names
        .into_iter()
        .filter(|name| w.view(name).state == State::Paused)
        .collect();
    assert_eq!(queued, ["f"]);
}

#[test]
fn own_limit_isolates_a_service() {
    let own = Policy {
        limit: Some(Box::new(Limit::decay(1.0, secs(30)).then(PAUSE))),
        ..policy()
    };
    let mut w = World::running(default_limit(), &[("a", own), ("b", policy())]);
    w.fails("a");
    w.fails("a");
    w.at(secs(1));
    w.fails("b");
    assert_eq!(count_of(&w), 1.0);
    assert_eq!(w.starts().last(), Some(&(secs(1), "b")));
    assert_eq!(w.view("a").state, State::Paused);
    w.clear_log();
    w.run_out();
    assert_eq!(w.starts(), [(secs(15), "a")]);
    assert_eq!(w.when("paused"), []);
    w.fails("a");
    assert_eq!(count_of(&w), 1.0);
}

#[test]
fn do_not_restart_is_not_a_failure() {
    let mut w = World::running(default_limit(), &[("a", policy()), ("b", policy())]);
    for _ in 0..5 {
        w.fails("b");
    }
    w.exits("a", Exit::DoNotRestart);
    assert_eq!(w.view("a").state, State::Done);
    assert_eq!(w.when("paused"), []);
    w.fails("b");
    assert_eq!(count_of(&w), 6.0);
    assert_eq!(w.when("paused").len(), 1);
}

/// The machine of `inner`, and that of `app`, which waits for it without a timer of its own.
#[test]
fn stop_report_names_the_grandchild() {
    let inner = Policy {
        stop_timeout: None,
        ..policy()
    };
    let mut app = World::running(config(), &[("inner", inner)]);
    app.stops("inner", Stops::Hangs);
    let mut below = World::running(config(), &[("hung", policy())]);
    below.stops("hung", Stops::Hangs);
    app.shutdown();
    let deadline = app.asks()[0].3;
    below.act(Input::ShutdownRequested {
        deadline: crate::machine::Moment::at(deadline),
    });
    below.run_out();
    assert_eq!(below.when("abandoned"), [(secs(10), "hung")]);
    assert_eq!(below.over(), Some(secs(10)));
    app.at(secs(10));
    assert_eq!(app.over(), None);
    let id = app.id("inner");
    app.act(Input::Ended {
        id,
        incarnation: 1,
        end: End {
            outcome: Outcome::Ok,
            fatal: false,
            discarded: false,
            stragglers: true,
        },
    });
    assert_eq!(app.over(), Some(secs(10)));
    assert_eq!(app.when("abandoned"), []);
    assert_eq!(app.view("inner").stop_timeouts, 0);
}

/// What the builder gives and a spec overrides, as it arrives in the policies.
#[test]
fn builder_defaults_reach_every_service() {
    let built = Policy {
        backoff: Backoff::fixed(secs(3)),
        stop_timeout: Some(secs(1)),
        ..policy()
    };
    let own = Policy {
        backoff: Backoff::fixed(secs(1)),
        ..built.clone()
    };
    let mut w = World::running(config(), &[("a", built), ("b", own)]);
    w.fails("a");
    w.fails("b");
    w.clear_log();
    w.at(secs(5));
    assert_eq!(w.starts(), [(secs(1), "b"), (secs(3), "a")]);
    w.stops("a", Stops::Hangs);
    w.stop_service("a");
    w.run_out();
    assert_eq!(w.when("abandoned"), [(secs(6), "a")]);
}

#[test]
fn failure_in_a_pause_that_exceeds_nothing_waits_for_its_end_too() {
    let own = Policy {
        limit: Some(Box::new(Limit::none())),
        ..policy()
    };
    let mut w = World::running(decay(0.0), &[("a", own), ("b", policy())]);
    w.fails("b");
    w.at(secs(1));
    w.fails("a");
    assert_eq!(w.last_failure().next, Next::Queued);
    w.clear_log();
    w.run_out();
    assert_eq!(w.starts(), [(secs(15), "a"), (secs(15), "b")]);
}

#[test]
fn own_pause_that_is_cut_short_counts_from_zero() {
    let own = Policy {
        limit: Some(Box::new(Limit::decay(1.0, secs(30)).then(PAUSE))),
        ..policy()
    };
    for request in [World::start_service, World::restart_service] {
        let mut w = World::running(default_limit(), &[("a", own.clone())]);
        w.fails("a");
        w.fails("a");
        assert_eq!(w.view("a").state, State::Paused);
        request(&mut w, "a");
        assert_eq!(w.view("a").state, State::Running);
        w.fails("a");
        assert_eq!(count_of(&w), 1.0);
    }
}
