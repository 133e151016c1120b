//! Services that provide for each other.

use super::super::graph::linked;
use super::super::harness::{config, secs};
use super::{
    always, by, delayed, grouped, limited, never, on_failure, overlapping, pausing, slow,
    supervisor, under, visit,
};
use crate::machine::message::Config;
use crate::machine::policy::StopOrder;
use crate::machine::strategy::Strategy;

#[test]
fn one_that_provides_for_another() {
    visit(
        config(),
        &[
            linked(delayed(always()), &["k"], &[], &[]),
            linked(on_failure(), &[], &["k"], &[]),
        ],
        5,
        9_000,
    );
}

#[test]
fn one_that_provides_for_another_added_before_it() {
    visit(
        config(),
        &[
            linked(always(), &[], &["k"], &[]),
            linked(always(), &["k"], &[], &[]),
        ],
        5,
        11_000,
    );
}

#[test]
fn one_that_wants_what_another_provides() {
    let merging = Config {
        bounce_delay: secs(1),
        ..config()
    };
    visit(
        merging,
        &[
            linked(overlapping(always()), &["k"], &[], &[]),
            linked(delayed(always()), &[], &[], &["k"]),
        ],
        5,
        9_000,
    );
}

#[test]
fn providers_and_users_under_a_pause() {
    visit(
        under(pausing()),
        &[
            linked(always(), &["k"], &[], &[]),
            linked(always(), &[], &[], &["k"]),
        ],
        5,
        9_000,
    );
}

#[test]
fn chain_of_three() {
    visit(
        config(),
        &[
            linked(always(), &["k"], &[], &[]),
            linked(on_failure(), &["l"], &["k"], &[]),
            linked(never(), &[], &["l"], &[]),
        ],
        4,
        8_000,
    );
}

#[test]
fn chain_of_three_in_parallel() {
    let parallel = Config {
        stop_order: StopOrder::Parallel,
        ..config()
    };
    visit(
        parallel,
        &[
            linked(always(), &["k"], &[], &[]),
            linked(always(), &["l"], &["k"], &[]),
            linked(delayed(always()), &[], &["l"], &["k"]),
        ],
        4,
        8_000,
    );
}

#[test]
fn diamond() {
    visit(
        config(),
        &[
            linked(always(), &["t"], &[], &[]),
            linked(always(), &["l"], &["t"], &[]),
            linked(always(), &["r"], &["t"], &[]),
            linked(always(), &[], &["l", "r"], &[]),
        ],
        4,
        9_000,
    );
}

#[test]
fn keys_within_a_strategy() {
    visit(
        by(Strategy::OneForAll),
        &[
            linked(delayed(always()), &["k"], &[], &[]),
            linked(always(), &[], &[], &["k"]),
            on_failure(),
        ],
        4,
        9_000,
    );
}

#[test]
fn keys_across_groups() {
    visit(
        config(),
        &[
            grouped(linked(always(), &["k"], &[], &[])),
            grouped(always()),
            linked(delayed(always()), &[], &["k"], &[]),
        ],
        4,
        9_000,
    );
}

#[test]
fn one_that_is_late_and_already_provides_under_a_pause() {
    let late = linked(slow(always()), &["k", "l"], &[], &[]);
    let user = linked(always(), &[], &["k"], &[]);
    visit(under(pausing()), &[late.clone(), user.clone()], 4, 5_500);
    visit(config(), &[limited(late, pausing()), user], 4, 5_500);
}

#[test]
fn supervisor_that_provides() {
    visit(
        config(),
        &[
            linked(supervisor(), &["k"], &[], &[]),
            linked(always(), &[], &["k"], &[]),
        ],
        4,
        7_000,
    );
}

#[test]
fn supervisor_that_uses() {
    visit(
        config(),
        &[
            linked(always(), &["k"], &[], &[]),
            linked(overlapping(supervisor()), &["l"], &["k"], &[]),
        ],
        4,
        6_000,
    );
}

#[test]
fn chain_of_three_in_parallel_under_a_hard_deadline() {
    visit(
        Config {
            stop_order: StopOrder::Parallel,
            stop_timeout: Some(secs(2)),
            ..config()
        },
        &[
            linked(always(), &["k"], &[], &[]),
            linked(overlapping(always()), &["l"], &["k"], &[]),
            linked(always(), &[], &["l"], &[]),
        ],
        4,
        8_500,
    );
}

#[test]
fn one_that_restarts_never_and_provides() {
    visit(
        config(),
        &[
            linked(never(), &["k"], &[], &[]),
            linked(on_failure(), &[], &[], &["k"]),
        ],
        4,
        6_000,
    );
}

#[test]
fn keys_and_overlap_under_a_pause_that_merges_changes() {
    visit(
        Config {
            bounce_delay: secs(1),
            ..under(pausing())
        },
        &[
            linked(overlapping(always()), &["k"], &[], &[]),
            linked(overlapping(always()), &[], &["k"], &[]),
        ],
        4,
        4_500,
    );
}

#[test]
fn group_of_a_user_whose_provider_is_done() {
    visit(
        config(),
        &[
            linked(on_failure(), &["k"], &[], &[]),
            grouped(linked(always(), &[], &["k"], &[])),
            grouped(on_failure()),
        ],
        3,
        4_000,
    );
}
