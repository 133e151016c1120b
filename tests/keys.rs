//! Values by key where things go wrong: providers that hang, threads that can't be had, waits that
//! nobody is there to end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use backstay::{
    Backoff, Context, End, ErrorKind, Key, Restart, STOP_THREADS_MAX, Spec, State, StopCause,
    Supervisor, service_fn,
};
use common::{
    Gate, HOUR, PATIENCE, Recorder, ms, obedient, slow_to_stop, unlimited, wait_for, wait_state,
};

const K: Key<u32> = Key::new("k");

/// A stack that no machine has.
const IMPOSSIBLE_STACK: usize = 1 << 60;

/// Provides 7 and waits for its stop.
fn provides(ctx: &Context) -> backstay::ServiceResult {
    ctx.provide(&K, 7_u32)?;
    ctx.wait_stop();
    Ok(())
}

fn waits_for(supervisor: &Supervisor, path: &str) -> Option<String> {
    let report = supervisor.report();
    report.find(path)?.waiting_for().map(ToOwned::to_owned)
}

#[test]
fn value_of_an_abandoned_provider_is_not_there() {
    let (app, release) = (unlimited("app"), Gate::new());
    let hangs = release.clone();
    let p = Spec::new("p", move |ctx: &Context| {
        ctx.provide(&K, 7_u32)?;
        hangs.wait();
        // The next one stays, and its value with it.
        if ctx.incarnation() > 1 {
            ctx.wait_stop();
        }
        Ok(())
    });
    let p = app.add_spec(p.provides(&K).stop_timeout(ms(1))).unwrap();
    app.add_spec(Spec::new("c", obedient()).needs(&K)).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.c", State::Running);
    app.restart_service(p).unwrap();
    wait_state(&app, "app.p", State::Abandoned);
    wait_state(&app, "app.c", State::Waiting);

    let refused = app.get(&K, ms(10)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    let why = waits_for(&app, "app.c").unwrap();
    assert!(why.contains("app.p is abandoned"), "{why}");
    let report = app.report();
    let keys = report.find("app.p").unwrap().keys();
    assert!(keys.iter().all(|key| !key.is_there()));

    release.open();
    wait_state(&app, "app.c", State::Running);
    assert_eq!(*app.get(&K, PATIENCE).unwrap(), 7);
    // Its millisecond may be too short this time, too.
    app.stop();
}

#[test]
fn who_needs_a_value_waits_for_a_provider_that_stops() {
    let app = unlimited("app");
    let stops = Gate::new();
    let stopped = stops.clone();
    let p = Spec::new("p", move |ctx: &Context| {
        ctx.provide(&K, 7_u32)?;
        ctx.wait_stop();
        stopped.wait();
        Ok(())
    });
    let p = app.add_spec(p.provides(&K)).unwrap();
    app.start().unwrap();
    app.get(&K, PATIENCE).unwrap();
    app.restart_service(p).unwrap();
    wait_state(&app, "app.p", State::Stopping);
    app.add_spec(Spec::new("c", obedient()).needs(&K)).unwrap();
    wait_state(&app, "app.c", State::Waiting);
    let why = waits_for(&app, "app.c").unwrap();
    assert!(why.contains("app.p is stopping"), "{why}");
    stops.open();
    wait_state(&app, "app.c", State::Running);
    assert!(app.stop().is_empty());
}

#[test]
fn failed_start_keeps_no_value() {
    let app = unlimited("app");
    let value = Arc::new(7_u32);
    let given = value.clone();
    let p = Spec::new("p", move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            ctx.provide(&K, given.clone())?;
        }
        ctx.wait_stop();
        Ok(())
    });
    let p = app.add_spec(p.provides(&K)).unwrap();
    let c = Spec::new("c", obedient())
        .needs(&K)
        .stack_size(IMPOSSIBLE_STACK)
        .backoff(Backoff::fixed(ms(1)));
    app.add_spec(c).unwrap();
    app.start().unwrap();
    wait_for("c fails", || {
        app.report()
            .find("app.c")
            .is_some_and(|c| c.failures() > 10)
    });
    app.restart_service(p).unwrap();
    wait_state(&app, "app.p", State::Starting);
    // The test's, and the one in the closure.
    wait_for("the value is let go of", || Arc::strong_count(&value) == 2);
    assert!(app.stop().is_empty());
}

#[test]
fn provider_is_named_also_when_it_is_gone() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let go = Gate::new();
    let goes = go.clone();
    let p = Spec::new("p", move |ctx: &Context| {
        ctx.provide(&K, 7_u32)?;
        goes.wait();
        Err(backstay::Exit::Uninstall.into())
    });
    app.add_spec(p.provides(&K)).unwrap();
    app.add_spec(Spec::new("c", obedient()).needs(&K)).unwrap();
    let d = Spec::new("d", slow_to_stop(ms(50)));
    app.add_spec(d.needs(&K)).unwrap();
    app.start().unwrap();
    wait_for("both run", || {
        let report = app.report();
        ["app.c", "app.d"].iter().all(|path| {
            let service = report.find(path);
            service.is_some_and(|s| s.state() == State::Running)
        })
    });
    go.open();
    events.wait("app.c", "stopped");
    let input = StopCause::Input {
        key: "k".into(),
        path: "app.p".into(),
    };
    assert_eq!(events.causes("app.d"), std::slice::from_ref(&input));
    assert_eq!(events.causes("app.c"), [input]);
    assert!(app.stop().is_empty());
}

#[test]
fn get_waits_for_a_supervisor_that_is_about_to_run_again() {
    let app = unlimited("app");
    let below = unlimited("below");
    let p = service_fn(|ctx: &Context| {
        if ctx.incarnation() > 1 {
            ctx.provide(&K, 7_u32)?;
        }
        ctx.wait_stop();
        Ok(())
    });
    below.add_spec(Spec::new("p", p).provides(&K)).unwrap();
    let spec = Spec::new("below", below.clone()).backoff(Backoff::fixed(HOUR));
    let id = app.add_spec(spec).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.below.p", State::Starting);
    assert!(below.stop().is_empty());
    wait_state(&app, "app.below", State::Backoff);
    let refused = below.get(&K, ms(10)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Timeout, "{refused}");
    app.start_service(id).unwrap();
    assert_eq!(*below.get(&K, PATIENCE).unwrap(), 7);
    assert!(app.stop().is_empty());
    let refused = below.get(&K, PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Stopped, "{refused}");
}

#[test]
fn get_before_the_start_hears_of_a_removal() {
    let app = unlimited("app");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| app.get(&K, PATIENCE));
        // Again, until it has seen that there was one.
        wait_for("it has an answer", || {
            let spec = Spec::new("p", provides).provides(&K);
            let p = app.add_spec(spec).unwrap();
            app.remove(p).unwrap();
            waiter.is_finished()
        });
        let refused = waiter.join().unwrap().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Gone, "{refused}");
    });
}

/// A value whose `Drop` does what the test wants.
struct Dropping(Box<dyn Fn() + Send + Sync>);

impl Drop for Dropping {
    fn drop(&mut self) {
        (self.0)();
    }
}

const D: Key<Dropping> = Key::new("dropping");

/// Provides one value after the other, each when the one before is there for all to see.
fn provide_many(ctx: &Context, many: usize, drops: impl Fn() + Clone + Send + Sync + 'static) {
    for _ in 0..many {
        let value = Arc::new(Dropping(Box::new(drops.clone())));
        ctx.provide(&D, value.clone()).unwrap();
        wait_for("it is there", || {
            let seen = ctx.supervisor().get(&D, PATIENCE).unwrap();
            Arc::ptr_eq(&seen, &value)
        });
    }
}

#[test]
fn replaced_values_that_block_hold_up_no_stop_hook() {
    let (app, release, progress) = (unlimited("app"), Gate::new(), Gate::new());
    let (hangs, tell) = (release.clone(), progress.clone());
    let p = Spec::new("p", move |ctx: &Context| {
        let (hangs, own) = (hangs.clone(), tell.clone());
        provide_many(ctx, STOP_THREADS_MAX + 2, move || {
            // On the service's own thread it is the service that blocks.
            if std::thread::current().name() == Some("app.p") {
                own.open();
            }
            hangs.wait_timeout(HOUR);
        });
        tell.open();
        ctx.wait_stop();
        Ok(())
    });
    app.add_spec(p.provides(&D)).unwrap();
    let a = Spec::new("a", |ctx: &Context| {
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let _hook = ctx.on_stop(move || drop(stop));
        let _ = stopped.recv();
        Ok(())
    });
    let a = app.add_spec(a.stop_timeout(HOUR)).unwrap();
    app.start().unwrap();
    progress.wait();
    app.restart_service(a).unwrap();
    wait_for("a is stopped by its hook", || {
        app.report()
            .find("app.a")
            .is_some_and(|a| a.incarnation() == 2)
    });
    release.open();
    assert!(app.stop().is_empty());
}

#[test]
fn panic_of_a_replaced_value_is_told() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let p = Spec::new("p", move |ctx: &Context| {
        provide_many(ctx, 2, || panic!("no room for the last block"));
        ctx.wait_stop();
        Ok(())
    });
    app.add_spec(p.provides(&D)).unwrap();
    app.start().unwrap();
    let told = events.wait("app.p", "hook panicked").to_string();
    assert!(told.contains("drop: no room for the last block"), "{told}");
    assert!(app.stop().is_empty());
    // The last one, when the incarnation has ended.
    events.wait_nth("app.p", "hook panicked", 2);
}

#[test]
fn what_runs_once_waits_for_what_it_misses() {
    let app = unlimited("app");
    let job = Spec::new("job", |ctx: &Context| {
        assert_eq!(*ctx.get(&K)?, 7);
        Ok(())
    });
    let job = app.add_spec(job.wants(&K).restart(Restart::Never)).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.job", State::Waiting);
    app.add_spec(Spec::new("p", provides).provides(&K)).unwrap();
    let end = app.wait_service(job, PATIENCE).unwrap();
    assert!(matches!(end, End::Removed { failure: None }), "{end:?}");
    assert!(app.stop().is_empty());
}
