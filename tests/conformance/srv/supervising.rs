//! The orchestrator and its groups: a supervisor, and supervisors below it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use backstay::{
    AutoShutdown, Context, ErrorKind, FailureKind, Restart, Service, ServiceResult, Spec, State,
    StopOrder, Supervisor,
};
use crossbeam_channel::unbounded;

use crate::common::watch::{Strings, entry, is_listed, puppet, wait_gone};
use crate::common::{
    PATIENCE, Recorder, Tally, add_running, counted, ending, failed, ms, obedient, pass, secs,
    slow_to_stop, state, take, timed, unlimited, wait_state,
};

#[test]
fn services_added_before_start_wait_for_it() {
    const SERVICES: u64 = 100;
    let app = Supervisor::new("app");
    let runs = Tally::new();
    for n in 0..SERVICES {
        app.add(format!("s{n}"), counted(&runs, obedient()))
            .unwrap();
    }
    pass(ms(100));
    assert_eq!(runs.get(), 0);
    assert!(app.report().iter().all(|s| s.state() == State::Waiting));
    let ((), took) = timed(|| {
        app.start().unwrap();
        runs.reach(SERVICES);
    });
    assert!(took < secs(2), "{took:?}");
    assert!(app.stop().is_empty());
    assert_eq!(runs.get(), SERVICES);
}

#[test]
fn services_start_in_order_and_stop_in_reverse() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let names: Vec<String> = (1..=10).map(|n| format!("app.s{n}")).collect();
    for n in 1..=10 {
        app.add(format!("s{n}"), counted(&runs, obedient()))
            .unwrap();
    }
    app.start().unwrap();
    runs.reach(10);
    assert!(app.stop().is_empty());
    let mut of = |word: &str| -> Vec<String> {
        let all = events.all().iter().filter(|e| e.word() == word);
        all.map(|e| e.path().to_owned()).collect()
    };
    assert_eq!(of("started"), names);
    let reversed: Vec<String> = names.into_iter().rev().collect();
    assert_eq!(of("stopped"), reversed);
}

#[test]
fn second_start_is_refused() {
    let app = Supervisor::new("app");
    let runs = Tally::new();
    app.add("a", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    runs.reach(1);
    for again in [app.start(), app.serve()] {
        let refused = again.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AlreadyRunning);
        assert!(refused.to_string().contains("already started"), "{refused}");
    }
    assert!(app.stop().is_empty());
    for again in [app.start(), app.serve()] {
        let refused = again.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Stopped);
        assert!(refused.to_string().contains("has ended"), "{refused}");
    }
    assert_eq!((runs.get(), entry(&app, "app.a").starts()), (1, 1));
}

#[test]
fn wait_before_start_answers() {
    let app = Supervisor::new("app");
    let (refused, took) = timed(|| app.wait().unwrap_err());
    assert_eq!(refused.kind(), ErrorKind::NotStarted);
    assert!(refused.to_string().contains("not started"), "{refused}");
    assert!(took < secs(1), "{took:?}");
}

#[test]
fn stop_before_start_is_final() {
    let app = Supervisor::new("app");
    let runs = Tally::new();
    for name in ["a", "b"] {
        app.add(name, counted(&runs, obedient())).unwrap();
    }
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && !report.only_requested(), "{report}");
    assert!(took < secs(1), "{took:?}");
    assert_eq!(app.start().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(runs.get(), 0);
    app.wait().unwrap();
}

/// Ends some time after its stop hook was called.
struct Hooked {
    calls: Tally,
    hook_takes: Duration,
}

impl Service for Hooked {
    fn run(&self, ctx: &Context) -> ServiceResult {
        ctx.wait_stop();
        Ok(())
    }

    fn interrupt(&self) {
        self.calls.add();
        pass(self.hook_takes);
    }
}

#[test]
fn concurrent_stops_stop_once() {
    let app = Supervisor::new("app");
    let calls = Tally::new();
    app.start().unwrap();
    let hooked = Hooked {
        calls: calls.clone(),
        hook_takes: ms(200),
    };
    add_running(&app, "a", hooked);
    let (reports, took) = timed(|| {
        thread::scope(|s| {
            let stops = [(); 8].map(|()| s.spawn(|| app.stop()));
            stops.map(|stop| stop.join().unwrap())
        })
    });
    assert!((ms(200)..secs(1)).contains(&took), "{took:?}");
    for report in reports {
        assert!(report.is_empty() && !report.only_requested(), "{report}");
    }
    assert_eq!(calls.get(), 1);
}

#[test]
fn add_after_stop_is_refused() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    assert!(app.stop().is_empty());
    let runs = Tally::new();
    let dropped = Arc::new(());
    let (late, held) = (runs.clone(), dropped.clone());
    let refused = app.add("late", move |_: &Context| {
        let _held = &held;
        late.add();
        Ok(())
    });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Stopped);
    // Nobody has it any more, so nobody can run it.
    assert_eq!(Arc::strong_count(&dropped), 1);
    assert_eq!(runs.get(), 0);
}

#[test]
fn hundred_failing_services_are_all_reported() {
    const SERVICES: usize = 100;
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let ((ping, pings), (pong, pongs)) = (unbounded::<()>(), unbounded::<()>());
    add_running(&app, "good", move |ctx: &Context| {
        while !ctx.is_stopping() {
            if pings.recv_timeout(ms(1)).is_ok() {
                pong.send(())?;
            }
        }
        Ok(())
    });
    app.add_all((0..SERVICES).map(|n| {
        let fails = move |_: &Context| -> ServiceResult {
            assert!(n % 2 == 0, "panic {n}");
            Err(format!("error {n}").into())
        };
        Spec::new(format!("s{n}"), fails).restart(Restart::Never)
    }))
    .unwrap();
    for n in 0..SERVICES {
        let path = format!("app.s{n}");
        let failure = failed(&events.wait(&path, "failed")).failure;
        let (kind, text) = match n % 2 {
            0 => (FailureKind::Error, format!("error {n}")),
            _ => (FailureKind::Panic, format!("panic {n}")),
        };
        assert_eq!((failure.path(), failure.kind()), (path.as_str(), kind));
        assert_eq!(failure.message(), text);
        wait_gone(&app, &path);
    }
    let failures = events.all().iter().filter(|e| e.word() == "failed").count();
    assert_eq!(failures, SERVICES);
    assert_eq!(app.report().services().len(), 1);
    ping.send(()).unwrap();
    take(&pongs);
    assert!(app.stop().is_empty());
    app.wait().unwrap();
}

#[test]
fn instantly_finished_service_is_not_running() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let id = app
        .add_spec(Spec::new("a", |_: &Context| Ok(())).restart(Restart::OnFailure))
        .unwrap();
    app.wait_service(id, PATIENCE).unwrap();
    pass(ms(100));
    let a = entry(&app, "app.a");
    assert_eq!((a.state(), a.starts(), a.failures()), (State::Done, 1, 0));
    assert!(app.stop().is_empty());
}

#[test]
fn group_runs_and_stops_its_members_together() {
    const MEMBERS: u64 = 100;
    let app = Supervisor::new("app");
    let group = Supervisor::builder("group")
        .stop_order(StopOrder::Parallel)
        .build()
        .unwrap();
    let (runs, ends) = (Tally::new(), Tally::new());
    for n in 0..MEMBERS {
        let member = ending(&ends, counted(&runs, slow_to_stop(ms(100))));
        group.add(format!("m{n}"), member).unwrap();
    }
    app.add("group", group).unwrap();
    app.start().unwrap();
    runs.reach(MEMBERS);
    pass(ms(500));
    assert_eq!(ends.get(), 0);
    let report = app.report();
    let running = report.iter().filter(|s| s.state() == State::Running);
    assert_eq!(running.count() as u64, MEMBERS + 1, "{report}");
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!((ms(100)..secs(2)).contains(&took), "{took:?}");
    assert_eq!((runs.get(), ends.get()), (MEMBERS, MEMBERS));
}

/// A group of three significant members and one plain one, which has been entered.
fn group_of(when: AutoShutdown) -> (Supervisor, Vec<Strings>, Recorder) {
    let app = Supervisor::new("app");
    let group = Supervisor::builder("group")
        .auto_shutdown(when)
        .stop_order(StopOrder::Parallel)
        .build()
        .unwrap();
    let events = Recorder::of(&app);
    let runs = Tally::new();
    let mut members = Vec::new();
    for n in 1..=3 {
        let (strings, service) = puppet();
        let member = counted(&runs, service);
        let spec = Spec::new(format!("s{n}"), member).restart(Restart::OnFailure);
        group.add_spec(spec.significant()).unwrap();
        members.push(strings);
    }
    group.add("plain", counted(&runs, obedient())).unwrap();
    let spec = Spec::new("group", group).restart(Restart::OnFailure);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    runs.reach(4);
    (app, members, events)
}

#[test]
fn group_ends_when_all_significant_members_are_done() {
    let (app, members, mut events) = group_of(AutoShutdown::AllSignificant);
    for (n, member) in members[..2].iter().enumerate() {
        member.ok();
        wait_state(&app, &format!("app.group.s{}", n + 1), State::Done);
    }
    assert_eq!(events.count("app.group.plain", "stopping"), 0);
    assert_eq!(state(&app, "app.group"), State::Running);
    members[2].ok();
    wait_state(&app, "app.group", State::Done);
    assert_eq!(events.count("app.group.plain", "stopped"), 1);
    assert_eq!(entry(&app, "app.group").failures(), 0);
    assert!(app.stop().is_empty());

    let (app, members, mut events) = group_of(AutoShutdown::AnySignificant);
    members[1].ok();
    wait_state(&app, "app.group", State::Done);
    for other in ["s1", "s3", "plain"] {
        let path = format!("app.group.{other}");
        assert_eq!(events.count(&path, "stopped"), 1, "{path}");
    }
    assert_eq!(events.count("app.group.s2", "done"), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn service_reaches_its_supervisor_and_the_root() {
    let app = Supervisor::new("app");
    let mid = Supervisor::new("mid");
    let runs = Tally::new();
    let added = runs.clone();
    let end = Arc::new(AtomicBool::new(false));
    let told = end.clone();
    let leaf = move |ctx: &Context| {
        let x = ctx.supervisor().add("x", counted(&added, obedient()))?;
        let y = ctx.root().add("y", counted(&added, obedient()))?;
        assert_eq!(ctx.supervisor().id("x"), Some(x));
        assert_eq!(ctx.root().id("y"), Some(y));
        assert_eq!(ctx.supervisor().path(), "app.mid");
        assert_eq!(ctx.root().path(), "app");
        while !told.load(Ordering::Relaxed) {
            ctx.sleep(ms(1))?;
        }
        Ok(())
    };
    let spec = Spec::new("leaf", leaf).restart(Restart::OnFailure);
    mid.add_spec(spec).unwrap();
    app.add("mid", mid).unwrap();
    app.start().unwrap();
    runs.reach(2);
    end.store(true, Ordering::Relaxed);
    wait_state(&app, "app.mid.leaf", State::Done);
    for path in ["app.mid.x", "app.y"] {
        let runs_on = entry(&app, path);
        assert_eq!((runs_on.state(), runs_on.starts()), (State::Running, 1));
    }
    assert!(!is_listed(&app, "app.x") && !is_listed(&app, "app.mid.y"));
    assert!(app.stop().is_empty());
}

#[test]
fn shutdown_from_deep_inside_stops_the_tree() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    // Each branch has a busy service on each level.
    let branch = |leaf: Option<Spec>| {
        let (mid, low) = (Supervisor::new("mid"), Supervisor::new("low"));
        low.add("busy", counted(&runs, busy)).unwrap();
        if let Some(leaf) = leaf {
            low.add_spec(leaf).unwrap();
        }
        mid.add("busy", counted(&runs, busy)).unwrap();
        mid.add("low", low).unwrap();
        mid
    };
    let others = runs.clone();
    let leaf = move |ctx: &Context| {
        others.reach(4);
        ctx.shutdown();
        ctx.wait_stop();
        Ok(())
    };
    app.add("one", branch(None)).unwrap();
    app.add("two", branch(Some(Spec::new("leaf", leaf))))
        .unwrap();
    app.serve().unwrap();
    let mut of = |word: &str| -> Vec<String> {
        let all = events.all().iter().filter(|e| e.word() == word);
        all.map(|e| e.path().to_owned()).collect()
    };
    let asked = [
        "two",
        "two.low",
        "two.low.leaf",
        "two.low.busy",
        "two.busy",
        "one",
        "one.low",
        "one.low.busy",
        "one.busy",
    ];
    assert_eq!(of("stopping"), asked.map(|name| format!("app.{name}")));
    let ended = [
        "two.low.leaf",
        "two.low.busy",
        "two.low",
        "two.busy",
        "two",
        "one.low.busy",
        "one.low",
        "one.busy",
        "one",
    ];
    assert_eq!(of("stopped"), ended.map(|name| format!("app.{name}")));
    assert!(app.stop().is_empty());
}

/// Works until it is asked to stop.
fn busy(ctx: &Context) -> ServiceResult {
    while !ctx.is_stopping() {
        thread::yield_now();
    }
    Ok(())
}
