//! What `quiet_panics` keeps from the panic hook that was there before.

use std::fmt;
use std::sync::Arc;

use backstay::{Context, Key, Restart, Spec, Supervisor};

use crate::common::process::in_own_process;
use crate::common::{HOUR, Recorder, wait_for};

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
