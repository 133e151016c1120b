//! Parents that restart, and what becomes of the services under them.

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backstay::{
    Backoff, Context, Exceeded, FailureKind, Limit, Restart, ServiceResult, Spec, State, StopCause,
};
use crossbeam_channel::unbounded;

use crate::common::watch::{Crowd, crowded, entry, failures, is_listed, puppet, quiet};
use crate::common::{
    Gate, Recorder, Tally, counted, failed, ms, obedient, pass, secs, slow_to_stop, take,
    unlimited, wait_for,
};

#[test]
fn service_is_done_only_once_it_has_returned() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (crowd, entered, returned) = (Crowd::new(), Tally::new(), Tally::new());
    let (inners, enters, returns) = (crowd.clone(), entered.clone(), returned.clone());
    let p = move |ctx: &Context| -> ServiceResult {
        // One for each incarnation of p before this one.
        assert_eq!(returns.get() + 1, ctx.incarnation());
        let (entered, returned) = (enters.clone(), returns.clone());
        let inner = move |ctx: &Context| {
            entered.add();
            ctx.ready();
            pass(ms(100));
            returned.add();
            Ok(())
        };
        let below = ctx.supervise(quiet("below"))?;
        let spec = Spec::new("inner", crowded(&inners, inner));
        below.add_spec(spec.restart(Restart::OnFailure))?;
        if ctx.incarnation() == 1 {
            enters.reach(1);
            pass(ms(20));
            return Err("boom".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("p", p).unwrap();
    app.start().unwrap();

    returned.reach(2);
    events.wait("app.p.inner", "done");
    events.settle();
    assert_eq!((crowd.most(), entered.get()), (1, 2));
    assert_eq!(events.who("failed"), ["app.p"]);
    assert_eq!(entry(&app, "app.p").incarnation(), 2);
    assert!(app.stop().is_empty());
}

#[test]
fn parent_failure_cancels_a_childs_pending_restart() {
    const CHILD_DELAY: Duration = secs(2);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (p_starts, c_starts) = (Tally::new(), Tally::new());
    let (runs, child_runs) = (p_starts.clone(), c_starts.clone());
    let (tell, moments) = unbounded();
    let p = move |ctx: &Context| -> ServiceResult {
        runs.add();
        tell.send(Instant::now())?;
        let (child_runs, first) = (child_runs.clone(), ctx.incarnation() == 1);
        let c = move |ctx: &Context| {
            child_runs.add();
            if first {
                return Err("boom".into());
            }
            ctx.wait_stop();
            Ok(())
        };
        let below = ctx.supervise(quiet("below"))?;
        below.add_spec(Spec::new("c", c).backoff(Backoff::fixed(CHILD_DELAY)))?;
        if first {
            wait_for("c waits for its restart", || {
                below.report().services()[0].state() == State::Backoff
            });
            pass(ms(50));
            tell.send(Instant::now())?;
            return Err("boom as well".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add_spec(Spec::new("p", p).backoff(Backoff::fixed(ms(200))))
        .unwrap();
    app.start().unwrap();

    let (_started, died, again) = (take(&moments), take(&moments), take(&moments));
    // Its own delay alone, not the child's as well; and the new child starts at once.
    let delay = again - died;
    assert!((ms(200)..CHILD_DELAY).contains(&delay), "{delay:?}");
    c_starts.reach(2);
    assert!(again.elapsed() < CHILD_DELAY, "{:?}", again.elapsed());
    pass(CHILD_DELAY + secs(1));
    assert_eq!((p_starts.get(), c_starts.get()), (2, 2));
    assert_eq!(events.count("app.p.c", "started"), 2);
    assert!(app.stop().is_empty());
}

#[test]
fn parent_restart_runs_its_code_afresh() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let fail = Gate::new();
    let failing = fail.clone();
    let p = move |ctx: &Context| -> ServiceResult {
        let below = ctx.supervise(quiet("below"))?;
        below.add("a", obedient())?;
        if ctx.incarnation() == 1 {
            below.add("b", obedient())?;
            failing.wait();
            return Err("boom".into());
        }
        below.add("c", obedient())?;
        ctx.wait_stop();
        Ok(())
    };
    app.add("p", p).unwrap();
    app.start().unwrap();
    events.wait("app.p.b", "started");
    fail.open();

    events.wait("app.p.c", "started");
    events.settle();
    let p = entry(&app, "app.p");
    let below: Vec<_> = p
        .services()
        .iter()
        .map(|s| (s.path(), s.state(), s.incarnation()))
        .collect();
    let running = |path| (path, State::Running, 1);
    assert_eq!(below, [running("app.p.a"), running("app.p.c")]);
    assert_eq!(p.incarnation(), 2);
    assert!(!is_listed(&app, "app.p.b"));
    assert_eq!(failures(&app), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn parent_restart_waits_for_every_child() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (runs, fail) = (Tally::new(), Gate::new());
    let (child_runs, failing) = (runs.clone(), fail.clone());
    let (tell, moments) = unbounded();
    let p = move |ctx: &Context| -> ServiceResult {
        tell.send(Instant::now())?;
        let below = ctx.supervise(quiet("below"))?;
        below.add("a", counted(&child_runs, obedient()))?;
        below.add("b", counted(&child_runs, slow_to_stop(ms(400))))?;
        if ctx.incarnation() == 1 {
            failing.wait();
            tell.send(Instant::now())?;
            return Err("boom".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add("p", p).unwrap();
    app.start().unwrap();
    runs.reach(2);
    events.forget();
    fail.open();

    let (_started, died, again) = (take(&moments), take(&moments), take(&moments));
    assert!(again - died >= ms(400), "{:?}", again - died);
    events.wait("app.p", "started");
    assert_eq!(
        events.story(&["stopped", "failed", "started"])[..4],
        [
            "app.p.b stopped",
            "app.p.a stopped",
            "app.p failed",
            "app.p started",
        ]
    );
    assert!(app.stop().is_empty());
}

#[test]
fn nested_limit_with_fail_reaches_the_parent_service() {
    const DELAY: Duration = ms(100);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (c, service) = puppet();
    let service = Arc::new(service);
    let causes = Arc::new(Mutex::new(Vec::new()));
    let seen = causes.clone();
    let p = move |ctx: &Context| -> ServiceResult {
        let limit = Limit::window(2, secs(10)).then(Exceeded::Fail);
        let below = ctx.supervise(quiet("below").limit(limit))?;
        below.add("c", service.clone())?;
        below.add("d", obedient())?;
        ctx.wait_stop();
        seen.lock().unwrap().push(ctx.stop_cause());
        // Whatever it returns.
        Ok(())
    };
    app.add_spec(Spec::new("p", p).backoff(Backoff::fixed(DELAY)))
        .unwrap();
    app.start().unwrap();
    events.wait("app.p.d", "started");
    let failed_at = Instant::now();
    for text in ["first", "second", "third"] {
        c.fail(text);
    }

    let failure = failed(&events.wait("app.p", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Error);
    assert_eq!(failure.path(), "app.p");
    let chain = std::iter::successors(failure.source(), |&e| e.source());
    let chain: Vec<String> = chain.map(ToString::to_string).collect();
    let last = chain.last().unwrap();
    assert!(last.contains("third"), "{chain:?}");
    assert!(chain.iter().any(|e| e.contains("app.p.c")), "{chain:?}");
    events.wait_nth("app.p.d", "started", 2);
    assert!(failed_at.elapsed() >= DELAY);
    assert_eq!(
        events.story(&["failed", "stopping", "stopped"]),
        [
            "app.p.c failed",
            "app.p.c failed",
            "app.p.c failed",
            "app.p.d stopping",
            "app.p.d stopped",
            "app.p stopping",
            "app.p failed",
        ]
    );
    let path = "app.p".into();
    assert_eq!(*causes.lock().unwrap(), [Some(StopCause::Nested { path })]);

    // Fresh counters: two more failures are allowed.
    c.fail("fourth");
    c.fail("fifth");
    let count = |n| failed(&events.wait_nth("app.p.c", "failed", n)).count;
    assert_eq!([1, 2, 3, 4, 5].map(count), [1.0, 2.0, 3.0, 1.0, 2.0]);
    assert_eq!(entry(&app, "app.p").incarnation(), 2);
    assert!(app.stop().is_empty());
}
