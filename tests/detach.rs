//! `Context::detach`: a thread of a service that nobody waits for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use backstay::{Context, ErrorKind, EventKind, FailureKind};
use crossbeam_channel::{bounded, unbounded};

use common::{Gate, PATIENCE, Recorder, Tally, add_running, take, unlimited, wait_for};

#[test]
fn answer_comes_over_the_channel() {
    let app = unlimited("app");
    let (tell, told) = unbounded();
    app.start().unwrap();
    add_running(&app, "a", move |ctx: &Context| {
        let name = || std::thread::current().name().map(str::to_owned);
        tell.send(take(&ctx.detach(name)?)?)?;
        let panic = take(&ctx.detach(|| -> Option<String> { panic!("boom") })?);
        let panic = panic.unwrap_err();
        assert_eq!((panic.kind(), panic.path()), (FailureKind::Panic, "app.a"));
        assert!(panic.location().unwrap().contains("detach.rs"));
        tell.send(Some(panic.message().to_owned()))?;
        ctx.wait_stop();
        Ok(())
    });
    assert_eq!(take(&told).as_deref(), Some("app.a"));
    assert_eq!(take(&told).as_deref(), Some("boom"));
    assert!(app.stop().is_empty());
}

#[test]
fn nobody_waits_for_it() {
    let app = unlimited("app");
    let (release, begun, over) = (Gate::new(), Tally::new(), Tally::new());
    let (wait, begin, end) = (release.clone(), begun.clone(), over.clone());
    app.start().unwrap();
    let id = add_running(&app, "a", move |ctx: &Context| {
        let (wait, begin, end) = (wait.clone(), begin.clone(), end.clone());
        drop(ctx.detach(move || {
            begin.add();
            wait.wait();
            end.add();
        })?);
        ctx.wait_stop();
        Ok(())
    });
    begun.reach(1);
    // Neither the next incarnation waits for it nor the end of the tree.
    app.restart_service(id).unwrap();
    begun.reach(2);
    assert!(app.stop().is_empty());
    assert_eq!(over.get(), 0);
    release.open();
    over.reach(2);
}

#[test]
fn its_calls_never_wait_for_its_own_service() {
    let app = unlimited("app");
    let (tell, told) = bounded(1);
    let root = app.clone();
    app.start().unwrap();
    add_running(&app, "a", move |ctx: &Context| {
        let root = root.clone();
        let asked = ctx.detach(move || root.stop().only_requested())?;
        // The service ends only when the call has come back.
        tell.send(take(&asked)?)?;
        Ok(())
    });
    assert!(take(&told));
    assert_eq!(
        app.wait_timeout(PATIENCE).map(|end| end.is_ok()),
        Some(true)
    );
}

#[test]
fn refused_when_the_incarnation_has_ended() {
    let app = unlimited("app");
    let (lend, lent) = bounded(1);
    app.start().unwrap();
    add_running(&app, "a", move |ctx: &Context| {
        lend.send(ctx.clone())?;
        ctx.wait_stop();
        // At a stop there are threads.
        take(&ctx.detach(|| ())?)?;
        Ok(())
    });
    let ctx = take(&lent);
    assert!(app.stop().is_empty());
    let refused = ctx.detach(|| ()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Stopping);
}

struct Touchy(Tally);

impl Drop for Touchy {
    fn drop(&mut self) {
        self.0.add();
        panic!("leave me alone");
    }
}

#[test]
fn unheard_answer_whose_drop_panics_is_told() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let drops = Tally::new();
    let dropped = drops.clone();
    app.start().unwrap();
    add_running(&app, "a", move |ctx: &Context| {
        let (dropped, gone) = (dropped.clone(), Gate::new());
        let wait = gone.clone();
        let answer = ctx.detach(move || {
            wait.wait();
            Touchy(dropped)
        })?;
        drop(answer);
        gone.open();
        ctx.wait_stop();
        Ok(())
    });
    drops.reach(1);
    let told = events.wait("app.a", "hook panicked");
    let EventKind::HookPanicked { message } = told.kind() else {
        panic!("{told}");
    };
    assert!(message.contains("leave me alone"), "{message}");
    assert!(app.stop().is_empty());
}

#[test]
fn what_it_held_goes_with_it() {
    let app = unlimited("app");
    app.start().unwrap();
    let (tell, told) = bounded(1);
    add_running(&app, "a", move |ctx: &Context| {
        let held = std::sync::Arc::new(());
        let weak = std::sync::Arc::downgrade(&held);
        take(&ctx.detach(move || drop(held))?)?;
        tell.send(weak)?;
        ctx.wait_stop();
        Ok(())
    });
    let weak = take(&told);
    wait_for("what it held is gone", || weak.strong_count() == 0);
    assert!(app.stop().is_empty());
}
