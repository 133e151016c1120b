//! Values of the user's whose `Drop` panics, or may not run just anywhere.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use backstay::{
    Backoff, Context, ErrorKind, Failure, Restart, Service, ServiceResult, Spec, State, Supervisor,
};
use crossbeam_channel::{Sender, unbounded};
use log::{LevelFilter, Log, Metadata, Record};

use crate::common::process::leaves_nothing;
use crate::common::watch::entry;
use crate::common::{
    HOUR, Recorder, Tally, add_running, obedient, secs, take, unlimited, wait_for, wait_state,
};
use crate::panics::{ROUNDS, one_hook_panic};

/// The warnings of this process: target and text.
struct Warnings(Mutex<Vec<(String, String)>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl Log for Warnings {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = (record.target().to_owned(), record.args().to_string());
        self.0.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

impl Warnings {
    /// From now on. For tests in a process of their own.
    fn begin() {
        // In every round but the first it is set already.
        let _ = log::set_logger(&WARNINGS);
        log::set_max_level(LevelFilter::Warn);
        WARNINGS.0.lock().unwrap().clear();
    }

    fn count(target: &str, text: &str) -> usize {
        let lines = WARNINGS.0.lock().unwrap();
        let found = lines
            .iter()
            .filter(|(t, l)| t == target && l.contains(text));
        found.count()
    }

    #[track_caller]
    fn wait_one(target: &str, text: &str) {
        wait_for("it is in the log", || Warnings::count(target, text) > 0);
        let lines = WARNINGS.0.lock().unwrap();
        let found = lines
            .iter()
            .filter(|(t, l)| t == target && l.contains(text));
        assert_eq!(found.count(), 1, "{lines:?}");
    }
}

/// A service or an error. Counts its drops, each of which panics.
#[derive(Debug)]
struct Bomb(Tally);

impl Service for Bomb {
    fn run(&self, ctx: &Context) -> ServiceResult {
        ctx.wait_stop();
        Ok(())
    }
}

impl fmt::Display for Bomb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a bomb")
    }
}

impl Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.add();
        panic!("in the drop");
    }
}

/// Fails in the first `n` incarnations, then waits.
fn fails_with_bombs(n: u64, drops: &Tally) -> impl Service + use<> {
    let drops = drops.clone();
    move |ctx: &Context| {
        if ctx.incarnation() <= n {
            return Err(Bomb(drops.clone()).into());
        }
        ctx.wait_stop();
        Ok(())
    }
}

#[test]
fn panic_in_a_drop_of_the_service_value_at_its_removal() {
    leaves_nothing(
        "drops::panic_in_a_drop_of_the_service_value_at_its_removal",
        ROUNDS,
        || {
            let app = unlimited("app");
            let mut events = Recorder::of(&app);
            let drops = Tally::new();
            app.start().unwrap();
            let id = add_running(&app, "a", Bomb(drops.clone()));
            app.remove_and_wait(id, secs(30)).unwrap();
            assert_eq!(drops.get(), 1);
            one_hook_panic(&mut events, "app.a", "in the drop");
            assert_eq!(events.count("app.a", "removed"), 1);
            add_running(&app, "a", obedient());
            assert!(app.stop().is_empty());
        },
    );
}

#[test]
fn panic_in_a_drop_of_the_service_value_at_the_end_of_its_tree() {
    leaves_nothing(
        "drops::panic_in_a_drop_of_the_service_value_at_the_end_of_its_tree",
        ROUNDS,
        || {
            let app = unlimited("app");
            let mut events = Recorder::of(&app);
            let drops = Tally::new();
            app.start().unwrap();
            add_running(&app, "a", Bomb(drops.clone()));
            add_running(&app, "b", Bomb(drops.clone()));
            assert!(app.stop().is_empty());
            assert_eq!(drops.get(), 2);
            one_hook_panic(&mut events, "app.a", "in the drop");
            one_hook_panic(&mut events, "app.b", "in the drop");
        },
    );
}

/// Removed before the start, when nobody listens but the log; and queued for a start that never comes.
#[test]
fn panic_in_a_drop_of_a_value_that_never_ran() {
    leaves_nothing(
        "drops::panic_in_a_drop_of_a_value_that_never_ran",
        ROUNDS,
        || {
            Warnings::begin();
            let drops = Tally::new();
            let app = unlimited("app");
            let id = app.add("a", Bomb(drops.clone())).unwrap();
            app.remove(id).unwrap();
            assert_eq!(drops.get(), 1);
            Warnings::wait_one("app.a", "in the drop");
            app.start().unwrap();
            add_running(&app, "a", obedient());
            assert!(app.stop().is_empty());

            let other = unlimited("other");
            other.add("a", Bomb(drops.clone())).unwrap();
            drop(other);
            assert_eq!(drops.get(), 2);
            Warnings::wait_one("other.a", "in the drop");
        },
    );
}

/// Whatever the reason: the refusal is the answer.
#[test]
fn panic_in_a_drop_of_a_value_that_is_refused() {
    leaves_nothing(
        "drops::panic_in_a_drop_of_a_value_that_is_refused",
        ROUNDS,
        || {
            let drops = Tally::new();
            let bomb = |name: &str| Spec::new(name, Bomb(drops.clone()));
            for running in [false, true] {
                Warnings::begin();
                let before = drops.get();
                let app = unlimited("app");
                let inner = Supervisor::new("inner");
                app.add("taken", obedient()).unwrap();
                app.add("inner", inner.clone()).unwrap();
                if running {
                    app.start().unwrap();
                }
                let refused = [
                    vec![bomb("bad name")],
                    vec![bomb("small").stack_size(1)],
                    vec![bomb("taken")],
                    vec![bomb("good"), Spec::new("twice", inner)],
                ];
                let kinds = refused.map(|specs| app.add_all(specs).unwrap_err().kind());
                let (bad, invalid) = (ErrorKind::BadName, ErrorKind::Invalid);
                assert_eq!(kinds, [bad, invalid, ErrorKind::DuplicateName, invalid]);
                assert!(app.stop().is_empty());
                let error = app.add_spec(bomb("late")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Stopped);
                for name in ["bad name", "small", "taken", "good", "late"] {
                    Warnings::wait_one(&format!("app.{name}"), "in the drop");
                }
                assert_eq!(drops.get(), before + 5);
                let error = Supervisor::new("a b").add_spec(bomb("a")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::BadName);
                assert_eq!(drops.get(), before + 6);
            }
        },
    );
}

/// The failure before the last one goes with the thread of a service that comes to rest.
#[test]
fn panic_in_a_drop_of_an_error_when_the_thread_leaves() {
    leaves_nothing(
        "drops::panic_in_a_drop_of_an_error_when_the_thread_leaves",
        ROUNDS,
        || {
            Warnings::begin();
            // Without a recorder, whose events would have the failures, too.
            let app = unlimited("app");
            let drops = Tally::new();
            let spec = Spec::new("a", fails_with_bombs(2, &drops)).backoff(Backoff::fixed(HOUR));
            let id = app.add_spec(spec).unwrap();
            app.start().unwrap();
            for failures in [1, 2] {
                wait_for("it has failed", || {
                    entry(&app, "app.a").failures() == failures
                });
                match failures {
                    1 => app.start_service(id).unwrap(),
                    _ => app.stop_service(id).unwrap(),
                }
            }
            wait_for("it is told", || {
                drops.get() == 1 && Warnings::count("app.a", "in the drop") == 1
            });
            assert!(app.stop().is_empty());
            drop(app);
            drops.reach(2);
            wait_for("it is told", || {
                Warnings::count("app.a", "in the drop") == 2
            });
        },
    );
}

/// The report has the last failure after the end, so it may be the last handle that it goes with.
#[test]
fn panic_in_a_drop_of_an_error_with_the_last_handle() {
    leaves_nothing(
        "drops::panic_in_a_drop_of_an_error_with_the_last_handle",
        ROUNDS,
        || {
            for unwinding in [false, true] {
                Warnings::begin();
                let app = unlimited("app");
                let drops = Tally::new();
                // One stays, the other is remembered only as an end.
                app.add("a", fails_with_bombs(1, &drops)).unwrap();
                let service = fails_with_bombs(1, &drops);
                app.add_spec(Spec::new("b", service).restart(Restart::Never))
                    .unwrap();
                app.start().unwrap();
                wait_for("both have failed", || {
                    let report = app.report();
                    report.find("app.b").is_none()
                        && report.find("app.a").is_some_and(|a| a.incarnation() == 2)
                });
                assert!(app.stop().is_empty());
                let dropping = catch_unwind(AssertUnwindSafe(move || {
                    let _app = app;
                    assert!(!unwinding, "on the way out");
                }));
                assert_eq!(dropping.is_err(), unwinding);
                drops.reach(2);
                Warnings::wait_one("app.a", "in the drop");
                Warnings::wait_one("app.b", "in the drop");
            }
        },
    );
}

/// What an observer has captured goes with the supervisor.
#[test]
fn panic_in_a_drop_of_what_a_builder_was_given() {
    leaves_nothing(
        "drops::panic_in_a_drop_of_what_a_builder_was_given",
        ROUNDS,
        || {
            Warnings::begin();
            let drops = Tally::new();
            let (observes, ranks) = (Bomb(drops.clone()), Bomb(drops.clone()));
            let app = Supervisor::builder("app")
                .quiet_panics()
                .on_event(move |_| drop(observes.to_string()))
                .rank_failures(move |_| i32::from(ranks.to_string().is_empty()))
                .build()
                .unwrap();
            app.start().unwrap();
            add_running(&app, "a", obedient());
            assert!(app.stop().is_empty());
            drop(app);
            drops.reach(2);
            wait_for("both are told", || {
                Warnings::count("app", "in the drop") == 2
            });
            // Also with a builder that is refused.
            let observes = Bomb(drops.clone());
            let refused = Supervisor::builder("a b").on_event(move |_| drop(observes.to_string()));
            assert_eq!(refused.build().unwrap_err().kind(), ErrorKind::BadName);
            assert_eq!(drops.get(), 3);
        },
    );
}

/// Tells the name of the thread on which it is dropped.
#[derive(Debug)]
struct Tracked(Sender<Option<String>>);

impl Drop for Tracked {
    fn drop(&mut self) {
        // The test may be over.
        let _ = self.0.send(thread::current().name().map(str::to_owned));
    }
}

impl fmt::Display for Tracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("tracked")
    }
}

impl Error for Tracked {}

/// Fails once, then is done: so its last failure stays.
fn done_after_a_failure(tell: &Sender<Option<String>>) -> Spec {
    let tell = tell.clone();
    let service = move |ctx: &Context| match ctx.incarnation() {
        1 => Err(Tracked(tell.clone()).into()),
        _ => Ok(()),
    };
    Spec::new("a", service).restart(Restart::OnFailure)
}

/// Whoever has the last reference to a supervisor that is over: one of them is its own thread.
#[test]
fn last_failures_are_not_dropped_on_the_supervisor_thread() {
    leaves_nothing(
        "drops::last_failures_are_not_dropped_on_the_supervisor_thread",
        6,
        || {
            const TIMES: usize = 100;
            let (tell, dropped_on) = unbounded();
            for stops in [true, false] {
                for _ in 0..TIMES {
                    let observed = Tracked(tell.clone());
                    let app = Supervisor::builder("the-root")
                        .on_event(move |_| drop(observed.to_string()))
                        .build()
                        .unwrap();
                    app.add_spec(done_after_a_failure(&tell)).unwrap();
                    app.start().unwrap();
                    wait_state(&app, "the-root.a", State::Done);
                    if stops {
                        assert!(app.stop().is_empty());
                    }
                }
            }
            // The failure that ends it is its own thread's as well.
            for _ in 0..TIMES {
                let error = Tracked(tell.clone());
                let error = Mutex::new(Some(error));
                let service = move |_: &Context| match error.lock().unwrap().take() {
                    Some(error) => Err(error.into()),
                    None => Ok(()),
                };
                let app = Supervisor::new("the-root");
                let spec = Spec::new("a", service).fatal_if(|_| true);
                app.add_spec(spec).unwrap();
                app.start().unwrap();
            }
            for _ in 0..5 * TIMES {
                let thread = take(&dropped_on);
                assert_ne!(thread.as_deref(), Some("the-root"));
            }
        },
    );
}

/// Outside of supervision nothing is moved elsewhere.
#[test]
fn failure_of_the_users_own_is_dropped_in_place() {
    let (tell, dropped_on) = unbounded();
    let here = thread::current().name().map(str::to_owned);
    drop(Failure::of(Tracked(tell)));
    assert_eq!(take(&dropped_on), here);
}
