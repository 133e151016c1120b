//! What events and reports tell.

use std::time::Duration;

use backstay::{Context, EventKind, Restart, ServiceResult, Spec, State, Supervisor};

use crate::common::watch::{entry, quiet};
use crate::common::{HOUR, Recorder, failed, ms, unlimited, wait_state};

/// `app` with `p`, which supervises `c`.
fn three_levels(c: fn(&Context) -> ServiceResult) -> (Supervisor, Recorder) {
    let app = unlimited("app");
    let events = Recorder::of(&app);
    let p = move |ctx: &Context| -> ServiceResult {
        let below = ctx.supervise(quiet("below"))?;
        below.add("c", c)?;
        ctx.wait_stop();
        Ok(())
    };
    app.add("p", p).unwrap();
    app.start().unwrap();
    (app, events)
}

#[test]
fn failure_is_reported_under_its_own_path() {
    const RUN_TIME: Duration = ms(20);
    let (app, mut events) = three_levels(|ctx| {
        if ctx.incarnation() == 1 {
            ctx.sleep(RUN_TIME)?;
            return Err("disk full".into());
        }
        ctx.wait_stop();
        Ok(())
    });

    let event = events.wait("app.p.c", "failed");
    assert_eq!(event.incarnation(), 1);
    events.settle();
    let c = entry(&app, "app.p.c");
    for failure in [&failed(&event).failure, c.last_failure().unwrap()] {
        assert_eq!((failure.path(), failure.incarnation()), ("app.p.c", 1));
        assert_eq!(failure.message(), "disk full");
        assert_eq!(failure.thread_name(), Some("app.p.c"));
        assert!(failure.run_time() >= RUN_TIME, "{:?}", failure.run_time());
    }
    assert_eq!((c.path(), c.failures()), ("app.p.c", 1));
    let p = entry(&app, "app.p");
    assert_eq!((p.failures(), p.last_failure().is_none()), (0, true));
    assert_eq!(events.who("failed"), ["app.p.c"]);
    assert!(app.stop().is_empty());
}

#[test]
fn log_line_carries_path_and_incarnation() {
    let (app, mut events) = three_levels(|ctx| {
        match ctx.incarnation() {
            1 => return Err("the first".into()),
            2 => {
                ctx.log("hello");
                return Err("the second".into());
            }
            _ => ctx.wait_stop(),
        }
        Ok(())
    });

    events.wait_nth("app.p.c", "started", 3);
    events.settle();
    assert_eq!(events.who("log"), ["app.p.c"]);
    let of_second = |e: &&backstay::Event| e.path() == "app.p.c" && e.incarnation() == 2;
    let of_second: Vec<_> = events.all().iter().filter(of_second).collect();
    let words: Vec<_> = of_second.iter().map(|e| e.word()).collect();
    assert_eq!(words, ["started", "log", "failed"]);
    match of_second[1].kind() {
        EventKind::Log { text } => assert_eq!(&**text, "hello"),
        other => panic!("{other}"),
    }
    assert!(app.stop().is_empty());
}

#[test]
fn report_counts_starts_failures_and_panics() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let a = |ctx: &Context| {
        match ctx.incarnation() {
            1 => {
                ctx.ready();
                return Err("first".into());
            }
            2 => panic!("second"),
            _ => ctx.ready(),
        }
        Ok(())
    };
    let spec = Spec::new("a", a).restart(Restart::OnFailure);
    app.add_spec(spec.ready_timeout(HOUR)).unwrap();
    app.start().unwrap();

    wait_state(&app, "app.a", State::Done);
    let a = entry(&app, "app.a");
    assert_eq!((a.starts(), a.failures(), a.panics()), (3, 2, 1));
    events.wait("app.a", "done");
    assert_eq!(
        events.words("app.a")[1..],
        [
            "started", "ready", "failed", "started", "failed", "started", "ready", "done"
        ]
    );
    assert!(app.stop().is_empty());
}
