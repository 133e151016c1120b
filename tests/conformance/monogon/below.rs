//! Services that start services under themselves.

use backstay::{
    Context, ErrorKind, Restart, ServiceReport, ServiceResult, Spec, State, Supervisor,
};
use crossbeam_channel::{Sender, unbounded};

use crate::common::watch::{SOON, entry, failures, quiet};
use crate::common::{
    Gate, HOUR, PATIENCE, Recorder, Tally, counted, obedient, secs, state, take, timed, unlimited,
    wait_state,
};

type Said = Sender<(String, String)>;

/// Says its path and name, runs the first of these below itself, which does the same with the
/// others, and waits for its stop.
fn line(
    said: Said,
    below: &'static [(&'static str, &'static str)],
    ctx: &Context,
) -> ServiceResult {
    said.send((ctx.path().to_owned(), ctx.name().to_owned()))?;
    if let [(builder, child), rest @ ..] = below {
        let supervisor = ctx.supervise(quiet(builder))?;
        supervisor.add(*child, move |ctx: &Context| line(said.clone(), rest, ctx))?;
    }
    ctx.wait_stop();
    Ok(())
}

#[test]
fn path_joins_names_from_the_root() {
    let app = unlimited("app");
    let (tell, told) = unbounded();
    let ingest = move |ctx: &Context| line(tell.clone(), &[("x", "tcp"), ("y", "conn")], ctx);
    app.add("ingest", ingest).unwrap();
    app.start().unwrap();

    let expected = [
        ("app.ingest", "ingest"),
        ("app.ingest.tcp", "tcp"),
        ("app.ingest.tcp.conn", "conn"),
    ];
    for (path, name) in expected {
        assert_eq!(take(&told), (path.to_owned(), name.to_owned()));
    }
    let report = app.report();
    let paths: Vec<&str> = report.iter().map(ServiceReport::path).collect();
    assert_eq!(paths, expected.map(|(path, _)| path));
    let ([ingest], text) = (report.services(), report.to_string()) else {
        panic!("{report}")
    };
    let [tcp] = ingest.services() else {
        panic!("{text}")
    };
    assert_eq!(tcp.services().len(), 1, "{text}");
    assert!(app.stop().is_empty());
}

/// Says that it is ready and waits for its stop.
fn ready(ctx: &Context) -> ServiceResult {
    ctx.ready();
    ctx.wait_stop();
    Ok(())
}

#[test]
fn two_children_start_and_become_ready() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let p = |ctx: &Context| -> ServiceResult {
        let below = ctx.supervise(quiet("below"))?;
        for name in ["one", "two"] {
            let spec = Spec::new(name, ready).ready_timeout(secs(5));
            below.add_spec(spec.group("g"))?;
        }
        ready(ctx)
    };
    app.add_spec(Spec::new("p", p).ready_timeout(HOUR)).unwrap();
    app.start().unwrap();
    app.wait_ready(secs(5)).unwrap();

    let paths = ["app.p", "app.p.one", "app.p.two"];
    for path in paths {
        assert_eq!(state(&app, path), State::Ready);
        events.wait(path, "ready");
    }
    events.settle();
    for path in paths {
        assert_eq!(events.words(path), ["added", "started", "ready"]);
    }
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn stop_request_reaches_parent_and_children_at_once() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (runs, saw) = (Tally::new(), Tally::new());
    let (child_runs, child_saw) = (runs.clone(), saw.clone());
    let p = move |ctx: &Context| -> ServiceResult {
        let below = ctx.supervise(quiet("below"))?;
        for name in ["a", "b"] {
            let saw = child_saw.clone();
            let child = move |ctx: &Context| {
                ctx.wait_stop();
                saw.add();
                Ok(())
            };
            below.add(name, counted(&child_runs, child))?;
        }
        below.wait()?;
        Ok(())
    };
    app.add("p", p).unwrap();
    app.start().unwrap();
    runs.reach(2);

    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(saw.get(), 2);
    assert_eq!(events.who("stopped"), ["app.p.b", "app.p.a", "app.p"]);
}

#[test]
fn finished_parent_takes_its_children_with_it() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (runs, finish) = (Tally::new(), Gate::new());
    let (child_runs, over) = (runs.clone(), finish.clone());
    let p = move |ctx: &Context| -> ServiceResult {
        let below = ctx.supervise(quiet("below"))?;
        for name in ["a", "b", "c"] {
            below.add(name, counted(&child_runs, obedient()))?;
        }
        over.wait();
        Ok(())
    };
    app.add_spec(Spec::new("p", p).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    runs.reach(3);
    finish.open();

    wait_state(&app, "app.p", State::Done);
    events.wait("app.p", "done");
    events.settle();
    assert_eq!(
        events.story(&["stopped", "done"]),
        [
            "app.p.c stopped",
            "app.p.b stopped",
            "app.p.a stopped",
            "app.p done",
        ]
    );
    assert_eq!(events.who("started").len(), 4);
    assert_eq!((failures(&app), events.who("failed").len()), (0, 0));
    assert!(app.stop().is_empty());
}

/// A parent that hands its context and the supervisor below it to the test.
fn parent(tell: Sender<(Context, Supervisor)>) -> impl Fn(&Context) -> ServiceResult {
    move |ctx: &Context| {
        let below = ctx.supervise(quiet("below"))?;
        tell.send((ctx.clone(), below))?;
        ready(ctx)
    }
}

#[test]
fn children_may_be_added_after_ready() {
    let app = unlimited("app");
    let (tell, told) = unbounded();
    app.add_spec(Spec::new("p", parent(tell)).ready_timeout(HOUR))
        .unwrap();
    app.start().unwrap();
    app.wait_ready(PATIENCE).unwrap();
    assert_eq!(state(&app, "app.p"), State::Ready);

    let (_, below) = take(&told);
    let runs = Tally::new();
    below.add("late", counted(&runs, obedient())).unwrap();
    runs.reach(1);
    assert_eq!(entry(&app, "app.p.late").incarnation(), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn second_supervise_in_one_incarnation_is_refused() {
    let app = unlimited("app");
    let (tell, told) = unbounded();
    app.add("p", parent(tell)).unwrap();
    app.start().unwrap();
    let (ctx, below) = take(&told);
    let runs = Tally::new();
    below.add("a", counted(&runs, obedient())).unwrap();
    runs.reach(1);
    let mut events = Recorder::of(&app);
    events.settle();
    events.forget();

    let error = ctx.supervise(quiet("again")).unwrap_err();
    assert!(error.to_string().contains("app.p"), "{error}");
    events.settle();
    assert_eq!(events.all().len(), 0);
    assert_eq!(state(&app, "app.p.a"), State::Running);
    assert_eq!(entry(&app, "app.p").incarnation(), 1);
    below.add("b", counted(&runs, obedient())).unwrap();
    runs.reach(2);
    assert!(app.stop().is_empty());
}

/// `provide` on the old context answers an error, too: a later issue has keys.
#[test]
fn ended_incarnation_is_inert() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (tell, told) = unbounded();
    let p = move |ctx: &Context| -> ServiceResult {
        tell.send(ctx.clone())?;
        if ctx.incarnation() == 1 {
            return Err("boom".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add_spec(Spec::new("p", p).ready_timeout(HOUR)).unwrap();
    app.start().unwrap();
    let (old, new) = (take(&told), take(&told));
    assert_eq!((old.incarnation(), new.incarnation()), (1, 2));

    let helper = std::thread::spawn(move || {
        old.ready();
        old.set_status("old");
        assert!(old.is_stopping());
        old.supervise(quiet("below")).unwrap_err()
    });
    let refused = helper.join().unwrap();
    assert_eq!(refused.kind(), ErrorKind::Stopping);
    events.settle();
    let p = entry(&app, "app.p");
    assert_eq!((p.incarnation(), p.state()), (2, State::Starting));
    assert_eq!((p.status(), p.services().len()), (None, 0));
    assert_eq!(events.count("app.p", "ready"), 0);
    assert!(!new.is_stopping());
    new.set_status("new");
    assert_eq!(entry(&app, "app.p").status(), Some("new"));
    assert!(app.stop().is_empty());
}
