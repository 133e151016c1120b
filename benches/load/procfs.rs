//! What the kernel counts.

use std::fs;
use std::time::Duration;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Resident memory of this process, in bytes.
pub fn resident() -> u64 {
    const PAGE: u64 = 4096;
    let statm = read("/proc/self/statm");
    let pages = statm.split_whitespace().nth(1);
    pages.and_then(|p| p.parse::<u64>().ok()).unwrap_or(0) * PAGE
}

pub fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

pub fn maps() -> usize {
    read("/proc/self/maps").lines().count()
}

/// What all threads but this one have done.
pub fn others() -> Others {
    let own = fs::read_link("/proc/thread-self").unwrap_or_default();
    let mut others = Others::default();
    for task in fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten()
    {
        if own.file_name() == Some(&task.file_name()) {
            continue;
        }
        let dir = task.path().display().to_string();
        let field = |text: &str, name: &str| -> u64 {
            text.lines()
                .find_map(|l| l.strip_prefix(name))
                .and_then(|rest| rest.trim().parse().ok())
                .unwrap_or(0)
        };
        let status = read(&format!("{dir}/status"));
        others.switches += field(&status, "voluntary_ctxt_switches:");
        let stat = read(&format!("{dir}/schedstat"));
        let nanos = stat.split_whitespace().next().and_then(|n| n.parse().ok());
        others.cpu += Duration::from_nanos(nanos.unwrap_or(0));
    }
    others
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Others {
    /// Voluntary context switches: each is a wait that has ended.
    pub switches: u64,
    pub cpu: Duration,
}

/// User and system time of this process, in clock ticks of 10 ms.
pub fn cpu_time() -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = read("/proc/self/stat");
    // The name, in parentheses, may have anything in it.
    let Some((_, fields)) = stat.rsplit_once(')') else {
        return Duration::ZERO;
    };
    let ticks: u32 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|n| n.parse::<u32>().ok())
        .sum();
    TICK * ticks
}
