//! Strategies: who restarts with whom, and in which order.

use std::sync::Arc;

use backstay::{
    Context, Exceeded, Limit, Restart, ServiceResult, Spec, Strategy, Supervisor, SupervisorBuilder,
};

use crate::common::watch::{Strings, assert_lives, entry, incarnations, puppet, quiet};
use crate::common::{HOUR, Recorder, Tally, answer, counted, failed, obedient, wait_for};

/// The order of a set restart.
const ORDER: &[&str] = &["stopping", "stopped", "started"];

fn with_strategy(strategy: Strategy) -> SupervisorBuilder {
    quiet("app").strategy(strategy)
}

/// `a`, `b` and `c`, entered.
fn three(strategy: Strategy) -> (Supervisor, Recorder, [Strings; 3]) {
    let app = with_strategy(strategy).build().unwrap();
    let runs = Tally::new();
    let strings = ["a", "b", "c"].map(|name| {
        let (strings, service) = puppet();
        app.add(name, counted(&runs, service)).unwrap();
        strings
    });
    app.start().unwrap();
    runs.reach(3);
    let mut events = Recorder::of(&app);
    events.forget();
    (app, events, strings)
}

#[test]
fn one_for_one_restarts_only_the_failed() {
    let (app, mut events, [_a, b, _c]) = three(Strategy::OneForOne);
    b.fail("boom");
    events.wait("app.b", "started");
    events.settle();
    assert_eq!(events.story(ORDER), ["app.b started"]);
    assert_eq!(incarnations(&app, ["a", "b", "c"]), [1, 2, 1]);
    assert!(app.stop().is_empty());
}

#[test]
fn one_for_all_restarts_everyone() {
    let (app, mut events, [_a, b, _c]) = three(Strategy::OneForAll);
    b.fail("boom");
    events.wait("app.c", "started");
    events.settle();
    assert_eq!(
        events.story(ORDER),
        [
            "app.c stopping",
            "app.c stopped",
            "app.a stopping",
            "app.a stopped",
            "app.a started",
            "app.b started",
            "app.c started",
        ]
    );
    assert_eq!(incarnations(&app, ["a", "b", "c"]), [2, 2, 2]);
    assert!(app.stop().is_empty());
}

#[test]
fn rest_for_one_restarts_the_later_ones() {
    let (app, mut events, [a, b, c]) = three(Strategy::RestForOne);
    b.fail("boom");
    events.wait("app.c", "started");
    events.settle();
    assert_eq!(
        events.story(ORDER),
        [
            "app.c stopping",
            "app.c stopped",
            "app.b started",
            "app.c started"
        ]
    );

    events.forget();
    c.fail("boom");
    events.wait("app.c", "started");
    events.settle();
    assert_eq!(events.story(ORDER), ["app.c started"]);

    events.forget();
    a.fail("boom");
    events.wait("app.c", "started");
    events.settle();
    assert_eq!(
        events.story(ORDER),
        [
            "app.c stopping",
            "app.c stopped",
            "app.b stopping",
            "app.b stopped",
            "app.a started",
            "app.b started",
            "app.c started",
        ]
    );
    assert_eq!(incarnations(&app, ["a", "b", "c"]), [2, 3, 4]);
    assert!(app.stop().is_empty());
}

#[test]
fn sibling_failing_while_it_is_stopped_is_no_second_failure() {
    let app = with_strategy(Strategy::OneForAll)
        .limit(Limit::window(1, HOUR).then(Exceeded::Fail))
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let (runs, (a, service)) = (Tally::new(), puppet());
    app.add("a", counted(&runs, service)).unwrap();
    let b = |ctx: &Context| {
        ctx.wait_stop();
        assert!(ctx.incarnation() > 1, "stopped in the first");
        Ok(())
    };
    app.add("b", counted(&runs, b)).unwrap();
    app.start().unwrap();
    runs.reach(2);
    a.fail("boom");

    events.wait_nth("app.b", "started", 2);
    events.settle();
    assert_eq!(incarnations(&app, ["a", "b"]), [2, 2]);
    assert_eq!(events.who("failed"), ["app.a"]);
    assert_eq!(failed(&events.wait("app.a", "failed")).count, 1.0);
    let answered = answer(&events.wait("app.b", "stopped")).unwrap();
    assert_eq!(answered.message(), "stopped in the first");
    assert_lives(&app);
    assert!(app.stop().is_empty());
}

/// In its second incarnation it waits until `before` is ready in its own, and fails to start.
fn fails_to_start_again(
    app: &Supervisor,
    before: Option<&'static str>,
) -> impl Fn(&Context) -> ServiceResult + use<> {
    let app = app.clone();
    move |ctx: &Context| {
        if ctx.incarnation() == 2 {
            if let Some(before) = before {
                wait_for("the one before is ready", || {
                    let before = entry(&app, before);
                    before.incarnation() == 2 && before.state() == backstay::State::Ready
                });
            }
            return Err("no start".into());
        }
        ctx.ready();
        ctx.wait_stop();
        Ok(())
    }
}

/// `b` doesn't need a key of `a` here; a later issue has keys. It waits for `a` by itself.
#[test]
fn one_for_all_starts_over_when_a_member_fails_to_start() {
    let app = with_strategy(Strategy::OneForAll)
        .limit(Limit::window(10, HOUR).then(Exceeded::Fail))
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let (strings, service) = puppet();
    let service = Arc::new(service);
    let a = move |ctx: &Context| {
        ctx.ready();
        backstay::Service::run(&service, ctx)
    };
    app.add_spec(Spec::new("a", a).ready_timeout(HOUR)).unwrap();
    let b = fails_to_start_again(&app, Some("app.a"));
    app.add_spec(Spec::new("b", b).ready_timeout(HOUR)).unwrap();
    app.start().unwrap();
    events.wait("app.a", "ready");
    events.wait("app.b", "ready");
    events.forget();
    strings.fail("boom");

    app.wait_ready(crate::common::PATIENCE).unwrap();
    events.wait_nth("app.b", "ready", 1);
    events.settle();
    assert_eq!(
        events.story(&["failed", "stopping", "stopped", "started", "ready"])[..8],
        [
            "app.a failed",
            "app.b stopping",
            "app.b stopped",
            "app.a started",
            "app.b started",
            "app.a ready",
            "app.b failed",
            "app.a stopping",
        ]
    );
    assert_eq!(incarnations(&app, ["a", "b"]), [3, 3]);
    let counts = ["app.a", "app.b"].map(|path| failed(&events.wait(path, "failed")).count);
    assert_eq!(counts, [1.0, 2.0]);
    assert_eq!(events.who("failed").len(), 2);
    assert!(app.stop().is_empty());
}

#[test]
fn rest_for_one_goes_on_at_the_member_that_failed_to_start() {
    let app = with_strategy(Strategy::RestForOne).build().unwrap();
    let mut events = Recorder::of(&app);
    let (a, service) = puppet();
    app.add("a", service).unwrap();
    let b = fails_to_start_again(&app, None);
    app.add_spec(Spec::new("b", b).ready_timeout(HOUR)).unwrap();
    app.add("c", obedient()).unwrap();
    app.start().unwrap();
    events.wait("app.b", "ready");
    events.forget();
    a.fail("boom");

    events.wait_nth("app.b", "started", 2);
    events.wait_nth("app.c", "started", 2);
    events.wait("app.b", "ready");
    events.settle();
    assert_eq!(events.who("failed"), ["app.a", "app.b"]);
    let story = events.story(&["failed", "stopping", "stopped", "started"]);
    let again = story
        .iter()
        .position(|line| line == "app.b failed")
        .unwrap();
    assert_eq!(
        story[again..],
        [
            "app.b failed",
            "app.c stopping",
            "app.c stopped",
            "app.b started",
            "app.c started",
        ]
    );
    assert_eq!(incarnations(&app, ["a", "b", "c"]), [2, 3, 3]);
    assert!(app.stop().is_empty());
}

#[test]
fn set_restart_brings_back_done_members() {
    let app = with_strategy(Strategy::OneForAll).build().unwrap();
    let mut events = Recorder::of(&app);
    let ((a, a_service), (d, d_service)) = (puppet(), puppet());
    app.add_spec(Spec::new("a", a_service).restart(Restart::Always))
        .unwrap();
    app.add_spec(Spec::new("d", d_service).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    d.ok();
    events.wait("app.d", "done");
    a.fail("boom");

    assert_eq!(events.wait_nth("app.d", "started", 2).incarnation(), 2);
    assert_eq!(incarnations(&app, ["a", "d"]), [2, 2]);
    assert!(app.stop().is_empty());
}
