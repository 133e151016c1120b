//! What belongs to a `Context::scope` ends with it: above all a supervisor.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use backstay::{Context, FailureKind, Limit, Spec, State, Supervisor};
use crossbeam_channel::unbounded;

use common::watch::{entry, is_listed};
use common::{
    Gate, PATIENCE, Recorder, Tally, add_running, counted, ending, failed, ms, obedient, pass,
    slow_to_stop, take, unlimited, wait_for,
};

#[test]
fn supervisor_of_a_scope_ends_with_it_and_makes_room_for_another() {
    let app = unlimited("app");
    let (tell, told) = unbounded();
    let release = Gate::new();
    let wait = release.clone();
    app.start().unwrap();
    add_running(&app, "a", move |ctx: &Context| {
        for _ in 0..3 {
            let (begun, ends) = (Tally::new(), Tally::new());
            ctx.scope(|ctx| -> Result<(), backstay::Error> {
                let below = ctx.supervise(Supervisor::builder("below"))?;
                let slow = slow_to_stop(ms(20));
                below.add("b", counted(&begun, ending(&ends, slow)))?;
                begun.reach(1);
                // One at a time, whichever context asks.
                ctx.supervise(Supervisor::builder("more")).unwrap_err();
                Ok(())
            })?;
            tell.send(ends.get())?;
        }
        wait.wait();
        // The incarnation's own lasts until its end.
        let below = ctx.supervise(Supervisor::builder("below"))?;
        ctx.scope(|_| ());
        below.add("c", obedient())?;
        ctx.wait_stop();
        Ok(())
    });
    assert_eq!([take(&told), take(&told), take(&told)], [1, 1, 1]);
    wait_for("nothing is shown below", || !is_listed(&app, "app.a.b"));
    app.wait_ready(PATIENCE).unwrap();
    release.open();
    wait_for("the last one runs", || {
        is_listed(&app, "app.a.c") && entry(&app, "app.a.c").state() == State::Running
    });
    assert!(app.stop().is_empty());
}

#[test]
fn supervisor_that_fails_in_a_scope_fails_its_service() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    app.add("a", |ctx: &Context| {
        if ctx.incarnation() == 1 {
            ctx.scope(|ctx| -> backstay::ServiceResult {
                let none = Limit::budget(0, 0).then(backstay::Exceeded::Fail);
                let below = ctx.supervise(Supervisor::builder("below").limit(none))?;
                below.add("b", |_: &Context| Err("broken".into()))?;
                ctx.wait_stop();
                Ok(())
            })?;
        }
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert!(failure.message().contains("broken"), "{failure}");
    events.wait_nth("app.a", "started", 2);
    assert!(app.stop().is_empty());
}

#[test]
fn panic_in_a_scope_ends_what_is_below_it() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (begun, ends) = (Tally::new(), Tally::new());
    let (begin, end) = (begun.clone(), ends.clone());
    app.start().unwrap();
    app.add("a", move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            ctx.scope(|ctx| {
                let below = ctx.supervise(Supervisor::builder("below")).unwrap();
                let watched = counted(&begin, ending(&end, obedient()));
                below.add("b", watched).unwrap();
                begin.reach(1);
                panic!("in the scope");
            })
        }
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!((failure.kind(), ends.get()), (FailureKind::Panic, 1));
    events.wait_nth("app.a", "started", 2);
    assert!(app.stop().is_empty());
}

#[test]
fn stop_in_a_scope_names_only_the_leaf() {
    let app = unlimited("app");
    let (release, begun) = (Gate::new(), Tally::new());
    let (wait, begin) = (release.clone(), begun.clone());
    app.start().unwrap();
    let service = move |ctx: &Context| {
        let (wait, begin) = (wait.clone(), begin.clone());
        ctx.scope(|ctx| {
            let below = ctx.supervise(Supervisor::builder("below"))?;
            let deaf = move |_: &Context| {
                begin.add();
                wait.wait();
                Ok(())
            };
            below.add_spec(Spec::new("b", deaf).stop_timeout(ms(50)))?;
            ctx.wait_stop();
            Ok(())
        })
    };
    let id = add_running(&app, "a", service);
    begun.reach(1);
    app.stop_service(id).unwrap();
    let report = app.stop();
    let paths: Vec<_> = report.unstopped().iter().map(|u| u.path()).collect();
    assert_eq!(paths, ["app.a.b"]);
    release.open();
}

#[test]
fn helper_that_supervises_as_its_scope_ends_leaves_nobody_behind() {
    for round in 0..200 {
        let app = unlimited("app");
        let (runs, ends) = (Tally::new(), Tally::new());
        let (run, end) = (runs.clone(), ends.clone());
        app.start().unwrap();
        add_running(&app, "a", move |ctx: &Context| {
            let helper = ctx.scope(|ctx| {
                let (ctx, run, end) = (ctx.clone(), run.clone(), end.clone());
                let helper = std::thread::spawn(move || {
                    let below = ctx.supervise(Supervisor::builder("below"))?;
                    below.add("b", counted(&run, ending(&end, obedient())))
                });
                if round % 2 == 0 {
                    pass(std::time::Duration::from_micros(round * 5));
                }
                helper
            });
            // Whatever it was: over now, or refused.
            drop(helper.join());
            ctx.supervise(Supervisor::builder("next"))?;
            Ok(())
        });
        wait_for("a has ended", || entry(&app, "app.a").failures() > 0);
        assert!(app.stop().is_empty());
        assert_eq!(runs.get(), ends.get());
    }
}
