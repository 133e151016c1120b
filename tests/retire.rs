//! `Service::retire`: when a supervisor lets go of a service for good.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use backstay::{
    Context, ErrorKind, EventKind, Limit, Restart, Service, ServiceResult, Spec, Supervisor,
};

use common::{PATIENCE, Recorder, Tally, add_running, obedient, unlimited, wait_state};

/// Counts how often it was retired; ends with an error when it is told to.
#[derive(Clone, Default)]
struct Handle {
    retired: Tally,
    fails: bool,
}

impl Service for Handle {
    fn run(&self, ctx: &Context) -> ServiceResult {
        if self.fails {
            return Err("as told".into());
        }
        ctx.wait_stop();
        Ok(())
    }

    fn retire(&self) {
        self.retired.add();
    }
}

#[test]
fn removal_retires_once_a_restart_does_not() {
    let app = Supervisor::new("app");
    let handle = Handle::default();
    let mut events = Recorder::of(&app);
    let id = app.add("a", handle.clone()).unwrap();
    app.start().unwrap();
    app.restart_service(id).unwrap();
    events.wait_nth("app.a", "started", 2);
    app.stop_service(id).unwrap();
    wait_state(&app, "app.a", backstay::State::Stopped);
    assert_eq!(handle.retired.get(), 0);
    app.remove_and_wait(id, PATIENCE).unwrap();
    assert_eq!(handle.retired.get(), 1);
    assert!(app.stop().is_empty());
    assert_eq!(handle.retired.get(), 1);
}

#[test]
fn end_of_the_tree_retires_whoever_ran_or_not() {
    let runs = Handle::default();
    let given_up = Handle {
        fails: true,
        ..Handle::default()
    };
    let app = Supervisor::new("app");
    add_running_after_start(&app, &runs);
    let spec = Spec::new("b", given_up.clone()).restart(Restart::OnFailure);
    let spec = spec.limit(Limit::budget(0, 0).then(backstay::Exceeded::StopService));
    app.add_spec(spec).unwrap();
    wait_state(&app, "app.b", backstay::State::GivenUp);
    assert_eq!((runs.retired.get(), given_up.retired.get()), (0, 0));
    assert!(app.stop().is_empty());
    assert_eq!((runs.retired.get(), given_up.retired.get()), (1, 1));

    // Stopped before it was started.
    let (never, below) = (Handle::default(), Handle::default());
    let app = Supervisor::new("app");
    let inner = Supervisor::new("inner");
    inner.add("b", below.clone()).unwrap();
    app.add("a", never.clone()).unwrap();
    app.add("inner", inner.clone()).unwrap();
    assert!(app.stop().is_empty());
    assert_eq!((never.retired.get(), below.retired.get()), (1, 1));
    // Its handle has heard of it.
    let refused = inner.add("c", obedient()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Stopped);
    inner.wait().unwrap();
}

fn add_running_after_start(app: &Supervisor, handle: &Handle) {
    app.start().unwrap();
    add_running(app, "a", handle.clone());
}

#[test]
fn restart_of_the_supervisor_retires_nobody() {
    let handle = Handle::default();
    let app = unlimited("app");
    let inner = Supervisor::builder("inner")
        .limit(Limit::budget(0, 0).then(backstay::Exceeded::Fail))
        .build()
        .unwrap();
    inner.add("a", handle.clone()).unwrap();
    inner.add("b", common::fails(2, "again")).unwrap();
    app.add("inner", inner).unwrap();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    events.wait_nth("app.inner", "started", 3);
    assert_eq!(handle.retired.get(), 0);
    drop(app);
    handle.retired.reach(1);
}

#[test]
fn refused_service_is_not_retired() {
    let app = Supervisor::new("app");
    let handle = Handle::default();
    app.add("a", obedient()).unwrap();
    let before = app.add("a", handle.clone()).unwrap_err();
    assert_eq!(before.kind(), ErrorKind::DuplicateName);
    app.start().unwrap();
    let running = app.add("a", Arc::new(handle.clone())).unwrap_err();
    assert_eq!(running.kind(), ErrorKind::DuplicateName);
    assert!(app.stop().is_empty());
    let after = app.add("b", handle.clone()).unwrap_err();
    assert_eq!(after.kind(), ErrorKind::Stopped);
    assert_eq!(handle.retired.get(), 0);
}

#[test]
fn wrappers_hand_it_on() {
    let (shared, boxed) = (Arc::new(Handle::default()), Handle::default());
    let app = Supervisor::new("app");
    app.add("a", shared.clone()).unwrap();
    app.add("b", Box::new(boxed.clone()) as Box<dyn Service>)
        .unwrap();
    app.start().unwrap();
    assert!(app.stop().is_empty());
    assert_eq!((shared.retired.get(), boxed.retired.get()), (1, 1));
}

struct Panicking(Tally);

impl Service for Panicking {
    fn run(&self, ctx: &Context) -> ServiceResult {
        ctx.wait_stop();
        Ok(())
    }

    fn retire(&self) {
        panic!("no way to retire");
    }
}

impl Drop for Panicking {
    fn drop(&mut self) {
        self.0.add();
    }
}

#[test]
fn panic_in_it_is_told_and_goes_no_further() {
    let app = unlimited("app");
    let dropped = Tally::new();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let id = add_running(&app, "a", Panicking(dropped.clone()));
    app.remove_and_wait(id, PATIENCE).unwrap();
    assert_eq!(dropped.get(), 1);
    let told = events.wait("app.a", "hook panicked");
    assert!(
        matches!(told.kind(), EventKind::HookPanicked { message } if message.contains("no way to retire")),
        "{told}"
    );
    assert!(app.stop().is_empty());
}
