//! What observers see and may do.

use std::sync::{Arc, OnceLock};

use backstay::{
    AutoShutdown, Context, Key, PanicPolicy, Restart, ServiceId, Spec, StopCause, Supervisor,
};
use crossbeam_channel::unbounded;

#[cfg(feature = "signals")]
use crate::common::process::in_own_process;
use crate::common::process::{child, role};
use crate::common::{
    Gate, Recorder, Tally, counted, fails, obedient, panics_once, secs, take, unlimited, wait_for,
};

#[test]
fn observer_may_call_the_api() {
    type Handle = Arc<OnceLock<(Supervisor, ServiceId)>>;
    let handle = Handle::default();
    let (told, answers) = unbounded();
    let observer = {
        let handle = handle.clone();
        move |event: &backstay::Event| {
            let Some((app, id)) = handle.get() else {
                return;
            };
            if event.word() == "failed" {
                let reported = app.report().services().len();
                let added = app.add("late", obedient());
                let removed = app.remove(*id);
                app.request_stop();
                told.send((reported, added.is_ok(), removed.is_ok()))
                    .unwrap();
            }
        }
    };
    let app = Supervisor::builder("app")
        .on_event(observer)
        .build()
        .unwrap();
    let go = Gate::new();
    let wait = go.clone();
    let failing = move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            wait.wait();
            return Err("once".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    let id = app.add("a", failing).unwrap();
    assert!(handle.set((app.clone(), id)).is_ok());
    app.start().unwrap();
    go.open();

    assert_eq!(take(&answers), (1, true, true));
    app.wait_timeout(secs(5)).expect("ended in time").unwrap();
}

#[test]
fn observer_panic_is_contained() {
    let app = Supervisor::builder("app")
        .quiet_panics()
        .on_event(|event| panic!("at {}", event.word()))
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    app.add("a", fails(3, "again")).unwrap();
    app.start().unwrap();
    assert_eq!(events.wait_nth("app.a", "started", 4).incarnation(), 4);
    wait_for("the panic is told", || {
        events.all().iter().any(|e| e.word() == "hook panicked")
    });
    assert!(app.stop().is_empty());
    let reported = events
        .all()
        .iter()
        .filter(|e| e.word() == "hook panicked")
        .count();
    assert_eq!(reported, 1);
}

#[test]
fn panic_policy_can_end_the_process() {
    const TEST: &str = "events::panic_policy_can_end_the_process";
    match role() {
        Some(role) => {
            let policy = if role == "abort" {
                PanicPolicy::Abort
            } else {
                PanicPolicy::Restart
            };
            let app = Supervisor::new("app");
            let mut events = Recorder::of(&app);
            app.add_spec(Spec::new("a", panics_once(|| panic!("boom"))).panic_policy(policy))
                .unwrap();
            app.start().unwrap();
            events.wait_nth("app.a", "started", 2);
            app.stop();
            println!("restarted once");
        }
        None => {
            use std::os::unix::process::ExitStatusExt;
            let aborted = child(TEST, "abort");
            assert_eq!(
                aborted.status.signal(),
                Some(signal_hook::consts::SIGABRT),
                "{}",
                aborted.stderr
            );
            assert!(aborted.stderr.contains("boom"), "{}", aborted.stderr);
            assert!(aborted.stderr.contains("app.a"), "{}", aborted.stderr);
            let restarted = child(TEST, "restart");
            assert!(restarted.status.success(), "{}", restarted.stderr);
            assert!(
                restarted.stdout.contains("restarted once"),
                "{}",
                restarted.stdout
            );
        }
    }
}

#[test]
fn stopping_event_tells_the_cause() {
    if role().is_none() {
        significant_end_is_the_cause();
        changed_input_is_the_cause();
        order_is_the_cause();
    }
    #[cfg(feature = "signals")]
    in_own_process(
        "events::stopping_event_tells_the_cause",
        signal_is_the_cause,
    );
}

fn significant_end_is_the_cause() {
    let app = Supervisor::builder("app")
        .auto_shutdown(AutoShutdown::AnySignificant)
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let go = Gate::new();
    let wait = go.clone();
    let ends = move |_: &Context| {
        wait.wait();
        Ok(())
    };
    app.add("a", obedient()).unwrap();
    app.add_spec(
        Spec::new("s", ends)
            .restart(Restart::OnFailure)
            .significant(),
    )
    .unwrap();
    app.add("b", obedient()).unwrap();
    app.start().unwrap();
    events.wait("app.b", "started");
    go.open();
    app.wait().unwrap();
    let cause = StopCause::AutoShutdown {
        path: Arc::from("app.s"),
    };
    assert_eq!(events.causes("app.a"), std::slice::from_ref(&cause));
    assert_eq!(events.causes("app.b"), [cause]);
    assert_eq!(events.causes("app.s"), []);
}

/// Of those that take the key, and of those that depend on these in turn.
fn changed_input_is_the_cause() {
    const K: Key<u8> = Key::new("k");
    const DERIVED: Key<u8> = Key::new("derived");
    let app = unlimited("app");
    let runs = Tally::new();
    let again = Gate::new();
    let changed = again.clone();
    let provides = move |ctx: &Context| {
        ctx.provide(&K, 1)?;
        changed.wait();
        ctx.provide(&K, 2)?;
        ctx.wait_stop();
        Ok(())
    };
    let derives = |ctx: &Context| {
        ctx.provide(&DERIVED, *ctx.get(&K)?)?;
        ctx.wait_stop();
        Ok(())
    };
    let taker = |name| Spec::new(name, counted(&runs, obedient()));
    // It may start once without the value.
    let with_value = runs.clone();
    let wants = move |ctx: &Context| {
        if ctx.get(&K).is_ok() {
            with_value.add();
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add_all([
        Spec::new("p", provides).provides(&K),
        taker("needs").needs(&K),
        Spec::new("wants", wants).wants(&K),
        Spec::new("between", derives).needs(&K).provides(&DERIVED),
        taker("below").needs(&DERIVED),
        taker("other"),
    ])
    .unwrap();
    app.start().unwrap();
    runs.reach(4);
    let mut events = Recorder::of(&app);
    again.open();
    runs.reach(7);
    events.settle();
    let input = |key: &str, path: &str| StopCause::Input {
        key: Arc::from(key),
        path: Arc::from(path),
    };
    for path in ["app.needs", "app.wants", "app.between"] {
        assert_eq!(events.causes(path), [input("k", "app.p")], "{path}");
    }
    let below = events.causes("app.below");
    assert_eq!(below, [input("derived", "app.between")]);
    assert_eq!(events.causes("app.p"), []);
    assert_eq!(events.causes("app.other"), []);
    assert!(app.stop().is_empty());
}

fn order_is_the_cause() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add("a", obedient()).unwrap();
    let b = app.add("b", obedient()).unwrap();
    app.start().unwrap();
    events.wait("app.b", "started");
    app.stop_service(b).unwrap();
    events.wait("app.b", "stopped");
    assert_eq!(events.causes("app.b"), [StopCause::Ordered]);
    assert_eq!(events.causes("app.a"), []);
    app.stop();
    assert_eq!(events.causes("app.b").len(), 1);
    assert_eq!(events.causes("app.a"), [StopCause::Ordered]);
}

/// In a child process, because a signal is the whole process's.
#[cfg(feature = "signals")]
fn signal_is_the_cause() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let (inner, started) = (Supervisor::new("inner"), Gate::new());
    let open = started.clone();
    let raises = move |ctx: &Context| {
        open.open();
        ctx.wait_stop();
        Ok(())
    };
    app.add("b", obedient()).unwrap();
    inner.add("a", raises).unwrap();
    app.add("inner", inner).unwrap();
    std::thread::spawn(move || {
        started.wait();
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).unwrap();
    });
    app.run().unwrap();
    let signal = StopCause::Signal {
        number: signal_hook::consts::SIGTERM,
    };
    for path in ["app.b", "app.inner", "app.inner.a"] {
        assert_eq!(events.causes(path), std::slice::from_ref(&signal), "{path}");
    }
}
