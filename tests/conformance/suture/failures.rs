//! What counts as a failure, and what becomes of it.

use std::error::Error;
use std::fmt;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay::{
    Backoff, BoxError, Context, FailureKind, Limit, Next, Spec, State, Stopping, Supervisor,
};
use crossbeam_channel::unbounded;

use crate::common::process::in_own_process;
use crate::common::{
    Gate, HOUR, Recorder, add_running, failed, fails, ms, panics_once, secs, state, take, timed,
    unlimited,
};

const AT_ONCE: Next = Next::Restart {
    delay: Duration::ZERO,
};

#[test]
fn plain_return_is_a_failure() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let service = |ctx: &Context| {
        if ctx.incarnation() > 1 {
            ctx.wait_stop();
        }
        Ok(())
    };
    app.add("a", service).unwrap();
    app.start().unwrap();

    let first = failed(&events.wait("app.a", "failed"));
    assert_eq!(first.failure.kind(), FailureKind::Returned);
    assert!(
        first.failure.message().contains("returned unexpectedly"),
        "{}",
        first.failure
    );
    assert_eq!(first.count, 1.0);
    assert_eq!(events.wait_nth("app.a", "started", 2).incarnation(), 2);
    app.stop();
    assert_eq!(events.count("app.a", "failed"), 1);
}

#[test]
fn error_restarts_and_is_told() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    app.add("a", fails(1, "disk full")).unwrap();
    app.start().unwrap();

    let event = events.wait("app.a", "failed");
    assert_eq!(event.incarnation(), 1);
    let told = failed(&event);
    assert_eq!(told.failure.path(), "app.a");
    assert_eq!(told.failure.incarnation(), 1);
    assert_eq!(told.failure.kind(), FailureKind::Error);
    assert!(
        told.failure.message().contains("disk full"),
        "{}",
        told.failure
    );
    assert!(event.to_string().contains("disk full"), "{event}");
    assert_eq!(told.count, 1.0);
    assert_eq!(told.limit, 5.0);
    assert_eq!(told.next, AT_ONCE);
    assert_eq!(events.wait_nth("app.a", "started", 2).incarnation(), 2);
    app.stop();
    assert_eq!(events.count("app.a", "failed"), 1);
}

/// The exact count is the machine's; this is what the thread tells.
#[test]
fn panic_counts_like_an_error() {
    let app = Supervisor::builder("app")
        .limit(Limit::decay(3.5, HOUR))
        .quiet_panics()
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let service = |ctx: &Context| match ctx.incarnation() {
        1 | 2 => Err("an error".into()),
        3 => panic!("boom"),
        _ => {
            ctx.wait_stop();
            Ok(())
        }
    };
    app.add("a", service).unwrap();
    app.start().unwrap();

    let told = failed(&events.wait_nth("app.a", "failed", 3));
    assert!((2.99..=3.0).contains(&told.count), "{}", told.count);
    assert_eq!(told.failure.kind(), FailureKind::Panic);
    assert_eq!(told.failure.message(), "boom");
    let location = told.failure.location().unwrap();
    assert!(location.contains(file!()), "{location}");
    assert!(
        told.failure
            .thread_name()
            .is_some_and(|name| name.ends_with("app.a")),
        "{:?}",
        told.failure
    );
    assert_eq!(told.next, AT_ONCE);
    assert_eq!(events.wait_nth("app.a", "started", 4).incarnation(), 4);
    app.stop();
}

#[test]
fn any_panic_payload_becomes_text() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload's drop");
        }
    }
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add("str", panics_once(|| panic_any("a text"))).unwrap();
    app.add(
        "string",
        panics_once(|| panic_any(String::from("another text"))),
    )
    .unwrap();
    app.add("number", panics_once(|| panic_any(Box::new(7_u32))))
        .unwrap();
    app.add(
        "error",
        panics_once(|| panic_any(BoxError::from("an error"))),
    )
    .unwrap();
    app.add("bomb", panics_once(|| panic_any(Bomb))).unwrap();
    app.start().unwrap();

    let mut message = |name: &str| {
        let path = format!("app.{name}");
        let told = failed(&events.wait(&path, "failed"));
        assert_eq!(told.failure.kind(), FailureKind::Panic);
        assert_eq!(events.wait_nth(&path, "started", 2).incarnation(), 2);
        told.failure.message().to_owned()
    };
    assert_eq!(message("str"), "a text");
    assert_eq!(message("string"), "another text");
    assert!(message("number").contains("no text"));
    assert_eq!(message("error"), "an error");
    assert!(message("bomb").contains("no text"));
    assert!(app.stop().is_empty());
    assert_eq!(events.count("app.bomb", "failed"), 1);
}

#[test]
fn zero_threshold_means_zero() {
    for threshold in [0.0, 0.5] {
        let app = Supervisor::builder("app")
            .limit(Limit::decay(threshold, secs(30)))
            .build()
            .unwrap();
        let mut events = Recorder::of(&app);
        app.add("a", fails(1, "once")).unwrap();
        app.start().unwrap();

        let told = failed(&events.wait("app.a", "failed"));
        assert_eq!(told.count, 1.0);
        assert_eq!(told.next, Next::Queued);
        events.wait("app", "paused");
        assert_eq!(state(&app, "app.a"), State::Paused);
        let report = app.report();
        let next = report.find("app.a").unwrap().next_start().unwrap();
        assert!(
            secs(1) < next && next <= secs(23),
            "{next:?} of a pause of 15 s and up to half of that more"
        );
        let text = report.to_string();
        assert!(text.starts_with("app (paused) for "), "{text}");
        assert!(text.contains(", next start in "), "{text}");
        app.stop();
        assert_eq!(events.count("app.a", "started"), 1);
    }
}

#[test]
fn running_sibling_runs_on_during_a_pause() {
    let app = Supervisor::builder("app")
        .limit(Limit::decay(0.0, secs(30)))
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let fail = Gate::new();
    let failing = {
        let fail = fail.clone();
        move |_: &Context| {
            fail.wait();
            Err("now".into())
        }
    };
    app.add("a", failing).unwrap();
    let (told, contexts) = unbounded();
    let sibling = move |ctx: &Context| {
        told.send(ctx.clone())?;
        ctx.wait_stop();
        Ok(())
    };
    app.add("b", sibling).unwrap();
    app.start().unwrap();
    let b = take(&contexts);
    fail.open();
    events.wait("app", "paused");

    let report = app.report();
    let reported = report.find("app.b").unwrap();
    assert_eq!(
        (reported.state(), reported.incarnation()),
        (State::Running, 1)
    );
    assert!(!b.is_stopping());
    assert_eq!(events.words("app.b"), ["added", "started"]);
    assert_eq!(events.count("app", "resumed"), 0);
    app.stop();
}

#[test]
fn failed_event_comes_before_the_next_start() {
    const FAILURES: u64 = 20;
    let (told, seen) = unbounded();
    let app = Supervisor::builder("app")
        .limit(Limit::none())
        .on_event(move |event| {
            if matches!(event.word(), "started" | "failed") {
                told.send((event.word(), event.incarnation())).unwrap();
            }
        })
        .build()
        .unwrap();
    app.add("a", fails(FAILURES, "again")).unwrap();
    app.start().unwrap();
    for n in 1..=FAILURES {
        assert_eq!(take(&seen), ("started", n));
        assert_eq!(take(&seen), ("failed", n));
    }
    assert_eq!(take(&seen), ("started", FAILURES + 1));
    app.stop();
}

#[test]
fn never_two_incarnations_at_once() {
    const RESTARTS: u64 = 500;
    struct Leave<'a>(&'a AtomicBool);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.store(false, Ordering::SeqCst);
        }
    }
    let app = unlimited("app");
    let (told, incarnations) = unbounded();
    let inside = AtomicBool::new(false);
    let service = move |ctx: &Context| {
        let found = inside.swap(true, Ordering::SeqCst);
        let _leave = Leave(&inside);
        let n = ctx.incarnation();
        told.send((n, found))?;
        match n % 3 {
            _ if n > RESTARTS => ctx.wait_stop(),
            0 => return Err("an error".into()),
            1 => panic!("a panic"),
            _ => {}
        }
        Ok(())
    };
    app.add("a", service).unwrap();
    app.start().unwrap();
    for n in 1..=RESTARTS + 1 {
        assert_eq!(take(&incarnations), (n, false));
    }
    app.stop();
}

#[test]
fn a_stop_error_from_elsewhere_is_a_failure() {
    #[derive(Debug)]
    struct Wrapped(Stopping);
    impl fmt::Display for Wrapped {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }
    impl Error for Wrapped {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let (keep, kept) = unbounded();
    let other = add_running(&app, "other", move |ctx: &Context| {
        keep.send(ctx.sleep(HOUR).unwrap_err())?;
        Ok(())
    });
    app.stop_service(other).unwrap();
    let stopping = take(&kept);

    let service = move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            return Err(Wrapped(stopping).into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("a", service).unwrap();
    assert_eq!(
        failed(&events.wait("app.a", "failed")).failure.kind(),
        FailureKind::Error
    );
    assert_eq!(events.wait_nth("app.a", "started", 2).incarnation(), 2);
    app.stop();
}

/// In real time, tenfold faster than the row; the exact moments are the machine's.
#[test]
fn builder_defaults_reach_every_service() {
    let app = Supervisor::builder("app")
        .backoff(Backoff::fixed(ms(300)))
        .service_stop_timeout(ms(100))
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let (hangs, release) = (Gate::new(), Gate::new());
    let service = {
        let (hangs, release) = (hangs.clone(), release.clone());
        move |ctx: &Context| {
            if ctx.incarnation() == 1 {
                return Err("once".into());
            }
            hangs.open();
            release.wait();
            Ok(())
        }
    };
    app.add("a", service).unwrap();
    let own = Spec::new("b", fails(1, "once")).backoff(Backoff::fixed(ms(100)));
    app.add_spec(own.stop_timeout(secs(10))).unwrap();
    app.start().unwrap();

    assert_eq!(
        failed(&events.wait("app.a", "failed")).next,
        Next::Restart { delay: ms(300) }
    );
    assert_eq!(
        failed(&events.wait("app.b", "failed")).next,
        Next::Restart { delay: ms(100) }
    );
    hangs.wait();
    let (report, took) = timed(|| app.stop());
    assert!((ms(100)..secs(5)).contains(&took), "{took:?}");
    assert_eq!(report.unstopped().len(), 1, "{report}");
    assert_eq!(report.unstopped()[0].path(), "app.a");
    let restarted = events
        .all()
        .iter()
        .filter(|e| e.word() == "started" && e.incarnation() == 2);
    let order: Vec<&str> = restarted.map(backstay::Event::path).collect();
    assert_eq!(order, ["app.b", "app.a"]);
    release.open();
}

#[inline(never)]
fn culprit() -> backstay::ServiceResult {
    panic!("boom")
}

/// In a process of its own, where `RUST_BACKTRACE` is unset.
#[test]
fn panic_carries_a_backtrace() {
    in_own_process("failures::panic_carries_a_backtrace", || {
        assert_eq!(std::env::var_os("RUST_BACKTRACE"), None);
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let failing = |ctx: &Context| match ctx.incarnation() {
            1 => culprit(),
            2 => Err("an error".into()),
            3 => Ok(()),
            _ => {
                ctx.wait_stop();
                Ok(())
            }
        };
        app.add("a", failing).unwrap();
        app.start().unwrap();

        let panic = failed(&events.wait("app.a", "failed")).failure;
        assert_eq!(panic.message(), "boom");
        assert!(
            panic.location().is_some_and(|l| l.contains(file!())),
            "{panic:?}"
        );
        assert_eq!(panic.backtrace().is_some(), cfg!(feature = "backtrace"));
        if let Some(trace) = panic.backtrace() {
            let text = format!("{panic:#}");
            assert!(text.contains("culprit"), "{text}");
            assert!(trace.to_string().contains("culprit"), "{trace}");
            assert!(trace.addresses().len() <= backstay::TRACE_FRAMES_MAX);
        }
        for n in [2, 3] {
            let failure = failed(&events.wait_nth("app.a", "failed", n)).failure;
            assert!(failure.backtrace().is_none(), "{failure}");
        }
        app.stop();
    });
}
