//! Stopping a whole supervisor.

use std::sync::Arc;

use backstay::{
    Context, End, ErrorKind, Exceeded, Exit, Limit, Restart, Service, ServiceResult, Spec, State,
    Supervisor,
};

use crate::common::process::{in_own_process, threads, wait_threads};
use crate::common::{
    Gate, Recorder, Tally, add_running, add_running_as, answer, count_with_one_more, ending, hung,
    ms, obedient, secs, timed, unlimited, wait_for,
};

#[test]
fn stop_ends_every_service() {
    let app = Supervisor::new("app");
    let ends = Tally::new();
    app.start().unwrap();
    for name in ["a", "b", "c"] {
        add_running(&app, name, ending(&ends, obedient()));
    }

    let stopped = app.stop();
    assert_eq!(ends.get(), 3);
    assert!(stopped.is_empty(), "{stopped}");
    let report = app.report();
    let states: Vec<_> = report
        .services()
        .iter()
        .map(|s| (s.path(), s.state()))
        .collect();
    let all = ["app.a", "app.b", "app.c"].map(|path| (path, State::Stopped));
    assert_eq!(states, all);
}

#[test]
fn stop_with_a_hung_service_still_ends() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let release = Gate::new();
    let ends = Tally::new();
    app.start().unwrap();
    let service = hung(&release);
    add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(50)));
    add_running(&app, "b", ending(&ends, obedient()));

    let (report, took) = timed(|| app.stop());
    assert!((ms(50)..secs(2)).contains(&took), "{took:?}");
    assert_eq!(ends.get(), 1);
    assert_eq!(events.count("app.a", "abandoned"), 1);
    assert_eq!(events.count("app.b", "abandoned"), 0);
    let [hanging] = report.unstopped() else {
        panic!("{report}")
    };
    assert_eq!((hanging.path(), hanging.incarnation()), ("app.a", 1));
    assert_eq!(hanging.thread_name(), "app.a");
    assert!(
        (ms(50)..secs(2)).contains(&hanging.waited()),
        "{:?}",
        hanging.waited()
    );
    release.open();
}

/// In real time with a short timeout; the defaults are the machine's.
#[test]
fn stop_report_names_the_grandchild() {
    let release = Gate::new();
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let inner = Supervisor::builder("inner")
        .service_stop_timeout(ms(100))
        .build()
        .unwrap();
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    add_running(&inner, "hung", hung(&release));

    let (report, took) = timed(|| app.stop());
    assert!((ms(100)..secs(5)).contains(&took), "{took:?}");
    let [hanging] = report.unstopped() else {
        panic!("{report}")
    };
    assert_eq!(hanging.path(), "app.inner.hung");
    assert_eq!(events.count("app.inner.hung", "abandoned"), 1);
    assert_eq!(events.count("app.inner", "abandoned"), 0);
    release.open();
}

#[test]
fn anything_returned_after_a_stop_is_clean() {
    let app = Supervisor::builder("app").quiet_panics().build().unwrap();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let after_stop = |end: fn() -> ServiceResult| {
        move |ctx: &Context| {
            ctx.wait_stop();
            end()
        }
    };
    type Ending = fn() -> ServiceResult;
    let ends: [(&str, Ending, &str); 3] = [
        ("error", || Err("an error".into()), "an error"),
        ("panic", || panic!("a panic"), "a panic"),
        (
            "exit",
            || Err(Exit::TerminateTree.because("an exit").into()),
            "an exit",
        ),
    ];
    for (name, end, text) in ends {
        let id = add_running(&app, name, after_stop(end));
        app.remove(id).unwrap();
        let path = format!("app.{name}");
        let came_back = answer(&events.wait(&path, "stopped")).unwrap();
        assert!(came_back.message().contains(text), "{came_back}");
        events.wait(&path, "removed");
        assert_eq!(events.count(&path, "failed"), 0);
    }
    assert_eq!(count_with_one_more(&app), 1.0);
    assert!(app.wait_timeout(ms(0)).is_none());
    app.stop();
}

/// In a process of its own, so that its threads can be counted.
#[test]
fn end_after_the_supervisor_is_gone_leaks_nothing() {
    in_own_process(
        "stop::end_after_the_supervisor_is_gone_leaks_nothing",
        || {
            let before = threads();
            let release = Gate::new();
            let ends = Tally::new();
            let app = Supervisor::new("app");
            let mut events = Recorder::of(&app);
            app.start().unwrap();
            let service = ending(&ends, hung(&release));
            add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(50)));
            assert_eq!(app.stop().unstopped().len(), 1);
            assert_eq!(events.count("app.a", "abandoned"), 1);
            drop((app, events));

            assert!(threads() > before);
            release.open();
            ends.reach(1);
            wait_threads(before);
        },
    );
}

#[test]
fn wait_service_answers_with_the_end() {
    let app = unlimited("app");
    let job = |ctx: &Context| {
        ctx.sleep(ms(100))?;
        Ok(())
    };
    let given_up = Limit::budget(0, 0).then(Exceeded::StopService);
    let j = app
        .add_spec(Spec::new("j", job).restart(Restart::OnFailure))
        .unwrap();
    let g = app
        .add_spec(Spec::new("g", |_: &Context| Err("x".into())).limit(given_up))
        .unwrap();
    let k = app.add("k", obedient()).unwrap();
    app.start().unwrap();

    for _ in 0..2 {
        let end = app.wait_service(j, secs(1)).unwrap();
        assert!(matches!(end, End::Done), "{end:?}");
        match app.wait_service(g, secs(1)).unwrap() {
            End::GivenUp { failure } => {
                assert_eq!((failure.path(), failure.message()), ("app.g", "x"));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(
            app.wait_service(k, ms(50)).unwrap_err().kind(),
            ErrorKind::Timeout
        );
    }
    app.stop();
}

#[test]
fn service_value_is_dropped_with_its_removal() {
    struct Idle;
    impl Service for Idle {
        fn run(&self, ctx: &Context) -> ServiceResult {
            ctx.wait_stop();
            Ok(())
        }
    }
    let app = Supervisor::new("app");
    app.start().unwrap();
    let (removed, stopped) = (Arc::new(Idle), Arc::new(Idle));
    let id = app.add("a", removed.clone()).unwrap();
    app.add("b", stopped.clone()).unwrap();
    app.remove_and_wait(id, secs(30)).unwrap();
    assert_eq!(Arc::strong_count(&removed), 1);

    app.stop();
    drop(app);
    wait_for("the value is dropped", || Arc::strong_count(&stopped) == 1);
}
