//! Many callers at once, and handles that go away.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};

use backstay::{Backoff, Context, Spec, Supervisor};
use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};

use crate::common::process::leaves_nothing;
use crate::common::{
    PATIENCE, Tally, add_running, counted, ending, fails, ms, obedient, secs, timed, unlimited,
    wait_for,
};

/// Each of the longer ones.
const ROUNDS: u32 = 6;

/// 1,000 adds and removes from 8 threads; some services fail all the time.
#[test]
fn adds_and_removes_from_eight_threads_while_services_fail() {
    const THREADS: usize = 8;
    const EACH: usize = 125;
    leaves_nothing(
        "api::adds_and_removes_from_eight_threads_while_services_fail",
        ROUNDS,
        || {
            let app = unlimited("app");
            for i in 0..3 {
                let failing = Spec::new(format!("failing{i}"), fails(u64::MAX, "always"));
                app.add_spec(failing.backoff(Backoff::fixed(ms(1))))
                    .unwrap();
            }
            app.start().unwrap();
            let (runs, ends) = (Tally::new(), Tally::new());
            let failed = Arc::new(AtomicU64::new(0));
            let fails_meanwhile = || failed.load(Ordering::Relaxed) > 0;
            thread::scope(|scope| {
                for t in 0..THREADS {
                    let (app, runs, ends, failed) = (&app, &runs, &ends, &failed);
                    let fails_meanwhile = &fails_meanwhile;
                    scope.spawn(move || {
                        for i in 0..EACH {
                            let failed = failed.clone();
                            let service = move |ctx: &Context| {
                                // Every third fails a few times, also while it is being removed.
                                if i % 3 == 0 && ctx.incarnation() < 5 {
                                    failed.fetch_add(1, Ordering::Relaxed);
                                    return Err("again".into());
                                }
                                ctx.wait_stop();
                                Ok(())
                            };
                            let id = app
                                .add(format!("s{t}-{i}"), counted(runs, ending(ends, service)))
                                .unwrap();
                            if i == 0 {
                                // Removed at once, none might come to that.
                                wait_for("one fails", fails_meanwhile);
                            }
                            if i % 2 == 0 {
                                app.remove_and_wait(id, secs(30)).unwrap();
                            } else {
                                app.remove(id).unwrap();
                            }
                        }
                    });
                }
            });
            wait_for("only the three are left", || {
                app.report().services().len() == 3
            });
            assert_eq!(runs.get(), ends.get());
            assert!(fails_meanwhile());
            let report = app.stop();
            assert!(report.is_empty(), "{report}");
        },
    );
}

/// Whoever calls gets an answer, whether the supervisor is there, going or gone.
#[test]
fn calls_from_eight_threads_during_a_stop() {
    leaves_nothing("api::calls_from_eight_threads_during_a_stop", 10, || {
        let app = unlimited("app");
        app.start().unwrap();
        let ids: Vec<_> = (0..8)
            .map(|i| app.add(format!("a{i}"), obedient()).unwrap())
            .collect();
        let begun = Tally::new();
        thread::scope(|scope| {
            for (t, id) in ids.into_iter().enumerate() {
                let (app, begun) = (&app, &begun);
                scope.spawn(move || {
                    begun.add();
                    for i in 0.. {
                        let refused = app.add(format!("s{t}-{i}"), obedient()).is_err();
                        let _ = app.restart_service(id);
                        let _ = app.wait_service(id, ms(0));
                        drop(app.report().to_string());
                        if refused {
                            break;
                        }
                    }
                    // Removed while the others are stopped, or too late for that.
                    let (answer, took) = timed(|| app.remove_and_wait(id, secs(30)));
                    assert!(took < secs(10), "{answer:?} after {took:?}");
                });
            }
            begun.reach(8);
            let report = app.stop();
            assert!(report.is_empty(), "{report}");
        });
        assert!(
            app.report().iter().all(|s| !s.state().is_alive()),
            "{}",
            app.report()
        );
    });
}

/// Everybody who stops gets the same report.
#[test]
fn stop_from_many_threads() {
    leaves_nothing("api::stop_from_many_threads", 10, || {
        let app = unlimited("app");
        let ends = Tally::new();
        app.start().unwrap();
        add_running(&app, "a", ending(&ends, obedient()));
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    assert!(app.stop().is_empty());
                    app.wait().unwrap();
                    assert_eq!(ends.get(), 1);
                });
            }
        });
    });
}

#[test]
fn last_handle_dropped_while_everything_runs() {
    leaves_nothing("api::last_handle_dropped_while_everything_runs", 10, || {
        let app = unlimited("app");
        let inner = unlimited("inner");
        let (runs, ends) = (Tally::new(), Tally::new());
        let watched = || counted(&runs, ending(&ends, obedient()));
        inner.add("c", watched()).unwrap();
        inner.add("fails", fails(u64::MAX, "always")).unwrap();
        app.add("a", watched()).unwrap();
        app.add("b", watched()).unwrap();
        app.add("inner", inner).unwrap();
        app.start().unwrap();
        let events = app.subscribe(10);
        runs.reach(3);
        let another = app.clone();
        drop(app);
        // Not the last one yet.
        assert!(another.wait_timeout(ms(10)).is_none());
        assert_eq!(ends.get(), 0);
        drop(another);
        ends.reach(3);
        // A subscription is no handle; it hears of the end.
        while events.recv().is_some() {}
        assert!(events.is_closed());
    });
}

/// A handle that a service got from its context keeps nothing alive.
#[test]
fn handle_from_a_context_is_no_owner() {
    leaves_nothing("api::handle_from_a_context_is_no_owner", 10, || {
        let app = unlimited("app");
        let (told, handles) = unbounded();
        let ends = Tally::new();
        let service = move |ctx: &Context| {
            told.send((ctx.supervisor().clone(), ctx.root().clone(), ctx.clone()))?;
            ctx.wait_stop();
            Ok(())
        };
        app.add("a", ending(&ends, service)).unwrap();
        app.start().unwrap();
        let (supervisor, root, ctx) = crate::common::take(&handles);
        drop(app);
        ends.reach(1);
        assert!(ctx.is_stopping());
        for handle in [supervisor, root] {
            handle.wait().unwrap();
            handle.add("late", obedient()).unwrap_err();
        }
    });
}

/// Never started, so there is nothing to stop.
#[test]
fn last_handle_dropped_before_the_start() {
    leaves_nothing("api::last_handle_dropped_before_the_start", 10, || {
        let value = Arc::new(());
        let held = value.clone();
        let app = Supervisor::new("app");
        let service = move |ctx: &Context| {
            let _held = &held;
            ctx.wait_stop();
            Ok(())
        };
        app.add("a", service).unwrap();
        drop(app);
        wait_for("the value is dropped", || Arc::strong_count(&value) == 1);
    });
}

/// Tells on which thread it is dropped.
struct Tracked(Sender<ThreadId>);

impl Drop for Tracked {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(thread::current().id());
    }
}

impl fmt::Debug for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tracked")
    }
}

impl fmt::Display for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tracked")
    }
}

impl Error for Tracked {}

/// Neither the value, nor an error, nor a closure: each `Drop` may block.
#[test]
fn user_values_are_not_dropped_on_the_supervisor_thread() {
    const SERVICES: usize = 100;
    leaves_nothing(
        "api::user_values_are_not_dropped_on_the_supervisor_thread",
        ROUNDS,
        || {
            let app = unlimited("app");
            let (tell, dropped_on) = unbounded();
            let serving = thread::spawn({
                let app = app.clone();
                move || {
                    app.serve().unwrap();
                    thread::current().id()
                }
            });
            let service = move |errors: u64| {
                let (tell, value) = (tell.clone(), Tracked(tell.clone()));
                move |ctx: &Context| {
                    let _value = &value;
                    if ctx.incarnation() <= errors {
                        return Err(Tracked(tell.clone()).into());
                    }
                    let captured = Tracked(tell.clone());
                    let _guard = ctx.on_stop(move || drop(captured));
                    ctx.wait_stop();
                    Ok(())
                }
            };
            for i in 0..SERVICES {
                let id = add_running(&app, &format!("s{i}"), service(i as u64 % 3));
                match i % 4 {
                    0 => app.remove_and_wait(id, secs(30)).unwrap(),
                    1 => app.restart_service(id).unwrap(),
                    2 => app.stop_service(id).unwrap(),
                    _ => {}
                }
            }
            assert!(app.stop().is_empty());
            let supervisor = serving.join().unwrap();
            drop((app, service));
            let end = loop {
                match dropped_on.recv_timeout(PATIENCE) {
                    Ok(thread) => assert_ne!(thread, supervisor),
                    Err(end) => break end,
                }
            };
            assert_eq!(end, RecvTimeoutError::Disconnected, "all are dropped");
        },
    );
}
