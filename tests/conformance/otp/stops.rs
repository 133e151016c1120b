//! Stops that user code gets in the way of.

use std::sync::OnceLock;

use backstay::{
    Context, ErrorKind, EventKind, Failure, Service, ServiceResult, Spec, State, StopOrder,
};

use crate::common::watch::{SOON, entry, failures, hooked, puppet, quiet};
use crate::common::{
    Gate, HOUR, Recorder, Tally, counted, ms, obedient, secs, state, timed, unlimited, wait_for,
};

#[test]
fn stop_goes_on_past_a_panicking_hook() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let calls = ["a", "b", "c"].map(|name| {
        let calls = Tally::new();
        let mut service = hooked(&calls);
        service.panics = true;
        app.add(name, counted(&runs, service)).unwrap();
        calls
    });
    app.start().unwrap();
    runs.reach(3);

    assert!(app.stop().is_empty());
    assert_eq!(events.who("stopped"), ["app.c", "app.b", "app.a"]);
    assert_eq!(calls.map(|calls| calls.get()), [1, 1, 1]);
    assert_eq!(events.who("hook panicked"), ["app.c", "app.b", "app.a"]);
    let messages = events.all().iter().filter_map(|e| match e.kind() {
        EventKind::HookPanicked { message } => Some(message.to_string()),
        _ => None,
    });
    for message in messages {
        assert!(message.contains("the hook panics"), "{message}");
    }
}

#[test]
fn blocking_hook_does_not_starve_the_others() {
    struct Blocks(Gate);
    impl Service for Blocks {
        fn run(&self, _: &Context) -> ServiceResult {
            self.0.wait();
            Ok(())
        }

        fn interrupt(&self) {
            self.0.wait();
        }
    }
    let app = quiet("app")
        .stop_order(StopOrder::Parallel)
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let (release, runs) = (Gate::new(), Tally::new());
    app.add("a", counted(&runs, hooked(&Tally::new()))).unwrap();
    let b = Spec::new("b", counted(&runs, Blocks(release.clone())));
    app.add_spec(b.stop_timeout(ms(100))).unwrap();
    app.add("c", counted(&runs, hooked(&Tally::new()))).unwrap();
    app.start().unwrap();
    runs.reach(3);

    let (report, took) = timed(|| app.stop());
    assert!((ms(100)..SOON).contains(&took), "{took:?}");
    let unstopped: Vec<&str> = report.unstopped().iter().map(|u| u.path()).collect();
    assert_eq!(unstopped, ["app.b"]);
    let ends = events.story(&["stopped", "abandoned"]);
    assert_eq!(ends.len(), 3);
    assert_eq!(ends[2], "app.b abandoned");
    release.open();
}

#[test]
fn blocked_observer_does_not_block_a_stop() {
    let (release, entered) = (Gate::new(), Gate::new());
    let (blocked, inside) = (release.clone(), entered.clone());
    let app = quiet("app")
        .on_event(move |event| {
            if event.word() == "failed" {
                inside.open();
                // For ever, as far as the supervisor is concerned.
                blocked.wait_timeout(HOUR);
            }
        })
        .build()
        .unwrap();
    let (a, service) = puppet();
    app.add("a", service).unwrap();
    app.start().unwrap();
    a.fail("boom");
    entered.wait();

    assert_eq!(failures(&app), 1);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    let a = entry(&app, "app.a");
    assert_eq!(a.last_failure().map(Failure::message), Some("boom"));
    release.open();
}

#[test]
fn observer_that_stops_the_tree_does_not_deadlock() {
    static APP: OnceLock<backstay::Supervisor> = OnceLock::new();
    let returned = Gate::new();
    let observer_returned = returned.clone();
    let app = quiet("app")
        .on_event(move |event| {
            if event.word() == "failed" {
                wait_for("the test has set it", || APP.get().is_some());
                APP.get().unwrap().stop();
                observer_returned.open();
            }
        })
        .build()
        .unwrap();
    let (a, service) = puppet();
    app.add("a", service).unwrap();
    // Never ready.
    app.add_spec(Spec::new("b", obedient()).ready_timeout(HOUR))
        .unwrap();
    app.start().unwrap();
    APP.set(app.clone()).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| app.wait());
        let ((), took) = timed(|| {
            a.fail("boom");
            returned.wait();
            waiting.join().unwrap().unwrap();
        });
        assert!(took < secs(5), "{took:?}");
    });
}

#[test]
fn stop_is_idempotent() {
    let app = unlimited("app");
    let (runs, calls) = (Tally::new(), Tally::new());
    app.add("a", counted(&runs, hooked(&calls))).unwrap();
    app.add("b", counted(&runs, hooked(&calls))).unwrap();
    app.start().unwrap();
    runs.reach(2);

    for _ in 0..4 {
        assert!(app.stop().is_empty());
    }
    std::thread::scope(|scope| {
        let stops: Vec<_> = (0..8).map(|_| scope.spawn(|| app.stop())).collect();
        for stop in stops {
            let report = stop.join().unwrap();
            assert!(report.is_empty() && !report.only_requested(), "{report}");
        }
    });
    assert_eq!(calls.get(), 2);
}

#[test]
fn stop_before_start_runs_nothing() {
    let app = unlimited("app");
    let (runs, calls) = (Tally::new(), Tally::new());
    app.add("a", counted(&runs, hooked(&calls))).unwrap();

    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < SOON, "{took:?} {report}");
    assert_eq!(app.start().unwrap_err().kind(), ErrorKind::Stopped);
    assert_eq!(state(&app, "app.a"), State::Stopped);
    assert_eq!((runs.get(), calls.get()), (0, 0));
}
