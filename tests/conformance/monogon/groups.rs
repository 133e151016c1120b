//! Groups: services that restart together.

use std::sync::{Arc, Mutex};

use backstay::{
    Context, Exit, FailureKind, Restart, Service, ServiceResult, Spec, State, Supervisor,
};

use crate::common::watch::{
    Crowd, Strings, crowded, entry, failures, incarnations, is_listed, puppet, quiet,
};
use crate::common::{
    HOUR, PATIENCE, Recorder, Tally, answer, counted, ending, failed, ms, obedient, slow_to_stop,
    state, unlimited, wait_for, wait_state,
};

const GROUP: &str = "g";

/// Group {one, two}, and three; entered.
fn one_two_and_three() -> (Supervisor, Recorder, Strings) {
    let app = unlimited("app");
    let runs = Tally::new();
    let (two, service) = puppet();
    app.add_spec(Spec::new("one", counted(&runs, obedient())).group(GROUP))
        .unwrap();
    app.add_spec(Spec::new("two", counted(&runs, service)).group(GROUP))
        .unwrap();
    app.add("three", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    runs.reach(3);
    let mut events = Recorder::of(&app);
    events.forget();
    (app, events, two)
}

#[track_caller]
fn assert_group_restarted_once(app: &Supervisor, events: &mut Recorder) {
    events.wait("app.two", "started");
    events.settle();
    assert_eq!(incarnations(app, ["one", "two", "three"]), [2, 2, 1]);
    let stopped = events.wait("app.one", "stopped");
    assert_eq!(stopped.incarnation(), 1);
    assert!(answer(&stopped).is_none(), "{stopped}");
    let counts = ["app.one", "app.two", "app.three"].map(|path| entry(app, path).failures());
    assert_eq!(counts, [0, 1, 0]);
    assert_eq!(events.who("failed"), ["app.two"]);
}

#[test]
fn failed_member_restarts_its_whole_group() {
    let (app, mut events, two) = one_two_and_three();
    two.fail("boom");
    assert_group_restarted_once(&app, &mut events);
    let failure = failed(&events.wait("app.two", "failed")).failure;
    assert_eq!(failure.message(), "boom");
    assert!(app.stop().is_empty());
}

#[test]
fn panicking_member_restarts_its_group() {
    let (app, mut events, two) = one_two_and_three();
    two.panic("at sea");
    assert_group_restarted_once(&app, &mut events);
    let failure = failed(&events.wait("app.two", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert_eq!((failure.path(), failure.incarnation()), ("app.two", 1));
    assert_eq!(failure.message(), "at sea");
    // Where the puppet panics: file:line:column.
    let location = failure.location().unwrap();
    let (file, position) = location.split_once(".rs:").unwrap();
    assert!(file.ends_with("watch"), "{location}");
    let line: u32 = position.split(':').next().unwrap().parse().unwrap();
    assert!(line > 0, "{location}");
    assert!(app.stop().is_empty());
}

/// Who has begun and ended, in order.
type Diary = Arc<Mutex<Vec<(String, Moment)>>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Begun,
    Ended,
}

/// A node of a binary tree that has that many levels below it.
fn node(levels: u32, diary: &Diary, live: &Crowd) -> impl Service + use<> {
    let (diary, live) = (diary.clone(), live.clone());
    move |ctx: &Context| -> ServiceResult {
        let note = |moment| diary.lock().unwrap().push((ctx.path().to_owned(), moment));
        note(Moment::Begun);
        let inside = live.enter();
        if levels > 0 {
            let below = ctx.supervise(quiet("below"))?;
            for name in ["l", "r"] {
                let child: Box<dyn Service> = Box::new(node(levels - 1, &diary, &live));
                let spec = Spec::new(name, child).ready_timeout(HOUR);
                below.add_spec(spec.stack_size(1 << 18))?;
            }
        }
        ctx.ready();
        ctx.wait_stop();
        drop(inside);
        note(Moment::Ended);
        Ok(())
    }
}

#[test]
fn group_restart_takes_whole_subtrees_along() {
    const LEVELS: u32 = 5;
    const SUBTREE: usize = 63;
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (diary, live) = (Diary::default(), Crowd::new());
    let one = Spec::new("one", node(LEVELS, &diary, &live)).ready_timeout(HOUR);
    app.add_spec(one.group(GROUP)).unwrap();
    let (two, service) = puppet();
    app.add_spec(Spec::new("two", crowded(&live, service)).group(GROUP))
        .unwrap();
    app.start().unwrap();
    wait_for("everybody runs", || live.now() == 64);
    app.wait_ready(PATIENCE).unwrap();
    two.fail("boom");

    wait_for("everybody runs again", || {
        live.now() == 64 && diary.lock().unwrap().len() == 3 * SUBTREE
    });
    app.wait_ready(PATIENCE).unwrap();
    events.settle();
    assert_eq!(live.now(), 64);
    let diary = diary.lock().unwrap().clone();
    let (old, new) = diary.split_at(2 * SUBTREE);
    let ends = old.iter().filter(|(_, what)| *what == Moment::Ended);
    assert_eq!(
        ends.count(),
        SUBTREE,
        "an old one ended after a new one began"
    );
    assert!(new.iter().all(|(_, what)| *what == Moment::Begun));
    for (path, _) in new {
        assert_eq!(events.count(path, "started"), 2, "{path}");
    }
    assert_eq!(failures(&app), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn group_barrier_waits_for_the_slowest_member() {
    let app = unlimited("app");
    let (runs, slow_ends) = (Tally::new(), Tally::new());
    let crowds = [(); 3].map(|()| Crowd::new());
    let add = |name, crowd: &Crowd, inner: Box<dyn Service>| {
        let (slow_ends, runs) = (slow_ends.clone(), runs.clone());
        let service = crowded(crowd, move |ctx: &Context| {
            let early = ctx.incarnation() > 1 && slow_ends.get() == 0;
            assert!(!early, "{} started before slow had ended", ctx.path());
            runs.add();
            inner.run(ctx)
        });
        app.add_spec(Spec::new(name, service).group(GROUP)).unwrap();
    };
    let (bad, service) = puppet();
    let slow = ending(&slow_ends, slow_to_stop(ms(300)));
    add("quick", &crowds[0], Box::new(obedient()));
    add("slow", &crowds[1], Box::new(slow));
    add("bad", &crowds[2], Box::new(service));
    app.start().unwrap();
    runs.reach(3);
    bad.fail("boom");

    runs.reach(6);
    assert_eq!(crowds.map(|crowd| crowd.most()), [1, 1, 1]);
    assert_eq!(incarnations(&app, ["quick", "slow", "bad"]), [2, 2, 2]);
    assert_eq!(failures(&app), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn group_stops_in_reverse_and_starts_in_order() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let [_a, b, _c, _d] = ["a", "b", "c", "d"].map(|name| {
        let (strings, service) = puppet();
        app.add_spec(Spec::new(name, service).group(GROUP)).unwrap();
        strings
    });
    app.start().unwrap();
    events.wait("app.d", "started");
    events.forget();
    b.fail("boom");

    events.wait("app.d", "started");
    events.settle();
    assert_eq!(
        events.story(&["stopping", "stopped", "started"]),
        [
            "app.d stopping",
            "app.d stopped",
            "app.c stopping",
            "app.c stopped",
            "app.a stopping",
            "app.a stopped",
            "app.a started",
            "app.b started",
            "app.c started",
            "app.d started",
        ]
    );
    assert!(app.stop().is_empty());
}

#[test]
fn done_member_runs_again_with_its_group() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let ((job, job_service), (peer, peer_service)) = (puppet(), puppet());
    let spec = Spec::new("job", job_service).restart(Restart::OnFailure);
    app.add_spec(spec.group(GROUP)).unwrap();
    app.add_spec(Spec::new("peer", peer_service).group(GROUP))
        .unwrap();
    app.start().unwrap();
    job.ok();
    wait_state(&app, "app.job", State::Done);
    peer.fail("boom");

    events.wait_nth("app.job", "started", 2);
    events.wait_nth("app.peer", "started", 2);
    events.settle();
    assert_eq!(incarnations(&app, ["job", "peer"]), [2, 2]);
    assert_eq!(events.who("failed"), ["app.peer"]);
    assert_eq!(failures(&app), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn finally_done_members_stay_down_when_their_group_restarts() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let members = [
        ("n", Restart::Never),
        ("d", Restart::Always),
        ("m", Restart::Never),
        ("peer", Restart::Always),
    ];
    let [n, d, _m, peer] = members.map(|(name, restart)| {
        let (strings, service) = puppet();
        let spec = Spec::new(name, counted(&runs, service)).restart(restart);
        app.add_spec(spec.group(GROUP)).unwrap();
        strings
    });
    app.start().unwrap();
    runs.reach(4);
    n.ok();
    d.exit(Exit::DoNotRestart);
    events.wait("app.n", "removed");
    wait_state(&app, "app.d", State::Done);
    peer.fail("boom");

    events.wait_nth("app.peer", "started", 2);
    events.wait("app.m", "removed");
    runs.reach(5);
    events.settle();
    assert_eq!(incarnations(&app, ["d", "peer"]), [1, 2]);
    assert_eq!(state(&app, "app.d"), State::Done);
    assert!(!is_listed(&app, "app.n") && !is_listed(&app, "app.m"));
    assert_eq!(events.count("app.n", "started"), 1);
    assert_eq!(
        events.words("app.m"),
        ["added", "started", "stopping", "stopped", "removed"]
    );
    assert_eq!(events.who("failed"), ["app.peer"]);
    assert_eq!(runs.get(), 5);
    assert!(app.stop().is_empty());
}

#[test]
fn restart_on_demand_is_not_a_failure() {
    // With the default limit.
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let a = app
        .add_spec(Spec::new("a", obedient()).group(GROUP))
        .unwrap();
    app.add_spec(Spec::new("b", obedient()).group(GROUP))
        .unwrap();
    app.add("c", obedient()).unwrap();
    app.start().unwrap();
    events.wait("app.c", "started");
    for n in 2..=11 {
        app.restart_service(a).unwrap();
        events.wait_nth("app.a", "started", n);
        events.wait_nth("app.b", "started", n);
        events.settle();
    }

    assert_eq!(incarnations(&app, ["a", "b", "c"]), [11, 11, 1]);
    assert_eq!((failures(&app), events.who("failed").len()), (0, 0));
    assert_eq!(events.count("app", "paused"), 0);
    assert!(app.stop().is_empty());
}
