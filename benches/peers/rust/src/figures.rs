//! Figures: how they are printed, and what the kernel counts for them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

/// How long W3 waits until everybody who has begun waits.
const SETTLE: Duration = Duration::from_millis(500);

/// How long W5 stays idle for whoever watches; it is killed before.
const IDLE_MAX: Duration = Duration::from_secs(300);

pub(crate) fn figure(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit}");
}

/// The time each of `n` took, in microseconds.
pub(crate) fn figure_each(name: &str, time: Duration, n: u64) {
    figure(name, time.as_secs_f64() * 1e6 / n as f64, "us");
}

/// W3. `start` returns when all services run, `stop` when all have ended.
pub fn time_services<T>(services: usize, start: impl FnOnce() -> T, stop: impl FnOnce(T)) {
    let n = services as u64;
    let before = resident();
    let begun = Instant::now();
    let started = start();
    figure_each("w3_start", begun.elapsed(), n);
    thread::sleep(SETTLE);
    let bytes = resident().saturating_sub(before) as f64 / n as f64;
    figure("w3_bytes", bytes, "bytes");
    let begun = Instant::now();
    stop(started);
    figure_each("w3_stop", begun.elapsed(), n);
}

/// W5. Prints who is to be watched, and stays.
pub fn stay_idle() {
    figure("w5_pid", f64::from(std::process::id()), "id");
    thread::sleep(IDLE_MAX);
}

/// W6. `start` returns when all supervisors run, `stop` when all have ended.
pub fn time_tree<T>(start: impl FnOnce() -> T, stop: impl FnOnce(T)) {
    let begun = Instant::now();
    let started = start();
    figure("w6_start", begun.elapsed().as_secs_f64() * 1e3, "ms");
    let begun = Instant::now();
    stop(started);
    figure("w6_stop", begun.elapsed().as_secs_f64() * 1e3, "ms");
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    pages.and_then(|p| p.parse::<u64>().ok()).unwrap_or(0) * PAGE
}

/// User and system time of this process; the kernel counts ticks of 10 ms.
pub(crate) fn cpu_time() -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may have anything in it.
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return Duration::ZERO;
    };
    let ticks = fields.split_whitespace().skip(11).take(2);
    TICK * ticks.filter_map(|n| n.parse::<u32>().ok()).sum()
}
