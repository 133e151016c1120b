//! Threads that were left behind, and what they still tell: to a supervisor that doesn't run, that is about to run
//! again, or that is just ending.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use backstay::{Context, End, Limit, Restart, ServiceId, ServiceResult, Spec, State, Supervisor};
use crossbeam_channel::unbounded;

use common::watch::{entry, incarnations, is_listed};
use common::{
    Gate, PATIENCE, Recorder, add_running, add_running_as, hung, ms, secs, take, unlimited,
    wait_for, wait_state,
};

/// Does not end in its first incarnation before it is released, then behaves.
fn hung_at_first(release: &Gate) -> impl Fn(&Context) -> ServiceResult + use<> {
    let release = release.clone();
    move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            release.wait();
        } else {
            ctx.wait_stop();
        }
        Ok(())
    }
}

fn impatient(name: &str) -> Supervisor {
    Supervisor::builder(name)
        .limit(Limit::none())
        .service_stop_timeout(ms(20))
        .build()
        .unwrap()
}

/// `app.sub.a`, whose first incarnation hangs, and which is abandoned as `app.sub` is stopped.
fn stopped_with_a_straggler() -> Stopped {
    let (app, sub) = (unlimited("app"), impatient("sub"));
    let release = Gate::new();
    let a = sub.add("a", hung_at_first(&release)).unwrap();
    let id = app.add("sub", sub.clone()).unwrap();
    let events = Recorder::of(&app);
    app.start().unwrap();
    app.wait_ready(PATIENCE).unwrap();
    app.stop_service(id).unwrap();
    wait_state(&app, "app.sub", State::Abandoned);
    assert_eq!(entry(&app, "app.sub.a").state(), State::Abandoned);
    Stopped {
        app,
        sub,
        id,
        a,
        events,
        release,
    }
}

struct Stopped {
    app: Supervisor,
    sub: Supervisor,
    id: ServiceId,
    a: ServiceId,
    events: Recorder,
    release: Gate,
}

#[test]
fn end_between_two_runs_is_heard_at_once() {
    let mut s = stopped_with_a_straggler();
    s.release.open();
    assert!(matches!(
        s.sub.wait_service(s.a, PATIENCE),
        Ok(End::Stopped)
    ));
    s.events.wait("app.sub.a", "ended late");
    assert_eq!(entry(&s.app, "app.sub.a").state(), State::Stopped);
    wait_state(&s.app, "app.sub", State::Stopped);
    // And it is started like every other in the next run.
    s.app.start_service(s.id).unwrap();
    wait_for("a second one", || incarnations(&s.app, ["sub.a"]) == [2]);
    assert_eq!(s.events.count("app.sub.a", "ended late"), 1);
    assert!(s.app.stop().is_empty());
}

#[test]
fn service_that_ends_between_two_runs_can_be_removed() {
    let mut s = stopped_with_a_straggler();
    s.release.open();
    s.sub.remove_and_wait(s.a, PATIENCE).unwrap();
    assert!(!is_listed(&s.app, "app.sub.a"));
    s.events.wait("app.sub.a", "ended late");
    assert!(s.app.stop().is_empty());
}

struct Value(Gate, Gate);

impl Drop for Value {
    fn drop(&mut self) {
        self.0.open();
        self.1.wait();
    }
}

#[test]
fn values_of_a_service_that_was_removed_between_two_runs_go_before_it_is_gone() {
    let (dropping, go_on) = (Gate::new(), Gate::new());
    let (app, sub) = (unlimited("app"), impatient("sub"));
    let release = Gate::new();
    let (wait, value) = (release.clone(), Value(dropping.clone(), go_on.clone()));
    let a = sub
        .add("a", move |_: &Context| {
            let _held = &value;
            wait.wait();
            Ok(())
        })
        .unwrap();
    let id = app.add("sub", sub.clone()).unwrap();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    app.wait_ready(PATIENCE).unwrap();
    app.stop_service(id).unwrap();
    wait_state(&app, "app.sub", State::Abandoned);
    sub.remove(a).unwrap();
    release.open();
    dropping.wait();
    events.wait("app.sub.a", "ended late");
    sub.remove_and_wait(a, ms(20)).unwrap_err();
    go_on.open();
    sub.remove_and_wait(a, PATIENCE).unwrap();
    events.wait("app.sub.a", "removed");
    wait_state(&app, "app.sub", State::Stopped);
    assert!(app.stop().is_empty());
}

#[test]
fn leaf_two_levels_below_clears_them_both_between_two_runs() {
    let app = unlimited("app");
    let (sub, low) = (unlimited("sub"), impatient("low"));
    let release = Gate::new();
    low.add("a", hung_at_first(&release)).unwrap();
    let inner = sub.add("low", low).unwrap();
    let id = app.add("sub", sub.clone()).unwrap();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    app.wait_ready(PATIENCE).unwrap();
    app.stop_service(id).unwrap();
    wait_state(&app, "app.sub", State::Abandoned);
    release.open();
    events.wait("app.sub.low.a", "ended late");
    assert!(matches!(
        sub.wait_service(inner, PATIENCE),
        Ok(End::Stopped)
    ));
    wait_state(&app, "app.sub", State::Stopped);
    app.start_service(id).unwrap();
    wait_for("all run again", || {
        incarnations(&app, ["sub", "sub.low", "sub.low.a"]) == [2, 2, 2]
    });
    assert!(app.stop().is_empty());
}

#[test]
fn late_end_is_told_before_the_next_start() {
    for _ in 0..20 {
        let (app, sub) = (unlimited("app"), impatient("sub"));
        let release = Gate::new();
        sub.add("a", hung_at_first(&release)).unwrap();
        let id = app.add("sub", sub).unwrap();
        app.start().unwrap();
        app.wait_ready(PATIENCE).unwrap();
        let mut events = Recorder::of(&app);
        app.restart_service(id).unwrap();
        events.wait("app.sub.a", "abandoned");
        release.open();
        events.wait("app.sub.a", "started");
        let words = events.words("app.sub.a");
        assert_eq!(words, ["stopping", "abandoned", "ended late", "started"]);
        assert!(app.stop().is_empty());
    }
}

#[test]
fn late_hook_between_two_runs_is_called() {
    let (app, sub) = (unlimited("app"), impatient("sub"));
    let (connected, called) = (Gate::new(), Gate::new());
    let (connect, call) = (connected.clone(), called.clone());
    sub.add("a", move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            // Longer than the stop allows.
            connect.wait();
            let unblock = call.clone();
            let _unblock = ctx.on_stop(move || unblock.open());
            call.wait();
        }
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    let id = app.add("sub", sub).unwrap();
    app.start().unwrap();
    app.wait_ready(PATIENCE).unwrap();
    app.restart_service(id).unwrap();
    wait_state(&app, "app.sub", State::Abandoned);
    connected.open();
    called.wait();
    wait_for("a second one", || incarnations(&app, ["sub.a"]) == [2]);
    assert!(app.stop().is_empty());
}

#[test]
fn late_end_while_values_are_dropped_at_the_end_is_told() {
    let app = unlimited("app");
    let (dropping, go_on, release) = (Gate::new(), Gate::new(), Gate::new());
    let value = Value(dropping.clone(), go_on.clone());
    let job = Spec::new("job", move |_: &Context| {
        let _held = &value;
        Ok(())
    });
    let job = app.add_spec(job.restart(Restart::OnFailure)).unwrap();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    app.wait_service(job, PATIENCE).unwrap();
    add_running_as(&app, "late", hung(&release), |s| s.stop_timeout(ms(20)));
    app.request_stop();
    dropping.wait();
    release.open();
    events.wait("app.late", "ended late");
    assert_eq!(entry(&app, "app.late").state(), State::Stopped);
    go_on.open();
    // It has ended before the end of the tree was told.
    assert!(app.stop().is_empty());
}

#[test]
fn who_was_left_behind_in_a_scope_and_has_ended_is_not_reported() {
    for round in 0..100 {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        app.start().unwrap();
        add_running(&app, "a", |ctx: &Context| {
            let (release, up) = (Gate::new(), Gate::new());
            ctx.scope(|ctx| {
                let below = ctx.supervise(Supervisor::builder("below"))?;
                let (release, running) = (release.clone(), up.clone());
                let leaf = Spec::new("leaf", move |_: &Context| {
                    running.open();
                    release.wait();
                    Ok(())
                });
                below.add_spec(leaf.stop_timeout(ms(1)))?;
                up.wait();
                Ok::<_, backstay::Error>(())
            })?;
            release.open();
            ctx.wait_stop();
            Ok(())
        });
        events.wait("app.a.leaf", "ended late");
        let report = app.stop();
        assert!(report.is_empty(), "round {round}: {report}");
    }
}

/// Some time, different each time, in microseconds.
fn some_time(seed: &AtomicU64, most: u64) -> Duration {
    let next = seed
        .load(Ordering::Relaxed)
        .wrapping_mul(6_364_136_223_846_793_005);
    let next = next.wrapping_add(1_442_695_040_888_963_407);
    seed.store(next, Ordering::Relaxed);
    Duration::from_micros((next >> 33) % most)
}

fn spin(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// A helper's `supervise` that is slower than its incarnation.
#[test]
fn what_an_incarnation_ran_below_is_not_shown_under_the_next_one() {
    let app = unlimited("app");
    let (tell, told) = unbounded();
    let late = Mutex::new(None);
    let seed = AtomicU64::new(1);
    app.add("a", move |ctx: &Context| {
        if ctx.incarnation() % 2 == 1 {
            let (context, wait) = (ctx.clone(), some_time(&seed, 10));
            let helper = std::thread::spawn(move || {
                spin(wait);
                drop(context.supervise(Supervisor::builder("below")));
            });
            *late.lock().unwrap() = Some(helper);
            spin(Duration::from_micros(30) + some_time(&seed, 150));
            return Err("the next one".into());
        }
        drop(late.lock().unwrap().take().map(JoinHandle::join));
        // Nothing runs below it, so nothing is waited for.
        tell.send(ctx.supervisor().wait_ready(secs(1)))?;
        Err("the next one".into())
    })
    .unwrap();
    app.start().unwrap();
    let until = Instant::now() + secs(2);
    while Instant::now() < until {
        take(&told).unwrap();
    }
    app.stop();
}
