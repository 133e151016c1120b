//! Values that are provided one after the other, or again.

use std::sync::Arc;

use backstay::{Context, Key, Spec, State};
use crossbeam_channel::{select, unbounded};

use super::parts::{Diary, K};
use crate::common::watch::{failures, incarnations};
use crate::common::{PATIENCE, Recorder, ms, obedient, state, unlimited, wait_for, wait_state};

const K2: Key<u64> = Key::new("k2");

#[test]
fn providing_again_restarts_dependents_once() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let (again, changes) = unbounded();
    let changing = move |ctx: &Context| loop {
        select! {
            recv(changes) -> value => ctx.provide(&K, value?)?,
            recv(ctx.stop_signal()) -> _ => return Ok(()),
        }
    };
    app.add_spec(diary.p(changing)).unwrap();
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.add_spec(diary.c("d", obedient())).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    diary.wait("d 1 k=1");

    let mut events = Recorder::of(&app);
    again.send(77_u64).unwrap();
    diary.wait("c 2 k=77");
    diary.wait("d 2 k=77");
    events.settle();
    assert_eq!(incarnations(&app, ["p", "c", "d"]), [1, 2, 2]);
    assert_eq!(failures(&app), 0);
    assert_eq!(events.count("app.c", "started"), 1);
    assert_eq!(events.count("app.d", "started"), 1);
    assert!(app.stop().is_empty());
}

/// Not only when the incarnation that has provided it ends: it may be a connection.
#[test]
fn replaced_value_is_released_when_nobody_uses_it_any_more() {
    const CONNECTION: Key<u32> = Key::new("connection");
    let app = unlimited("app");
    let (again, changes) = unbounded::<Arc<u32>>();
    let provider = move |ctx: &Context| loop {
        select! {
            recv(changes) -> value => ctx.provide(&CONNECTION, value?)?,
            recv(ctx.stop_signal()) -> _ => return Ok(()),
        }
    };
    let user = |ctx: &Context| {
        let _connection = ctx.get(&CONNECTION)?;
        ctx.wait_stop();
        Ok(())
    };
    app.add_all([
        Spec::new("p", provider).provides(&CONNECTION),
        Spec::new("c", user).needs(&CONNECTION),
    ])
    .unwrap();
    app.start().unwrap();
    let first = Arc::new(1);
    again.send(first.clone()).unwrap();
    assert_eq!(*app.get(&CONNECTION, PATIENCE).unwrap(), 1);
    again.send(Arc::new(2)).unwrap();
    wait_for("the first one is released", || {
        Arc::strong_count(&first) == 1
    });
    assert_eq!(incarnations(&app, ["p"]), [1]);
    assert!(app.stop().is_empty());
}

/// More often than anybody can be restarted: nothing piles up, and all end with the last value.
#[test]
fn many_changes_end_with_the_last_value() {
    const CHANGES: u64 = 10_000;
    let (app, diary) = (unlimited("app"), Diary::new());
    let changing = |ctx: &Context| {
        for n in 1..=CHANGES {
            ctx.provide(&K, n)?;
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add_spec(Spec::new("p", changing).provides(&K)).unwrap();
    for name in ["c", "d"] {
        app.add_spec(diary.c(name, obedient())).unwrap();
    }
    app.start().unwrap();
    let last = format!("k={CHANGES}");
    for name in ["c", "d"] {
        wait_for("the last value is there", || {
            diary.of(name).iter().any(|line| line.ends_with(&last))
        });
    }
    let mut events = Recorder::of(&app);
    events.settle();
    assert_eq!(events.all().len(), 0);
    assert_eq!(failures(&app), 0);
    assert!(diary.starts("c") as u64 <= CHANGES);
    assert!(app.stop().is_empty());
}

#[test]
fn one_service_provides_two_keys() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let mut events = Recorder::of(&app);
    let (fail, failing) = unbounded::<()>();
    let own = diary.clone();
    let provider = move |ctx: &Context| {
        own.note(format!("p {}", ctx.incarnation()));
        ctx.provide(&K, ctx.incarnation())?;
        ctx.sleep(ms(300))?;
        own.note(format!("p {} complete", ctx.incarnation()));
        ctx.provide(&K2, ctx.incarnation())?;
        select! {
            recv(failing) -> _ => Err("boom".into()),
            recv(ctx.stop_signal()) -> _ => Ok(()),
        }
    };
    app.add_spec(Spec::new("p", provider).provides(&K).provides(&K2))
        .unwrap();
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.add_spec(diary.part("d", obedient()).needs(&K).needs(&K2).spec())
        .unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    diary.wait("d 1 k=1 k2=1");
    assert_eq!(
        diary.lines(),
        ["p 1", "c 1 k=1", "p 1 complete", "d 1 k=1 k2=1"]
    );
    wait_state(&app, "app.p", State::Ready);
    assert_eq!(state(&app, "app.c"), State::Running);
    // Ready when all was provided, and not before.
    let ready = events.wait("app.p", "ready").seq();
    assert!(ready > events.wait("app.c", "started").seq());

    events.forget();
    fail.send(()).unwrap();
    diary.wait("c 2 k=2");
    diary.wait("d 2 k=2 k2=2");
    events.settle();
    assert_eq!(incarnations(&app, ["p", "c", "d"]), [2; 3]);
    assert_eq!(failures(&app), 1);
    assert!(app.stop().is_empty());
}
