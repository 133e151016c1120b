//! What a report shows.

use backstay::{Backoff, Context, FailureKind, Next, Restart, Spec, State, StopOrder};

use crate::common::watch::{SOON, assert_lives, entry, quiet};
use crate::common::{
    Gate, HOUR, Recorder, Tally, add_running, counted, failed, obedient, secs, state, timed,
    unlimited, wait_for, wait_state,
};

#[test]
fn report_shows_state_and_history() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    add_running(&app, "running", obedient());
    let failing = Spec::new("failing", |ctx: &Context| {
        Err(format!("error {}", ctx.incarnation()).into())
    });
    let failing = app.add_spec(failing.backoff(Backoff::fixed(HOUR))).unwrap();
    for n in 1..3 {
        events.wait_nth("app.failing", "failed", n);
        app.start_service(failing).unwrap();
    }
    events.wait_nth("app.failing", "failed", 3);
    app.add_spec(Spec::new("done", |_: &Context| Ok(())).restart(Restart::OnFailure))
        .unwrap();
    let stopped = add_running(&app, "stopped", obedient());
    app.stop_service(stopped).unwrap();
    wait_state(&app, "app.stopped", State::Stopped);
    wait_state(&app, "app.done", State::Done);

    let report = app.report();
    let states: Vec<_> = report
        .services()
        .iter()
        .map(|s| (s.name(), s.state()))
        .collect();
    assert_eq!(
        states,
        [
            ("running", State::Running),
            ("failing", State::Backoff),
            ("done", State::Done),
            ("stopped", State::Stopped),
        ]
    );
    let failing = report.find("app.failing").unwrap();
    assert_eq!((failing.starts(), failing.failures()), (3, 3));
    assert_eq!(failing.last_failure().unwrap().message(), "error 3");
    let next = failing.next_start().unwrap();
    assert!(next <= HOUR && next > HOUR - secs(60), "{next:?}");
    let text = report.to_string();
    for part in ["backoff", "3 failures", "error 3", "next start in"] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(app.stop().is_empty());
}

#[test]
fn report_lists_in_start_order() {
    const SERVICES: usize = 2000;
    let release = Gate::new();
    let (observer, entered) = (release.clone(), Gate::new());
    let inside = entered.clone();
    let app = quiet("app")
        .stop_order(StopOrder::Parallel)
        .on_event(move |_| {
            inside.open();
            observer.wait();
        })
        .build()
        .unwrap();
    let runs = Tally::new();
    let names: Vec<String> = (0..SERVICES).map(|i| format!("s{i}")).collect();
    let specs = names.iter().map(|name| {
        // All of them block, the first one whatever it is told.
        let (release, first) = (release.clone(), name == "s0");
        let service = counted(&runs, move |ctx: &Context| {
            if first {
                release.wait();
            } else {
                ctx.wait_stop();
            }
            Ok(())
        });
        Spec::new(name, service).stack_size(backstay::STACK_SIZE_MIN)
    });
    app.add_all(specs).unwrap();
    app.start().unwrap();
    runs.reach(SERVICES as u64);
    entered.wait();

    let (report, took) = timed(|| app.report());
    assert!(took < SOON, "{took:?}");
    let listed: Vec<&str> = report.services().iter().map(|s| s.name()).collect();
    assert_eq!(listed, names);
    assert!(
        report
            .services()
            .iter()
            .all(|s| s.state() == State::Running)
    );
    release.open();
    assert!(app.stop().is_empty());
}

#[test]
fn failed_spawn_is_a_failed_start() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let a = Spec::new("a", counted(&runs, obedient())).stack_size(1 << 60);
    app.add_spec(a.backoff(Backoff::fixed(HOUR))).unwrap();
    app.add("b", obedient()).unwrap();
    app.start().unwrap();

    let told = failed(&events.wait("app.a", "failed"));
    assert_eq!(told.failure.kind(), FailureKind::Spawn);
    let message = told.failure.message();
    assert!(message.contains("could not start the thread"), "{message}");
    assert_eq!(told.next, Next::Restart { delay: HOUR });
    wait_for("b runs", || state(&app, "app.b") == State::Running);
    events.settle();
    assert_eq!(events.who("failed"), ["app.a"]);
    assert_lives(&app);
    let next = entry(&app, "app.a").next_start().unwrap();
    assert!(next <= HOUR && next > HOUR - secs(60), "{next:?}");
    assert!(app.stop().is_empty());
    assert_eq!(runs.get(), 0);
}
