//! Observers and loggers that are slow, stuck, or get something that panics. The logger is the process's,
//! so they have a test binary of their own; each test has a tree of a name of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, OnceLock};

use backstay::{
    Context, DISPATCH_QUEUE_MAX, EVENT_FLUSH_MAX, EventKind, Limit, Service, ServiceResult,
    Supervisor,
};
use common::process::in_own_process;
use common::watch::quiet;
use common::{Gate, Recorder, fails, timed, wait_for};
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Kept(Mutex<Vec<(Level, String, String)>>);

static KEPT: Kept = Kept(Mutex::new(Vec::new()));

/// The logger waits for it with each record of the tree of this name.
static HELD: OnceLock<Gate> = OnceLock::new();
const HELD_UP: &str = "held";

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let (target, text) = (record.target().to_owned(), record.args().to_string());
        if let Some(held) = HELD.get().filter(|_| target.starts_with(HELD_UP)) {
            held.wait();
        }
        self.0.lock().unwrap().push((record.level(), target, text));
    }

    fn flush(&self) {}
}

/// From now on warnings and errors are kept.
fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&KEPT).unwrap();
        log::set_max_level(LevelFilter::Warn);
    });
}

/// The texts of what was logged at this path and contains that.
fn logged(target: &str, text: &str) -> Vec<String> {
    let records = KEPT.0.lock().unwrap();
    let found = records
        .iter()
        .filter(|r| r.1 == target && r.2.contains(text));
    found.map(|r| r.2.clone()).collect()
}

/// What the log says that they missed of this tree.
fn told_dropped(root: &str, who: &str) -> u64 {
    let count = |line: String| line.split(' ').next().unwrap().parse::<u64>().unwrap();
    let lines = logged(root, &format!("events were dropped: {who}"));
    lines.into_iter().map(count).sum()
}

/// More failures than events that may wait.
const FAILURES: u64 = DISPATCH_QUEUE_MAX as u64;

/// A tree whose observer waits for the gate at each event and counts them, and whose service fails often.
fn flooded(name: &str, release: &Gate) -> (Supervisor, Arc<AtomicU64>, Arc<Mutex<String>>) {
    let (seen, last) = (Arc::<AtomicU64>::default(), Arc::<Mutex<String>>::default());
    let (count, latest, wait) = (seen.clone(), last.clone(), release.clone());
    let observer = move |event: &backstay::Event| {
        wait.wait();
        count.fetch_add(1, Ordering::SeqCst);
        *latest.lock().unwrap() = format!("{event}, number {}", event.seq());
    };
    let app = quiet(name).on_event(observer).build().unwrap();
    let done = Gate::new();
    app.add("a", fails_then(FAILURES, done.clone())).unwrap();
    app.start().unwrap();
    done.wait();
    (app, seen, last)
}

/// Fails that often, then opens the gate and goes on.
fn fails_then(times: u64, over: Gate) -> impl Service {
    move |ctx: &Context| -> ServiceResult {
        if ctx.incarnation() <= times {
            return Err("again".into());
        }
        over.open();
        ctx.wait_stop();
        Ok(())
    }
}

/// The number of the last event, which is how many there were.
fn number(last: &Mutex<String>) -> u64 {
    let last = last.lock().unwrap();
    last.split_once("number ").unwrap().1.parse().unwrap()
}

#[test]
fn what_is_dropped_is_counted_and_told_when_nothing_follows() {
    keep_log();
    let release = Gate::new();
    let (app, seen, last) = flooded("flood", &release);
    app.request_stop();
    wait_for("the tree has ended", || {
        app.wait_timeout(EVENT_FLUSH_MAX).is_some()
    });
    let dropped = app.dropped_events();
    assert!(dropped >= FAILURES, "{dropped}");
    release.open();

    // The end of the root has its place, whatever was dropped before.
    wait_for("the end is told", || {
        last.lock().unwrap().starts_with("flood ended")
    });
    let seen = seen.load(Ordering::SeqCst);
    assert_eq!(seen + dropped, number(&last));
    assert_eq!(told_dropped("flood", "observers were"), dropped);
}

#[test]
fn gap_is_told_while_the_tree_goes_on() {
    keep_log();
    let release = Gate::new();
    let (app, _, _) = flooded("gap", &release);
    assert!(app.dropped_events() > 0);
    release.open();
    // No event follows.
    wait_for("the gap is told", || {
        told_dropped("gap", "observers were") > 0
    });
    assert_eq!(told_dropped("gap", "observers were"), app.dropped_events());
    assert!(app.stop().is_empty());
}

#[test]
fn what_the_logger_misses_is_told() {
    const MORE: u64 = 100;
    keep_log();
    let held = HELD.get_or_init(Gate::new);
    let app = quiet(HELD_UP).build().unwrap();
    let done = Gate::new();
    app.add("a", fails_then(FAILURES + MORE, done.clone()))
        .unwrap();
    app.start().unwrap();
    done.wait();
    // No event follows that is logged.
    held.open();
    wait_for("the gap is told", || {
        told_dropped(HELD_UP, "the logger was") > 0
    });
    let dropped = told_dropped(HELD_UP, "the logger was");
    assert!((MORE - 1..=MORE).contains(&dropped), "{dropped}");
    let written = logged("held.a", "failed").len() as u64;
    assert_eq!(written + dropped, FAILURES + MORE);
    assert_eq!(app.dropped_events(), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn observer_that_blocks_leaves_the_log_alone() {
    const MANY: usize = 20;
    keep_log();
    let release = Gate::new();
    let wait = release.clone();
    let app = quiet("stuck")
        .on_event(move |_| wait.wait())
        .build()
        .unwrap();
    app.add("a", fails(MANY as u64, "disk full")).unwrap();
    app.start().unwrap();
    wait_for("all failures are in the log", || {
        logged("stuck.a", "disk full").len() == MANY
    });
    release.open();
    assert!(app.stop().is_empty());
}

#[test]
fn waits_for_a_stuck_observer_share_their_time() {
    const CALLS: usize = 5;
    let release = Gate::new();
    let wait = release.clone();
    let app = quiet("shared")
        .on_event(move |_| wait.wait())
        .build()
        .unwrap();
    app.add("a", common::obedient()).unwrap();
    app.start().unwrap();
    let (_, took) = timed(|| app.stop());
    assert!(took >= EVENT_FLUSH_MAX, "{took:?}");
    // The others have nothing to wait for. The quickest, because the machine may be busy.
    let again = (0..CALLS).map(|_| timed(|| app.stop()).1).min().unwrap();
    assert!(again < EVENT_FLUSH_MAX / 2, "{again:?}");
    let again = (0..CALLS).map(|_| timed(|| app.wait()).1).min().unwrap();
    assert!(again < EVENT_FLUSH_MAX / 2, "{again:?}");
    release.open();
}

/// Says where it was dropped, and panics.
#[derive(Debug)]
struct Bomb(crossbeam_channel::Sender<String>);

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bomb")
    }
}

impl std::error::Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        let name = std::thread::current().name().unwrap_or("?").to_owned();
        self.0.send(name).unwrap();
        panic!("dropped");
    }
}

/// An observer has the last reference to the first failure; the tree is over by then or not.
fn drops_last(name: &str, builder: backstay::SupervisorBuilder, is_over: bool) {
    let (release, wait) = (Gate::new(), Gate::new());
    let (entered, blocked) = (wait.clone(), release.clone());
    let app = builder
        .on_event(move |event| {
            let EventKind::Failed { failure, .. } = event.kind() else {
                return;
            };
            if failure.message() == "bomb" {
                entered.open();
                blocked.wait();
            }
        })
        .build()
        .unwrap();
    let (told, dropped) = crossbeam_channel::unbounded();
    let mut events = Recorder::of(&app);
    let path = format!("{name}.a");
    app.add("a", move |ctx: &Context| {
        match ctx.incarnation() {
            1 => return Err(Bomb(told.clone()).into()),
            2..=4 => return Err("another".into()),
            _ => ctx.wait_stop(),
        }
        Ok(())
    })
    .unwrap();
    app.start().unwrap();
    wait.wait();
    events.wait_nth(&path, "started", 5);
    // Three failures later nobody else has it, but for this recorder and the log.
    if log::max_level() >= LevelFilter::Warn {
        wait_for("the others are in the log", || {
            logged(&path, "another").len() == 3
        });
    }
    drop(std::mem::replace(&mut events, Recorder::of(&app)));
    if is_over {
        app.stop();
    }
    assert!(dropped.is_empty(), "{:?}", dropped.recv());
    release.open();
    assert_eq!(common::take(&dropped), "backstay-events");
    if is_over {
        wait_for("told in the log", || {
            !logged(&path, "drop: dropped at").is_empty()
        });
    } else {
        events.wait(&path, "hook panicked");
        let seen = events.all();
        let told = seen.iter().find(|e| e.word() == "hook panicked").unwrap();
        assert!(told.to_string().contains("drop: dropped at"), "{told}");
        assert!(app.stop().is_empty());
    }
}

#[test]
fn panic_in_the_drop_of_an_event_is_told() {
    keep_log();
    drops_last("told", quiet("told"), false);
    drops_last("late", quiet("late"), true);
}

#[test]
fn panic_in_the_drop_of_an_event_is_quiet_or_not() {
    in_own_process("panic_in_the_drop_of_an_event_is_quiet_or_not", || {
        let (told, hooked) = crossbeam_channel::unbounded();
        std::panic::set_hook(Box::new(move |info| told.send(info.to_string()).unwrap()));
        drops_last("app", quiet("app"), false);
        assert_eq!(hooked.try_iter().count(), 0);
        let loud = Supervisor::builder("app").limit(Limit::none());
        drops_last("app", loud, false);
        assert_eq!(hooked.try_iter().count(), 1);
    });
}

/// An error whose `Drop` uses its tree.
#[derive(Debug)]
struct Caller(Supervisor, crossbeam_channel::Sender<String>);

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("caller")
    }
}

impl std::error::Error for Caller {}

impl Drop for Caller {
    fn drop(&mut self) {
        drop(self.0.subscribe(1));
        let thread = std::thread::current();
        self.1
            .send(thread.name().unwrap_or("?").to_owned())
            .unwrap();
    }
}

#[test]
fn what_a_subscription_holds_goes_with_it() {
    keep_log();
    for (name, at_the_end) in [("unread", false), ("unread-late", true)] {
        let app = quiet(name).build().unwrap();
        let path = format!("{name}.a");
        let events = app.subscribe(1_000);
        let (told, dropped) = crossbeam_channel::unbounded();
        app.add("a", move |ctx: &Context| {
            match ctx.incarnation() {
                1 => return Err(Caller(ctx.supervisor().clone(), told.clone()).into()),
                // After that nobody else has the first one.
                2..=4 => return Err("another".into()),
                _ => ctx.wait_stop(),
            }
            Ok(())
        })
        .unwrap();
        app.start().unwrap();
        wait_for("the others are in the log", || {
            logged(&path, "another").len() == 3
        });
        if at_the_end {
            assert!(app.stop().is_empty());
        }
        let own = std::thread::current();
        drop(events);
        app.add("b", |_: &Context| Ok(()))
            .map(drop)
            .unwrap_or_default();
        assert_eq!(Some(common::take(&dropped).as_str()), own.name());
        assert!(app.stop().is_empty());
    }
}
