//! Stops and adds while services are in their set-up.

use std::sync::Arc;

use backstay::{Context, Spec, State};
use crossbeam_channel::unbounded;

use crate::common::watch::{SOON, assert_lives, entry, failures};
use crate::common::{
    HOUR, Recorder, Tally, counted, ending, obedient, take, timed, unlimited, wait_for,
};

#[test]
fn stop_during_set_up_is_final() {
    let (app, runs) = (unlimited("app"), Tally::new());
    let mut events = Recorder::of(&app);
    let spec = Spec::new("a", counted(&runs, obedient())).ready_timeout(HOUR);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    runs.reach(1);
    assert_eq!(entry(&app, "app.a").state(), State::Starting);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    app.wait().unwrap();
    assert_eq!(runs.get(), 1);
    assert_eq!(failures(&app), 0);
    assert_eq!(
        events.words("app.a"),
        ["added", "started", "stopping", "stopped"]
    );
}

#[test]
fn service_adds_siblings_to_its_own_supervisor() {
    let app = unlimited("app");
    let ends = Tally::new();
    let sibling_ends = ends.clone();
    let (tell, told) = unbounded();
    let adds = move |ctx: &Context| {
        let sibling = || ending(&sibling_ends, obedient());
        tell.send(ctx.supervisor().add("b", sibling()))?;
        ctx.ready();
        tell.send(ctx.supervisor().add("c", sibling()))?;
        ctx.wait_stop();
        Ok(())
    };
    app.add_spec(Spec::new("a", ending(&ends, adds)).ready_timeout(HOUR))
        .unwrap();
    app.start().unwrap();
    let ids = [take(&told).unwrap(), take(&told).unwrap()];
    assert_eq!(ids.map(Some), [app.id("b"), app.id("c")]);
    app.wait_ready(SOON).unwrap();
    let paths: Vec<String> = app.report().iter().map(|s| s.path().to_owned()).collect();
    assert_eq!(paths, ["app.a", "app.b", "app.c"]);
    assert_lives(&app);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    wait_for("all have ended", || {
        app.report().iter().all(|s| s.state() == State::Stopped)
    });
    // Those that were entered: who is asked first never is.
    assert!(ends.get() >= 1);
}

#[test]
fn hundred_concurrent_adds_then_stop() {
    const THREADS: u64 = 100;
    let app = unlimited("app");
    let (runs, ends) = (Tally::new(), Tally::new());
    let (runs_below, ends_below) = (runs.clone(), ends.clone());
    let (tell, told) = unbounded();
    let adds = move |ctx: &Context| {
        let go = Arc::new(std::sync::Barrier::new(THREADS as usize));
        let adders: Vec<_> = (0..THREADS)
            .map(|i| {
                let (app, go, tell) = (ctx.supervisor().clone(), go.clone(), tell.clone());
                let service = ending(&ends_below, counted(&runs_below, obedient()));
                std::thread::spawn(move || {
                    go.wait();
                    let added = app.add(format!("s{i}"), service);
                    tell.send(added.is_ok()).unwrap();
                })
            })
            .collect();
        for adder in adders {
            adder.join().unwrap();
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("adds", adds).unwrap();
    app.start().unwrap();
    let mut answers = 0;
    for _ in 0..50 {
        while !take(&told) {
            answers += 1;
        }
        answers += 1;
    }
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON + SOON, "{took:?}");
    // Every call gets its answer, and nothing that was started is left.
    for _ in answers..THREADS {
        take(&told);
    }
    assert_eq!(runs.get(), ends.get());
    for service in app.report().iter() {
        assert_eq!(service.state(), State::Stopped, "{service}");
    }
    let runs_then = runs.get();
    crate::common::pass(crate::common::ms(100));
    assert_eq!(runs.get(), runs_then, "a service runs after the stop");
}
