//! Services that don't end when they are asked to.

use std::time::{Duration, Instant};

use backstay::{Context, EventKind, Service, ServiceResult, Spec, State, Supervisor};
use crossbeam_channel::{Receiver, unbounded};

use crate::common::watch::{Crowd, SOON, crowded, entry, incarnations, puppet, quiet};
use crate::common::{
    Gate, Recorder, Tally, counted, hung, ms, obedient, pass, secs, take, unlimited, wait_for,
};

const STOP_TIMEOUT: Duration = ms(200);

/// Ignores stops until it is released, the first time that it runs; obeys from then on.
fn stuck_once(release: &Gate, runs: &Tally) -> impl Service + use<> {
    let first = hung(release);
    let runs = runs.clone();
    move |ctx: &Context| {
        runs.add();
        if runs.get() == 1 {
            return first.run(ctx);
        }
        ctx.wait_stop();
        Ok(())
    }
}

/// `p` fails at the gate in its first incarnation; below it is `stuck`.
struct Stuck {
    app: Supervisor,
    events: Recorder,
    fail: Gate,
    release: Gate,
    /// All `stuck`s.
    crowd: Crowd,
    /// The start of `p`, its failure and its second start.
    moments: Receiver<Instant>,
}

fn stuck_below_p(with: impl FnOnce(Spec) -> Spec) -> Stuck {
    let app = unlimited("app");
    let events = Recorder::of(&app);
    let (fail, release, crowd) = (Gate::new(), Gate::new(), Crowd::new());
    let runs = Tally::new();
    let (tell, moments) = unbounded();
    let (failing, held, stucks, child_runs) =
        (fail.clone(), release.clone(), crowd.clone(), runs.clone());
    let p = move |ctx: &Context| -> ServiceResult {
        tell.send(Instant::now())?;
        let below = ctx.supervise(quiet("below"))?;
        let stuck = crowded(&stucks, stuck_once(&held, &child_runs));
        below.add_spec(Spec::new("stuck", stuck).stop_timeout(STOP_TIMEOUT))?;
        if ctx.incarnation() == 1 {
            failing.wait();
            tell.send(Instant::now())?;
            return Err("boom".into());
        }
        ctx.wait_stop();
        Ok(())
    };
    app.add_spec(with(Spec::new("p", p))).unwrap();
    app.start().unwrap();
    runs.reach(1);
    Stuck {
        app,
        events,
        fail,
        release,
        crowd,
        moments,
    }
}

#[test]
fn stuck_child_is_named_and_keeps_its_parent_down() {
    let mut s = stuck_below_p(|spec| spec);
    s.fail.open();
    let (_started, died) = (take(&s.moments), take(&s.moments));

    let abandoned = s.events.wait("app.p.stuck", "abandoned");
    assert!(died.elapsed() >= STOP_TIMEOUT, "{:?}", died.elapsed());
    match abandoned.kind() {
        EventKind::Abandoned { thread, waited } => {
            assert_eq!(&**thread, "app.p.stuck");
            assert!((STOP_TIMEOUT..SOON).contains(waited), "{waited:?}");
        }
        other => panic!("{other}"),
    }
    pass(secs(1).saturating_sub(died.elapsed()));
    s.events.settle();
    assert!(s.moments.is_empty(), "p was started again");
    assert_eq!(s.events.count("app.p", "started"), 1);

    s.release.open();
    s.events.wait("app.p.stuck", "ended late");
    s.events.wait_nth("app.p.stuck", "started", 2);
    s.events.settle();
    assert_eq!(s.events.count("app.p.stuck", "abandoned"), 1);
    assert_eq!(s.events.count("app.p.stuck", "ended late"), 1);
    assert_eq!(s.events.count("app.p", "started"), 2);
    assert_eq!(s.events.count("app.p", "abandoned"), 0);
    assert_eq!(s.crowd.most(), 1);
    s.app.stop();
}

#[test]
fn overlap_allowed_lets_the_parent_go_on() {
    let mut s = stuck_below_p(|spec| spec.allow_overlap(1));
    s.fail.open();
    let (_started, died, again) = (take(&s.moments), take(&s.moments), take(&s.moments));
    let took = again - died;
    assert!((STOP_TIMEOUT..SOON).contains(&took), "{took:?}");

    wait_for("both are there", || s.crowd.now() == 2);
    s.events.wait_nth("app.p.stuck", "started", 2);
    assert_eq!(s.events.count("app.p.stuck", "abandoned"), 1);
    assert_eq!(s.events.count("app.p.stuck", "ended late"), 0);
    let report = s.app.report();
    let p = report.find("app.p").unwrap();
    assert_eq!((p.incarnation(), p.state()), (2, State::Running));
    let stuck: Vec<_> = p
        .services()
        .iter()
        .map(|s| (s.incarnation(), s.state()))
        .collect();
    assert_eq!(stuck, [(1, State::Running)], "{report}");
    // The report of what runs has the new one, the report of the stop the old one.
    let stopped = s.app.stop();
    let [old] = stopped.unstopped() else {
        panic!("{stopped}")
    };
    assert_eq!((old.path(), old.incarnation()), ("app.p.stuck", 1));
    s.release.open();
}

#[test]
fn abandoned_member_does_not_hold_its_group_down() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (release, crowd, runs) = (Gate::new(), Crowd::new(), Tally::new());
    let stuck = crowded(&crowd, stuck_once(&release, &Tally::new()));
    let (bad, service) = puppet();
    let add = |spec: Spec| app.add_spec(spec.group("g")).unwrap();
    add(Spec::new("stuck", stuck).stop_timeout(STOP_TIMEOUT));
    add(Spec::new("a", counted(&runs, obedient())));
    add(Spec::new("bad", counted(&runs, service)));
    app.start().unwrap();
    runs.reach(2);
    wait_for("stuck runs", || crowd.now() == 1);
    let failed_at = Instant::now();
    bad.fail("boom");

    events.wait_nth("app.a", "started", 2);
    events.wait_nth("app.bad", "started", 2);
    let took = failed_at.elapsed();
    assert!((STOP_TIMEOUT..SOON).contains(&took), "{took:?}");
    pass(secs(1).saturating_sub(failed_at.elapsed()));
    events.settle();
    assert_eq!(incarnations(&app, ["stuck", "a", "bad"]), [1, 2, 2]);
    assert_eq!(entry(&app, "app.stuck").state(), State::Abandoned);

    release.open();
    events.wait_nth("app.stuck", "started", 2);
    events.settle();
    assert_eq!(events.count("app.stuck", "started"), 2);
    assert_eq!(incarnations(&app, ["stuck", "a", "bad"]), [2, 2, 2]);
    assert_eq!(crowd.most(), 1);
    app.stop();
}
