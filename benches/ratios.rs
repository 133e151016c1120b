//! The targets that compare with bare threads and channels: workloads and their limits in turns, in
//! one process, and the median of the rounds' ratios.
//!
//! `cargo bench --bench ratios [-- NAME..]` prints one line per figure; with
//! `BACKSTAY_BENCH_STRICT=1` a missed target fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod load;

use std::process::ExitCode;

use load::flaky::{Flaky, How};
use load::pairs::Pairs;
use load::rounds::{Rounds, Verdicts};
use load::{bare, crowd, growth, tree};

const ROUNDS: usize = 15;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let mut verdicts = Verdicts::default();
    if wants("w1") {
        w1(&mut verdicts);
    }
    if wants("w1e") {
        w1e(&mut verdicts);
    }
    if wants("w2") {
        w2(&verdicts);
    }
    if wants("w4") {
        w4(&mut verdicts);
    }
    if wants("w6") {
        w6(&mut verdicts);
    }
    if wants("growth") {
        growth::compare(&mut verdicts, &[10, 100, 1_000, 10_000]);
    }
    verdicts.exit_code()
}

fn w1(verdicts: &mut Verdicts) {
    const N: u64 = 5_000;
    let (flaky, counted) = (Flaky::new(How::Panic), Flaky::counted(How::Panic));
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.add_time("bare", bare::panics(N), N);
        rounds.add_time("w1", flaky.round(N), N);
        rounds.add_time("counted", counted.round(N), N);
        rounds.add_time("trip", bare::round_trips(N), N);
    }
    let (own, limit) = (rounds.median("w1"), rounds.median("bare"));
    verdicts.at_most(
        "W1 restart after a panic, to panic + catch_unwind + trace",
        &format!("{own:.2} us to {limit:.2} us"),
        rounds.ratio("w1", "bare"),
        2.0,
    );
    verdicts.say(
        "  under a limit, to the same",
        &format!(
            "{:.2} us ({:.2})",
            rounds.median("counted"),
            rounds.ratio("counted", "bare")
        ),
    );
    verdicts.say(
        "  a bare round trip beside it",
        &format!("{:.2} us", rounds.median("trip")),
    );
}

fn w1e(verdicts: &mut Verdicts) {
    const N: u64 = 10_000;
    let (flaky, counted) = (Flaky::new(How::Error), Flaky::counted(How::Error));
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.add_time("bare", bare::round_trips(N), N);
        rounds.add_time("w1e", flaky.round(N), N);
        rounds.add_time("counted", counted.round(N), N);
    }
    let (own, limit) = (rounds.median("w1e"), rounds.median("bare"));
    verdicts.at_most(
        "W1e restart after an error, to a round trip through select!",
        &format!("{own:.2} us to {limit:.2} us"),
        rounds.ratio("w1e", "bare"),
        1.1,
    );
    verdicts.at_most(
        "W1e under a limit, to the same",
        &format!("{:.2} us to {limit:.2} us", rounds.median("counted")),
        rounds.ratio("counted", "bare"),
        1.1,
    );
}

fn w2(verdicts: &Verdicts) {
    const N: u64 = 100_000;
    let mut rounds = Rounds::default();
    for _ in 0..5 {
        let took = crowd::panics(1_000, N);
        rounds.add("rate", N as f64 / took.time.as_secs_f64());
        rounds.add_time("cpu", took.cpu, N);
    }
    let (rate, cpu) = (rounds.median("rate"), rounds.median("cpu"));
    verdicts.say(
        "W2 1,000 services, 100,000 panics",
        &format!("{rate:.0} restarts per second, {cpu:.1} us CPU each"),
    );
}

fn w4(verdicts: &mut Verdicts) {
    const N: u64 = 2_000;
    let pairs = Pairs::new(0);
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.add_time("bare1", bare::spawn_joins(N, 1), N);
        rounds.add_time("w4-1", pairs.round(N, 1), N);
        rounds.add_time("w4-4", pairs.round(N, 4), N);
        rounds.add_time("bare4", bare::spawn_joins(N, 4), N);
    }
    let (one, four) = (rounds.median("w4-1"), rounds.median("w4-4"));
    verdicts.at_most(
        "W4 add, remove and wait, 1 client, to spawn + join",
        &format!("{one:.2} us to {:.2} us", rounds.median("bare1")),
        rounds.ratio("w4-1", "bare1"),
        1.5,
    );
    verdicts.at_most(
        "W4 4 clients, to 1 client",
        &format!("{four:.2} us to {one:.2} us"),
        rounds.ratio("w4-4", "w4-1"),
        1.0,
    );
    verdicts.say(
        "  spawn + join by 4 clients beside it",
        &format!("{:.2} us", rounds.median("bare4")),
    );
}

fn w6(verdicts: &mut Verdicts) {
    let n = tree::SUPERVISORS;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let begun = std::time::Instant::now();
        let idle = bare::Idle::start(n);
        rounds.add_time("spawn", begun.elapsed(), 1_000);
        idle.stop();
        rounds.add_time("join", bare::spawn_joins(n as u64, 1), 1_000);
        let (start, stop) = tree::start_and_stop();
        rounds.add_time("start", start, 1_000);
        rounds.add_time("stop", stop, 1_000);
    }
    verdicts.at_most(
        "W6 start of 1,111 supervisors, to spawns",
        &format!(
            "{:.1} ms to {:.1} ms",
            rounds.median("start"),
            rounds.median("spawn")
        ),
        rounds.ratio("start", "spawn"),
        1.6,
    );
    verdicts.at_most(
        "W6 stop of 1,111 supervisors, to spawn + join",
        &format!(
            "{:.1} ms to {:.1} ms",
            rounds.median("stop"),
            rounds.median("join")
        ),
        rounds.ratio("stop", "join"),
        2.0,
    );
}
