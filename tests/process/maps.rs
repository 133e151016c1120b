//! The kernel's limit of memory maps nearly used up. Beyond it, a new thread would abort the
//! process; so a supervisor must refuse before that.

use std::fs::read_to_string;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstay::crossbeam_channel::{Receiver, Sender, bounded, select};
use backstay::{
    Backoff, Context, ErrorKind, FailureKind, Limit, MAPS_PER_THREAD, MAPS_RESERVE, ServiceResult,
    Spec, State, Supervisor,
};

use crate::common_process::{DEADLINE, Process, again, is_child, poll, say};

/// For how many threads there is room when the maps are filled.
const ROOM: usize = 24;

/// A limit so high that filling it takes too much memory.
const MAX_MAPS_TO_FILL: usize = 300_000;

#[test]
fn add_is_refused_before_the_maps_are_used_up() {
    const NAME: &str = "process::maps::add_is_refused_before_the_maps_are_used_up";
    if !is_child(NAME) {
        return with_many_maps(NAME);
    }
    let (ask, asked) = bounded(0);
    let app = Supervisor::builder("app")
        .limit(Limit::none())
        .build()
        .unwrap();
    app.add("echo", move |ctx: &Context| echo(ctx, &asked))
        .unwrap();
    app.start().unwrap();
    app.wait_ready(DEADLINE).unwrap();
    assert_answers(&ask);
    let Some(filled) = fill_maps() else { return };

    let mut added = Vec::new();
    let refused = loop {
        match app.add(format!("more-{}", added.len()), idle) {
            Ok(id) => added.push(id),
            Err(e) => break e,
        }
        assert!(added.len() <= ROOM, "never refused");
    };
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    let text = refused.to_string();
    assert!(text.contains("vm.max_map_count"), "{text}");
    assert!(!added.is_empty());

    // Nobody has noticed, and a refused one leaves nothing.
    app.wait_ready(DEADLINE).unwrap();
    assert_answers(&ask);
    assert_eq!(app.report().services().len(), 1 + added.len());
    drop(filled);
    // A refusal is remembered for a while, because counting takes long.
    poll("room again", || app.add("later", idle).ok());
    app.wait_ready(DEADLINE).unwrap();
    assert!(app.stop().is_empty());
}

#[test]
fn queued_ones_fail_instead_of_an_abort() {
    const NAME: &str = "process::maps::queued_ones_fail_instead_of_an_abort";
    const QUEUED: usize = 4 * ROOM;
    if !is_child(NAME) {
        return with_many_maps(NAME);
    }
    let app = Supervisor::builder("app")
        .limit(Limit::none())
        .backoff(Backoff::fixed(DEADLINE * 100))
        .build()
        .unwrap();
    let (ask, asked) = bounded(0);
    app.add("echo", move |ctx: &Context| echo(ctx, &asked))
        .unwrap();
    let ids: Vec<_> = (1..QUEUED)
        .map(|n| app.add_spec(Spec::new(format!("s{n}"), idle)).unwrap())
        .collect();
    let Some(filled) = fill_maps() else { return };

    let events = app.subscribe(10 * QUEUED);
    app.start().unwrap();
    let mut started = 0;
    let mut failed = 0;
    while started + failed < QUEUED {
        let event = events.recv_timeout(DEADLINE).expect("an event");
        match event.word() {
            "started" => started += 1,
            "failed" => failed += 1,
            _ => {}
        }
    }
    assert!(failed > 0, "there was room for all");
    assert_answers(&ask);
    let report = app.report();
    assert_eq!(report.state(), State::Running);
    let without_thread = report.iter().filter(|s| s.failures() > 0);
    for service in without_thread {
        assert_eq!(service.state(), State::Backoff);
        let failure = service.last_failure().unwrap();
        assert_eq!(failure.kind(), FailureKind::Spawn);
        assert!(failure.message().contains("vm.max_map_count"), "{failure}");
    }

    drop(filled);
    poll("everybody runs", || {
        ids.iter().for_each(|id| app.start_service(*id).unwrap());
        (RUNNING.load(Ordering::Relaxed) == ids.len()).then_some(())
    });
    app.wait_ready(DEADLINE).unwrap();
    assert!(app.stop().is_empty());
}

/// The test once more, with an allocator that gives each larger block a map of its own. One after
/// the other, because it takes half a gigabyte and more than a second of processor time.
fn with_many_maps(name: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock();
    let mut child = again(name);
    child.env(
        "GLIBC_TUNABLES",
        format!(
            "glibc.malloc.mmap_max={MAX_MAPS_TO_FILL}0:glibc.malloc.mmap_threshold={BLOCK_BYTES}"
        ),
    );
    let ended = Process::start(&mut child).end_within(4 * DEADLINE);
    ended.assert_code(0);
    match ended.lines.iter().find(|line| line.contains(SKIPPED)) {
        Some(line) => say(&format!("{name}: {line}")),
        None => ended.assert_said(FILLED),
    }
}

/// What the child says of [`fill_maps`].
const SKIPPED: &str = "skipped: ";
const FILLED: &str = "the maps are filled";

const BLOCK_BYTES: usize = 16 * 1024;

/// Leaves room for [`ROOM`] threads, until what comes back is dropped. `None`: that can't be done
/// here.
fn fill_maps() -> Option<Vec<Vec<u8>>> {
    let max = read_to_string("/proc/sys/vm/max_map_count").unwrap();
    let max: usize = max.trim().parse().unwrap();
    if max > MAX_MAPS_TO_FILL {
        println!("{SKIPPED}vm.max_map_count is too high to be used up: {max}");
        return None;
    }
    let wanted = max - MAPS_RESERVE - ROOM * MAPS_PER_THREAD;
    let more = wanted - count_maps();
    // Blocks side by side are one map; without every other one they are one map each.
    let blocks: Vec<Vec<u8>> = (0..2 * more)
        .map(|_| Vec::with_capacity(BLOCK_BYTES))
        .collect();
    let filled: Vec<Vec<u8>> = blocks.into_iter().step_by(2).collect();
    let count = count_maps();
    if count < wanted - ROOM {
        println!("{SKIPPED}another allocator: {count} maps, {wanted} wanted");
        return None;
    }
    println!("{FILLED}");
    Some(filled)
}

fn count_maps() -> usize {
    read_to_string("/proc/self/maps").unwrap().lines().count()
}

/// How many are in [`idle`].
static RUNNING: AtomicUsize = AtomicUsize::new(0);

fn idle(ctx: &Context) -> ServiceResult {
    RUNNING.fetch_add(1, Ordering::Relaxed);
    ctx.wait_stop();
    Ok(())
}

fn echo(ctx: &Context, asked: &Receiver<Sender<()>>) -> ServiceResult {
    loop {
        select! {
            recv(asked) -> answer => answer?.send(())?,
            recv(ctx.stop_signal()) -> _ => return Ok(()),
        }
    }
}

fn assert_answers(echo: &Sender<Sender<()>>) {
    let (answer, answered) = bounded(1);
    echo.send_timeout(answer, DEADLINE).unwrap();
    answered.recv_timeout(DEADLINE).unwrap();
}
