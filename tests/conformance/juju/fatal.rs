//! Failures that take everything down.

use std::error::Error as _;

use backstay::{Context, ErrorKind, Failure, Service, Spec, Supervisor};
use crossbeam_channel::unbounded;

use super::parts::Diary;
use crate::common::watch::{SOON, assert_lives, blame, entry, puppet, quiet};
use crate::common::{
    Gate, HOUR, Recorder, Tally, add_running, add_running_as, counted, fails, ms, obedient,
    slow_to_stop, take, timed, unlimited,
};

#[test]
fn fatal_if_stops_everything_and_wait_returns_it() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let mut events = Recorder::of(&app);
    for name in ["a", "b"] {
        app.add_spec(diary.part(name, obedient()).spec()).unwrap();
    }
    let (strings, service) = puppet();
    let f = diary.part("f", service).spec();
    app.add_spec(f.fatal_if(|failure| failure.message().contains("fatal")))
        .unwrap();
    app.start().unwrap();
    for line in ["a 1", "b 1", "f 1"] {
        diary.wait(line);
    }
    strings.fail("hiccup");
    diary.wait("f 2");
    assert_lives(&app);
    diary.forget();

    strings.fail("fatal: keys lost");
    let error = app.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert_eq!(blame(&error), ("app.f", "fatal: keys lost"));
    assert_eq!(diary.lines(), ["f 2 ends", "b 1 ends", "a 1 ends"]);
    assert_eq!(events.who("stopped"), ["app.b", "app.a"]);
    let starts = ["a", "b", "f"].map(|name| entry(&app, &format!("app.{name}")).starts());
    assert_eq!(starts, [1, 1, 2]);
}

#[test]
fn fatal_if_judges_the_mapped_failure() {
    let app = unlimited("app");
    let spec = Spec::new("f", fails(1, "boom"))
        .map_failure(|error| Err(format!("fatal {error}").into()))
        .fatal_if(|failure| failure.message().contains("fatal"));
    app.add_spec(spec).unwrap();
    let error = app.serve().unwrap_err();
    assert_eq!(blame(&error), ("app.f", "fatal boom"));
    let mut chain = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        chain.push(error.to_string());
        cause = error.source();
    }
    assert!(chain.iter().any(|text| text == "boom"), "{chain:?}");
}

/// b fails fatally; then a does, before it is asked to stop, while c takes its time. What `wait` says,
/// and whose failures were told.
fn two_failures(app: &Supervisor) -> (String, Vec<String>) {
    let mut events = Recorder::of(app);
    let runs = Tally::new();
    let [a, b] = ["a", "b"].map(|name| {
        let (strings, service) = puppet();
        let spec = Spec::new(name, counted(&runs, service)).fatal_if(|_| true);
        app.add_spec(spec).unwrap();
        strings
    });
    let c = counted(&runs, slow_to_stop(ms(300)));
    app.add_spec(Spec::new("c", c).fatal_if(|_| true)).unwrap();
    app.start().unwrap();
    runs.reach(3);
    b.fail("bad");
    // The last one is asked first.
    events.wait("app.c", "stopping");
    a.fail("worst");
    let error = app.wait().unwrap_err();
    let (path, text) = blame(&error);
    (format!("{path}: {text}"), events.who("failed"))
}

#[test]
fn rank_failures_returns_the_worst() {
    let rank = |failure: &Failure| i32::from(failure.message() == "worst");
    let ranked = quiet("app").rank_failures(rank).build().unwrap();
    let (answer, failed) = two_failures(&ranked);
    assert_eq!(answer, "app.a: worst");
    assert_eq!(failed, ["app.b", "app.a"]);
    // Without it the first one wins.
    let (answer, failed) = two_failures(&unlimited("app"));
    assert_eq!(answer, "app.b: bad");
    assert_eq!(failed, ["app.b", "app.a"]);
}

#[test]
fn error_after_the_stop_request_is_never_fatal() {
    let app = unlimited("app");
    app.start().unwrap();
    let c = |ctx: &Context| {
        ctx.wait_stop();
        Err("x".into())
    };
    let asked = Tally::new();
    let asks = asked.clone();
    let fatal = move |_: &Failure| {
        asks.add();
        true
    };
    let id = add_running_as(&app, "c", c, |spec| spec.fatal_if(fatal));
    assert!(app.stop().is_empty());
    app.wait().unwrap();
    let c = entry(&app, "app.c");
    assert_eq!(c.last_failure().unwrap().message(), "x");
    assert_eq!(c.failures(), 0);
    assert_eq!(app.id("c"), Some(id));
    assert_eq!(asked.get(), 0, "nobody is asked about a stop for good");
}

/// f, which fails fatally when the gate opens.
fn fatal(go: &Gate) -> Spec {
    let go = go.clone();
    let service = move |_: &Context| {
        go.wait();
        Err("fatal".into())
    };
    Spec::new("f", service).fatal_if(|_| true)
}

/// Sits in its set-up until it is asked to stop.
fn in_set_up(service: impl Service) -> Spec {
    Spec::new("a", service).ready_timeout(HOUR)
}

#[test]
fn fatal_failure_while_another_is_in_set_up_ends() {
    let (app, runs, go) = (unlimited("app"), Tally::new(), Gate::new());
    app.add_spec(in_set_up(counted(&runs, obedient()))).unwrap();
    app.add_spec(fatal(&go)).unwrap();
    app.start().unwrap();
    runs.reach(1);
    go.open();
    let (result, took) = timed(|| app.wait());
    assert_eq!(blame(&result.unwrap_err()), ("app.f", "fatal"));
    assert!(took < SOON, "{took:?}");
    assert_eq!(runs.get(), 1);
    assert_eq!(entry(&app, "app.a").starts(), 1);
}

#[test]
fn adding_from_set_up_while_the_supervisor_fails_gets_an_error() {
    let (app, runs, go) = (unlimited("app"), Tally::new(), Gate::new());
    let (tell, told) = unbounded();
    let adds = move |ctx: &Context| {
        ctx.wait_stop();
        tell.send(ctx.supervisor().add("late", obedient()))?;
        Ok(())
    };
    app.add_spec(in_set_up(counted(&runs, adds))).unwrap();
    app.add_spec(fatal(&go)).unwrap();
    app.start().unwrap();
    runs.reach(1);
    go.open();
    let (result, took) = timed(|| app.wait());
    assert_eq!(blame(&result.unwrap_err()), ("app.f", "fatal"));
    assert!(took < SOON, "{took:?}");
    let refused = take(&told).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Stopping, "{refused}");
    assert_eq!(runs.get(), 1);
}

/// The one that is fatal is asked about panics and unwanted returns as well.
#[test]
fn fatal_if_judges_every_kind_of_failure() {
    for kind in ["panic", "return", "error"] {
        let app = unlimited("app");
        app.start().unwrap();
        let service = move |_: &Context| match kind {
            "panic" => panic!("p"),
            "return" => Ok(()),
            _ => Err("e".into()),
        };
        let spec = Spec::new("f", service).fatal_if(|_| true);
        app.add_spec(spec).unwrap();
        let error = app.wait().unwrap_err();
        assert_eq!(blame(&error).0, "app.f", "{kind}");
    }
    // Of a service that may be done an `Ok` is none.
    let app = unlimited("app");
    app.start().unwrap();
    add_running(&app, "b", obedient());
    let spec = Spec::new("f", |_: &Context| Ok(())).fatal_if(|_| true);
    let id = app
        .add_spec(spec.restart(backstay::Restart::OnFailure))
        .unwrap();
    app.wait_service(id, SOON).unwrap();
    assert_lives(&app);
    assert!(app.stop().is_empty());
}
