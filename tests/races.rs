//! Interleavings that once went wrong: what is left of removed trees, requests that race with the
//! next run, deadlines around a `Drop`, threads that outlive a run of their supervisor.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::*;
use std::time::{Duration, Instant};

use backstay::*;

use common::wait_for as until;

const MS: fn(u64) -> Duration = Duration::from_millis;

struct Tell(Arc<Mutex<Vec<String>>>);
impl std::fmt::Debug for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tell")
    }
}
impl std::fmt::Display for Tell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tell")
    }
}
impl std::error::Error for Tell {}
impl Drop for Tell {
    fn drop(&mut self) {
        self.0
            .lock()
            .unwrap()
            .push(std::thread::current().name().unwrap_or("?").to_owned());
    }
}

#[test]
fn supervise_works() {
    let app = Supervisor::new("app");
    app.add("ingest", |ctx: &Context| {
        let below = ctx.supervise(Supervisor::builder("x"))?;
        below.add("tcp", |ctx: &Context| {
            ctx.wait_stop();
            Ok(())
        })?;
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    app.start().unwrap();
    until("tcp", || app.report().find("app.ingest.tcp").is_some());
    app.stop();
}

// The error of a service below a removed supervisor.
#[test]
fn drop_on_supervisor_thread_removed() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let app = Supervisor::new("rootapp");
    let sub = Supervisor::new("sub");
    let l = log.clone();
    sub.add("bad", move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            return Err(Box::new(Tell(l.clone())) as BoxError);
        }
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    let id = app.add("sub", sub).unwrap();
    app.start().unwrap();
    until("2nd", || {
        app.report()
            .find("rootapp.sub.bad")
            .is_some_and(|s| s.incarnation() == 2)
    });
    app.remove(id).unwrap();
    until("dropped", || !log.lock().unwrap().is_empty());
    assert!(!log.lock().unwrap().iter().any(|n| n == "rootapp"));
    app.stop();
}

#[test]
fn drop_on_supervisor_thread_supervise() {
    let log = Arc::new(Mutex::new(Vec::new()));
    let app = Supervisor::new("rootapp");
    let l = log.clone();
    app.add("svc", move |ctx: &Context| {
        if ctx.incarnation() > 1 {
            ctx.wait_stop();
            return Ok(());
        }
        let below = ctx.supervise(Supervisor::builder("x"))?;
        let l = l.clone();
        below.add("bad", move |ctx: &Context| {
            if ctx.incarnation() == 1 {
                return Err(Box::new(Tell(l.clone())) as BoxError);
            }
            ctx.wait_stop();
            Ok(())
        })?;
        until("the second", || {
            below
                .report()
                .find("rootapp.svc.bad")
                .is_some_and(|s| s.incarnation() == 2)
        });
        Err("again".into())
    })
    .unwrap();
    app.start().unwrap();
    until("dropped", || !log.lock().unwrap().is_empty());
    assert!(!log.lock().unwrap().iter().any(|n| n == "rootapp"));
    app.stop();
}

#[test]
fn refused_supervisor_can_be_added_again() {
    let app = Supervisor::new("app");
    app.add("x", |ctx: &Context| {
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    let sub = Supervisor::new("sub");
    sub.add("a", |ctx: &Context| {
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    app.add("x", sub.clone()).unwrap_err();
    let again = app.add("y", sub.clone());
    again.unwrap();
}

#[test]
fn wait_ready_after_sub_stopped_by_hand() {
    let app = Supervisor::new("app");
    let sub = Supervisor::new("sub");
    sub.add_spec(
        Spec::new("slow", |ctx: &Context| {
            ctx.wait_stop();
            Ok(())
        })
        .ready_timeout(MS(60000)),
    )
    .unwrap();
    let id = app.add("sub", sub).unwrap();
    app.start().unwrap();
    let a = app.clone();
    let t = std::thread::spawn(move || {
        let b = Instant::now();
        (a.wait_ready(MS(3000)), b.elapsed())
    });
    app.stop_service(id).unwrap();
    app.wait_service(id, MS(2000)).unwrap();
    let now = app.wait_ready(MS(0));
    let r = t.join().unwrap();
    assert!(now.is_ok() && r.1 < MS(2000));
    app.stop();
}

#[test]
fn abandoned_by_hand_then_restarted_above() {
    let app = Supervisor::new("app");
    let sub = Supervisor::new("sub");
    let (tx, rx) = crossbeam_channel::bounded::<()>(0);
    let (entered, runs) = crossbeam_channel::bounded::<()>(1);
    let x = sub
        .add_spec(
            Spec::new("x", move |ctx: &Context| {
                if ctx.incarnation() == 1 {
                    let _ = entered.send(());
                    let _ = rx.recv();
                } else {
                    ctx.wait_stop();
                }
                Ok(())
            })
            .stop_timeout(MS(20)),
        )
        .unwrap();
    let id = app.add("sub", sub.clone()).unwrap();
    app.start().unwrap();
    // Asked before it was entered it would not be abandoned.
    runs.recv_timeout(MS(30_000)).unwrap();
    sub.stop_service(x).unwrap();
    until("abandoned", || {
        app.report().find("app.sub.x").unwrap().state() == State::Abandoned
    });
    app.restart_service(id).unwrap();
    until("sub waits", || {
        app.report().find("app.sub").unwrap().state() == State::Abandoned
    });
    drop(tx);
    until("sub 2", || {
        app.report().find("app.sub").unwrap().incarnation() == 2
    });
    let state = || app.report().find("app.sub.x").unwrap().state();
    until("its late end was heard", || state() == State::Stopped);
    sub.start_service(x).unwrap();
    until("it runs again", || state() == State::Running);
    sub.remove_and_wait(x, MS(5000)).unwrap();
    assert!(app.stop().is_empty());
}

#[test]
fn drop_waits_for_own_removal() {
    struct S(
        Mutex<Option<(Supervisor, ServiceId)>>,
        Arc<Mutex<Option<String>>>,
    );
    impl Service for S {
        fn run(&self, _: &Context) -> ServiceResult {
            Err(Exit::DoNotRestart.into())
        }
    }
    impl Drop for S {
        fn drop(&mut self) {
            if let Some((s, id)) = self.0.lock().unwrap().take() {
                let b = Instant::now();
                let r = s.remove_and_wait(id, MS(2000));
                *self.1.lock().unwrap() = Some(format!("{r:?} after {:?}", b.elapsed()));
            }
        }
    }
    let app = Supervisor::new("app");
    let out = Arc::new(Mutex::new(None));
    let s = Arc::new(S(Mutex::new(None), out.clone()));
    let id = app.add("s", s.clone()).unwrap();
    *s.0.lock().unwrap() = Some((app.clone(), id));
    drop(s);
    app.start().unwrap();
    until("done", || {
        app.report().find("app.s").unwrap().state() == State::Done
    });
    app.remove(id).unwrap();
    until("dropped", || out.lock().unwrap().is_some());
    assert!(
        out.lock()
            .unwrap()
            .as_ref()
            .unwrap()
            .contains("its own end")
    );
}

#[test]
fn hard_deadline_covers_nested_burial() {
    struct S(crossbeam_channel::Receiver<()>);
    impl Service for S {
        fn run(&self, _: &Context) -> ServiceResult {
            Err(Exit::DoNotRestart.into())
        }
    }
    impl Drop for S {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }
    let (_tx, rx) = crossbeam_channel::bounded::<()>(0);
    let app = Supervisor::builder("app")
        .stop_timeout(MS(100))
        .build()
        .unwrap();
    let sub = Supervisor::new("sub");
    sub.add("s", S(rx)).unwrap();
    app.add("sub", sub).unwrap();
    app.start().unwrap();
    until("done", || {
        app.report()
            .find("app.sub.s")
            .is_some_and(|s| s.state() == State::Done)
    });
    let b = Instant::now();
    app.stop();
    assert!(b.elapsed() < MS(3000));
}

#[test]
fn panicking_drop_ends_the_tree() {
    #[derive(Debug)]
    struct Bad;
    impl std::fmt::Display for Bad {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Bad")
        }
    }
    impl std::error::Error for Bad {}
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("drop of Bad");
        }
    }
    let app = Supervisor::new("rootapp");
    let sub = Supervisor::new("sub");
    sub.add("bad", move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            return Err(Box::new(Bad) as BoxError);
        }
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    let id = app.add("sub", sub).unwrap();
    app.start().unwrap();
    until("2nd", || {
        app.report()
            .find("rootapp.sub.bad")
            .is_some_and(|s| s.incarnation() == 2)
    });
    app.remove(id).unwrap();
    let r = app.wait_timeout(MS(500));
    assert!(r.is_none());
    app.stop();
}

#[test]
fn stale_level() {
    let app = Supervisor::new("app");
    let sub = Supervisor::new("sub");
    sub.add("a", |ctx: &Context| {
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    let id = app.add("sub", sub.clone()).unwrap();
    app.start().unwrap();
    until("a", || {
        app.report()
            .find("app.sub.a")
            .is_some_and(|s| s.state() == State::Running)
    });
    let s = sub.clone();
    let t = std::thread::Builder::new()
        .name("asker".into())
        .spawn(move || s.request_stop())
        .unwrap();
    app.restart_service(id).unwrap();
    until("2", || {
        app.report()
            .find("app.sub.a")
            .is_some_and(|s| s.incarnation() >= 2)
    });
    t.join().unwrap();
    app.request_stop();
    let r = app.wait_timeout(MS(4000));
    assert!(r.is_some());
}

#[test]
fn overlap_is_used_up() {
    // allow_overlap(1): abandoned once in each run of the supervisor above.
    let app = Supervisor::new("app");
    let sub = Supervisor::new("sub");
    let gate: Arc<Mutex<Option<crossbeam_channel::Sender<()>>>> = Arc::default();
    let g = gate.clone();
    let x = sub
        .add_spec(
            Spec::new("x", move |ctx: &Context| {
                if ctx.incarnation() % 2 == 1 {
                    let (tx, rx) = crossbeam_channel::bounded::<()>(0);
                    *g.lock().unwrap() = Some(tx);
                    let _ = rx.recv();
                } else {
                    ctx.wait_stop();
                }
                Ok(())
            })
            .stop_timeout(MS(20))
            .allow_overlap(1),
        )
        .unwrap();
    let id = app.add("sub", sub.clone()).unwrap();
    app.start().unwrap();
    until("runs", || gate.lock().unwrap().is_some());
    app.restart_service(id).unwrap(); // x 1 is left behind
    until("sub waits", || {
        app.report().find("app.sub").unwrap().state() == State::Abandoned
    });
    let old = gate.lock().unwrap().take();
    drop(old);
    until("x 2", || {
        app.report().find("app.sub.x").unwrap().incarnation() == 2
    });
    sub.restart_service(x).unwrap();
    until("x 3", || gate.lock().unwrap().is_some());
    sub.restart_service(x).unwrap(); // hangs: one overlap is allowed, and no old thread is left
    until("x 4", || {
        app.report().find("app.sub.x").unwrap().incarnation() == 4
    });
    let old = gate.lock().unwrap().take();
    drop(old);
    app.stop();
}

/// An error whose `Drop` says so and waits.
#[derive(Debug)]
struct Holds {
    dropping: crossbeam_channel::Sender<()>,
    held: crossbeam_channel::Receiver<()>,
}
impl std::fmt::Display for Holds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Holds")
    }
}
impl std::error::Error for Holds {}
impl Drop for Holds {
    fn drop(&mut self) {
        let _ = self.dropping.send(());
        // Until the other end is gone.
        let _ = self.held.recv();
    }
}

/// A service that has to drop an old error before it enters `run` in its third incarnation, on a
/// thread that was started for it. Returns when it is about to.
fn about_to_enter(
    runs: &Arc<Mutex<Vec<u64>>>,
) -> (Supervisor, ServiceId, crossbeam_channel::Sender<()>) {
    let (release, held) = crossbeam_channel::bounded(0);
    let (dropping, dropped) = crossbeam_channel::bounded(1);
    let app = Supervisor::builder("app").limit(Limit::none()).build();
    let app = app.unwrap();
    let runs = runs.clone();
    let service = move |ctx: &Context| {
        runs.lock().unwrap().push(ctx.incarnation());
        let (dropping, held) = (dropping.clone(), held.clone());
        match ctx.incarnation() {
            1 => Err(Holds { dropping, held }.into()),
            2 => Err("again".into()),
            _ => {
                ctx.wait_stop();
                Ok(())
            }
        }
    };
    let spec = Spec::new("a", service).fresh_thread();
    let id = app.add_spec(spec).unwrap();
    app.start().unwrap();
    // Nobody subscribes and nobody looks before: the error is the thread's alone.
    dropped.recv_timeout(common::PATIENCE).unwrap();
    (app, id, release)
}

#[test]
fn who_has_not_entered_run_is_not_up() {
    let runs = Arc::default();
    let (app, _, release) = about_to_enter(&runs);
    let refused = app.wait_ready(MS(50)).unwrap_err();
    assert_eq!(&*refused.missing()[0].0, "app.a", "{refused}");
    assert_eq!(app.report().services()[0].state(), State::Starting);
    assert_eq!(*runs.lock().unwrap(), [1, 2]);
    drop(release);
    app.wait_ready(common::PATIENCE).unwrap();
    assert_eq!(app.report().services()[0].state(), State::Running);
    assert!(app.stop().is_empty());
}

#[test]
fn who_is_stopped_before_it_has_entered_run_is_not_missing() {
    let runs = Arc::default();
    let (app, a, release) = about_to_enter(&runs);
    app.stop_service(a).unwrap();
    app.wait_ready(common::PATIENCE).unwrap();
    drop(release);
    let end = app.wait_service(a, common::PATIENCE).unwrap();
    assert!(matches!(end, End::Stopped), "{end:?}");
    app.start_service(a).unwrap();
    app.wait_ready(common::PATIENCE).unwrap();
    assert!(app.stop().is_empty());
    assert_eq!(runs.lock().unwrap().last(), Some(&4));
}

// The end of a thread that was left behind came when its supervisor had looked for late ends for the last
// time, and nobody was told.
#[test]
fn an_end_at_the_very_end_of_the_supervisor_is_published() {
    for round in 0..600_u64 {
        let app = Supervisor::new("app");
        let runs = common::Tally::new();
        let running = runs.clone();
        let service = move |ctx: &Context| {
            running.add();
            ctx.wait_stop();
            // Sooner or later, so that it meets the end of the supervisor now and then.
            let until = Instant::now() + Duration::from_micros(round % 60 * 2);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            Ok(())
        };
        app.add_spec(Spec::new("late", service).stop_timeout(Duration::ZERO))
            .unwrap();
        app.start().unwrap();
        runs.reach(1);
        app.stop();
        until("it is not abandoned for ever", || {
            let report = app.report();
            let service = report.find("app.late");
            service.is_some_and(|s| s.state() == State::Stopped)
        });
    }
}
