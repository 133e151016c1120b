//! Values by key where things go wrong: providers that hang, threads that can't be had, waits that
//! nobody is there to end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::Arc;

use backstay::{Backoff, Context, Key, Spec, State};
use common::{ms, obedient, unlimited, wait_for, wait_state};

const K: Key<u32> = Key::new("k");

/// A stack that no machine has.
const IMPOSSIBLE_STACK: usize = 1 << 60;

/// Provides 7 and waits for its stop.
fn provides(ctx: &Context) -> backstay::ServiceResult {
    ctx.provide(&K, 7_u32)?;
    ctx.wait_stop();
    Ok(())
}

#[test]
fn failed_start_keeps_no_value() {
    let app = unlimited("app");
    let value = Arc::new(7_u32);
    let given = value.clone();
    let p = Spec::new("p", move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            ctx.provide(&K, given.clone())?;
        }
        ctx.wait_stop();
        Ok(())
    });
    let p = app.add_spec(p.provides(&K)).unwrap();
    let c = Spec::new("c", obedient())
        .needs(&K)
        .stack_size(IMPOSSIBLE_STACK)
        .backoff(Backoff::fixed(ms(1)));
    app.add_spec(c).unwrap();
    app.start().unwrap();
    wait_for("c fails", || {
        app.report()
            .find("app.c")
            .is_some_and(|c| c.failures() > 10)
    });
    app.restart_service(p).unwrap();
    wait_state(&app, "app.p", State::Starting);
    // The test's, and the one in the closure.
    wait_for("the value is let go of", || Arc::strong_count(&value) == 2);
    assert!(app.stop().is_empty());
}
