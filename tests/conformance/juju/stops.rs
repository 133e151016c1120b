//! Stops along the graph.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use backstay::{Context, Key, Spec, State};

use super::parts::Diary;
use crate::common::watch::{SOON, entry, failures, incarnations, is_listed};
use crate::common::{Recorder, Tally, counted, obedient, unlimited, wait_state};

/// A value that shows whether its provider has given it up.
struct Line(AtomicBool);

const TOP: Key<Line> = Key::new("top");
const MID: Key<Line> = Key::new("mid");

/// Provides a line under a key, and cuts it when it ends.
fn serves(key: Key<Line>) -> impl Fn(&Context) -> backstay::ServiceResult {
    move |ctx: &Context| {
        let line = Arc::new(Line(AtomicBool::new(true)));
        ctx.provide(&key, line.clone())?;
        ctx.wait_stop();
        line.0.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// Looks at the end whether the line still works.
fn uses(key: Key<Line>, works: &Tally) -> impl Fn(&Context) -> backstay::ServiceResult + use<> {
    let works = works.clone();
    move |ctx: &Context| {
        let line = ctx.get(&key)?;
        ctx.wait_stop();
        if line.0.load(Ordering::SeqCst) && ctx.get(&key).is_ok() {
            works.add();
        }
        Ok(())
    }
}

#[test]
fn stop_goes_from_dependents_to_inputs() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (works, runs) = (Tally::new(), Tally::new());
    let (takes, gives) = (uses(TOP, &works), serves(MID));
    let mid = move |ctx: &Context| {
        gives(ctx)?;
        takes(ctx)
    };
    app.add_spec(Spec::new("top", serves(TOP)).provides(&TOP))
        .unwrap();
    let mid = Spec::new("mid", mid).needs(&TOP);
    app.add_spec(mid.provides(&MID)).unwrap();
    let leaf = counted(&runs, uses(MID, &works));
    app.add_spec(Spec::new("leaf", leaf).needs(&MID)).unwrap();
    app.add("x", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    runs.reach(2);

    assert!(app.stop().is_empty());
    assert_eq!(
        events.who("stopped"),
        ["app.x", "app.leaf", "app.mid", "app.top"]
    );
    assert_eq!(works.get(), 2);
}

#[test]
fn stopping_an_input_parks_its_dependents() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let mut events = Recorder::of(&app);
    let p = app.add_spec(diary.p(obedient())).unwrap();
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");

    app.stop_service(p).unwrap();
    wait_state(&app, "app.p", State::Stopped);
    wait_state(&app, "app.c", State::Waiting);
    assert_eq!(
        events.story(&["stopping", "stopped"]),
        [
            "app.c stopping",
            "app.c stopped",
            "app.p stopping",
            "app.p stopped"
        ]
    );
    app.start_service(p).unwrap();
    diary.wait("c 2 k=2");
    assert_eq!(incarnations(&app, ["p", "c"]), [2; 2]);

    diary.forget();
    app.remove_and_wait(p, SOON).unwrap();
    assert_eq!(diary.lines(), ["c 2 ends", "p 2 ends"]);
    assert!(!is_listed(&app, "app.p"));
    wait_state(&app, "app.c", State::Waiting);
    let reason = entry(&app, "app.c").waiting_for().unwrap().to_owned();
    assert!(reason.contains("no provider"), "{reason}");
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}
