//! `Staged`: every stage runs, once, in order.

use std::io;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Instant;

use backstay::services::Staged;
use backstay::{
    Context, Errors, Exceeded, FailureKind, Limit, Restart, ServiceResult, Spec, State, Supervisor,
};
use crossbeam_channel::bounded;

use crate::common::watch::{SOON, entry};
use crate::common::{
    Gate, PATIENCE, Recorder, Tally, add_running, add_running_as, answer, failed, ms, pass, timed,
    unlimited, wait_for, wait_state,
};

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, text: impl Into<String>) {
        self.0.lock().unwrap().push(text.into());
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, text: &str) -> usize {
        self.all().iter().filter(|t| *t == text).count()
    }

    /// All stages around `run`, each of which logs its name and answers what it is to.
    fn staged(
        &self,
        run: impl Fn(&Context) -> ServiceResult + Send + Sync + 'static,
        shutdown: impl Fn() -> ServiceResult + Send + Sync + 'static,
        cleanup: impl Fn() -> ServiceResult + Send + Sync + 'static,
    ) -> Staged {
        let [a, b, c, d] = [self.clone(), self.clone(), self.clone(), self.clone()];
        Staged::new(move |ctx| {
            a.add("run");
            run(ctx)
        })
        .shutdown(move || {
            b.add("shutdown");
            shutdown()
        })
        .cleanup(move || {
            c.add("cleanup");
            cleanup()
        })
        .on_error(move |errors| d.add(format!("on_error {}", errors.len())))
    }
}

fn ok() -> ServiceResult {
    Ok(())
}

fn waits(ctx: &Context) -> ServiceResult {
    ctx.wait_stop();
    Ok(())
}

#[test]
fn staged_runs_its_stages_in_order() {
    let app = unlimited("app");
    let log = Log::default();
    let staged = log.staged(|_| ok(), ok, ok);
    app.add_spec(Spec::new("a", staged).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    wait_state(&app, "app.a", State::Done);
    assert_eq!(log.all(), ["run", "shutdown", "cleanup"]);
    assert!(app.stop().is_empty());
    assert_eq!(log.all().len(), 3);
}

#[test]
fn staged_shutdown_unblocks_run() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let log = Log::default();
    let (feed, fed) = bounded::<()>(1);
    let ended = log.clone();
    let run = move |_: &Context| {
        fed.recv()?;
        ended.add("run ends");
        Ok(())
    };
    let shutdown = move || Ok(feed.send(())?);
    app.start().unwrap();
    add_running(&app, "a", log.staged(run, shutdown, ok));
    wait_for("run is entered", || log.count("run") == 1);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < SOON, "{took:?}");
    assert_eq!(log.all(), ["run", "shutdown", "run ends", "cleanup"]);
    assert!(answer(&events.wait("app.a", "stopped")).is_none());
}

#[test]
fn staged_shutdown_runs_exactly_once() {
    const ROUNDS: usize = 500;
    let app = unlimited("app");
    app.start().unwrap();
    for _ in 0..ROUNDS {
        let (log, both) = (Log::default(), Arc::new(Barrier::new(2)));
        let meet = both.clone();
        let run = move |_: &Context| {
            meet.wait();
            Ok(())
        };
        let spec = Spec::new("a", log.staged(run, ok, ok)).restart(Restart::OnFailure);
        let id = app.add_spec(spec).unwrap();
        both.wait();
        app.remove_and_wait(id, PATIENCE).unwrap();
        assert_eq!(log.all(), ["run", "shutdown", "cleanup"]);
    }
    assert!(app.stop().is_empty());
}

#[test]
fn staged_cleanup_waits_for_shutdown() {
    let app = unlimited("app");
    let (tell, told) = bounded(1);
    let staged = Staged::new(waits)
        .shutdown(|| {
            pass(ms(200));
            Ok(())
        })
        .cleanup(move || Ok(tell.send(Instant::now())?));
    app.start().unwrap();
    add_running(&app, "a", staged);
    let asked = Instant::now();
    assert!(app.stop().is_empty());
    assert!(told.try_recv().unwrap() - asked >= ms(200));
}

#[test]
fn staged_collects_the_error_of_every_stage() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (tell, told) = bounded(4);
    let staged = Staged::new(|_| Err("one".into()))
        .shutdown(|| Err("two".into()))
        .cleanup(|| panic!("three"))
        .on_error(move |errors| {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            tell.send(texts).unwrap();
        });
    app.add_spec(Spec::new("a", staged).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    let texts = told.try_recv().unwrap();
    assert_eq!((&*texts[0], &*texts[1], texts.len()), ("one", "two", 3));
    assert!(texts[2].contains("three"), "{texts:?}");
    assert!(told.is_empty(), "called once");
    for text in [failure.to_string(), failure.message().to_owned()] {
        let places = ["one", "two", "three"].map(|word| text.find(word));
        assert!(places.iter().all(Option::is_some), "{text}");
        assert!(places.is_sorted(), "{text}");
    }
    assert!(app.stop().is_empty());
}

#[test]
fn staged_single_error_stays_itself() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let log = Log::default();
    let run = |_: &Context| Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
    app.add_spec(Spec::new("a", log.staged(run, ok, ok)).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    let error = failure
        .error()
        .unwrap()
        .downcast_ref::<io::Error>()
        .unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(log.all(), ["run", "shutdown", "cleanup", "on_error 1"]);
    assert!(app.stop().is_empty());
}

#[test]
fn staged_panic_in_run_still_cleans_up() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let log = Log::default();
    let staged = log.staged(|_| panic!("boom"), ok, ok);
    let limit = Limit::budget(3, 0).then(Exceeded::StopService);
    app.add_spec(Spec::new("a", staged).limit(limit)).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.a", State::GivenUp);
    assert_eq!(log.all(), ["run", "shutdown", "cleanup", "on_error 1"]);
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(
        (failure.kind(), failure.message()),
        (FailureKind::Panic, "boom")
    );
    assert!(failure.location().unwrap().contains("stages.rs"));
    let service = entry(&app, "app.a");
    assert_eq!((service.starts(), service.panics()), (1, 1));
    assert!(app.stop().is_empty());
}

#[test]
fn staged_panic_in_run_counts_beside_other_errors() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let log = Log::default();
    let staged = log.staged(
        |_| panic!("boom"),
        || Err("stuck".into()),
        || panic!("mess"),
    );
    app.add_spec(Spec::new("a", staged).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert!(failure.message().starts_with("boom"), "{failure}");
    for word in ["stuck", "mess"] {
        assert!(failure.message().contains(word), "{failure}");
    }
    let members = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    let first = members.iter().next().unwrap();
    let first = first.downcast_ref::<backstay::Failure>().unwrap();
    assert_eq!(failure.location(), first.location());
    assert_eq!(log.all().last().unwrap(), "on_error 3");
    assert!(app.stop().is_empty());
}

#[test]
fn staged_cleanup_error_fails_an_unasked_end_only() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let entered = runs.clone();
    let staged = Staged::new(move |ctx| {
        entered.add();
        if ctx.incarnation() > 1 {
            ctx.wait_stop();
        }
        Ok(())
    })
    .cleanup(|| Err("c".into()));
    app.add_spec(Spec::new("a", staged).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    runs.reach(2);
    assert_eq!(
        failed(&events.wait("app.a", "failed")).failure.message(),
        "c"
    );
    assert!(app.stop().is_empty());
    let answer = answer(&events.wait("app.a", "stopped")).unwrap();
    assert_eq!(answer.message(), "c");
    assert_eq!(events.count("app.a", "failed"), 1);
    assert_eq!(entry(&app, "app.a").failures(), 1);
}

#[test]
fn staged_repeats_all_stages_in_every_incarnation() {
    let app = unlimited("app");
    let log = Log::default();
    let run = |ctx: &Context| match ctx.incarnation() {
        1 | 2 => Err("again".into()),
        _ => waits(ctx),
    };
    app.add("a", log.staged(run, ok, ok)).unwrap();
    app.start().unwrap();
    wait_for("the third run", || log.count("run") == 3);
    assert!(app.stop().is_empty());
    let once = ["run", "shutdown", "cleanup", "on_error 1"];
    assert_eq!(log.all(), [&once, &once, &once[..3]].concat());
}

#[test]
fn staged_ends_only_after_its_handler() {
    let app = unlimited("app");
    let (begun, handled) = (Tally::new(), Tally::new());
    let (begin, end) = (begun.clone(), handled.clone());
    let staged = Staged::new(|ctx| {
        ctx.wait_stop();
        Err("not so fast".into())
    })
    .on_error(move |_| {
        begin.add();
        pass(ms(200));
        end.add();
    });
    app.start().unwrap();
    add_running(&app, "a", staged);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty());
    assert_eq!((begun.get(), handled.get()), (1, 1));
    assert!(took >= ms(200), "{took:?}");
}

#[test]
fn staged_stuck_shutdown_is_abandoned_and_named() {
    let app = unlimited("app");
    let (release, log) = (Gate::new(), Log::default());
    let stuck = release.clone();
    let shutdown = move || {
        stuck.wait();
        Ok(())
    };
    let staged = log.staged(waits, shutdown, ok);
    app.start().unwrap();
    add_running_as(&app, "a", staged, |spec| spec.stop_timeout(ms(200)));
    wait_for("run is entered", || log.count("run") == 1);
    let (report, took) = timed(|| app.stop());
    assert!(took >= ms(200) && took < SOON, "{took:?}");
    let paths: Vec<_> = report.unstopped().iter().map(|u| u.path()).collect();
    assert_eq!(paths, ["app.a"]);
    assert_eq!(log.all(), ["run", "shutdown"]);
    release.open();
    wait_for("the late cleanup", || log.count("cleanup") == 1);
}

#[test]
fn staged_late_run_still_cleans_up() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (release, log) = (Gate::new(), Log::default());
    let deaf = release.clone();
    let run = move |_: &Context| {
        deaf.wait();
        Err("at last".into())
    };
    app.start().unwrap();
    let staged = log.staged(run, ok, ok);
    let id = add_running_as(&app, "a", staged, |spec| spec.stop_timeout(ms(100)));
    wait_for("run is entered", || log.count("run") == 1);
    app.stop_service(id).unwrap();
    events.wait("app.a", "abandoned");
    pass(ms(200));
    assert_eq!(log.all(), ["run", "shutdown"]);
    release.open();
    events.wait("app.a", "ended late");
    assert_eq!(log.all(), ["run", "shutdown", "cleanup", "on_error 1"]);
    assert!(app.stop().is_empty());
    assert_eq!(events.count("app.a", "ended late"), 1);
    assert_eq!(events.count("app.a", "started"), 1);
}

#[test]
fn staged_wait_that_a_stop_cuts_short_is_no_error() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let log = Log::default();
    let sleeps = |ctx: &Context| Ok(ctx.sleep(crate::common::HOUR)?);
    app.start().unwrap();
    add_running(&app, "a", log.staged(sleeps, ok, ok));
    wait_for("run is entered", || log.count("run") == 1);
    assert!(app.stop().is_empty());
    assert_eq!(log.all(), ["run", "shutdown", "cleanup"]);
    assert!(answer(&events.wait("app.a", "stopped")).is_none());
}

#[test]
fn staged_handler_that_panics_is_one_more_error() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let staged = Staged::new(|_| Err("one".into())).on_error(|_| panic!("two"));
    app.add_spec(Spec::new("a", staged).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    let text = failure.message();
    assert!(text.starts_with("one; two"), "{text}");
    assert!(app.stop().is_empty());
}

#[test]
fn staged_exit_of_a_stage_counts() {
    let app = Supervisor::new("app");
    let log = Log::default();
    let exit = || Err(backstay::Exit::DoNotRestart.into());
    app.add("a", log.staged(|_| ok(), ok, exit)).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.a", State::Done);
    assert_eq!(entry(&app, "app.a").failures(), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn staged_stop_during_the_later_stages_repeats_nothing() {
    let app = unlimited("app");
    let (begun, release, log) = (Gate::new(), Gate::new(), Log::default());
    let (begin, go_on) = (begun.clone(), release.clone());
    let slow = move || {
        begin.open();
        go_on.wait();
        Ok(())
    };
    app.start().unwrap();
    let id = app
        .add("a", log.staged(|_| Err("one".into()), slow, ok))
        .unwrap();
    begun.wait();
    app.stop_service(id).unwrap();
    wait_state(&app, "app.a", State::Stopping);
    release.open();
    app.remove_and_wait(id, PATIENCE).unwrap();
    assert_eq!(log.all(), ["run", "shutdown", "cleanup", "on_error 1"]);
    assert!(app.stop().is_empty());
}
