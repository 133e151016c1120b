//! W3, W5, growth, graphs and the soak run: all but growth in a process of its own, which is this program
//! again.
//!
//! `cargo bench --bench scale [-- NAME..]` prints one line per figure; with
//! `BACKSTAY_BENCH_STRICT=1` a missed target fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod load;

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use backstay::{StopOrder, Supervisor};

use load::chains::Chains;
use load::flaky::{Flaky, How};
use load::rounds::{Rounds, Verdicts};
use load::{PATIENCE, bare, crowd, growth, procfs};

/// Says which case a child process is to run.
const CASE: &str = "BACKSTAY_BENCH_CASE";

const SERVICES: usize = 10_000;
const ROUNDS: usize = 5;
const BOUNCES: usize = 201;

fn main() -> ExitCode {
    if let Ok(case) = std::env::var(CASE) {
        run_case(&case);
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let mut verdicts = Verdicts::default();
    if wants("w3") {
        w3(&mut verdicts);
    }
    if wants("full") {
        full(&mut verdicts);
    }
    if wants("growth") {
        // As many as there is room for.
        growth::compare(&mut verdicts, &[10, 16_000]);
    }
    if wants("graph") {
        graph(&mut verdicts);
    }
    if wants("w5") {
        w5(&mut verdicts);
    }
    if wants("soak") {
        soak(&mut verdicts);
    }
    verdicts.exit_code()
}

/// Runs a case in a fresh process; the numbers and the text it prints, one line each.
fn child(case: &str) -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap())
        .env(CASE, case)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    if !output.status.success() {
        println!("{case}: the process ended with {}", output.status);
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().map(str::to_owned).collect()
}

fn number(lines: &[String], line: usize) -> f64 {
    let text = lines.get(line).map(String::as_str).unwrap_or_default();
    text.parse().unwrap_or(f64::NAN)
}

fn run_case(case: &str) {
    match case {
        "bare" => bare_threads(),
        "services" => services(StopOrder::Reverse),
        "services-parallel" => services(StopOrder::Parallel),
        "chains" => chains(SERVICES, 0),
        "one-chain" => chains(10, SERVICES - 10),
        "full" => fill(),
        "idle" => stay_idle(),
        "soak" => restart_for_long(),
        _ => panic!("no case {case:?}"),
    }
}

fn w3(verdicts: &mut Verdicts) {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        for case in ["bare", "services", "services-parallel"] {
            let lines = child(case);
            for (i, what) in ["start", "stop", "bytes", "spawn+join"].iter().enumerate() {
                rounds.add(&format!("{case} {what}"), number(&lines, i));
            }
        }
    }
    verdicts.at_most(
        "W3 start of 10,000 idle services, to spawns",
        &format!(
            "{:.0} ms to {:.0} ms",
            rounds.median("services start"),
            rounds.median("bare start")
        ),
        rounds.ratio("services start", "bare start"),
        1.25,
    );
    for (case, order) in [("services", "reverse"), ("services-parallel", "parallel")] {
        verdicts.at_most(
            &format!("W3 stop of 10,000 idle services ({order}), to spawn + join"),
            &format!(
                "{:.0} ms to {:.0} ms (bare signal and joins: {:.0} ms)",
                rounds.median(&format!("{case} stop")),
                rounds.median("bare spawn+join"),
                rounds.median("bare stop"),
            ),
            rounds.ratio(&format!("{case} stop"), "bare spawn+join"),
            1.25,
        );
    }
    verdicts.at_most(
        "W3 resident memory of a service, to that of a thread",
        &format!(
            "{:.0} bytes to {:.0} bytes",
            rounds.median("services bytes"),
            rounds.median("bare bytes")
        ),
        rounds.ratio("services bytes", "bare bytes"),
        1.25,
    );
}

fn bare_threads() {
    let before = procfs::resident();
    let begun = Instant::now();
    let idle = bare::Idle::start(SERVICES);
    let started = begun.elapsed();
    settle();
    let bytes = procfs::resident() - before;
    let begun = Instant::now();
    idle.stop();
    println!("{}", started.as_secs_f64() * 1e3);
    println!("{}", begun.elapsed().as_secs_f64() * 1e3);
    println!("{}", bytes as f64 / SERVICES as f64);
    let pairs = bare::spawn_joins(SERVICES as u64, 1);
    println!("{}", pairs.as_secs_f64() * 1e3);
}

fn services(order: StopOrder) {
    let supervisor = Supervisor::builder("many")
        .strategy(load::strategy())
        .stop_order(order)
        .build()
        .unwrap();
    let before = procfs::resident();
    let muster = crowd::add_idle(&supervisor, SERVICES);
    let begun = Instant::now();
    supervisor.start().unwrap();
    muster.wait();
    let started = begun.elapsed();
    settle();
    let bytes = procfs::resident() - before;
    let begun = Instant::now();
    assert!(supervisor.stop().is_empty());
    println!("{}", started.as_secs_f64() * 1e3);
    println!("{}", begun.elapsed().as_secs_f64() * 1e3);
    println!("{}", bytes as f64 / SERVICES as f64);
}

/// The same services with edges and without; and what a bounce costs among many services and beside as
/// many bare threads, because waking one thread costs the kernel more the more of them sleep.
fn graph(verdicts: &mut Verdicts) {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        for case in ["services", "chains", "one-chain"] {
            let lines = child(case);
            for (i, what) in ["start", "stop", "bounce"].iter().enumerate() {
                rounds.add(&format!("{case} {what}"), number(&lines, i));
            }
        }
    }
    for what in ["start", "stop"] {
        verdicts.at_most(
            &format!("graph: {what} of 10,000 services in chains of ten, to that without edges"),
            &format!(
                "{:.0} ms to {:.0} ms",
                rounds.median(&format!("chains {what}")),
                rounds.median(&format!("services {what}"))
            ),
            rounds.ratio(&format!("chains {what}"), &format!("services {what}")),
            1.3,
        );
    }
    verdicts.at_most(
        "graph: bounce of a chain of ten among 10,000 services, to the same beside bare threads",
        &format!(
            "{:.0} us to {:.0} us",
            rounds.median("chains bounce"),
            rounds.median("one-chain bounce")
        ),
        rounds.ratio("chains bounce", "one-chain bounce"),
        1.3,
    );
}

fn chains(services: usize, beside: usize) {
    let parked = bare::Parked::start(beside);
    let (chains, started) = Chains::start(services);
    settle();
    let mut bounces: Vec<Duration> = (0..BOUNCES).map(|_| chains.bounce()).collect();
    bounces.sort();
    let stopped = chains.stop();
    println!("{}", started.as_secs_f64() * 1e3);
    println!("{}", stopped.as_secs_f64() * 1e3);
    println!("{}", bounces[BOUNCES / 2].as_secs_f64() * 1e6);
    parked.stop();
}

/// Until everybody who has begun waits.
fn settle() {
    std::thread::sleep(Duration::from_secs(1));
}

fn full(verdicts: &mut Verdicts) {
    let lines = child("full");
    let refusal = lines.get(1).map(String::as_str).unwrap_or("an abort");
    verdicts.at_least(
        "W3 services until the next add is refused",
        &format!("{} ({refusal})", number(&lines, 0)),
        if lines.len() == 3 {
            number(&lines, 0)
        } else {
            0.0
        },
        16_000.0,
    );
}

fn fill() {
    let supervisor = Supervisor::builder("full")
        .max_services(30_000)
        .stop_order(StopOrder::Parallel)
        .build()
        .unwrap();
    supervisor.start().unwrap();
    let refusal = (0..30_000).find_map(|i| supervisor.add(format!("s{i}"), crowd::idle).err());
    supervisor.wait_ready(PATIENCE).unwrap();
    let running = supervisor.report().services().len();
    println!("{running}");
    println!("{}", refusal.map_or("none".to_owned(), |e| e.to_string()));
    assert!(supervisor.stop().is_empty());
    println!("stopped");
}

fn w5(verdicts: &mut Verdicts) {
    let lines = child("idle");
    verdicts.at_most(
        "W5 1,000 idle services, 10 s: wake-ups of all threads",
        &format!("{}", number(&lines, 0)),
        number(&lines, 0),
        0.0,
    );
    verdicts.at_most(
        "W5 their CPU time",
        &format!(
            "{} us, the process {} ms",
            number(&lines, 1),
            number(&lines, 2)
        ),
        number(&lines, 1),
        0.0,
    );
}

fn stay_idle() {
    let supervisor = Supervisor::new("idle");
    let muster = crowd::add_idle(&supervisor, 1_000);
    supervisor.start().unwrap();
    muster.wait();
    settle();
    let before = procfs::others();
    let process = procfs::cpu_time();
    std::thread::sleep(Duration::from_secs(10));
    let process = procfs::cpu_time() - process;
    let after = procfs::others();
    println!("{}", after.switches - before.switches);
    println!("{}", (after.cpu - before.cpu).as_micros());
    println!("{}", process.as_millis());
    supervisor.stop();
}

fn soak(verdicts: &mut Verdicts) {
    let lines = child("soak");
    let names = ["threads", "descriptors", "maps"];
    verdicts.at_most(
        "soak: resident memory after 1,000,000 restarts of four services each, to that after 10,000",
        &format!(
            "{:.0} KiB to {:.0} KiB",
            number(&lines, 4),
            number(&lines, 0)
        ),
        number(&lines, 4) / number(&lines, 0),
        1.02,
    );
    for (i, name) in names.iter().enumerate() {
        let (first, last) = (number(&lines, i + 1), number(&lines, i + 5));
        verdicts.at_most(
            &format!("soak: more {name}"),
            &format!("{last} to {first}"),
            last - first,
            0.0,
        );
    }
}

fn restart_for_long() {
    // By itself, and by its supervisor; without anything of the user's in a failure, and with an error.
    let flaky = [
        Flaky::new(How::Panic),
        Flaky::new(How::Error),
        Flaky::counted(How::Panic),
        Flaky::counted(How::Error),
    ];
    let all = |n: u64| {
        for flaky in &flaky {
            flaky.round(n);
        }
    };
    let count = || {
        println!("{}", procfs::resident() / 1024);
        println!("{}", procfs::threads());
        println!("{}", procfs::descriptors());
        println!("{}", procfs::maps());
    };
    all(10_000);
    count();
    all(990_000);
    count();
}
