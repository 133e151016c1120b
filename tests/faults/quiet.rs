//! What `quiet_panics` keeps from the panic hook that was there before.

use std::fmt;
use std::sync::Arc;

use backstay::{Context, Key, Limit, Restart, Service, ServiceResult, Spec, Supervisor};

use crate::common::process::{in_own_process, threads_named};
use crate::common::watch::puppet;
use crate::common::{Gate, HOUR, PATIENCE, Recorder, add_running, hung, wait_for};

const K: Key<Bomb> = Key::new("k");

/// Panics when it is dropped, or when it is shown.
#[derive(Debug)]
struct Bomb {
    when_shown: bool,
}

impl fmt::Display for Bomb {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!self.when_shown, "display");
        Ok(())
    }
}

impl std::error::Error for Bomb {}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(self.when_shown, "drop");
    }
}

/// Each has somebody's code panic once on its thread, outside of `run`.
fn services() -> [Spec; 5] {
    let fails = |_: &Context| Err("boom".into());
    let shown = |_: &Context| Err(Box::new(Bomb { when_shown: true }).into());
    let dropped = |_: &Context| Err(Box::new(Bomb { when_shown: false }).into());
    let provides = |ctx: &Context| {
        ctx.provide(&K, Arc::new(Bomb { when_shown: false }))?;
        Ok(())
    };
    [
        Spec::new("map", fails).map_failure(|_| panic!("map_failure")),
        Spec::new("fatal", fails).fatal_if(|_| panic!("fatal_if")),
        Spec::new("shown", shown),
        Spec::new("dropped", dropped).map_failure(|_| Ok(())),
        Spec::new("provides", provides).provides(&K),
    ]
    .map(|spec| spec.restart(Restart::Never).ready_timeout(HOUR))
}

#[test]
fn panics_of_filters_and_values_are_quiet_as_well() {
    in_own_process(
        "quiet::panics_of_filters_and_values_are_quiet_as_well",
        || {
            let (told, hooked) = crossbeam_channel::unbounded();
            std::panic::set_hook(Box::new(move |info| told.send(info.to_string()).unwrap()));
            for quiet in [true, false] {
                let builder = Supervisor::builder("app");
                let app = if quiet {
                    builder.quiet_panics()
                } else {
                    builder
                };
                let app = app.build().unwrap();
                let mut events = Recorder::of(&app);
                app.add_all(services()).unwrap();
                app.start().unwrap();
                wait_for("all are over", || app.report().services().is_empty());
                assert!(app.stop().is_empty());
                let mut panicked = events.who("hook panicked");
                panicked.sort();
                panicked.dedup();
                let all = ["dropped", "fatal", "map", "provides", "shown"];
                assert_eq!(panicked, all.map(|name| format!("app.{name}")));
                let seen = hooked.try_iter().count();
                assert_eq!(seen == 0, quiet, "{seen} went to the hook");
            }
        },
    );
}

/// A service that panics when it is let go of, twice.
struct Leaving;

impl Service for Leaving {
    fn run(&self, ctx: &Context) -> ServiceResult {
        ctx.wait_stop();
        Ok(())
    }

    fn retire(&self) {
        panic!("retire");
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        panic!("drop of the service");
    }
}

/// Fails with something that panics when it is dropped: as long as `n` says.
fn fails_with_bombs(n: u64) -> impl Service {
    move |ctx: &Context| {
        if ctx.incarnation() <= n {
            return Err(Box::new(Bomb { when_shown: false }).into());
        }
        ctx.wait_stop();
        Ok(())
    }
}

/// Everything of the user's that goes at some time, each in its way.
fn let_go_of_everything(app: &Supervisor) {
    let id = app.add("never-ran", Leaving).unwrap();
    app.remove(id).unwrap();
    app.add("a name", Leaving).unwrap_err();
    app.start().unwrap();
    app.add("never-run", Leaving).unwrap();
    let id = add_running(app, "removed", Leaving);
    app.remove_and_wait(id, PATIENCE).unwrap();
    add_running(app, "stays", Leaving);
    app.add("replaced", fails_with_bombs(3)).unwrap();
    wait_for("it runs at last", || {
        let report = app.report();
        let replaced = report.find("app.replaced");
        replaced.is_some_and(|s| s.incarnation() == 4)
    });
}

/// Has the supervisor fail by two, which its rank function is to decide between.
fn fail_twice(app: &Supervisor) {
    let fatal = |name: &str| {
        let (strings, service) = puppet();
        app.add_spec(Spec::new(name, service).fatal_if(|_| true))
            .unwrap();
        strings
    };
    let mut events = Recorder::of(app);
    let (first, second) = (fatal("first"), fatal("second"));
    // The last one is asked first, and holds up the others.
    let release = Gate::new();
    add_running(app, "last", hung(&release));
    second.fail("one");
    events.wait("app.last", "stopping");
    first.fail("two");
    events.wait("app.first", "failed");
    release.open();
    app.wait().unwrap_err();
}

#[test]
fn panics_of_what_is_dropped_are_quiet_as_well() {
    in_own_process("quiet::panics_of_what_is_dropped_are_quiet_as_well", || {
        let (told, hooked) = crossbeam_channel::unbounded();
        std::panic::set_hook(Box::new(move |info| told.send(info.to_string()).unwrap()));
        // Our hook comes with the first start in a process.
        let first = Supervisor::new("first");
        first.start().unwrap();
        assert!(first.stop().is_empty());
        for quiet in [true, false] {
            let builder = Supervisor::builder("app")
                .limit(Limit::none())
                .rank_failures(|_| panic!("rank"));
            let app = if quiet {
                builder.quiet_panics()
            } else {
                builder
            };
            let app = app.build().unwrap();
            let_go_of_everything(&app);
            fail_twice(&app);
            drop(app);
            let mut seen = Vec::new();
            if !quiet {
                // Of 5 services one was refused, which is not let go of; 3 errors; the ranks.
                const PANICS: usize = 5 + 4 + 3 + 1;
                seen.extend((0..PANICS).map(|_| hooked.recv_timeout(PATIENCE).unwrap()));
            }
            wait_for("nothing goes on", || threads_named("backstay") == 0);
            seen.extend(hooked.try_iter());
            for text in ["retire", "drop of the service", "drop", "rank"] {
                let is_seen = seen.iter().any(|panic| panic.ends_with(text));
                assert_ne!(is_seen, quiet, "{text}: {seen:#?}");
            }
        }
    });
}
