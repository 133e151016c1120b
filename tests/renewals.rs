//! Services that start again by themselves: those whose failures nobody counts, delays or shares. All
//! that holds for a restart holds for theirs, and nothing tells them apart but the time it takes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use backstay::{
    AutoShutdown, BoxError, Context, End, ErrorKind, EventKind, Exit, Limit, Restart,
    ServiceResult, Spec, State, StopOrder, Supervisor, SupervisorBuilder,
};

#[cfg(target_os = "linux")]
use common::process::{in_own_process, mapped_bytes};
use common::{
    Gate, HOUR, PATIENCE, Recorder, Tally, ms, obedient, pass, take, unlimited, wait_for,
    wait_state,
};

/// Fails at once, by an error or a panic, and notices if it runs twice at the same time.
#[derive(Clone, Default)]
struct Flaky {
    running: Arc<AtomicBool>,
    runs: Arc<AtomicU64>,
    twice: Arc<AtomicBool>,
}

impl Flaky {
    fn run(&self, ctx: &Context) -> ServiceResult {
        if self.running.swap(true, Ordering::SeqCst) {
            self.twice.store(true, Ordering::SeqCst);
        }
        self.runs.fetch_add(1, Ordering::SeqCst);
        if ctx.is_stopping() {
            // A stop that it sees is obeyed, so that it comes to rest.
            self.running.store(false, Ordering::SeqCst);
            return Ok(());
        }
        self.running.store(false, Ordering::SeqCst);
        assert!(ctx.incarnation() % 3 != 0, "fails by a panic");
        Err("fails by an error".into())
    }

    fn service(&self) -> impl Fn(&Context) -> ServiceResult + Send + Sync + use<> {
        let flaky = self.clone();
        move |ctx: &Context| flaky.run(ctx)
    }

    fn runs(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn runs_on(&self) {
        let now = self.runs();
        wait_for("it runs again", || self.runs() > now + 3);
    }

    #[track_caller]
    fn ran_alone(&self) {
        assert!(!self.twice.load(Ordering::SeqCst), "it ran twice at once");
    }
}

#[test]
fn stops_and_starts_by_hand_reach_whoever_runs() {
    let app = unlimited("app");
    let flaky = Flaky::default();
    let id = app.add("flaky", flaky.service()).unwrap();
    app.start().unwrap();
    for round in 0..300 {
        flaky.runs_on();
        if round % 3 == 0 {
            app.restart_service(id).unwrap();
            continue;
        }
        app.stop_service(id).unwrap();
        wait_state(&app, "app.flaky", State::Stopped);
        let (runs, report) = (flaky.runs(), app.report());
        let service = report.find("app.flaky").unwrap();
        assert_eq!(u64::from(service.starts()), service.incarnation());
        assert!(service.incarnation() >= runs, "more runs than starts");
        app.start_service(id).unwrap();
        wait_for("it starts again", || flaky.runs() > runs);
    }
    assert!(app.stop().is_empty());
    flaky.ran_alone();
}

#[test]
fn nobody_runs_after_a_stop_or_a_removal() {
    for round in 0..60 {
        let app = unlimited("app");
        let flaky: Vec<Flaky> = (0..3).map(|_| Flaky::default()).collect();
        let ids: Vec<_> = flaky
            .iter()
            .enumerate()
            .map(|(n, f)| app.add(format!("flaky{n}"), f.service()).unwrap())
            .collect();
        app.start().unwrap();
        flaky.iter().for_each(Flaky::runs_on);
        if round % 2 == 0 {
            app.remove_and_wait(ids[1], PATIENCE).unwrap();
            let runs = flaky[1].runs();
            flaky[0].runs_on();
            assert_eq!(flaky[1].runs(), runs, "it runs although it is removed");
        }
        assert!(app.stop().is_empty());
        let runs: Vec<u64> = flaky.iter().map(Flaky::runs).collect();
        thread::yield_now();
        assert_eq!(runs, flaky.iter().map(Flaky::runs).collect::<Vec<_>>());
        flaky.iter().for_each(Flaky::ran_alone);
    }
}

#[test]
fn a_stop_with_no_time_at_all_still_reaches_whoever_runs() {
    let app = unlimited("app");
    let flaky = Flaky::default();
    app.start().unwrap();
    for _ in 0..150 {
        let spec = Spec::new("flaky", flaky.service()).stop_timeout(Duration::ZERO);
        let id = app.add_spec(spec).unwrap();
        flaky.runs_on();
        app.remove(id).unwrap();
        wait_for("it is gone", || app.report().find("app.flaky").is_none());
    }
    app.stop();
    let runs = flaky.runs();
    thread::yield_now();
    assert_eq!(flaky.runs(), runs);
    flaky.ran_alone();
}

#[test]
fn the_last_handle_is_dropped_while_services_start_again_by_themselves() {
    for _ in 0..50 {
        let app = unlimited("app");
        let flaky = Flaky::default();
        let gone = Arc::new(());
        let (service, held) = (flaky.service(), gone.clone());
        let keeps = move |ctx: &Context| {
            let _held = &held;
            service(ctx)
        };
        app.add("flaky", keeps).unwrap();
        app.start().unwrap();
        flaky.runs_on();
        drop(app);
        wait_for("its values are dropped", || Arc::strong_count(&gone) == 1);
        flaky.ran_alone();
    }
}

/// An error that is looked at for as long as the test wants.
struct Slow {
    looked_at: Gate,
    go_on: Gate,
}

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slow")
    }
}

impl std::fmt::Display for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.looked_at.open();
        self.go_on.wait();
        f.write_str("slow")
    }
}

impl std::error::Error for Slow {}

#[test]
fn a_stop_between_a_failure_and_the_restart_is_heard() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (looked_at, go_on, runs) = (Gate::new(), Gate::new(), Tally::new());
    let (l, g, r) = (looked_at.clone(), go_on.clone(), runs.clone());
    let service = move |_: &Context| -> ServiceResult {
        r.add();
        Err(Box::new(Slow {
            looked_at: l.clone(),
            go_on: g.clone(),
        }))
    };
    let id = app.add("flaky", service).unwrap();
    app.start().unwrap();
    looked_at.wait();
    app.stop_service(id).unwrap();
    events.wait("app.flaky", "stopping");
    // One more answer of the supervisor's: the request to stop has been carried out.
    app.add("other", |_: &Context| Ok(())).unwrap();
    go_on.open();
    wait_state(&app, "app.flaky", State::Stopped);
    assert_eq!(runs.get(), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn nobody_starts_again_while_the_supervisor_waits_for_others() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (fail, end, up) = (Gate::new(), Gate::new(), Gate::new());
    let (runs, f, e, u) = (Tally::new(), fail.clone(), end.clone(), up.clone());
    let counted = runs.clone();
    let first = move |_: &Context| -> ServiceResult {
        counted.add();
        f.wait();
        Err("fails".into())
    };
    app.add("first", first).unwrap();
    let last = move |ctx: &Context| -> ServiceResult {
        u.open();
        ctx.wait_stop();
        e.wait();
        Ok(())
    };
    app.add("last", last).unwrap();
    app.start().unwrap();
    up.wait();
    runs.reach(1);
    app.request_stop();
    events.wait("app.last", "stopping");
    fail.open();
    events.wait("app.first", "failed");
    end.open();
    assert!(app.stop().is_empty());
    assert_eq!(runs.get(), 1);
}

#[test]
fn the_next_run_of_its_supervisor_counts_on_where_the_last_one_was() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (release, hangs, up) = (Gate::new(), Gate::new(), Gate::new());
    let (r, h, u) = (release.clone(), hangs.clone(), up.clone());
    let sub = unlimited("sub");
    let service = move |ctx: &Context| -> ServiceResult {
        match ctx.incarnation() {
            1..5 => Err("fails".into()),
            5 => {
                h.open();
                r.wait();
                Ok(())
            }
            n => {
                ctx.set_status(format!("this is {n}"));
                u.open();
                ctx.wait_stop();
                Ok(())
            }
        }
    };
    sub.add_spec(Spec::new("flaky", service).stop_timeout(ms(20)))
        .unwrap();
    let id = app
        .add_spec(Spec::new("sub", sub).allow_overlap(1))
        .unwrap();
    app.start().unwrap();
    hangs.wait();
    app.restart_service(id).unwrap();
    up.wait();
    let report = app.report();
    let service = report.find("app.sub.flaky").unwrap();
    assert_eq!((service.incarnation(), service.starts()), (6, 6));
    assert_eq!((service.failures(), service.stop_timeouts()), (4, 1));
    assert_eq!(service.status(), Some("this is 6"));
    assert_eq!(events.wait("app.sub.flaky", "abandoned").incarnation(), 5);
    release.open();
    assert_eq!(events.wait("app.sub.flaky", "ended late").incarnation(), 5);
    assert!(app.stop().is_empty());
}

#[test]
fn each_incarnation_tells_its_story_in_order() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let service = |ctx: &Context| -> ServiceResult {
        ctx.log("runs");
        if ctx.incarnation() <= 500 {
            return Err("fails".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    wait_for("the last one runs", || {
        events.count("app.flaky", "log") == 501
    });
    assert!(app.stop().is_empty());
    told_in_order(&mut events, "log", 500);
}

/// All of them have said `word`, all but the last have failed after it, and that one was stopped.
#[track_caller]
fn told_in_order(events: &mut Recorder, word: &'static str, failed: u64) {
    let told = events.all().iter().filter(|e| e.incarnation() > 0);
    let mut told = told.map(|e| (e.incarnation(), e.word()));
    for n in 1..=failed + 1 {
        let end: &[&str] = if n <= failed {
            &["failed"]
        } else {
            &["stopping", "stopped"]
        };
        for word in ["started", word].iter().chain(end) {
            assert_eq!(told.next(), Some((n, *word)));
        }
    }
    assert_eq!(told.next(), None);
}

#[test]
fn a_stop_is_told_of_the_incarnation_that_gets_it() {
    let app = unlimited("app");
    app.start().unwrap();
    for _ in 0..50 {
        let flaky = Flaky::default();
        let mut events = Recorder::of(&app);
        let fails = flaky.service();
        let service = move |ctx: &Context| -> ServiceResult {
            // As many as the recorder has room for, however long the removal takes to come.
            if ctx.incarnation() > 5000 {
                ctx.wait_stop();
            }
            fails(ctx)
        };
        let id = app.add("flaky", service).unwrap();
        flaky.runs_on();
        app.remove_and_wait(id, PATIENCE).unwrap();
        events.wait("app.flaky", "removed");
        // Each has one story: started, perhaps asked to stop, and one end.
        let mut last = (0, "added");
        for event in events.all().iter().filter(|e| e.path() == "app.flaky") {
            let now = (event.incarnation(), event.word());
            let fits = match (last, now) {
                (_, (_, "added" | "removed")) => true,
                ((before, "added" | "failed"), (n, "started")) => n == before + 1,
                ((before, "started"), (n, "failed" | "stopping")) => n == before,
                ((before, "stopping"), (n, "stopped")) => n == before,
                _ => false,
            };
            assert!(fits, "{now:?} after {last:?}");
            last = now;
        }
    }
    assert!(app.stop().is_empty());
}

#[test]
fn the_report_has_a_restart_before_the_next_incarnation_begins() {
    let app = unlimited("app");
    let (tell, told) = crossbeam_channel::bounded(1);
    let service = move |ctx: &Context| -> ServiceResult {
        let n = ctx.incarnation();
        let report = ctx.supervisor().report();
        let own = report.find(ctx.path()).ok_or("it is in no report")?;
        let failed = own.last_failure().map_or(0, |f| f.incarnation());
        let seen = (
            own.incarnation(),
            u64::from(own.starts()),
            u64::from(own.failures()),
            failed,
            own.state(),
            own.status().map(str::to_owned),
        );
        ctx.set_status("of this one");
        if seen != (n, n, n - 1, n - 1, State::Running, None) {
            tell.send(Some(format!("{n}: {seen:?}")))?;
        } else if n == 400 {
            tell.send(None)?;
        }
        if n >= 400 {
            ctx.wait_stop();
            return Ok(());
        }
        assert!(n % 2 == 0, "fails by a panic");
        Err("fails by an error".into())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    assert_eq!(take(&told), None);
    let report = app.report();
    let service = report.find("app.flaky").unwrap();
    assert_eq!((service.failures(), service.panics()), (399, 200));
    assert_eq!(service.status(), Some("of this one"));
    assert!(app.stop().is_empty());
    let report = app.report();
    let service = report.find("app.flaky").unwrap();
    assert_eq!((service.failures(), service.panics()), (399, 200));
    assert_eq!(service.last_failure().unwrap().incarnation(), 399);
}

#[test]
fn what_a_later_incarnation_says_counts() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let go = Gate::new();
    let wait = go.clone();
    let service = move |ctx: &Context| -> ServiceResult {
        ctx.ready();
        match ctx.incarnation() {
            20 => {
                wait.wait();
                Err("fails once more".into())
            }
            21 => {
                ctx.wait_stop();
                Ok(())
            }
            _ => Err("fails".into()),
        }
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    let ready_as = |n: u64| {
        wait_for("it is ready", || {
            let report = app.report();
            let service = report.find("app.flaky").unwrap();
            service.incarnation() == n && service.state() == State::Ready
        });
    };
    ready_as(20);
    go.open();
    ready_as(21);
    assert!(app.wait_ready(PATIENCE).is_ok());
    assert!(app.stop().is_empty());
    let ready = events.all().iter().filter(|e| e.word() == "ready");
    let numbers: Vec<u64> = ready.map(|e| e.incarnation()).collect();
    assert_eq!(numbers.last(), Some(&21));
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
}

#[test]
fn a_later_incarnation_runs_a_supervisor_below_itself() {
    let app = unlimited("app");
    let (tell, told) = crossbeam_channel::unbounded();
    let service = move |ctx: &Context| -> ServiceResult {
        match ctx.incarnation() {
            5 => {
                let below =
                    ctx.supervise(Supervisor::builder("below").limit(Limit::window(0, HOUR)))?;
                below.add("fails", |_: &Context| Err("from below".into()))?;
                ctx.wait_stop();
                tell.send(ctx.stop_cause().map(|c| c.to_string()))?;
                Ok(())
            }
            8 => {
                let below = ctx.supervise(Supervisor::builder("below"))?;
                below.add("waits", |ctx: &Context| {
                    ctx.wait_stop();
                    Ok(())
                })?;
                tell.send(None)?;
                ctx.wait_stop();
                Ok(())
            }
            _ => Err("fails".into()),
        }
    };
    app.add("owner", service).unwrap();
    app.start().unwrap();
    assert!(take(&told).is_some());
    assert_eq!(take(&told), None);
    wait_for("it is shown", || {
        app.report().find("app.owner.waits").is_some()
    });
    assert!(app.stop().is_empty());
    assert_eq!(app.report().find("app.owner").unwrap().failures(), 7);
}

#[test]
fn stop_hooks_belong_to_their_incarnation() {
    let app = unlimited("app");
    let called = Arc::new(Mutex::new(Vec::new()));
    let ready = Gate::new();
    let (calls, up) = (called.clone(), ready.clone());
    let service = move |ctx: &Context| -> ServiceResult {
        let n = ctx.incarnation();
        let calls = calls.clone();
        let hook = ctx.on_stop(move || calls.lock().unwrap().push(n));
        // Kept beyond the end of the incarnation, as a careless helper would.
        std::mem::forget(hook);
        if n < 10 {
            return Err("fails".into());
        }
        up.open();
        ctx.wait_stop();
        Ok(())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    ready.wait();
    assert!(app.stop().is_empty());
    assert_eq!(*called.lock().unwrap(), [10]);
}

/// An error that knows how many like it there are.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>, Arc<Mutex<Vec<String>>>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>, threads: &Arc<Mutex<Vec<String>>>) -> Counted {
        alive.fetch_add(1, Ordering::SeqCst);
        Counted(alive.clone(), threads.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
        let name = thread::current().name().unwrap_or("").to_owned();
        let mut names = self.1.lock().unwrap();
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("counted")
    }
}

impl std::error::Error for Counted {}

#[test]
fn errors_of_users_neither_pile_up_nor_are_dropped_by_the_supervisor() {
    let app = unlimited("app");
    let (alive, threads) = (Arc::new(AtomicUsize::new(0)), Arc::default());
    let most = Arc::new(AtomicUsize::new(0));
    let runs = Tally::new();
    let (a, t, m, r) = (
        alive.clone(),
        Arc::clone(&threads),
        most.clone(),
        runs.clone(),
    );
    let service = move |ctx: &Context| -> ServiceResult {
        r.add();
        m.fetch_max(a.load(Ordering::SeqCst), Ordering::SeqCst);
        // Now and then it tells something, which the supervisor looks up its failures for.
        if ctx.incarnation() % 20 == 0 {
            ctx.ready();
        }
        if ctx.incarnation() < 20_000 {
            return Err(Box::new(Counted::new(&a, &t)) as BoxError);
        }
        ctx.wait_stop();
        Ok(())
    };
    let id = app.add("flaky", service).unwrap();
    app.start().unwrap();
    runs.reach(20_000);
    app.remove_and_wait(id, PATIENCE).unwrap();
    assert!(app.stop().is_empty());
    drop(app);
    wait_for("all errors are dropped", || {
        alive.load(Ordering::SeqCst) == 0
    });
    let most = most.load(Ordering::SeqCst);
    assert!(most <= 10, "{most} errors were alive");
    assert!(!threads.lock().unwrap().contains(&"app".to_owned()));
}

/// Those with anything to decide are left to the supervisor.
#[test]
fn limits_delays_and_groups_are_kept() {
    let kept = |build: fn(SupervisorBuilder) -> SupervisorBuilder, with: fn(Spec) -> Spec| {
        let app = build(Supervisor::builder("app").quiet_panics())
            .build()
            .unwrap();
        let flaky = Flaky::default();
        app.add_spec(with(Spec::new("flaky", flaky.service())))
            .unwrap();
        app.start().unwrap();
        (app, flaky)
    };
    let window = |b: SupervisorBuilder| b.limit(Limit::window(7, HOUR));
    let (app, flaky) = kept(window, |spec| spec);
    assert!(app.wait_timeout(PATIENCE).unwrap().is_err());
    assert_eq!(flaky.runs(), 8);

    let none = |b: SupervisorBuilder| b.limit(Limit::none());
    let (app, flaky) = kept(none, |spec| {
        let limit = Limit::window(7, HOUR).then(backstay::Exceeded::StopService);
        spec.limit(limit)
    });
    wait_state(&app, "app.flaky", State::GivenUp);
    assert_eq!(flaky.runs(), 8);
    app.stop();

    let (app, flaky) = kept(none, |spec| spec.backoff(backstay::Backoff::fixed(HOUR)));
    wait_state(&app, "app.flaky", State::Backoff);
    assert_eq!(flaky.runs(), 1);
    app.stop();

    let (app, flaky) = kept(none, |spec| spec.restart(Restart::Never));
    wait_for("it is gone", || app.report().find("app.flaky").is_none());
    assert_eq!(flaky.runs(), 1);
    app.stop();

    let (app, flaky) = kept(none, |spec| spec.fatal_if(|f| f.incarnation() == 7));
    assert!(app.wait_timeout(PATIENCE).unwrap().is_err());
    assert_eq!(flaky.runs(), 7);
}

#[test]
fn others_are_heard_while_a_service_starts_again_without_end() {
    let app = unlimited("app");
    let flaky = Flaky::default();
    app.add("flaky", flaky.service()).unwrap();
    app.start().unwrap();
    // The first ones; there is no end of them.
    let events = app.subscribe(1000);
    for n in 0..50 {
        let id = app.add(format!("other{n}"), obedient()).unwrap();
        app.remove_and_wait(id, PATIENCE).unwrap();
    }
    while let Some(event) = events.try_recv() {
        if let EventKind::Failed { count, limit, .. } = event.kind() {
            assert_eq!((*count, *limit), (0.0, f64::INFINITY), "nothing is counted");
        }
    }
    assert!(app.stop().is_empty());
    flaky.ran_alone();
}

#[test]
fn who_has_asked_for_the_end_is_not_started_again() {
    for _ in 0..100 {
        let app = unlimited("app");
        let runs = Tally::new();
        let counted = runs.clone();
        let service = move |ctx: &Context| -> ServiceResult {
            counted.add();
            ctx.shutdown();
            Err("fails after its request".into())
        };
        app.add("flaky", service).unwrap();
        app.start().unwrap();
        assert!(app.wait_timeout(PATIENCE).unwrap().is_ok());
        assert_eq!(runs.get(), 1);
    }
}

#[test]
fn who_was_asked_to_stop_is_not_started_again() {
    let app = unlimited("app");
    app.start().unwrap();
    for round in 0..300 {
        let runs = Tally::new();
        let counted = runs.clone();
        let service = move |ctx: &Context| -> ServiceResult {
            counted.add();
            let own = ctx.supervisor().id(ctx.name()).ok_or("it has no id")?;
            match round % 2 {
                0 => ctx.supervisor().remove(own)?,
                _ => ctx.supervisor().stop_service(own)?,
            }
            Err("fails after the answer".into())
        };
        let id = app.add(format!("flaky{round}"), service).unwrap();
        app.wait_service(id, PATIENCE).unwrap();
        assert_eq!(runs.get(), 1, "round {round}");
    }
    assert!(app.stop().is_empty());
}

#[test]
fn what_it_says_comes_before_its_end() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let service = |ctx: &Context| -> ServiceResult {
        ctx.ready();
        if ctx.incarnation() <= 1000 {
            return Err("fails".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    wait_for("the last one is ready", || {
        let last = |e: &backstay::Event| (e.incarnation(), e.word()) == (1001, "ready");
        events.all().iter().any(last)
    });
    assert!(app.stop().is_empty());
    told_in_order(&mut events, "ready", 1000);
}

/// Flaky, says something now and then, and looks at the numbers of its incarnations.
#[derive(Clone, Default)]
struct Numbered {
    flaky: Flaky,
    last: Arc<AtomicU64>,
    went_back: Arc<AtomicBool>,
}

impl Numbered {
    fn service(&self) -> impl Fn(&Context) -> ServiceResult + Send + Sync + use<> {
        let numbered = self.clone();
        move |ctx: &Context| {
            let before = numbered.last.swap(ctx.incarnation(), Ordering::SeqCst);
            if before >= ctx.incarnation() {
                numbered.went_back.store(true, Ordering::SeqCst);
            }
            if ctx.incarnation() % 7 == 0 {
                ctx.ready();
            }
            ctx.set_status("runs");
            numbered.flaky.run(ctx)
        }
    }

    #[track_caller]
    fn ran_in_order(&self) {
        self.flaky.ran_alone();
        let went_back = self.went_back.load(Ordering::SeqCst);
        assert!(!went_back, "a number was used twice");
    }
}

/// Numbers that are random enough, from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }
}

const TROUBLED: usize = 10;

/// Stops, starts, restarts, removes and adds at random. Whoever was removed comes again under its name.
fn trouble(app: &Supervisor, ids: &[Mutex<backstay::ServiceId>], of: &[Numbered], seed: u64) {
    let mut dice = Dice(seed);
    for _ in 0..80 {
        let n = dice.roll(TROUBLED);
        let id = *ids[n].lock().unwrap();
        match dice.roll(8) {
            0..3 => drop(app.restart_service(id)),
            3 => drop(app.stop_service(id)),
            4 | 5 => drop(app.start_service(id)),
            6 => {
                let Ok(()) = app.remove_and_wait(id, PATIENCE) else {
                    continue;
                };
                let mut own = ids[n].lock().unwrap();
                match app.add(format!("flaky{n}"), of[n].service()) {
                    Ok(new) => *own = new,
                    Err(e) => assert_eq!(e.kind(), ErrorKind::DuplicateName),
                }
            }
            _ => {
                let report = app.report();
                let own = report.find(&format!("app.flaky{n}"));
                let starts = own.map_or((0, 0), |s| (s.incarnation(), u64::from(s.starts())));
                assert_eq!(starts.0, starts.1, "in {report}");
            }
        }
    }
}

#[test]
fn requests_from_many_threads_reach_those_that_start_again_by_themselves() {
    for (round, order) in [StopOrder::Reverse, StopOrder::Parallel]
        .into_iter()
        .enumerate()
    {
        let app = Supervisor::builder("app")
            .limit(Limit::none())
            .stop_order(order)
            .quiet_panics()
            .build()
            .unwrap();
        let all: Vec<Numbered> = (0..TROUBLED).map(|_| Numbered::default()).collect();
        let add = |(n, one): (usize, &Numbered)| app.add(format!("flaky{n}"), one.service());
        let ids: Vec<_> = all
            .iter()
            .enumerate()
            .map(add)
            .map(Result::unwrap)
            .collect();
        let ids: Vec<_> = ids.into_iter().map(Mutex::new).collect();
        app.start().unwrap();
        thread::scope(|s| {
            for seed in 1..=8 {
                let (app, ids, all) = (&app, &ids, &all);
                s.spawn(move || trouble(app, ids, all, seed * 1000 + round as u64 + 1));
            }
        });
        // Everybody can still be started, and stopped.
        for (one, id) in all.iter().zip(&ids) {
            app.start_service(*id.lock().unwrap()).unwrap();
            one.flaky.runs_on();
        }
        app.stop_service(*ids[0].lock().unwrap()).unwrap();
        let end = app.wait_service(*ids[0].lock().unwrap(), PATIENCE);
        assert!(matches!(end, Ok(End::Stopped)), "{end:?}");
        assert!(app.stop().is_empty());
        let runs: Vec<u64> = all.iter().map(|one| one.flaky.runs()).collect();
        thread::yield_now();
        let later: Vec<u64> = all.iter().map(|one| one.flaky.runs()).collect();
        assert_eq!(runs, later, "they run after the stop");
        all.iter().for_each(|one| one.flaky.ran_alone());
        let report = app.report();
        for own in report.iter() {
            assert_eq!(own.state(), State::Stopped, "in {report}");
            assert_eq!(u64::from(own.starts()), own.incarnation(), "in {report}");
        }
    }
}

#[test]
fn their_supervisor_is_started_again_while_they_start_again_by_themselves() {
    let app = unlimited("app");
    let sub = unlimited("sub");
    let all: Vec<Numbered> = (0..3).map(|_| Numbered::default()).collect();
    for (n, one) in all.iter().enumerate() {
        sub.add(format!("flaky{n}"), one.service()).unwrap();
    }
    // It has no licence of its own, and its failures end the run of those beside it.
    let bad = Tally::new();
    let fails = bad.clone();
    let one_for_all = Supervisor::builder("fragile").limit(Limit::window(0, HOUR));
    let fragile = one_for_all.quiet_panics().build().unwrap();
    let beside = Numbered::default();
    let own_limit = Spec::new("beside", beside.service()).limit(Limit::none());
    fragile.add_spec(own_limit).unwrap();
    let runs = beside.flaky.clone();
    fragile
        .add("bad", move |ctx: &Context| {
            let now = runs.runs();
            while runs.runs() <= now + 3 {
                ctx.sleep(ms(1))?;
            }
            fails.add();
            Err("takes its supervisor down".into())
        })
        .unwrap();
    app.add("fragile", fragile).unwrap();
    let id = app.add("sub", sub).unwrap();
    app.start().unwrap();
    for _ in 0..60 {
        all.iter().for_each(|one| one.flaky.runs_on());
        app.restart_service(id).unwrap();
    }
    bad.reach(10);
    all.iter().for_each(|one| one.flaky.runs_on());
    assert!(app.stop().is_empty());
    all.iter().for_each(Numbered::ran_in_order);
    beside.ran_in_order();
    let report = app.report();
    for own in report.find("app.sub").unwrap().services() {
        assert_eq!(u64::from(own.starts()), own.incarnation(), "in {report}");
    }
}

#[test]
fn since_when_it_runs_is_not_changed_by_what_it_tells() {
    let app = unlimited("app");
    let (begun, tell) = (Gate::new(), Gate::new());
    let (up, go) = (begun.clone(), tell.clone());
    let service = move |ctx: &Context| -> ServiceResult {
        if ctx.incarnation() < 5 {
            return Err("fails".into());
        }
        up.open();
        go.wait();
        let below = ctx.supervise(Supervisor::builder("below"))?;
        below.add("waits", obedient())?;
        ctx.wait_stop();
        Ok(())
    };
    app.add("flaky", service).unwrap();
    app.start().unwrap();
    begun.wait();
    // It has run for a while.
    pass(ms(50));
    tell.open();
    wait_for("it is heard", || {
        app.report().find("app.flaky.waits").is_some()
    });
    // One more answer: whatever the service has told has been dealt with.
    app.add("other", obedient()).unwrap();
    let report = app.report();
    let in_state = report.find("app.flaky").unwrap().in_state();
    assert!(in_state >= ms(50), "{in_state:?} in {report}");
    assert!(app.stop().is_empty());
}

#[cfg(target_os = "linux")]
#[test]
fn a_hundred_thousand_restarts_leave_nothing_behind() {
    in_own_process("a_hundred_thousand_restarts_leave_nothing_behind", || {
        let app = unlimited("app");
        let [quiet, tells] = [false, true].map(|tells| {
            let runs = Arc::new(AtomicU64::new(0));
            let counted = runs.clone();
            let service = move |ctx: &Context| -> ServiceResult {
                counted.fetch_add(1, Ordering::SeqCst);
                if tells {
                    ctx.ready();
                }
                ctx.set_status("runs");
                let _hook = ctx.on_stop(|| {});
                Err("fails, and says it with a text of some length".into())
            };
            app.add(format!("tells_{tells}"), service).unwrap();
            runs
        });
        let _unread = app.subscribe(100);
        app.start().unwrap();
        let reach = |thousands: u64| {
            for n in 1..=thousands {
                wait_for("they fail on", || {
                    let (quiet, tells) = [&quiet, &tells].map(|n| n.load(Ordering::SeqCst)).into();
                    quiet >= 1000 * n && tells >= 10 * n
                });
            }
        };
        reach(10);
        let before = mapped_bytes();
        reach(110);
        let grown = mapped_bytes().saturating_sub(before);
        // Forty bytes for each would be more.
        assert!(grown <= 4 << 20, "grown by {grown} bytes");
        assert!(app.stop().is_empty());
    });
}

#[test]
fn who_hangs_is_reported_under_its_own_number() {
    let app = unlimited("app");
    let (hangs, release, ended) = (Gate::new(), Gate::new(), Gate::new());
    let (h, r, e) = (hangs.clone(), release.clone(), ended.clone());
    let service = move |ctx: &Context| -> ServiceResult {
        if ctx.incarnation() < 5 {
            return Err("fails".into());
        }
        h.open();
        r.wait();
        e.open();
        Err("fails late".into())
    };
    app.add_spec(Spec::new("flaky", service).stop_timeout(ms(20)))
        .unwrap();
    app.start().unwrap();
    hangs.wait();
    let report = app.stop();
    let [left] = report.unstopped() else {
        panic!("{report}");
    };
    assert_eq!((left.path(), left.incarnation()), ("app.flaky", 5));
    release.open();
    ended.wait();
    assert_eq!(app.report().find("app.flaky").unwrap().incarnation(), 5);
}

/// Whatever is no plain failure is left to the supervisor, which has heard of all before it.
#[test]
fn the_last_end_is_judged_as_ever() {
    let after_four = |last: fn() -> ServiceResult| {
        let app = Supervisor::builder("app")
            .limit(Limit::none())
            .auto_shutdown(AutoShutdown::AnySignificant)
            .quiet_panics()
            .build()
            .unwrap();
        let service = move |ctx: &Context| -> ServiceResult {
            match ctx.incarnation() {
                1..5 => Err("fails".into()),
                5 => last(),
                n => panic!("there is no {n}"),
            }
        };
        let spec = Spec::new("flaky", service).restart(Restart::OnFailure);
        app.add_spec(spec.significant()).unwrap();
        app.start().unwrap();
        (app.wait_timeout(PATIENCE).unwrap(), app.report())
    };
    for (last, is_ok, is_there) in [
        ((|| Ok(())) as fn() -> ServiceResult, true, true),
        (|| Err(Exit::DoNotRestart.into()), true, true),
        (|| Err(Exit::Uninstall.into()), true, false),
        (|| Err(Exit::TerminateTree.into()), false, true),
    ] {
        let (result, report) = after_four(last);
        assert_eq!(result.is_ok(), is_ok, "{result:?}");
        let service = report.find("app.flaky");
        assert_eq!(service.is_some(), is_there, "{report}");
        let failures = service.map_or(4, |s| s.failures());
        assert_eq!(failures, 4, "{report}");
    }
}
