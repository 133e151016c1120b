//! The delays of `conformance/monogon.md` and `conformance/juju.md`, under the rows' ids.

use std::collections::BTreeSet;
use std::time::Duration;

use super::harness::{HOUR, World, config, millis, policy, secs};
use crate::error::ErrorKind;
use crate::event::Next;
use crate::exit::Exit;
use crate::machine::message::{Config, Outcome, Policy};
use crate::machine::policy::{Backoff, Exceeded, Limit, Random, Restart};
use crate::report::State;

fn with(backoff: Backoff) -> Policy {
    Policy {
        backoff,
        ..policy()
    }
}

fn doubling(first: u64, max: u64) -> Backoff {
    Backoff::exponential(secs(first), secs(max)).jitter(0.0)
}

/// One service under a given seed.
fn world(backoff: Backoff, seed: u64) -> World {
    World::running(Config { seed, ..config() }, &[("a", with(backoff))])
}

/// Ends `a` now, waits for its next start, and answers how long that took.
fn delay_after(w: &mut World, outcome: Outcome) -> Duration {
    let died = w.now();
    w.ends("a", outcome);
    if w.view("a").state != State::Running {
        let until = w.view("a").next_start.expect("a delay").since_start();
        assert_eq!(w.deadline(), Some(until));
        w.at(until);
    }
    assert_eq!(w.view("a").state, State::Running);
    w.now() - died
}

fn delays(w: &mut World, failures: usize) -> Vec<Duration> {
    (0..failures)
        .map(|_| delay_after(w, Outcome::Error))
        .collect()
}

/// monogon's curve.
fn curve() -> Backoff {
    Backoff::exponential(millis(500), secs(60)).factor(1.5)
}

#[test]
fn backoff_follows_the_configured_curve() {
    let mut w = world(curve().jitter(0.0), 1);
    let micros = [500_000, 750_000, 1_125_000, 1_687_500, 2_531_250];
    assert_eq!(delays(&mut w, 5), micros.map(Duration::from_micros));
    let told = w.failures().into_iter().map(|f| f.next);
    assert!(told.eq(micros.map(|us| Next::Restart {
        delay: Duration::from_micros(us)
    })));
}

#[test]
fn backoff_jitter_stays_in_its_band() {
    let (mut firsts, mut thirds) = (BTreeSet::new(), BTreeSet::new());
    for seed in 1..=1000 {
        let mut w = world(curve().jitter(0.5), seed);
        let all = delays(&mut w, 3);
        assert!((millis(250)..=millis(750)).contains(&all[0]), "{all:?}");
        let band = Duration::from_micros(562_500)..=Duration::from_micros(1_687_500);
        assert!(band.contains(&all[2]), "{all:?}");
        firsts.insert(all[0]);
        thirds.insert(all[2]);
    }
    assert!(firsts.len() >= 100 && thirds.len() >= 100);
}

#[test]
fn backoff_never_gives_up_and_never_goes_negative() {
    let mut w = world(curve().jitter(0.5), 7);
    let all = delays(&mut w, 10_000);
    assert!(all.iter().all(|&d| d > Duration::ZERO && d <= secs(60)));
    assert_eq!(w.starts().len(), 10_001);
}

fn with_reset(reset_after: Duration) -> World {
    let must_say = Policy {
        ready_timeout: Some(HOUR),
        ..with(doubling(1, 60).reset_after(reset_after))
    };
    World::running(config(), &[("a", must_say)])
}

/// It says that it is ready, runs for a while and fails; the delay.
fn ready_then_fails(w: &mut World, run: Duration) -> Duration {
    w.says_ready("a");
    let died = w.now() + run;
    w.at(died);
    w.fails("a");
    w.at(w.deadline().expect("a delay"));
    w.now() - died
}

#[test]
fn ready_alone_does_not_reset_backoff() {
    let mut w = with_reset(secs(10));
    assert_eq!(
        [(); 4].map(|()| ready_then_fails(&mut w, secs(1))),
        [1, 2, 4, 8].map(secs)
    );
}

#[test]
fn ready_for_reset_after_resets_backoff() {
    let mut w = with_reset(secs(10));
    assert_eq!(
        [(); 3].map(|()| ready_then_fails(&mut w, secs(1))),
        [1, 2, 4].map(secs)
    );
    assert_eq!(ready_then_fails(&mut w, secs(10)), secs(1));
    let almost = secs(10) - Duration::from_nanos(1);
    assert_eq!(ready_then_fails(&mut w, almost), secs(2));
}

#[test]
fn reset_after_zero_resets_at_ready() {
    let mut w = with_reset(Duration::ZERO);
    assert_eq!(
        [(); 4].map(|()| ready_then_fails(&mut w, secs(0))),
        [secs(1); 4]
    );
}

#[test]
fn a_service_that_never_got_ready_was_not_stable() {
    let mut w = with_reset(secs(10));
    for expected in [1, 2, 4] {
        w.at(w.now() + secs(60));
        let died = w.now();
        w.fails("a");
        w.at(w.deadline().expect("a delay"));
        assert_eq!(w.now() - died, secs(expected));
    }
}

#[test]
fn idle_tree_sets_no_timer() {
    const NAME: &str = "s";
    let mut w = World::new(config());
    let policies = (0..100).map(|n| Policy {
        name: format!("{NAME}{n}").into(),
        ..policy()
    });
    w.input(crate::machine::message::Input::Added(policies.collect()));
    w.input(crate::machine::message::Input::Started);
    assert_eq!(w.deadline(), None);
}

#[test]
fn ok_with_on_failure_is_done() {
    let mut w = World::running(
        config(),
        &[(
            "a",
            Policy {
                restart: Restart::OnFailure,
                ..policy()
            },
        )],
    );
    w.says_ready("a");
    w.ends("a", Outcome::Ok);
    w.at(HOUR);
    assert_eq!(w.view("a").state, State::Done);
    assert_eq!(
        (w.starts().len(), w.failures().len(), w.deadline()),
        (1, 0, None)
    );
}

#[test]
fn growing_delay_is_capped() {
    let mut w = world(doubling(1, 3), 1);
    assert_eq!(delays(&mut w, 4), [1, 2, 3, 3].map(secs));
    for seed in 0..100 {
        let mut w = world(Backoff::exponential(secs(1), secs(3)), seed);
        for (delay, ideal) in delays(&mut w, 4).into_iter().zip([1.0, 2.0, 3.0, 3.0]) {
            assert!(
                (delay.as_secs_f64() - ideal).abs() <= ideal * 0.1 + 1e-9,
                "{delay:?}"
            );
            assert!(delay <= secs(3));
        }
    }
}

#[test]
fn delay_counts_from_the_death() {
    let mut w = world(doubling(1, 3), 1);
    delays(&mut w, 2);
    w.at(w.now() + secs(5));
    assert_eq!(delay_after(&mut w, Outcome::Error), secs(3));
}

#[test]
fn long_run_resets_the_delay() {
    let mut w = world(doubling(1, 3).reset_after(secs(60)), 1);
    delays(&mut w, 3);
    w.at(w.now() + secs(120));
    assert_eq!(delay_after(&mut w, Outcome::Error), secs(1));
}

#[test]
fn huge_factor_never_overflows() {
    let mut w = world(doubling(1, 60).factor(100.0), 1);
    let all = delays(&mut w, 200);
    assert_eq!(all[0], secs(1));
    assert!(all[1..].iter().all(|&d| d == secs(60)));
}

#[test]
fn bounce_waits_the_first_delay_and_never_grows_it() {
    let limit = Limit::window(0, HOUR).then(Exceeded::StopService);
    let services = [("a", with(doubling(1, 60)))];
    let mut w = World::running(Config { limit, ..config() }, &services);
    let bounce = Outcome::Exit(Exit::Bounce);
    assert_eq!([(); 5].map(|()| delay_after(&mut w, bounce)), [secs(1); 5]);
    assert_eq!(w.failures(), []);
    let mut w = world(doubling(1, 60), 1);
    (0..5).for_each(|_| assert_eq!(delay_after(&mut w, bounce), secs(1)));
    assert_eq!(delay_after(&mut w, Outcome::Error), secs(1));
    assert_eq!(delay_after(&mut w, bounce), secs(1));
    assert_eq!(delay_after(&mut w, Outcome::Error), secs(2));
}

/// juju's `parking_is_no_failure_and_no_backoff`, with the input's return played by hand.
#[test]
fn parking_is_no_failure_and_no_backoff() {
    let mut w = world(doubling(1, 60), 1);
    for _ in 0..10 {
        w.exits("a", Exit::Missing);
        assert_eq!(w.view("a").state, State::Waiting);
        assert_eq!(w.deadline(), None);
        w.start_service("a");
    }
    assert_eq!(w.failures(), []);
    assert_eq!(delay_after(&mut w, Outcome::Error), secs(1));
}

/// juju's `map_failure_can_turn_an_error_into_any_answer`: the machine's part, after the mapping.
#[test]
fn answers_that_are_no_failures_leave_counts_and_delays_alone() {
    use Exit::{Bounce, DoNotRestart, Missing, Uninstall};
    let first_delay = with(doubling(1, 60));
    let on_failure = Policy {
        restart: Restart::OnFailure,
        ..policy()
    };
    let services =
        ["missing", "bounce", "uninstall", "told"].map(|name| (name, first_delay.clone()));
    let limit = Limit::window(0, HOUR);
    let mut w = World::running(Config { limit, ..config() }, &services);
    w.add("ok", on_failure);
    w.exits("missing", Missing);
    w.exits("bounce", Bounce);
    w.exits("uninstall", Uninstall);
    w.exits("told", DoNotRestart);
    w.ends("ok", Outcome::Ok);
    assert_eq!(w.failures(), []);
    assert_eq!(w.view("missing").state, State::Waiting);
    assert_eq!(
        w.view("bounce").next_start.map(|at| at.since_start()),
        Some(secs(1))
    );
    assert!(!w.is_there("uninstall"));
    assert_eq!(
        (w.view("told").state, w.view("ok").state),
        (State::Done, State::Done)
    );
}

#[test]
fn backoff_that_makes_no_sense_is_refused() {
    let curve = |first, max| Backoff::exponential(secs(first), secs(max));
    let refused = [
        (curve(2, 1), "max"),
        (curve(1, 2).factor(0.9), "factor"),
        (curve(1, 2).factor(f64::NAN), "factor"),
        (curve(1, 2).jitter(-0.1), "jitter"),
        (curve(1, 2).jitter(1.1), "jitter"),
        (curve(1, 2).jitter(f64::NAN), "jitter"),
    ];
    for (backoff, word) in refused {
        let error = backoff.check("panic_backoff").expect_err("it is refused");
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(
            text.contains("panic_backoff") && text.contains(word),
            "{text}"
        );
    }
    let edges = curve(2, 2).factor(1.0);
    for backoff in [Backoff::none(), edges.jitter(0.0), edges.jitter(1.0)] {
        assert!(backoff.check("backoff").is_ok());
    }
}

#[test]
fn random_above_one_half_makes_a_delay_longer() {
    let backoff = Backoff::fixed(secs(4)).jitter(0.5);
    assert_eq!(backoff.delay(0, 0.5), secs(4));
    assert_eq!(backoff.delay(0, 0.75), secs(5));
    assert_eq!(backoff.delay(0, 0.0), secs(2));
}

/// The first outputs of the reference implementation of splitmix64 for this seed.
#[test]
fn random_numbers_are_those_of_splitmix64() {
    let reference: [u64; 5] = [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ];
    let mut random = Random::new(1_234_567);
    for number in reference {
        let expected = (number >> 11) as f64 / (1u64 << 53) as f64;
        assert_eq!(random.next(), expected);
    }
}
