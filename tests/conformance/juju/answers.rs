//! What a service answers when it is stopped for a restart, and filters of answers.

use std::panic::resume_unwind;

use backstay::{Backoff, Context, Exit, FailureKind, Service, Spec, State, Supervisor};

use super::parts::Diary;
use crate::common::watch::{
    SOON, assert_lives, blame, entry, failures, incarnations, puppet, wait_gone,
};
use crate::common::{
    Recorder, answer, failed, fails, obedient, panics_once, secs, timed, unlimited, wait_state,
};

/// Waits for its stop in the first run, and then answers that.
fn answers(error: impl Fn() -> backstay::BoxError + Send + Sync + 'static) -> impl Service {
    move |ctx: &Context| {
        ctx.wait_stop();
        match ctx.incarnation() {
            1 => Err(error()),
            _ => Ok(()),
        }
    }
}

#[test]
fn exit_answer_to_a_restart_stop_is_honoured() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let mut events = Recorder::of(&app);
    let p = app.add_spec(diary.p(obedient())).unwrap();
    app.add_spec(diary.c("c", answers(|| Exit::Uninstall.into())))
        .unwrap();
    app.add_spec(diary.c("d", answers(|| Exit::DoNotRestart.into())))
        .unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    diary.wait("d 1 k=1");
    app.restart_service(p).unwrap();
    diary.wait("p 2");
    wait_gone(&app, "app.c");
    wait_state(&app, "app.d", State::Done);
    events.settle();
    assert_eq!(incarnations(&app, ["p", "d"]), [2, 1]);
    assert_eq!((diary.starts("c"), diary.starts("d")), (1, 1));
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn error_answer_to_a_restart_stop_is_ignored() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let mut events = Recorder::of(&app);
    let p = app.add_spec(diary.p(obedient())).unwrap();
    let c = diary.c("c", answers(|| "late".into()));
    app.add_spec(c.backoff(Backoff::fixed(secs(30)))).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    let ((), took) = timed(|| {
        app.restart_service(p).unwrap();
        diary.wait("c 2 k=2");
    });
    assert!(took < SOON, "{took:?}");
    assert_eq!(failures(&app), 0);
    let answered = answer(&events.wait("app.c", "stopped")).unwrap();
    assert_eq!(answered.message(), "late");
    assert!(app.stop().is_empty());
}

#[test]
fn fatal_answer_to_a_restart_stop_is_fatal() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let p = app.add_spec(diary.p(obedient())).unwrap();
    let c = diary.c("c", answers(|| "lost".into()));
    app.add_spec(c.fatal_if(|_| true)).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    app.restart_service(p).unwrap();
    let error = app.wait().unwrap_err();
    assert_eq!(blame(&error), ("app.c", "lost"));
    assert_eq!((diary.starts("p"), diary.starts("c")), (1, 1));
}

#[test]
fn panicking_map_failure_is_contained() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let spec = Spec::new("a", fails(1, "boom")).map_failure(|_| panic!("the filter panics"));
    app.add("b", obedient()).unwrap();
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    events.wait_nth("app.a", "started", 2);
    events.settle();
    let told = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(told.message(), "boom");
    assert_eq!(events.count("app.a", "failed"), 1);
    assert_eq!(events.who("hook panicked"), ["app.a"]);
    let hook = events.wait("app.a", "hook panicked").to_string();
    assert!(hook.contains("the filter panics"), "{hook}");
    assert_eq!(incarnations(&app, ["a", "b"]), [2, 1]);
    assert!(app.stop().is_empty());
}

#[test]
fn panic_that_skips_the_hook_is_still_an_end() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let skips = panics_once(|| resume_unwind(Box::new("gone")));
    app.add("a", skips).unwrap();
    app.start().unwrap();
    events.wait_nth("app.a", "started", 2);
    wait_state(&app, "app.a", State::Running);
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert_eq!((failure.message(), failure.location()), ("gone", None));
    let a = entry(&app, "app.a");
    assert_eq!((a.failures(), a.panics()), (1, 1));
    assert!(app.stop().is_empty());
}

/// What was asked for is a removal; what it answers changes nothing about that.
#[test]
fn removal_wins_over_an_error_answer() {
    let app: Supervisor = unlimited("app");
    let (diary, mut events) = (Diary::new(), Recorder::of(&app));
    let a = diary.part("a", answers(|| "not me".into())).spec();
    let id = app.add_spec(a).unwrap();
    app.start().unwrap();
    diary.wait("a 1");
    app.remove_and_wait(id, secs(5)).unwrap();
    events.settle();
    assert_eq!(diary.lines(), ["a 1", "a 1 ends"]);
    assert_eq!(events.count("app.a", "failed"), 0);
    assert_lives(&app);
    assert!(app.stop().is_empty());
}

/// With the strings of a puppet: an exit that answers no stop is an end of its own.
#[test]
fn uninstall_of_a_dependent_leaves_its_input_alone() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let (c, service) = puppet();
    app.add_spec(diary.p(obedient())).unwrap();
    app.add_spec(diary.c("c", service)).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    c.exit(Exit::Uninstall);
    wait_gone(&app, "app.c");
    assert_eq!(incarnations(&app, ["p"]), [1]);
    assert!(app.stop().is_empty());
}
