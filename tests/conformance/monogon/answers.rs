//! What an end means.

use std::fmt;

use backstay::{Context, Exit, FailureKind, PanicPolicy, Restart, ServiceResult, Spec, State};

use crate::common::watch::{SOON, blame, entry, failures, incarnations, missing, puppet};
use crate::common::{
    Recorder, Tally, add_running, answer, counted, failed, ms, obedient, secs, state, timed,
    unlimited, wait_state,
};

#[test]
fn ok_without_being_done_is_a_failure() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let a = |ctx: &Context| {
        ctx.ready();
        if ctx.incarnation() > 1 {
            ctx.wait_stop();
        }
        Ok(())
    };
    app.add_spec(Spec::new("a", a).restart(Restart::Always))
        .unwrap();
    app.start().unwrap();

    events.wait_nth("app.a", "ready", 2);
    events.settle();
    let words = ["added", "started", "ready", "failed", "started", "ready"];
    assert_eq!(events.words("app.a"), words);
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Returned);
    assert_eq!(failure.message(), "returned unexpectedly");
    assert_eq!(incarnations(&app, ["a"]), [2]);
    assert!(app.stop().is_empty());
}

#[test]
fn done_by_answer_keeps_an_always_service_down() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (a, service) = puppet();
    app.add_spec(Spec::new("a", service).restart(Restart::Always))
        .unwrap();
    app.add("sibling", obedient()).unwrap();
    app.start().unwrap();
    a.exit(Exit::DoNotRestart);

    wait_state(&app, "app.a", State::Done);
    events.settle();
    let a = entry(&app, "app.a");
    assert_eq!((a.starts(), a.failures()), (1, 0));
    assert_eq!(events.words("app.a"), ["added", "started", "done"]);
    assert_eq!(events.words("app.sibling"), ["added", "started"]);
    assert!(app.stop().is_empty());
}

/// An error with another one as its source.
#[derive(Debug)]
struct Wrap<E>(&'static str, E);

impl<E> fmt::Display for Wrap<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl<E: std::error::Error + 'static> std::error::Error for Wrap<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.1)
    }
}

#[test]
fn wrapped_exit_is_found() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let a = |_: &Context| Err(Wrap("A", Wrap("B", Exit::DoNotRestart)).into());
    app.add("a", a).unwrap();
    app.start().unwrap();

    wait_state(&app, "app.a", State::Done);
    events.settle();
    assert_eq!(events.words("app.a"), ["added", "started", "done"]);
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn any_answer_to_a_stop_is_clean() {
    type Answer = fn() -> ServiceResult;
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let cases: [(&str, Answer, Option<&str>); 3] = [
        ("ok", || Ok(()), None),
        ("error", || Err("late".into()), Some("late")),
        ("panic", || panic!("too late"), Some("too late")),
    ];
    for (name, end, text) in cases {
        let service = move |ctx: &Context| {
            ctx.wait_stop();
            end()
        };
        let id = add_running(&app, name, service);
        app.stop_service(id).unwrap();
        let path = format!("app.{name}");
        let answered = answer(&events.wait(&path, "stopped"));
        assert_eq!(answered.as_ref().map(|failure| failure.message()), text);
        wait_state(&app, &path, State::Stopped);
        events.settle();
        let words = ["added", "started", "stopping", "stopped"];
        assert_eq!(events.words(&path), words);
    }
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn panic_policy_can_take_the_tree_down() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (runs, (b, service)) = (Tally::new(), puppet());
    app.add("a", counted(&runs, obedient())).unwrap();
    let spec = Spec::new("b", counted(&runs, service));
    app.add_spec(spec.panic_policy(PanicPolicy::Escalate))
        .unwrap();
    app.add("c", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    runs.reach(3);
    b.panic("corrupt");

    let error = app.wait().unwrap_err();
    assert_eq!(events.who("stopped"), ["app.c", "app.a"]);
    assert_eq!(blame(&error), ("app.b", "corrupt"));
    let failure = error.failure().unwrap();
    assert_eq!(failure.kind(), FailureKind::Panic);
    // Where the puppet panics.
    assert!(failure.location().unwrap().contains("watch.rs:"));
    assert_eq!(events.count("app.b", "started"), 1);
}

#[test]
fn ok_before_ready_is_done_but_fails_wait_ready() {
    let app = unlimited("app");
    let job = |ctx: &Context| {
        ctx.sleep(ms(100))?;
        Ok(())
    };
    let spec = Spec::new("a", job).restart(Restart::OnFailure);
    app.add_spec(spec.ready_timeout(secs(5))).unwrap();
    app.start().unwrap();

    let (ready, took) = timed(|| app.wait_ready(secs(60)));
    assert_eq!(missing(&ready.unwrap_err()), ["app.a"]);
    assert!(took < SOON, "{took:?}");
    assert_eq!(state(&app, "app.a"), State::Done);
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}
