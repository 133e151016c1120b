//! Panics wherever user code is called.

use std::error::Error;
use std::fmt;
use std::panic::{Location, panic_any};
use std::sync::{Arc, Mutex};

use backstay::{
    Context, ErrorKind, EventKind, Failure, FailureKind, Limit, Service, ServiceResult, Supervisor,
};

use crate::common::process::{in_own_process, leaves_nothing};
use crate::common::{
    Recorder, Tally, add_running, failed, fails, obedient, panics_once, take, unlimited, wait_for,
};

pub(crate) const ROUNDS: u32 = 10;

/// The texts of the hooks that panicked, as far as they are of this path.
fn hook_panics(events: &mut Recorder, path: &str) -> Vec<String> {
    let text = |e: &backstay::Event| match e.kind() {
        EventKind::HookPanicked { message } if e.path() == path => Some(message.to_string()),
        _ => None,
    };
    events.all().iter().filter_map(text).collect()
}

#[track_caller]
pub(crate) fn one_hook_panic(events: &mut Recorder, path: &str, text: &str) {
    let messages = hook_panics(events, path);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].contains(text), "{messages:?}");
}

/// What was seen where: exactly as the standard library would write it, and nothing from outside of
/// `run`.
#[test]
fn record_of_a_panic() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let place = Arc::new(Mutex::new(String::new()));
    let seen = place.clone();
    let service = panics_once(move || {
        let here = Location::caller();
        *seen.lock().unwrap() = format!("{}:{}:", here.file(), line!() + 1);
        panic!("a known line");
    });
    app.add("a", service).unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    let location = failure.location().unwrap();
    let column = location.strip_prefix(&*place.lock().unwrap()).unwrap();
    assert_eq!(column, "9", "{location}");
    if let Some(trace) = failure.backtrace() {
        let text = trace.to_string();
        // The file: without full debug information a closure has no name of its own.
        assert!(text.contains("panics.rs"), "{text}");
        assert!(!text.contains("driver::thread::work"), "{text}");
        assert!(!text.contains("thread_start"), "{text}");
    }
    assert!(app.stop().is_empty());
}

/// Something of the user's is dropped on the way out of the panic, guarded as always.
#[test]
fn record_of_a_panic_with_a_failure_at_hand() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let service = panics_once(|| {
        let _failure = Failure::of("an error before");
        panic!("boom");
    });
    app.add("a", service).unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(failure.message(), "boom");
    assert!(failure.location().is_some_and(|l| l.contains(file!())));
    assert!(app.stop().is_empty());
}

#[test]
fn panic_in_run() {
    leaves_nothing("panics::panic_in_run", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        app.add("a", panics_once(|| panic!("boom"))).unwrap();
        app.start().unwrap();
        let told = failed(&events.wait("app.a", "failed")).failure;
        assert_eq!((told.kind(), told.message()), (FailureKind::Panic, "boom"));
        events.wait_nth("app.a", "started", 2);
        assert!(app.stop().is_empty());
        assert_eq!(events.count("app.a", "failed"), 1);
    });
}

/// Waits for its stop; the rest is up to `interrupt`.
struct Touchy {
    interrupt: fn(),
}

impl Service for Touchy {
    fn run(&self, ctx: &Context) -> ServiceResult {
        ctx.wait_stop();
        Ok(())
    }

    fn interrupt(&self) {
        (self.interrupt)();
    }
}

#[test]
fn panic_in_the_interrupt_hook() {
    leaves_nothing("panics::panic_in_the_interrupt_hook", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        app.start().unwrap();
        let id = add_running(
            &app,
            "a",
            Touchy {
                interrupt: || panic!("in the hook"),
            },
        );
        app.stop_service(id).unwrap();
        events.wait("app.a", "stopped");
        one_hook_panic(&mut events, "app.a", "in the hook");
        app.start_service(id).unwrap();
        events.wait_nth("app.a", "started", 2);
        assert!(app.stop().is_empty());
        assert_eq!(events.count("app.a", "failed"), 0);
    });
}

#[test]
fn panic_in_an_on_stop_closure() {
    leaves_nothing("panics::panic_in_an_on_stop_closure", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        app.start().unwrap();
        let id = add_running(&app, "a", |ctx: &Context| {
            let called = Tally::new();
            let (first, second) = (called.clone(), called.clone());
            let _panics = ctx.on_stop(move || {
                first.add();
                panic!("in the closure");
            });
            let _counts = ctx.on_stop(move || second.add());
            // Both are called; returning before that would withdraw them.
            called.reach(2);
            Ok(())
        });
        app.stop_service(id).unwrap();
        events.wait("app.a", "stopped");
        one_hook_panic(&mut events, "app.a", "in the closure");
        assert!(app.stop().is_empty());
        assert_eq!(events.count("app.a", "failed"), 0);
    });
}

#[test]
fn panic_in_an_observer() {
    leaves_nothing("panics::panic_in_an_observer", ROUNDS, || {
        let app = Supervisor::builder("app")
            .quiet_panics()
            .on_event(|_| panic!("in the observer"))
            .build()
            .unwrap();
        let mut events = Recorder::of(&app);
        app.add("a", fails(2, "again")).unwrap();
        app.start().unwrap();
        events.wait_nth("app.a", "started", 3);
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
    });
}

#[test]
fn panic_in_the_drop_of_a_panic_payload() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            // Its payload's drop panics again.
            panic_any(Bomb);
        }
    }
    leaves_nothing(
        "panics::panic_in_the_drop_of_a_panic_payload",
        ROUNDS,
        || {
            let app = unlimited("app");
            let mut events = Recorder::of(&app);
            app.add("a", panics_once(|| panic_any(Bomb))).unwrap();
            app.start().unwrap();
            assert_eq!(
                failed(&events.wait("app.a", "failed")).failure.kind(),
                FailureKind::Panic
            );
            events.wait_nth("app.a", "started", 2);
            assert!(app.stop().is_empty());
            assert_eq!(events.count("app.a", "failed"), 1);
        },
    );
}

#[test]
fn payload_that_is_no_text() {
    leaves_nothing("panics::payload_that_is_no_text", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        app.add("a", panics_once(|| panic_any(vec![7_u8; 1000])))
            .unwrap();
        app.start().unwrap();
        let told = failed(&events.wait("app.a", "failed")).failure;
        assert!(told.message().contains("no text"), "{told}");
        assert!(
            told.location().is_some_and(|l| l.contains(file!())),
            "{told:?}"
        );
        events.wait_nth("app.a", "started", 2);
        assert!(app.stop().is_empty());
    });
}

/// The message is made on the service's thread; a Display that panics is one more panic there.
#[test]
fn panic_in_the_display_of_an_error() {
    #[derive(Debug)]
    struct Mute;
    impl fmt::Display for Mute {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            panic!("in the display")
        }
    }
    impl Error for Mute {}
    leaves_nothing("panics::panic_in_the_display_of_an_error", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let service = |ctx: &Context| {
            if ctx.incarnation() == 1 {
                return Err(Mute.into());
            }
            ctx.wait_stop();
            Ok(())
        };
        app.add("a", service).unwrap();
        app.start().unwrap();
        let told = failed(&events.wait("app.a", "failed")).failure;
        drop(told.to_string());
        events.wait_nth("app.a", "started", 2);
        assert!(app.stop().is_empty());
        assert_eq!(events.count("app.a", "failed"), 1);
    });
}

/// A chain of sources that leads back to itself has an end.
#[test]
fn source_chain_without_an_end() {
    #[derive(Debug)]
    struct Ring;
    impl fmt::Display for Ring {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a ring")
        }
    }
    impl Error for Ring {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&Ring)
        }
    }
    leaves_nothing("panics::source_chain_without_an_end", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let service = |ctx: &Context| {
            if ctx.incarnation() == 1 {
                return Err(Ring.into());
            }
            ctx.wait_stop();
            Ok(())
        };
        app.add("a", service).unwrap();
        app.start().unwrap();
        assert!(
            failed(&events.wait("app.a", "failed"))
                .failure
                .message()
                .contains("a ring")
        );
        events.wait_nth("app.a", "started", 2);
        assert!(app.stop().is_empty());
    });
}

/// Whoever replaces the hook afterwards loses the place and the trace, nothing else.
#[test]
fn panic_hook_replaced_after_the_start() {
    in_own_process("panics::panic_hook_replaced_after_the_start", || {
        let app = Supervisor::builder("app")
            .limit(Limit::none())
            .build()
            .unwrap();
        let mut events = Recorder::of(&app);
        app.start().unwrap();
        let (told, hooked) = crossbeam_channel::unbounded();
        std::panic::set_hook(Box::new(move |_| told.send(()).unwrap()));
        app.add("a", panics_once(|| panic!("boom"))).unwrap();
        let told = failed(&events.wait("app.a", "failed")).failure;
        assert_eq!((told.kind(), told.message()), (FailureKind::Panic, "boom"));
        assert!(
            told.location().is_none() && told.backtrace().is_none(),
            "{told:?}"
        );
        take(&hooked);
        events.wait_nth("app.a", "started", 2);
        assert!(app.stop().is_empty());
    });
}

/// Whoever was there before goes on seeing panics, unless they shall be quiet.
#[test]
fn panic_hook_set_before_the_start_is_called() {
    in_own_process("panics::panic_hook_set_before_the_start_is_called", || {
        let (told, hooked) = crossbeam_channel::unbounded();
        std::panic::set_hook(Box::new(move |info| {
            told.send(
                info.payload()
                    .downcast_ref::<&str>()
                    .copied()
                    .unwrap_or_default(),
            )
            .unwrap();
        }));
        for (quiet, text) in [(false, "loud"), (true, "quiet")] {
            let builder = Supervisor::builder("app");
            let app = if quiet {
                builder.quiet_panics()
            } else {
                builder
            }
            .build()
            .unwrap();
            let mut events = Recorder::of(&app);
            app.add("a", panics_once(move || panic_any(text))).unwrap();
            app.start().unwrap();
            let told = failed(&events.wait("app.a", "failed")).failure;
            assert_eq!(told.message(), text);
            assert!(
                told.location().is_some_and(|l| l.contains(file!())),
                "{told:?}"
            );
            events.wait_nth("app.a", "started", 2);
            assert!(app.stop().is_empty());
        }
        // A panic of another thread is nobody else's business.
        std::thread::spawn(|| panic!("elsewhere"))
            .join()
            .unwrap_err();
        assert_eq!(hooked.try_iter().collect::<Vec<_>>(), ["loud", "elsewhere"]);
    });
}

/// The panic hook must not be touched on a thread that is panicking.
#[test]
fn start_on_a_panicking_thread() {
    struct StartOnDrop {
        other: Supervisor,
        told: crossbeam_channel::Sender<Result<(), backstay::Error>>,
    }
    impl Drop for StartOnDrop {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            self.told.send(self.other.start()).unwrap();
        }
    }
    leaves_nothing("panics::start_on_a_panicking_thread", ROUNDS, || {
        let (app, other) = (unlimited("app"), unlimited("other"));
        let mut events = Recorder::of(&app);
        let (told, answers) = crossbeam_channel::unbounded();
        let starting = other.clone();
        let service = panics_once(move || {
            let _guard = StartOnDrop {
                other: starting.clone(),
                told: told.clone(),
            };
            panic!("on the way out");
        });
        app.add("a", service).unwrap();
        app.start().unwrap();
        let error = take(&answers).unwrap_err();
        assert_ne!(error.kind(), ErrorKind::AlreadyRunning);
        assert!(error.to_string().contains("panicking"), "{error}");
        assert_eq!(
            failed(&events.wait("app.a", "failed")).failure.message(),
            "on the way out"
        );
        events.wait_nth("app.a", "started", 2);
        // It was refused, not spoilt.
        other.start().unwrap();
        add_running(&other, "b", obedient());
        assert!(other.stop().is_empty());
        assert!(app.stop().is_empty());
    });
}
