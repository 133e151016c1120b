//! suture's row about log records. The logger is the process's, so it has a test binary of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::sync::Mutex;

use backstay::{Context, Exceeded, Limit, Spec, Supervisor};
use common::{Gate, Recorder, fails, ms, unlimited, wait_for};
use log::{Level, LevelFilter, Log, Metadata, Record};

struct Kept {
    records: Mutex<Vec<(Level, String, String)>>,
    /// If there is one, nothing is logged before it opens.
    held: Mutex<Option<Gate>>,
}

static KEPT: Kept = Kept {
    records: Mutex::new(Vec::new()),
    held: Mutex::new(None),
};

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let held = self.held.lock().unwrap().clone();
        if let Some(held) = held {
            held.wait();
        }
        let line = (
            record.level(),
            record.target().to_owned(),
            record.args().to_string(),
        );
        self.records.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

impl Kept {
    /// The level and text of what was logged of one path and contains this.
    fn find(&self, target: &str, text: &str) -> Vec<(Level, String)> {
        let records = self.records.lock().unwrap();
        let found = records
            .iter()
            .filter(|r| r.1 == target && r.2.contains(text));
        found.map(|r| (r.0, r.2.clone())).collect()
    }

    fn per_target(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for (_, target, _) in &*self.records.lock().unwrap() {
            *counts.entry(target.clone()).or_default() += 1;
        }
        counts
    }
}

#[track_caller]
fn one(target: &str, text: &str) -> (Level, String) {
    let mut found = KEPT.find(target, text);
    assert_eq!(
        found.len(),
        1,
        "{target} {text:?}: {found:?} in {:#?}",
        KEPT.records.lock().unwrap()
    );
    found.remove(0)
}

#[test]
fn events_become_log_records_without_an_observer() {
    log::set_logger(&KEPT).unwrap();
    log::set_max_level(LevelFilter::Trace);
    each_event_is_one_record();
    a_logger_that_blocks_stalls_no_restart();
}

fn each_event_is_one_record() {
    let pause = Exceeded::Pause {
        time: ms(20),
        jitter: 0.0,
    };
    let inner = Supervisor::builder("inner")
        .limit(Limit::decay(0.5, ms(1000)).then(pause))
        .service_stop_timeout(ms(50))
        .build()
        .unwrap();
    let (hangs, release) = (Gate::new(), Gate::new());
    let (hanging, wait) = (hangs.clone(), release.clone());
    let service = move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            return Err("disk full".into());
        }
        hanging.open();
        wait.wait();
        Ok(())
    };
    inner.add("b", service).unwrap();
    let app = Supervisor::new("app");
    app.add("inner", inner).unwrap();
    app.start().unwrap();
    hangs.wait();
    assert_eq!(app.stop().unstopped().len(), 1);
    wait_for("the last record", || !KEPT.find("app", "ended").is_empty());

    let (level, text) = one("app.inner.b", "failed");
    assert_eq!(level, Level::Warn);
    for part in ["disk full", "1.00", "0.5", "after the pause"] {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
    assert_eq!(one("app.inner", "paused").0, Level::Warn);
    assert_eq!(one("app.inner", "resumed").0, Level::Info);
    assert_eq!(one("app.inner.b", "abandoned").0, Level::Warn);
    let quiet = |level: Level| matches!(level, Level::Info | Level::Debug);
    assert!(quiet(one("app.inner.b", "stopping").0));
    assert!(quiet(one("app.inner", "stopping").0));
    assert!(quiet(one("app.inner", "stopped").0));
    let started = KEPT.find("app.inner.b", "started");
    assert_eq!(started.len(), 2, "{started:?}");
    assert!(started.iter().all(|(level, _)| quiet(*level)));
    let of_b: usize = KEPT.per_target()["app.inner.b"];
    // added, started, failed, started, stopping, abandoned
    assert_eq!(of_b, 6, "{:#?}", KEPT.records.lock().unwrap());
    release.open();
}

fn a_logger_that_blocks_stalls_no_restart() {
    const FAILURES: u64 = 20;
    let held = Gate::new();
    *KEPT.held.lock().unwrap() = Some(held.clone());
    let app = unlimited("stall");
    let mut events = Recorder::of(&app);
    app.add_spec(Spec::new("a", fails(FAILURES, "again")))
        .unwrap();
    app.start().unwrap();
    events.wait_nth("stall.a", "started", FAILURES as usize + 1);
    assert!(KEPT.find("stall.a", "").is_empty());
    app.request_stop();
    held.open();
    app.wait().unwrap();
    wait_for("the records", || {
        KEPT.find("stall.a", "failed").len() == FAILURES as usize
            && !KEPT.find("stall", "ended").is_empty()
    });
}
