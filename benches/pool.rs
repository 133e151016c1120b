//! What a worker pool costs: empty jobs through a pool, and the same closures through a bare
//! crossbeam channel to as many bare threads, in turns in one process. The figure is the median of the
//! rounds' ratios, so more than 1 is faster than the channel.
//!
//! `cargo bench --bench pool [-- NAME..]` prints one line per figure; with
//! `BACKSTAY_BENCH_STRICT=1` a missed target fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod load;

use std::process::ExitCode;

use load::jobs::{self, Way};
use load::rounds::{Rounds, Verdicts};

const ROUNDS: usize = 15;
const N: u64 = 200_000;

/// Of the throughput of a bare channel.
const TARGET: f64 = 0.8;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let mut verdicts = Verdicts::default();
    for workers in [1, 2, 4] {
        if wants(&format!("empty-{workers}")) {
            empty(&mut verdicts, workers, Way::Empty, 1_000);
        }
    }
    if wants("small") {
        empty(&mut verdicts, 2, Way::Empty, 16);
    }
    if wants("boxed") {
        empty(&mut verdicts, 2, Way::Carry, 1_000);
    }
    if wants("submit") {
        submit(&verdicts);
    }
    verdicts.exit_code()
}

fn empty(verdicts: &mut Verdicts, workers: usize, way: Way, capacity: usize) {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.add_time("bare", jobs::through_channel(N, workers, way, capacity), N);
        rounds.add_time("pool", jobs::through_pool(N, workers, way, capacity), N);
    }
    verdicts.at_least(
        &format!("pool, {way}, {workers} workers, room for {capacity}, to a channel"),
        &format!(
            "{:.3} us to {:.3} us each",
            rounds.median("pool"),
            rounds.median("bare")
        ),
        rounds.ratio("bare", "pool"),
        TARGET,
    );
}

fn submit(verdicts: &Verdicts) {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.add_time("submit", jobs::round_trips(N / 20), N / 20);
    }
    verdicts.say(
        "pool, submit and wait, one at a time",
        &format!("{:.2} us", rounds.median("submit")),
    );
}
