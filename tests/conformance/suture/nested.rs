//! Supervisors as services.

use backstay::{Context, Event, FailureKind, Restart, Spec, State, Supervisor};
use crossbeam_channel::{Receiver, unbounded};

use crate::common::{
    Recorder, Tally, add_running, counted, failed, fails, obedient, secs, state, take, wait_state,
};

#[test]
fn nested_services_start_with_the_parent() {
    let app = Supervisor::new("app");
    let inner = Supervisor::new("inner");
    let (told, paths) = unbounded();
    let service = move |ctx: &Context| {
        told.send(ctx.path().to_owned())?;
        ctx.wait_stop();
        Ok(())
    };
    inner.add("a", service).unwrap();
    app.add("inner", inner).unwrap();
    app.start().unwrap();

    assert_eq!(take(&paths), "app.inner.a");
    wait_state(&app, "app.inner.a", State::Running);
    let report = app.report();
    assert_eq!(report.path(), "app");
    let paths: Vec<&str> = report.iter().map(backstay::ServiceReport::path).collect();
    assert_eq!(paths, ["app.inner", "app.inner.a"]);
    assert!(
        report.to_string().contains("app.inner.a (running)"),
        "{report}"
    );
    app.stop();
}

#[test]
fn root_observer_sees_the_subtree() {
    let (tell_root, root) = unbounded();
    let (tell_inner, below) = unbounded();
    let app = Supervisor::builder("app")
        .on_event(move |event| tell_root.send(event.clone()).unwrap())
        .build()
        .unwrap();
    let inner = Supervisor::builder("inner")
        .on_event(move |event| tell_inner.send(event.clone()).unwrap())
        .build()
        .unwrap();
    inner.add("a", fails(1, "once")).unwrap();
    app.add("inner", inner).unwrap();
    app.start().unwrap();
    let next_failed = |observer: &Receiver<Event>| loop {
        let event = take(observer);
        if event.word() == "failed" {
            return event.path().to_owned();
        }
    };
    assert_eq!(next_failed(&root), "app.inner.a");
    assert_eq!(next_failed(&below), "app.inner.a");
    app.add("b", fails(1, "once")).unwrap();
    assert_eq!(next_failed(&root), "app.b");
    app.stop();
    assert!(below.try_iter().all(|e| e.path() != "app.b"));
}

#[test]
fn add_to_a_sub_supervisor_just_added() {
    const SUPERVISORS: usize = 1000;
    let app = Supervisor::new("app");
    app.start().unwrap();
    let all = Tally::new();
    let runs: Vec<Tally> = (0..SUPERVISORS).map(|_| Tally::new()).collect();
    let begun = std::time::Instant::now();
    for (i, runs) in runs.iter().enumerate() {
        let inner = Supervisor::new("inner");
        app.add(format!("n{i}"), inner.clone()).unwrap();
        inner
            .add("a", counted(&all, counted(runs, obedient())))
            .unwrap();
    }
    all.reach(SUPERVISORS as u64);
    assert!(begun.elapsed() < secs(10), "{:?}", begun.elapsed());
    assert!(app.stop().is_empty());
    assert!(runs.iter().all(|runs| runs.get() == 1));
}

#[test]
fn stop_on_a_nested_handle_is_an_unasked_end() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let (inner, inner2) = (Supervisor::new("inner"), Supervisor::new("inner2"));
    inner.add("a", obedient()).unwrap();
    inner2.add("b", obedient()).unwrap();
    app.add("inner", inner.clone()).unwrap();
    app.add_spec(Spec::new("inner2", inner2.clone()).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    events.wait("app.inner.a", "started");
    events.wait("app.inner2.b", "started");

    assert!(inner.stop().is_empty());
    let told = failed(&events.wait("app.inner", "failed"));
    assert_eq!(
        (told.failure.kind(), told.count),
        (FailureKind::Returned, 1.0)
    );
    assert_eq!(events.wait_nth("app.inner", "started", 2).incarnation(), 2);
    events.wait_nth("app.inner.a", "started", 2);

    assert!(inner2.stop().is_empty());
    events.wait("app.inner2", "done");
    wait_state(&app, "app.inner2", State::Done);
    assert_eq!(events.count("app.inner2.b", "started"), 1);
    app.stop();
    assert_eq!(events.count("app.inner", "failed"), 1);
    assert_eq!(events.count("app.inner2", "failed"), 0);
}

#[test]
fn supervisor_has_one_parent() {
    let (app, app2, s) = (
        Supervisor::new("app"),
        Supervisor::new("app2"),
        Supervisor::new("s"),
    );
    let inner = Supervisor::new("inner");
    app.add("inner", inner.clone()).unwrap();
    for root in [&app, &app2, &s] {
        root.start().unwrap();
    }
    add_running(&inner, "a", obedient());
    add_running(&s, "a", obedient());
    let mut events = [&app, &app2, &s].map(Recorder::of);

    app2.add("inner", inner.clone()).unwrap_err();
    inner.add("inner", inner.clone()).unwrap_err();
    app.add("s", s.clone()).unwrap_err();

    for recorder in &mut events {
        assert!(recorder.all().is_empty(), "{:#?}", recorder.all());
    }
    assert_eq!(state(&app, "app.inner.a"), State::Running);
    assert_eq!(state(&s, "s.a"), State::Running);
    assert!(app2.report().services().is_empty());
    assert_eq!(app.report().services().len(), 1);
    // Those that were refused are still whole.
    add_running(&inner, "b", obedient());
    add_running(&s, "b", obedient());
    for root in [&app, &app2, &s] {
        assert!(root.stop().is_empty());
    }
}
