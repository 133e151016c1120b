//! What the report says about a graph.

use std::time::Duration;

use backstay::{
    Backoff, Context, KeyReport, KeyRole, Report, Service, ServiceReport, Spec, State, Supervisor,
};
use crossbeam_channel::{Receiver, select, unbounded};

use super::parts::{Diary, K};
use crate::common::watch::{SOON, entry};
use crate::common::{
    Gate, Recorder, fails, hung, obedient, secs, timed, unlimited, wait_for, wait_state,
};

#[test]
fn missing_reason_tells_who_is_to_blame() {
    let (app, diary) = (unlimited("app"), Diary::new());
    let reason = || entry(&app, "app.c").waiting_for().unwrap().to_owned();
    app.add_spec(diary.c("c", obedient())).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.c", State::Waiting);
    wait_for("the supervisor has looked at c", || {
        entry(&app, "app.c").waiting_for().is_some()
    });
    let nobody = reason();

    // It fails before it provides anything; then it runs and provides nothing; then it is stopped.
    let silent = Spec::new("p", fails(1, "boom")).provides(&K);
    let p = app
        .add_spec(silent.backoff(Backoff::fixed(secs(600))))
        .unwrap();
    wait_state(&app, "app.p", State::Backoff);
    let delayed = reason();
    app.start_service(p).unwrap();
    wait_state(&app, "app.p", State::Starting);
    let silent = reason();
    app.stop_service(p).unwrap();
    wait_state(&app, "app.p", State::Stopped);
    let stopped = reason();

    let reasons = [&nobody, &delayed, &silent, &stopped];
    for (i, reason) in reasons.iter().enumerate() {
        assert!(reason.contains("\"k\""), "{reason}");
        assert_eq!(reason.contains("app.p"), i > 0, "{reason}");
        let same = reasons.iter().filter(|other| other == &reason).count();
        assert_eq!(same, 1, "{reasons:?}");
    }
    assert!(nobody.contains("no provider"), "{nobody}");
    assert!(delayed.contains("backoff"), "{delayed}");
    assert!(silent.contains("not provided"), "{silent}");
    assert!(stopped.contains("stopped"), "{stopped}");
    assert!(diary.lines().is_empty());
    assert!(app.stop().is_empty());
}

/// A report, which never waits for anybody.
fn look(app: &Supervisor) -> Report {
    let (report, took) = timed(|| app.report());
    assert!(took < SOON, "{took:?}");
    report
}

#[track_caller]
fn find<'a>(report: &'a Report, path: &str) -> &'a ServiceReport {
    report.find(path).unwrap()
}

fn key(report: &KeyReport) -> (&str, KeyRole, Option<&str>, bool) {
    let provider = report.provider();
    (report.name(), report.role(), provider, report.is_there())
}

#[test]
fn report_shows_the_graph_live_stopping_and_after_the_end() {
    let (app, diary, release) = (unlimited("app"), Diary::new(), Gate::new());
    let (fail, failing) = unbounded::<()>();
    app.add_spec(diary.p(obedient())).unwrap();
    let deaf = fails_when_told(failing, release.clone());
    app.add_spec(diary.c("c", deaf)).unwrap();
    let nested = Supervisor::new("nested");
    nested.add("s", obedient()).unwrap();
    app.add("nested", nested).unwrap();
    app.start().unwrap();
    diary.wait("c 1 k=1");
    fail.send(()).unwrap();
    diary.wait("c 2 k=1");
    app.wait_ready(SOON).unwrap();

    let running = look(&app);
    let (p, c) = (find(&running, "app.p"), find(&running, "app.c"));
    let states = [p.state(), c.state()];
    assert_eq!(states, [State::Ready, State::Running]);
    assert_eq!((p.starts(), c.starts()), (1, 2));
    let given = ("k", KeyRole::Provides, Some("app.p"), true);
    assert_eq!(p.keys().iter().map(key).collect::<Vec<_>>(), [given]);
    let taken = ("k", KeyRole::Needs, Some("app.p"), true);
    assert_eq!(c.keys().iter().map(key).collect::<Vec<_>>(), [taken]);
    assert!(find(&running, "app.nested.s").keys().is_empty());
    // Since when.
    wait_for("time goes on", || {
        entry(&app, "app.p").in_state() > p.in_state()
    });

    let mut events = Recorder::of(&app);
    app.request_stop();
    events.wait("app.c", "stopping");
    wait_state(&app, "app.c", State::Stopping);
    wait_for("the stop takes its time", || {
        find(&look(&app), "app.c").in_state() > Duration::ZERO
    });
    let stopping = look(&app);
    assert_eq!(stopping.state(), State::Stopping);
    assert_eq!(find(&stopping, "app.c").thread_name(), "app.c");
    assert_eq!(find(&stopping, "app.p").state(), State::Ready);

    release.open();
    app.wait().unwrap();
    let after = look(&app);
    for service in after.iter() {
        assert_eq!(service.state(), State::Stopped, "{service}");
    }
    let last = find(&after, "app.c").last_failure().unwrap();
    assert_eq!(last.message(), "told to");
    assert!(find(&after, "app.p").last_failure().is_none());
    // Nothing is there any more.
    assert!(!find(&after, "app.c").keys()[0].is_there());
}

/// Fails when it is told to; ignores its stop until it is released.
fn fails_when_told(failing: Receiver<()>, release: Gate) -> impl Service {
    let stays = hung(&release);
    move |ctx: &Context| {
        select! {
            recv(failing) -> _ => return Err("told to".into()),
            recv(ctx.stop_signal()) -> _ => {}
        }
        stays.run(ctx)
    }
}
