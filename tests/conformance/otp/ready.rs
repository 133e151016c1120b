//! Waiting until everything is ready.

use std::time::Duration;

use backstay::{Context, Restart, Service, Spec, Supervisor};

use crate::common::watch::{Hooked, SOON, hooked, missing};
use crate::common::{Gate, HOUR, Recorder, Tally, counted, ms, obedient, secs, timed, unlimited};

/// Says that it is ready, a while after its start.
fn ready_after(time: Duration) -> impl Service {
    move |ctx: &Context| {
        ctx.sleep(time)?;
        ctx.ready();
        ctx.wait_stop();
        Ok(())
    }
}

#[test]
fn wait_ready_returns_when_the_last_is_ready() {
    let app = unlimited("app");
    for (name, time) in [("a", ms(50)), ("b", ms(150))] {
        app.add_spec(Spec::new(name, ready_after(time)).ready_timeout(secs(10)))
            .unwrap();
    }
    let (ready, took) = timed(|| {
        app.start().unwrap();
        app.wait_ready(secs(5))
    });
    ready.unwrap();
    assert!((ms(150)..SOON).contains(&took), "{took:?}");
    assert!(app.stop().is_empty());
}

#[test]
fn wait_ready_names_who_is_missing() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let inner = Supervisor::new("inner");
    let never = |name: &str| Spec::new(name, obedient()).ready_timeout(HOUR);
    inner.add_spec(never("c")).unwrap();
    app.add_spec(Spec::new("a", ready_after(ms(0))).ready_timeout(HOUR))
        .unwrap();
    app.add_spec(never("b")).unwrap();
    app.add("inner", inner).unwrap();
    app.start().unwrap();
    events.wait("app.a", "ready");
    events.wait("app.inner.c", "started");

    let (ready, took) = timed(|| app.wait_ready(ms(100)));
    let not_ready = ready.unwrap_err();
    assert!((ms(100)..SOON).contains(&took), "{took:?}");
    assert_eq!(missing(&not_ready), ["app.b", "app.inner.c"]);
    let text = not_ready.to_string();
    assert!(
        text.contains("app.b") && text.contains("app.inner.c"),
        "{text}"
    );
    assert!(!text.contains("app.a"), "{text}");
    assert!(app.stop().is_empty());
}

#[test]
fn wait_ready_fails_early() {
    let app = unlimited("app");
    let fails = Spec::new("a", |_: &Context| Err("no disk".into())).restart(Restart::Never);
    app.add_spec(fails.ready_timeout(secs(5))).unwrap();
    app.add_spec(Spec::new("b", obedient()).ready_timeout(HOUR))
        .unwrap();
    app.start().unwrap();

    let (ready, took) = timed(|| app.wait_ready(secs(60)));
    let not_ready = ready.unwrap_err();
    assert!(took < SOON, "{took:?}");
    assert_eq!(missing(&not_ready), ["app.a"]);
    let text = not_ready.to_string();
    assert!(text.contains("app.a") && text.contains("no disk"), "{text}");
    assert!(app.stop().is_empty());
}

#[test]
fn wait_ready_on_an_empty_supervisor() {
    let app = unlimited("app");
    app.start().unwrap();
    // One call may find the processors busy with other tests.
    let took = (0..10).map(|_| {
        let (ready, took) = timed(|| app.wait_ready(secs(1)));
        ready.unwrap();
        took
    });
    let took = took.min().unwrap();
    assert!(took < ms(100), "{took:?}");
    assert!(app.stop().is_empty());
}

#[test]
fn wait_ready_ends_when_the_tree_stops() {
    let app = unlimited("app");
    app.add_spec(Spec::new("a", obedient()).ready_timeout(HOUR))
        .unwrap();
    app.start().unwrap();
    let waits = Gate::new();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            waits.open();
            timed(|| app.wait_ready(secs(60)))
        });
        waits.wait();
        assert!(app.stop().is_empty());
        let (ready, took) = waiting.join().unwrap();
        ready.unwrap_err();
        assert!(took < SOON, "{took:?}");
    });
}

/// `a`, `b` and `c` only: `d`, which waits for a key of `c`, comes with keys in a later issue.
#[test]
fn stop_takes_back_a_half_done_start() {
    struct Announced(Hooked);
    impl Service for Announced {
        fn run(&self, ctx: &Context) -> backstay::ServiceResult {
            ctx.ready();
            self.0.run(ctx)
        }

        fn interrupt(&self) {
            self.0.interrupt();
        }
    }
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let calls = ["a", "b", "c"].map(|name| {
        let calls = Tally::new();
        let spec = if name == "c" {
            Spec::new(name, counted(&runs, hooked(&calls)))
        } else {
            Spec::new(name, counted(&runs, Announced(hooked(&calls))))
        };
        app.add_spec(spec.ready_timeout(HOUR)).unwrap();
        calls
    });
    app.start().unwrap();
    events.wait("app.a", "ready");
    events.wait("app.b", "ready");
    runs.reach(3);

    let not_ready = app.wait_ready(ms(100)).unwrap_err();
    assert_eq!(missing(&not_ready), ["app.c"]);
    assert!(app.stop().is_empty());
    assert_eq!(
        events.story(&["stopping", "stopped"]),
        [
            "app.c stopping",
            "app.c stopped",
            "app.b stopping",
            "app.b stopped",
            "app.a stopping",
            "app.a stopped",
        ]
    );
    assert_eq!(calls.map(|calls| calls.get()), [1, 1, 1]);
}
