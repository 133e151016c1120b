//! Every state of small machines: all admissible inputs in all states up to a depth, beside
//! those that come too late, twice or for a stranger, which must change nothing. The inputs are
//! every outcome with and without values dropped and threads left behind, the end of abandoned
//! threads, readiness, values provided, failures below, the four requests for every service, stops with
//! and without a deadline, the next run, and time: to the next deadline, but a second at most.
//!
//! States are the same if what they decide next is (`key`); `monitor` follows what runs and what
//! was said of it, `invariants` are the rules, `keys` those of what is provided, and `rest` that it
//! comes to rest. In all some 448,000 states and 2,742,000 steps in 32 tests, strategies, groups and
//! readiness among them, and in `linked` chains and a diamond: about 90 s of processor time without
//! optimization.

mod invariants;
mod key;
pub(super) mod keys;
mod linked;
mod monitor;
mod rest;
mod search;

use std::time::Duration;

use self::search::search;
use super::harness::{config, policy, secs};
use crate::machine::message::{Config, Policy};
use crate::machine::policy::{AutoShutdown, Backoff, Exceeded, Limit, Restart, StopOrder};
use crate::machine::strategy::Strategy;

const PAUSE: Exceeded = Exceeded::Pause {
    time: secs(2),
    jitter: 0.0,
};

/// Visits all states up to `depth`; fewer than `at_least` are a search that lost its inputs.
fn visit(config: Config, policies: &[Policy], depth: usize, at_least: usize) {
    let named = policies.iter().zip(["a", "b", "c", "d"]);
    let named: Vec<_> = named
        .map(|(p, name)| Policy {
            name: name.into(),
            ..p.clone()
        })
        .collect();
    let extent = search(config, &named, depth);
    assert!(extent.states >= at_least, "{extent:?}");
}

fn always() -> Policy {
    Policy {
        stop_timeout: Some(secs(1)),
        ..policy()
    }
}

fn on_failure() -> Policy {
    Policy {
        restart: Restart::OnFailure,
        ..always()
    }
}

fn never() -> Policy {
    Policy {
        restart: Restart::Never,
        ..always()
    }
}

fn supervisor() -> Policy {
    Policy {
        stop_timeout: None,
        ..policy()
    }
}

/// It must say that it is ready, within a second.
fn slow(policy: Policy) -> Policy {
    Policy {
        ready_timeout: Some(secs(1)),
        ..policy
    }
}

fn overlapping(policy: Policy) -> Policy {
    Policy {
        overlap_max: 1,
        ..policy
    }
}

fn growing(policy: Policy) -> Policy {
    let backoff = Backoff::exponential(secs(1), secs(2));
    Policy {
        backoff: backoff.jitter(0.0).reset_after(secs(2)),
        ..policy
    }
}

fn delayed(policy: Policy) -> Policy {
    Policy {
        backoff: Backoff::fixed(secs(2)),
        ..policy
    }
}

fn limited(policy: Policy, limit: Limit) -> Policy {
    Policy {
        limit: Some(Box::new(limit)),
        ..policy
    }
}

fn significant(policy: Policy) -> Policy {
    Policy {
        significant: true,
        ..policy
    }
}

fn pausing() -> Limit {
    Limit::decay(1.0, secs(1)).then(PAUSE)
}

fn under(limit: Limit) -> Config {
    Config { limit, ..config() }
}

#[test]
fn one_service_that_must_say_it_is_ready() {
    visit(config(), &[growing(slow(always()))], 8, 3_000);
    visit(config(), &[slow(never())], 9, 350);
}

#[test]
fn one_service_under_a_pause() {
    visit(under(pausing()), &[slow(always())], 8, 9_000);
}

#[test]
fn one_service_under_a_window() {
    visit(
        under(Limit::window(1, secs(2))),
        &[slow(on_failure())],
        8,
        4_500,
    );
}

#[test]
fn one_service_with_a_limit_of_its_own() {
    visit(config(), &[limited(always(), pausing())], 7, 4_000);
    let budget = Limit::budget(1, 1).then(Exceeded::StopService);
    visit(
        config(),
        &[limited(growing(slow(always())), budget)],
        7,
        4_000,
    );
}

#[test]
fn one_service_that_overlaps() {
    visit(config(), &[delayed(slow(overlapping(always())))], 8, 3_000);
}

#[test]
fn one_supervisor() {
    visit(config(), &[supervisor()], 7, 3_000);
    visit(config(), &[overlapping(supervisor())], 6, 7_000);
}

#[test]
fn two_services_under_a_pause() {
    visit(
        under(pausing()),
        &[slow(always()), delayed(on_failure())],
        4,
        8_000,
    );
}

#[test]
fn two_services_under_a_window() {
    visit(
        under(Limit::window(1, secs(2))),
        &[slow(always()), never()],
        4,
        5_000,
    );
}

#[test]
fn two_services_under_a_hard_deadline() {
    let capped = Config {
        stop_timeout: Some(secs(1)),
        ..config()
    };
    visit(capped, &[delayed(slow(always())), supervisor()], 4, 8_000);
}

#[test]
fn three_services_of_which_two_are_significant() {
    let auto = Config {
        auto_shutdown: AutoShutdown::AllSignificant,
        ..config()
    };
    visit(
        auto,
        &[
            significant(on_failure()),
            slow(significant(never())),
            always(),
        ],
        4,
        20_000,
    );
}

#[test]
fn three_services_that_stop_in_parallel() {
    let parallel = Config {
        stop_order: StopOrder::Parallel,
        ..under(pausing())
    };
    let hasty = Policy {
        stop_timeout: Some(Duration::ZERO),
        ..always()
    };
    visit(
        parallel,
        &[slow(overlapping(always())), hasty, never()],
        3,
        4_000,
    );
}

/// `strategy` over three services.
fn by(strategy: Strategy) -> Config {
    Config {
        strategy,
        ..config()
    }
}

fn grouped(policy: Policy) -> Policy {
    Policy {
        group: Some("g".into()),
        ..policy
    }
}

#[test]
fn three_services_all_for_one() {
    visit(
        by(Strategy::OneForAll),
        &[slow(always()), on_failure(), never()],
        3,
        6_500,
    );
}

#[test]
fn two_services_all_for_one_under_a_pause() {
    let pausing = Config {
        limit: pausing(),
        ..by(Strategy::OneForAll)
    };
    visit(
        pausing,
        &[delayed(always()), overlapping(on_failure())],
        4,
        5_000,
    );
}

#[test]
fn three_services_all_for_one_in_parallel() {
    let parallel = Config {
        stop_order: StopOrder::Parallel,
        ..by(Strategy::OneForAll)
    };
    visit(
        parallel,
        &[always(), delayed(always()), supervisor()],
        3,
        7_000,
    );
}

#[test]
fn three_services_rest_for_one() {
    visit(
        by(Strategy::RestForOne),
        &[slow(always()), delayed(on_failure()), always()],
        3,
        7_500,
    );
}

#[test]
fn two_services_of_a_group_and_one_beside() {
    visit(
        config(),
        &[
            grouped(slow(always())),
            always(),
            grouped(delayed(always())),
        ],
        3,
        7_000,
    );
}
