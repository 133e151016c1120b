//! How an application shuts down, and what may happen meanwhile.

use std::time::Duration;

use backstay::{Backoff, Context, ErrorKind, Spec, State, StopOrder, Supervisor};

use crate::common::watch::{is_listed, wait_gone};
use crate::common::{
    Recorder, Tally, add_running, counted, ms, obedient, pass, secs, slow_to_stop, state, timed,
    unlimited, wait_state,
};

/// An answer that waits for nothing.
const AT_ONCE: Duration = secs(1);

#[test]
fn shutdown_ends_when_all_have_ended() {
    let app = Supervisor::builder("app")
        .stop_order(StopOrder::Parallel)
        .stop_timeout(secs(5))
        .build()
        .unwrap();
    let starts = Tally::new();
    for name in ["a", "b", "c", "d", "e"] {
        app.add(name, counted(&starts, slow_to_stop(ms(100))))
            .unwrap();
    }
    app.start().unwrap();
    starts.reach(5);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!((ms(100)..secs(1)).contains(&took), "{took:?}");
}

#[test]
fn removal_during_a_delay_wedges_nothing() {
    const DELAY: Duration = secs(3);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let fails = counted(&runs, |_: &Context| Err("no route".into()));
    let spec = Spec::new("p", fails).backoff(Backoff::fixed(DELAY));
    app.start().unwrap();
    let p = app.add_spec(spec).unwrap();
    wait_state(&app, "app.p", State::Backoff);

    let (removed, took) = timed(|| app.remove(p));
    removed.unwrap();
    assert!(took < AT_ONCE, "{took:?}");
    let (_, took) = timed(|| add_running(&app, "q", obedient()));
    assert!(took < AT_ONCE, "{took:?}");
    let (report, took) = timed(|| app.report());
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(report.find("app.q").unwrap().state(), State::Running);
    wait_gone(&app, "app.p");
    events.wait("app.p", "removed");

    // Nor is it started when its delay would be over.
    pass(DELAY + ms(100));
    assert_eq!(runs.get(), 1);
    assert_eq!(events.count("app.p", "started"), 1);
    assert!(!is_listed(&app, "app.p"));
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < AT_ONCE, "{report} {took:?}");
}

#[test]
fn service_can_ask_for_shutdown() {
    let app = Supervisor::new("app");
    let (mid, low) = (Supervisor::new("mid"), Supervisor::new("low"));
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let others = runs.clone();
    low.add("p", move |ctx: &Context| {
        // All the others run.
        others.reach(3);
        ctx.shutdown();
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    low.add("c", counted(&runs, obedient())).unwrap();
    mid.add("low", low).unwrap();
    app.add("a", counted(&runs, obedient())).unwrap();
    app.add("mid", mid).unwrap();
    app.add("b", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    app.wait().unwrap();
    let ends: Vec<String> = events
        .all()
        .iter()
        .filter(|event| event.word() == "stopped")
        .map(|event| event.path().to_owned())
        .collect();
    let order = ["b", "mid.low.c", "mid.low.p", "mid.low", "mid", "a"];
    assert_eq!(ends, order.map(|name| format!("app.{name}")));
    assert_eq!(state(&app, "app.mid.low.p"), State::Stopped);
    assert!(app.stop().is_empty());
    let refused = app.add("late", obedient()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Stopped);
}
