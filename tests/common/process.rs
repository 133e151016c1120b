//! The process as seen from inside, and tests that need a process of their own.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{PATIENCE, ms, wait_for};

/// Set in a child: what it is there for.
const ROLE: &str = "BACKSTAY_TEST_ROLE";

/// Written by a child whose test went through; a filter that matches nothing succeeds, too.
const WENT_THROUGH: &str = "the child went through";

/// A child that needs longer has failed and is killed.
const CHILD_TIME_MAX: Duration = Duration::from_secs(120);

/// How often a round is made before what the process holds is looked at: lazily made things
/// (locks, caches, arenas) are there then.
const WARM_UP_ROUNDS: u32 = 3;

/// Maps come and go by two or three with the allocator. What leaks does so in each round, of which
/// there must be more.
const MAPS_SLACK: usize = 4;

/// The heap grows a little with the order of things; a leaked stack or buffer is more, ten times.
const MAPPED_BYTES_SLACK: usize = 4 << 20;

/// The threads of this process whose names begin like this. A name is at most 15 bytes long.
pub(crate) fn threads_named(prefix: &str) -> usize {
    thread_names()
        .iter()
        .filter(|name| name.starts_with(prefix))
        .count()
}

pub(crate) fn thread_names() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // One that ends in between has no name any more.
    tasks
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

pub(crate) fn maps() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .count()
}

/// How many bytes the maps are in all: neighbours are merged into one, which doesn't count them.
pub(crate) fn mapped_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix("VmSize:"))
        .unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib * 1024
}

/// glibc gives back the stack of a thread that has ended when the next one ends.
fn sweep_stacks() {
    std::thread::spawn(|| {}).join().unwrap();
}

/// What this process is there for, if it is the child of a test.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// How a child ended and what it wrote.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs this test binary again, with that test only, named as the harness does
/// (`module::function`).
#[track_caller]
pub(crate) fn child(test: &str, role: &str) -> Ended {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env_remove("RUST_BACKTRACE")
        // Stacks and arenas that glibc keeps for later would look like leaked maps.
        .env("GLIBC_TUNABLES", "glibc.pthread.stack_cache_size=0")
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = reader(child.stdout.take().unwrap());
    let stderr = reader(child.stderr.take().unwrap());
    let until = Instant::now() + CHILD_TIME_MAX;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            break child.wait().unwrap();
        }
        std::thread::sleep(ms(2));
    };
    Ended {
        status,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn reader(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Runs `body` in a process of its own.
#[track_caller]
pub(crate) fn in_own_process(test: &str, body: impl FnOnce()) {
    if role().is_some() {
        body();
        println!("{WENT_THROUGH}");
        return;
    }
    let ended = child(test, "body");
    assert!(
        ended.status.success() && ended.stdout.contains(WENT_THROUGH),
        "{}\n{}\n{}",
        ended.status,
        ended.stdout,
        ended.stderr
    );
}

/// Makes rounds in a process of its own; afterwards it has the threads, descriptors and maps that
/// it had before.
#[track_caller]
pub(crate) fn leaves_nothing(test: &str, rounds: u32, round: impl Fn()) {
    assert!(
        rounds as usize > MAPS_SLACK,
        "{rounds} rounds can't show a map that leaks in each"
    );
    in_own_process(test, || {
        let (threads_before, descriptors_before) = (threads(), descriptors());
        for _ in 0..WARM_UP_ROUNDS {
            round();
        }
        wait_threads(threads_before);
        sweep_stacks();
        let (maps_before, bytes_before) = (maps(), mapped_bytes());
        for _ in 0..rounds {
            round();
        }
        wait_threads(threads_before);
        assert_eq!(descriptors(), descriptors_before, "descriptors");
        // The kernel takes a moment longer for a stack than for its thread.
        wait_for("the maps and the memory are gone", || {
            sweep_stacks();
            maps() <= maps_before + MAPS_SLACK
                && mapped_bytes() <= bytes_before + MAPPED_BYTES_SLACK
        });
    });
}

/// Waits until the process has no more than that many threads.
#[track_caller]
pub(crate) fn wait_threads(n: usize) {
    let begun = Instant::now();
    while threads() > n {
        assert!(
            begun.elapsed() < PATIENCE,
            "more than {n} threads: {:?}",
            thread_names()
        );
        std::thread::sleep(ms(1));
    }
}

/// Waits until no thread of that prefix is left.
#[track_caller]
pub(crate) fn wait_threads_gone(prefix: &str) {
    let begun = Instant::now();
    while threads_named(prefix) > 0 {
        assert!(begun.elapsed() < PATIENCE, "threads: {:?}", thread_names());
        std::thread::sleep(ms(1));
    }
}
