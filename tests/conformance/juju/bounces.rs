//! Who restarts when something that others depend on ends.

use backstay::{Context, Exit, Key, Restart, Service, Spec, State, Supervisor};

use super::parts::{Diary, K};
use crate::common::watch::{Strings, entry, failures, incarnations, is_listed, puppet, wait_gone};
use crate::common::{Recorder, answer, ms, obedient, pass, secs, state, unlimited, wait_state};

/// p, and c and d that need what it provides; all have been entered.
fn p_with_two(diary: &Diary) -> (Supervisor, Recorder, [Strings; 2]) {
    let app = unlimited("app");
    let (p, p_service) = puppet();
    let (c, c_service) = puppet();
    app.add_spec(diary.p(p_service)).unwrap();
    app.add_spec(diary.c("c", c_service)).unwrap();
    app.add_spec(diary.c("d", obedient())).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    diary.wait("d 1 k=1");
    let mut events = Recorder::of(&app);
    events.forget();
    (app, events, [p, c])
}

#[test]
fn failed_input_restarts_each_dependent_exactly_once() {
    let diary = Diary::new();
    let (app, mut events, [p, _]) = p_with_two(&diary);
    p.fail("boom");
    diary.wait("c 2 k=2");
    diary.wait("d 2 k=2");
    events.settle();
    assert_eq!(incarnations(&app, ["p", "c", "d"]), [2; 3]);
    assert_eq!(events.who("failed"), ["app.p"]);
    assert_eq!(events.who("stopped"), ["app.d", "app.c"]);
    for path in ["app.c", "app.d"] {
        assert!(answer(&events.wait(path, "stopped")).is_none());
    }
    assert!(app.stop().is_empty());
}

#[test]
fn failed_dependent_leaves_its_input_alone() {
    let diary = Diary::new();
    let (app, mut events, [_, c]) = p_with_two(&diary);
    c.fail("boom");
    diary.wait("c 2 k=1");
    events.settle();
    assert_eq!(incarnations(&app, ["p", "c", "d"]), [1, 2, 1]);
    assert!(app.stop().is_empty());
}

const TOP: Key<u64> = Key::new("top");
const MID: Key<u64> = Key::new("mid");

#[test]
fn chain_of_three_stops_from_the_leaf_and_starts_from_the_top() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let (top, service) = puppet();
    // Added the other way round: the order comes from the keys.
    app.add_spec(diary.part("leaf", obedient()).needs(&MID).spec())
        .unwrap();
    let mid = diary.part("mid", obedient()).needs(&TOP).provides(&MID);
    app.add_spec(mid.spec()).unwrap();
    app.add_spec(diary.part("top", service).provides(&TOP).spec())
        .unwrap();
    app.start().unwrap();
    diary.wait("leaf 1 mid=1");

    diary.forget();
    let mut events = Recorder::of(&app);
    top.fail("boom");
    diary.wait("leaf 2 mid=2");
    events.settle();
    assert_eq!(
        diary.lines(),
        [
            "top 1 ends",
            "leaf 1 ends",
            "mid 1 ends",
            "top 2",
            "mid 2 top=2",
            "leaf 2 mid=2"
        ]
    );
    assert_eq!(
        events.story(&["failed", "stopped", "started"]),
        [
            "app.top failed",
            "app.leaf stopped",
            "app.mid stopped",
            "app.top started",
            "app.mid started",
            "app.leaf started"
        ]
    );
    assert!(app.stop().is_empty());
}

const LEFT: Key<u64> = Key::new("left");
const RIGHT: Key<u64> = Key::new("right");

#[test]
fn diamond_restarts_its_sink_once() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let (top, service) = puppet();
    app.add_spec(diary.part("top", service).provides(&TOP).spec())
        .unwrap();
    for (name, key) in [("left", &LEFT), ("right", &RIGHT)] {
        let part = diary.part(name, obedient()).needs(&TOP).provides(key);
        app.add_spec(part.spec()).unwrap();
    }
    let sink = diary.part("sink", obedient()).needs(&LEFT).needs(&RIGHT);
    app.add_spec(sink.spec()).unwrap();
    app.start().unwrap();
    diary.wait("sink 1 left=1 right=1");

    let mut events = Recorder::of(&app);
    top.fail("boom");
    diary.wait("sink 2 left=2 right=2");
    events.settle();
    assert_eq!(incarnations(&app, ["top", "left", "right", "sink"]), [2; 4]);
    assert_eq!(diary.starts("sink"), 2);
    let begins = diary.place("sink 2 left=2 right=2");
    assert!(begins > diary.place("left 2 top=2"));
    assert!(begins > diary.place("right 2 top=2"));
    assert_eq!(failures(&app), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn dependents_wait_until_the_input_is_provided_again() {
    const WORK: u64 = 500;
    let (app, diary) = (unlimited("app"), Diary::new());
    let (p, inner) = puppet();
    let own = diary.clone();
    let slow = move |ctx: &Context| {
        if ctx.incarnation() == 2 {
            own.note("p 2");
            pass(ms(WORK));
            own.note("p 2 provides");
        }
        ctx.provide(&K, ctx.incarnation())?;
        inner.run(ctx)
    };
    app.add_spec(Spec::new("p", slow).provides(&K)).unwrap();
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    diary.forget();
    p.fail("boom");
    diary.wait("c 2 k=2");
    assert_eq!(
        diary.lines(),
        ["c 1 ends", "p 2", "p 2 provides", "c 2 k=2"]
    );
    assert!(app.stop().is_empty());
}

#[test]
fn pending_start_with_two_inputs_ends_in_one_start() {
    const K2: Key<u64> = Key::new("k2");
    const K3: Key<u64> = Key::new("k3");
    let (app, diary) = (unlimited("app"), Diary::new());
    app.start().unwrap();
    let c = diary.part("c", obedient()).needs(&K2).needs(&K3);
    app.add_spec(c.spec()).unwrap();
    app.add_spec(diary.part("p2", obedient()).provides(&K2).spec())
        .unwrap();
    diary.wait("p2 1");
    pass(ms(500));
    assert_eq!(entry(&app, "app.c").starts(), 0);
    app.add_spec(diary.part("p3", obedient()).provides(&K3).spec())
        .unwrap();
    diary.wait("c 1 k2=1 k3=1");
    let mut events = Recorder::of(&app);
    events.settle();
    assert_eq!(diary.starts("c"), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn finished_dependent_runs_again_when_its_input_changes() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let (p, service) = puppet();
    let (c, c_service) = puppet();
    app.add_spec(diary.p(service)).unwrap();
    app.add_spec(diary.c("c", c_service).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    c.ok();
    wait_state(&app, "app.c", State::Done);
    pass(secs(1));
    let done = entry(&app, "app.c");
    assert_eq!((done.state(), done.starts()), (State::Done, 1));

    p.fail("boom");
    diary.wait("c 2 k=2");
    let again = entry(&app, "app.c");
    assert_eq!((again.starts(), again.failures()), (2, 0));
    assert!(app.stop().is_empty());
}

#[test]
fn finished_provider_takes_its_value_along() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let (p, service) = puppet();
    let id = app
        .add_spec(diary.p(service).restart(Restart::OnFailure))
        .unwrap();
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    p.ok();
    diary.wait("c 1 ends");
    wait_state(&app, "app.c", State::Waiting);
    wait_state(&app, "app.p", State::Done);
    let reason = entry(&app, "app.c").waiting_for().unwrap().to_owned();
    for word in ["\"k\"", "app.p", "done"] {
        assert!(reason.contains(word), "{word} in {reason}");
    }

    app.start_service(id).unwrap();
    diary.wait("c 2 k=2");
    assert_eq!(incarnations(&app, ["p", "c"]), [2; 2]);
    assert_eq!(failures(&app), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn bounce_restarts_the_service_and_its_dependents_uncounted() {
    // With the default limit, which ten failures would exceed.
    let (app, diary) = (Supervisor::new("app"), Diary::new());
    let mut events = Recorder::of(&app);
    let (p, service) = puppet();
    app.add_spec(diary.p(service)).unwrap();
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.start().unwrap();
    for run in 1..=10 {
        diary.wait(&format!("c {run} k={run}"));
        p.exit(Exit::Bounce);
    }
    diary.wait("c 11 k=11");
    events.settle();
    assert_eq!(incarnations(&app, ["p", "c"]), [11; 2]);
    assert_eq!(failures(&app), 0);
    assert_eq!(events.count("app", "paused"), 0);
    assert_eq!(events.who("failed"), Vec::<String>::new());
    assert!(app.stop().is_empty());
}

#[test]
fn uninstall_removes_the_service_and_its_dependents_wait() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let (p, service) = puppet();
    app.add_spec(diary.p(service)).unwrap();
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    p.exit(Exit::Uninstall);
    wait_gone(&app, "app.p");
    wait_state(&app, "app.c", State::Waiting);
    assert!(app.id("p").is_none());
    assert!(!is_listed(&app, "app.p"));
    let reason = entry(&app, "app.c").waiting_for().unwrap().to_owned();
    assert!(reason.contains("no provider"), "{reason}");

    app.add_spec(diary.p(obedient())).unwrap();
    diary.wait("c 2 k=1");
    assert_eq!(incarnations(&app, ["p", "c"]), [1, 2]);
    assert_eq!(failures(&app), 0);
    assert_eq!(state(&app, "app.c"), State::Running);
    assert!(app.stop().is_empty());
}
