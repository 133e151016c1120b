//! Values on their way from a provider to others.

use std::sync::Arc;

use backstay::{Context, ErrorKind, Key, Missing, Spec, State, Supervisor};
use crossbeam_channel::{Receiver, unbounded};

use super::parts::{Diary, K};
use crate::common::watch::{SOON, entry};
use crate::common::{
    Gate, ms, obedient, pass, secs, slow_to_stop, take, timed, unlimited, wait_state,
};

#[derive(Debug)]
struct Pool;

const POOL: Key<Pool> = Key::new("pool");

#[test]
fn get_hands_over_the_very_same_value() {
    let app = unlimited("app");
    let pool = Arc::new(Pool);
    let given = pool.clone();
    let provider = move |ctx: &Context| {
        ctx.provide(&POOL, given.clone())?;
        ctx.wait_stop();
        Ok(())
    };
    let (tell, told) = unbounded();
    let taker = move |ctx: &Context| {
        tell.send(ctx.get(&POOL)?)?;
        ctx.wait_stop();
        Ok(())
    };
    app.add_spec(Spec::new("p", provider).provides(&POOL))
        .unwrap();
    app.add_spec(Spec::new("c", taker).needs(&POOL)).unwrap();
    app.start().unwrap();
    assert!(Arc::ptr_eq(&take(&told), &pool));
    assert!(app.stop().is_empty());
}

/// A service that declares nothing and tells what `ask` answers.
fn asks<T: Send + 'static>(
    ask: impl Fn(&Context) -> T + Send + Sync + 'static,
) -> (Spec, Receiver<T>) {
    let (tell, told) = unbounded();
    let service = move |ctx: &Context| {
        tell.send(ask(ctx)).unwrap();
        ctx.wait_stop();
        Ok(())
    };
    (Spec::new("d", service), told)
}

#[test]
fn get_of_an_undeclared_key_is_missing() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.add_spec(diary.p(obedient())).unwrap();
    app.start().unwrap();
    app.get(&K, SOON).unwrap();
    let (d, told) = asks(|ctx| ctx.get(&K));
    app.add_spec(d).unwrap();
    let missing: Missing = take(&told).unwrap_err();
    assert_eq!(missing.key(), "k");
    let text = missing.to_string();
    for word in ["\"k\"", "not declared", "app.d"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    assert!(app.stop().is_empty());
}

#[test]
fn provide_of_an_undeclared_key_is_an_error() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.start().unwrap();
    // Declares nothing, or something else.
    for declares in [
        |spec: Spec| spec,
        |spec: Spec| spec.provides(&K2).wants(&K3),
    ] {
        let (d, told) = asks(|ctx| ctx.provide(&K, 1));
        let id = app.add_spec(declares(d)).unwrap();
        let refused = take(&told).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        let text = refused.to_string();
        for word in ["provides", "\"k\"", "app.d"] {
            assert!(text.contains(word), "{word} in {text}");
        }
        app.remove_and_wait(id, SOON).unwrap();
    }
    let c = entry(&app, "app.c");
    assert_eq!((c.state(), c.starts()), (State::Waiting, 0));
    assert!(app.stop().is_empty());
    assert!(diary.lines().is_empty());
}

#[test]
fn value_is_released_with_its_incarnation() {
    let app = unlimited("app");
    let pool = Arc::new(Pool);
    // The provider itself keeps none.
    let (hand, made) = unbounded();
    hand.send(pool.clone()).unwrap();
    let provider = move |ctx: &Context| {
        ctx.provide(&POOL, made.recv()?)?;
        ctx.wait_stop();
        Ok(())
    };
    let holds = Gate::new();
    let open = holds.clone();
    let holder = move |ctx: &Context| {
        let _pool = ctx.get(&POOL)?;
        open.open();
        ctx.wait_stop();
        Ok(())
    };
    let p = Spec::new("p", provider).provides(&POOL);
    let ids = app
        .add_all([p, Spec::new("c", holder).needs(&POOL)])
        .unwrap();
    app.start().unwrap();
    holds.wait();
    assert!(Arc::strong_count(&pool) >= 3);

    app.remove_and_wait(ids[1], SOON).unwrap();
    app.remove_and_wait(ids[0], SOON).unwrap();
    assert_eq!(Arc::strong_count(&pool), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn keys_do_not_cross_supervisors() {
    let (app, diary) = (unlimited("app"), Diary::new());
    app.add_spec(diary.p(obedient())).unwrap();
    let nested = Supervisor::new("nested");
    nested.add_spec(diary.c("s", obedient())).unwrap();
    app.add("nested", nested).unwrap();
    app.start().unwrap();
    diary.wait("p 1");
    pass(ms(200));
    let s = entry(&app, "app.nested.s");
    assert_eq!((s.state(), s.starts()), (State::Waiting, 0));
    let reason = s.waiting_for().unwrap();
    assert!(reason.contains("no provider"), "{reason}");

    // Its parent takes the value and hands it down.
    let (tell, told) = unbounded();
    let parent = move |ctx: &Context| {
        let value = ctx.get(&K)?;
        let below = ctx.supervise(Supervisor::builder("below"))?;
        let tell = tell.clone();
        below.add("s", move |ctx: &Context| {
            tell.send(*value)?;
            ctx.wait_stop();
            Ok(())
        })?;
        ctx.wait_stop();
        Ok(())
    };
    app.add_spec(Spec::new("parent", parent).needs(&K)).unwrap();
    assert_eq!(take(&told), 1);
    assert!(app.stop().is_empty());
    assert_eq!(diary.starts("s"), 0);
}

const K2: Key<u64> = Key::new("k2");
const K3: Key<u64> = Key::new("k3");

#[test]
fn get_from_outside() {
    let app = unlimited("app");
    let pool = Arc::new(Pool);
    let given = pool.clone();
    let late = move |ctx: &Context| {
        pass(ms(200));
        ctx.provide(&POOL, given.clone())?;
        ctx.wait_stop();
        Ok(())
    };
    app.add_spec(Spec::new("p", late).provides(&POOL)).unwrap();
    app.add_spec(Spec::new("never", obedient()).provides(&K2))
        .unwrap();
    let gone = app
        .add_spec(Spec::new("gone", slow_to_stop(ms(300))).provides(&K3))
        .unwrap();
    app.start().unwrap();
    assert!(Arc::ptr_eq(&app.get(&POOL, secs(30)).unwrap(), &pool));

    let (answer, took) = timed(|| app.get(&K2, ms(300)));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(took >= ms(300), "{took:?}");
    // A key that nobody has declared may still come.
    let unknown: Key<u64> = Key::new("unknown");
    let refused = app.get(&unknown, ms(0)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Timeout);
    let other: Key<String> = Key::new("k2");
    let refused = app.get(&other, SOON).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");

    let waiting = app.clone();
    let begins = Gate::new();
    let open = begins.clone();
    let waiter = std::thread::spawn(move || {
        open.open();
        timed(|| waiting.get(&K3, secs(60)))
    });
    begins.wait();
    // Time to begin waiting, as the stop is: a provider that is gone by then may be yet to come.
    pass(ms(100));
    app.remove(gone).unwrap();
    let (answer, took) = waiter.join().unwrap();
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Gone);
    assert!(took < SOON, "{took:?}");
    // Nor will one provide it that is stopped.
    app.stop_service(app.id("never").unwrap()).unwrap();
    wait_state(&app, "app.never", State::Stopped);
    let (answer, took) = timed(|| app.get(&K2, secs(60)));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Gone);
    assert!(took < SOON, "{took:?}");

    assert!(app.stop().is_empty());
    let (answer, took) = timed(|| app.get(&POOL, secs(60)));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Stopped);
    assert!(took < SOON, "{took:?}");
}
