//! Adding and starting.

use std::thread;

use backstay::{Context, ErrorKind, State, Supervisor};
use crossbeam_channel::unbounded;

use crate::common::{
    Recorder, Tally, add_running, counted, ending, ms, obedient, pass, secs, take, timed,
    wait_state,
};

#[test]
fn add_before_start_runs_at_start() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let (told, seen) = unbounded();
    let service = move |ctx: &Context| {
        told.send((ctx.path().to_owned(), ctx.incarnation()))?;
        ctx.wait_stop();
        Ok(())
    };
    app.add("a", counted(&runs, service)).unwrap();
    assert_eq!(runs.get(), 0);

    app.start().unwrap();
    assert_eq!(take(&seen), ("app.a".to_owned(), 1));
    app.stop();
    assert_eq!(runs.get(), 1);
    assert_eq!(events.count("app.a", "started"), 1);
}

#[test]
fn add_while_running_starts_at_once() {
    let app = Supervisor::new("app");
    app.start().unwrap();

    let runs = Tally::new();
    let id = app.add("b", counted(&runs, obedient())).unwrap();
    runs.reach(1);
    wait_state(&app, "app.b", State::Running);
    assert_eq!(app.report().find("app.b").unwrap().incarnation(), 1);
    assert_eq!(app.id("b"), Some(id));
    app.stop();
}

#[test]
fn add_after_stop_is_an_error() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    app.stop();

    let runs = Tally::new();
    let (answer, took) = timed(|| app.add("late", counted(&runs, obedient())));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Stopped);
    assert!(took < secs(1), "{took:?}");
    assert_eq!(runs.get(), 0);
}

#[test]
fn second_start_is_refused() {
    let app = Supervisor::new("app");
    let runs = Tally::new();
    app.add("a", counted(&runs, obedient())).unwrap();
    let serving = thread::spawn({
        let app = app.clone();
        move || app.serve()
    });
    runs.reach(1);

    thread::scope(|scope| {
        let start = scope.spawn(|| app.start().unwrap_err().kind());
        let serve = scope.spawn(|| app.serve().unwrap_err().kind());
        assert_eq!(start.join().unwrap(), ErrorKind::AlreadyRunning);
        assert_eq!(serve.join().unwrap(), ErrorKind::AlreadyRunning);
    });
    add_running(&app, "b", obedient());
    assert_eq!(runs.get(), 1);
    app.stop();
    serving.join().unwrap().unwrap();
}

#[test]
fn start_after_stop_is_refused() {
    let app = Supervisor::new("app");
    let runs = Tally::new();
    app.add("a", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    runs.reach(1);
    app.stop();

    assert_eq!(app.start().unwrap_err().kind(), ErrorKind::Stopped);
    assert!(
        app.report().iter().all(|s| !s.state().is_alive()),
        "{}",
        app.report()
    );
    assert_eq!(runs.get(), 1);
}

#[test]
fn add_races_with_serve() {
    const SERVICES: usize = 1000;
    let app = Supervisor::new("app");
    let runs: Vec<Tally> = (0..SERVICES).map(|_| Tally::new()).collect();
    let serving = thread::spawn({
        let app = app.clone();
        move || app.serve()
    });
    for (i, runs) in runs.iter().enumerate() {
        app.add(format!("s{i}"), counted(runs, obedient())).unwrap();
    }
    for runs in &runs {
        runs.reach(1);
    }
    assert!(app.stop().is_empty());
    serving.join().unwrap().unwrap();
    assert!(runs.iter().all(|runs| runs.get() == 1));
}

/// The stop comes before, between and after the starts of a flat and of a deep tree.
#[test]
fn stop_wins_over_a_start_under_way() {
    const TRIES: u32 = 8;
    let mut stopped = Vec::new();
    for deep in [false, true] {
        let tree = Nested::new(deep);
        tree.app.start().unwrap();
        // Each try stops later than the one before, the last one when all have started.
        let ((), all) = timed(|| tree.runs.reach(NESTED));
        stopped.push(tree.stop());
        for n in 0..TRIES {
            let tree = Nested::new(deep);
            tree.app.start().unwrap();
            pass(all * n / TRIES);
            stopped.push(tree.stop());
        }
    }
    // Nothing shall happen in this time.
    pass(ms(200));
    for (tree, ran) in stopped {
        assert_eq!(tree.runs.get(), ran);
        let report = tree.app.report();
        assert!(report.iter().all(|s| !s.state().is_alive()), "{report}");
    }
}

/// How many supervisors are below another one, each with one service.
const NESTED: u64 = 99;

struct Nested {
    app: Supervisor,
    runs: Tally,
    ends: Tally,
}

impl Nested {
    /// Side by side, or each below the one before.
    fn new(deep: bool) -> Nested {
        let app = Supervisor::new("app");
        let (runs, ends) = (Tally::new(), Tally::new());
        let mut parent = app.clone();
        for i in 0..NESTED {
            let inner = Supervisor::new("inner");
            let service = counted(&runs, ending(&ends, obedient()));
            inner.add("a", service).unwrap();
            parent.add(format!("n{i}"), inner.clone()).unwrap();
            if deep {
                parent = inner;
            }
        }
        Nested { app, runs, ends }
    }

    /// With how many services have run, all of which have ended.
    fn stop(self) -> (Nested, u64) {
        let report = self.app.stop();
        assert!(report.is_empty(), "{report}");
        let ran = self.runs.get();
        assert_eq!(self.ends.get(), ran);
        (self, ran)
    }
}
