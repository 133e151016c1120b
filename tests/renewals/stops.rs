//! Requests that end a service which starts again by itself, or its supervisor.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use backstay::{Context, ServiceResult, Spec, State};

use crate::Flaky;
use crate::common::{Gate, PATIENCE, Recorder, Tally, ms, unlimited, wait_for, wait_state};

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
