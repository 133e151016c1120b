//! What is refused: with which kind, in which words, and that nothing is lost by it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use backstay::{
    AutoShutdown, Backoff, Context, Error, ErrorKind, Exceeded, Key, Limit, Restart, Service,
    ServiceResult, Spec, State, Supervisor,
};
use common::{
    Gate, Recorder, Tally, add_running, counted, ms, obedient, secs, state, take, timed, wait_for,
    wait_state,
};
use crossbeam_channel::{Sender, unbounded};

/// A service whose value the test can see.
struct Idle;

impl Service for Idle {
    fn run(&self, ctx: &Context) -> ServiceResult {
        ctx.wait_stop();
        Ok(())
    }
}

#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{part:?} in {text:?}");
    }
}

/// `make` gives a spec that is refused, before the start and while running. Its value is dropped
/// and the supervisor goes on.
#[track_caller]
fn refused(kind: ErrorKind, parts: &[&str], make: impl Fn(Arc<Idle>) -> Spec) {
    let value = Arc::new(Idle);
    let app = Supervisor::new("app");
    for running in [false, true] {
        if running {
            app.start().unwrap();
        }
        let error = app.add_spec(make(value.clone())).unwrap_err();
        says(&error, kind, parts);
        wait_for("the refused value is dropped", || {
            Arc::strong_count(&value) == 1
        });
        assert!(app.report().services().is_empty());
    }
    still_works(&app);
}

#[track_caller]
fn still_works(app: &Supervisor) {
    add_running(app, "good", obedient());
    let path = format!("{}.good", app.path());
    assert_eq!(
        app.report()
            .find(&path)
            .map(backstay::ServiceReport::incarnation),
        Some(1)
    );
    assert!(app.stop().is_empty());
}

/// The builder refuses it; a service refuses it, too.
#[track_caller]
fn bad_limit(parts: &[&str], limit: &Limit) {
    let parts = [&["limit"], parts].concat();
    let error = Supervisor::builder("app")
        .limit(limit.clone())
        .build()
        .unwrap_err();
    says(&error, ErrorKind::Invalid, &parts);
    let named = [&parts[..], &["narrow"]].concat();
    refused(ErrorKind::Invalid, &named, |value| {
        Spec::new("narrow", value).limit(limit.clone())
    });
}

#[track_caller]
fn bad_backoff(parts: &[&str], backoff: Backoff) {
    let with = |field: &'static str| [&[field], parts].concat();
    let error = Supervisor::builder("app")
        .backoff(backoff)
        .build()
        .unwrap_err();
    says(&error, ErrorKind::Invalid, &with("backoff"));
    let named = [&with("backoff")[..], &["hasty"]].concat();
    refused(ErrorKind::Invalid, &named, |value| {
        Spec::new("hasty", value).backoff(backoff)
    });
    refused(ErrorKind::Invalid, &with("panic_backoff"), |value| {
        Spec::new("hasty", value).panic_backoff(backoff)
    });
}

/// As the name of a service, of a builder's supervisor, and of one made by `new`.
#[track_caller]
fn bad_name(name: &str, parts: &[&str]) {
    refused(ErrorKind::BadName, parts, |value| Spec::new(name, value));
    says(
        &Supervisor::builder(name).build().unwrap_err(),
        ErrorKind::BadName,
        parts,
    );

    let value = Arc::new(Idle);
    let root = Supervisor::new(name);
    says(
        &root.add("a", value.clone()).unwrap_err(),
        ErrorKind::BadName,
        parts,
    );
    says(&root.start().unwrap_err(), ErrorKind::BadName, parts);
    wait_for("the value is dropped", || Arc::strong_count(&value) == 1);
}

#[test]
fn empty_name() {
    bad_name("", &["name", "empty"]);
}

#[test]
fn overlong_name() {
    let name = "x".repeat(65);
    bad_name(&name, &["name", &name, "64"]);
    let app = Supervisor::new("app");
    app.add("x".repeat(64), obedient()).unwrap();
}

#[test]
fn overlong_name_counts_bytes() {
    let name = "ü".repeat(33);
    bad_name(&name, &["name", "64"]);
    let app = Supervisor::new("app");
    app.add("ü".repeat(32), obedient()).unwrap();
}

#[test]
fn dotted_name() {
    bad_name("in.gest", &["name", "in.gest", "dot"]);
}

#[test]
fn white_space_or_control_character_in_a_name() {
    for name in [
        "two words",
        "tab\there",
        "line\n",
        "\u{a0}",
        "nul\0",
        "\u{7f}",
    ] {
        bad_name(name, &["name", "white space"]);
    }
}

#[test]
fn duplicate_name() {
    let app = Supervisor::new("app");
    let value = Arc::new(Idle);
    let first = app.add("a", obedient()).unwrap();
    for running in [false, true] {
        if running {
            app.start().unwrap();
        }
        let error = app.add("a", value.clone()).unwrap_err();
        says(&error, ErrorKind::DuplicateName, &["name", "\"a\""]);
        wait_for("the refused value is dropped", || {
            Arc::strong_count(&value) == 1
        });
    }
    assert_eq!(app.id("a"), Some(first));
    // The name is free again after a removal.
    app.remove_and_wait(first, secs(30)).unwrap();
    let second = app.add("a", value.clone()).unwrap();
    assert_ne!(first, second);
    still_works(&app);
}

#[test]
fn duplicate_name_among_several() {
    let app = Supervisor::new("app");
    let value = Arc::new(Idle);
    let specs = ["a", "b", "a"].map(|name| Spec::new(name, value.clone()));
    says(
        &app.add_all(specs).unwrap_err(),
        ErrorKind::DuplicateName,
        &["name", "\"a\""],
    );
    wait_for("all are dropped", || Arc::strong_count(&value) == 1);
    assert!(app.report().services().is_empty());
    app.start().unwrap();
    still_works(&app);
}

#[test]
fn window_without_a_period() {
    bad_limit(&["period", "zero"], &Limit::window(3, Duration::ZERO));
}

#[test]
fn decay_without_a_half_life() {
    bad_limit(&["half life", "zero"], &Limit::decay(5.0, Duration::ZERO));
}

#[test]
fn negative_threshold() {
    bad_limit(&["threshold", "-1"], &Limit::decay(-1.0, secs(30)));
}

#[test]
fn threshold_that_is_no_number() {
    bad_limit(&["threshold", "NaN"], &Limit::decay(f64::NAN, secs(30)));
}

#[test]
fn pause_jitter_out_of_range() {
    for (jitter, text) in [
        (-0.1, "-0.1"),
        (1.5, "1.5"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "inf"),
    ] {
        let pause = Exceeded::Pause {
            time: secs(15),
            jitter,
        };
        bad_limit(&["jitter", text], &Limit::decay(5.0, secs(30)).then(pause));
    }
}

#[test]
fn backoff_whose_max_is_below_its_first_delay() {
    bad_backoff(&["max", "1s", "2s"], Backoff::exponential(secs(2), secs(1)));
}

#[test]
fn factor_below_one_or_no_number() {
    for (factor, text) in [(0.5, "0.5"), (-2.0, "-2"), (f64::NAN, "NaN")] {
        bad_backoff(
            &["factor", text],
            Backoff::exponential(ms(1), secs(1)).factor(factor),
        );
    }
}

#[test]
fn backoff_jitter_out_of_range() {
    for (jitter, text) in [(-0.1, "-0.1"), (1.01, "1.01"), (f64::NAN, "NaN")] {
        bad_backoff(&["jitter", text], Backoff::fixed(ms(1)).jitter(jitter));
    }
}

#[test]
fn stack_below_the_floor() {
    const FLOOR: usize = 64 * 1024;
    for bytes in [0, 1, FLOOR - 1] {
        let text = bytes.to_string();
        let parts = ["stack_size", &text, "65536", "narrow"];
        refused(ErrorKind::Invalid, &parts, |value| {
            Spec::new("narrow", value).stack_size(bytes)
        });
    }
    let app = Supervisor::new("app");
    let runs = Tally::new();
    app.add_spec(Spec::new("floor", counted(&runs, obedient())).stack_size(FLOOR))
        .unwrap();
    app.start().unwrap();
    runs.reach(1);
    app.stop();
}

#[test]
fn supervisor_that_would_have_to_say_something() {
    let key = Key::<u32>::new("k");
    let app = Supervisor::new("app");
    let inner = Supervisor::new("inner");
    let spec = || Spec::new("inner", inner.clone());
    for (field, spec) in [
        ("ready_timeout", spec().ready_timeout(ms(1))),
        ("provides", spec().provides(&key)),
    ] {
        let error = app.add_spec(spec).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let text = error.to_string();
        assert!(text.contains(field) && text.contains("\"inner\""), "{text}");
    }
    // It was not adopted.
    app.add_spec(spec().wants(&key)).unwrap();
    assert!(app.stop().is_empty());
}

#[test]
fn significant_service_that_never_ends() {
    refused(ErrorKind::Invalid, &["significant", "\"s\""], |value| {
        Spec::new("s", value).significant()
    });
    let on_failure = |value| {
        Spec::new("s", value)
            .restart(Restart::OnFailure)
            .significant()
    };
    // Without an automatic shutdown it would mean nothing.
    refused(
        ErrorKind::Invalid,
        &["significant", "auto_shutdown"],
        on_failure,
    );
    let app = Supervisor::builder("app")
        .auto_shutdown(AutoShutdown::AnySignificant)
        .build()
        .unwrap();
    app.add_spec(on_failure(Arc::new(Idle))).unwrap();
}

#[test]
fn one_service_too_many() {
    let app = Supervisor::builder("app").max_services(1).build().unwrap();
    let value = Arc::new(Idle);
    app.start().unwrap();
    add_running(&app, "a", obedient());
    let error = app.add("b", value.clone()).unwrap_err();
    says(&error, ErrorKind::Full, &["max_services", "1"]);
    wait_for("the refused value is dropped", || {
        Arc::strong_count(&value) == 1
    });
    app.stop();
}

#[test]
fn adding_to_a_stopped_supervisor() {
    let never_started = Supervisor::new("app");
    let ended = Supervisor::new("app");
    ended.start().unwrap();
    for app in [never_started, ended] {
        app.stop();
        let value = Arc::new(Idle);
        says(
            &app.add("a", value.clone()).unwrap_err(),
            ErrorKind::Stopped,
            &["app"],
        );
        let several = [Spec::new("b", value.clone()), Spec::new("c", value.clone())];
        says(
            &app.add_all(several).unwrap_err(),
            ErrorKind::Stopped,
            &["app"],
        );
        wait_for("the refused values are dropped", || {
            Arc::strong_count(&value) == 1
        });
        assert_eq!(app.start().unwrap_err().kind(), ErrorKind::Stopped);
    }
}

#[test]
fn id_of_another_supervisor() {
    let (app, other) = (Supervisor::new("app"), Supervisor::new("other"));
    app.start().unwrap();
    other.start().unwrap();
    let id = add_running(&other, "a", obedient());
    add_running(&app, "a", obedient());
    let answers = [
        app.remove(id),
        app.remove_and_wait(id, secs(30)),
        app.stop_service(id),
        app.start_service(id),
        app.restart_service(id),
        app.wait_service(id, secs(30)).map(drop),
    ];
    for answer in answers {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::WrongSupervisor);
    }
    let mut events = Recorder::of(&other);
    assert_eq!(state(&other, "other.a"), State::Running);
    assert!(events.all().is_empty());
    other.stop();
    still_works(&app);
}

#[test]
fn removed_service_is_unknown() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let id = add_running(&app, "a", obedient());
    app.remove_and_wait(id, secs(30)).unwrap();
    for answer in [
        app.stop_service(id),
        app.start_service(id),
        app.restart_service(id),
    ] {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::UnknownService);
    }
    still_works(&app);
}

#[test]
fn remove_after_the_stop() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let id = add_running(&app, "a", obedient());
    let removed = add_running(&app, "b", obedient());
    app.remove_and_wait(removed, secs(30)).unwrap();
    app.stop();
    for id in [id, removed] {
        says(&app.remove(id).unwrap_err(), ErrorKind::Stopped, &["app"]);
        says(
            &app.remove_and_wait(id, secs(30)).unwrap_err(),
            ErrorKind::Stopped,
            &["app"],
        );
    }
}

#[test]
fn start_twice() {
    let app = Supervisor::new("app");
    let runs = Tally::new();
    app.add("a", counted(&runs, obedient())).unwrap();
    app.start().unwrap();
    runs.reach(1);
    says(
        &app.start().unwrap_err(),
        ErrorKind::AlreadyRunning,
        &["app"],
    );
    says(
        &app.serve().unwrap_err(),
        ErrorKind::AlreadyRunning,
        &["app"],
    );
    still_works(&app);
    assert_eq!(runs.get(), 1);
    for again in [app.start(), app.serve()] {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::Stopped);
    }
}

#[test]
fn wait_before_the_start() {
    let app = Supervisor::new("app");
    says(&app.wait().unwrap_err(), ErrorKind::NotStarted, &["app"]);
    let answer = app.wait_timeout(secs(30)).expect("an answer at once");
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::NotStarted);
    app.start().unwrap();
    still_works(&app);
}

#[test]
fn start_of_a_supervisor_that_is_a_service() {
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    app.add("inner", inner.clone()).unwrap();
    for running in [false, true] {
        if running {
            app.start().unwrap();
        }
        assert_eq!(inner.start().unwrap_err().kind(), ErrorKind::AlreadyRunning);
        assert_eq!(inner.serve().unwrap_err().kind(), ErrorKind::AlreadyRunning);
    }
    add_running(&inner, "a", obedient());
    still_works(&app);
}

/// Lets a service of `app` make a call and gives its answer.
#[track_caller]
fn from_within<T: Send + 'static>(
    app: &Supervisor,
    call: impl Fn(&Context) -> T + Send + Sync + 'static,
) -> (backstay::ServiceId, T) {
    let (told, answers) = unbounded();
    let id = add_running(app, "within", move |ctx: &Context| {
        told.send(call(ctx)).unwrap();
        ctx.wait_stop();
        Ok(())
    });
    (id, take(&answers))
}

#[test]
fn serve_from_within_a_service_of_its_own() {
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    for supervisor in [&app, &inner] {
        let (_, kinds) = from_within(supervisor, |ctx| {
            let root = ctx.root();
            [root.serve(), root.start()].map(|answer| answer.unwrap_err().kind())
        });
        assert_eq!(kinds, [ErrorKind::AlreadyRunning; 2]);
    }
    still_works(&app);
}

#[test]
fn wait_for_the_own_end_from_a_service() {
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    // Of the supervisor above, and of the one above that.
    for supervisor in [&app, &inner] {
        let (_, errors) = from_within(supervisor, |ctx| {
            let root = ctx.root();
            [
                root.wait().unwrap_err(),
                root.wait_timeout(secs(30)).unwrap().unwrap_err(),
            ]
        });
        for error in errors {
            says(&error, ErrorKind::WouldWaitForItself, &["app"]);
        }
    }
    let mut events = Recorder::of(&app);
    assert_eq!(state(&app, "app.within"), State::Running);
    assert_eq!(state(&app, "app.inner.within"), State::Running);
    assert!(events.all().is_empty(), "nothing was requested");
    still_works(&app);
}

/// By the handle of its own supervisor, from its context and from outside.
#[test]
fn wait_for_the_own_supervisor_from_a_service() {
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    let outside = inner.clone();
    let (_, errors) = from_within(&inner, move |ctx| {
        let own = ctx.supervisor();
        [
            outside.wait().unwrap_err(),
            own.wait().unwrap_err(),
            own.wait_timeout(secs(30)).unwrap().unwrap_err(),
        ]
    });
    for error in errors {
        says(&error, ErrorKind::WouldWaitForItself, &["app.inner"]);
    }
    assert_eq!(state(&app, "app.inner.within"), State::Running);
    still_works(&app);
}

#[cfg(all(unix, feature = "signals"))]
#[test]
fn run_from_within_a_service() {
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    let (_, errors) = from_within(&inner, |ctx| {
        [ctx.supervisor(), ctx.root()].map(|supervisor| supervisor.run().unwrap_err())
    });
    // The inner one is run by its parent; of the root, that was started, `run` is the wait.
    says(&errors[0], ErrorKind::AlreadyRunning, &["inner"]);
    says(&errors[1], ErrorKind::WouldWaitForItself, &["app"]);
    assert_eq!(state(&app, "app.inner.within"), State::Running);
    still_works(&app);
}

/// Where else than in `run` a service's code is called on a thread that its tree waits for.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Place {
    Interrupt,
    OnStop,
    MapFailure,
    FatalIf,
    /// At the end of its last incarnation.
    Drop,
    /// Without an incarnation.
    DropOfStopped,
}

/// Waits for the end of its tree in one place.
#[derive(Clone)]
struct Waiter {
    place: Place,
    /// From its context: an owner would keep the tree.
    app: Arc<OnceLock<Supervisor>>,
    /// How often it has begun to wait for its stop.
    idle: Tally,
    reached: Tally,
    told: Sender<[Error; 2]>,
}

impl Waiter {
    fn reach(&self, place: Place) {
        let Some(app) = self.app.get().filter(|_| self.place == place) else {
            return;
        };
        let answers = [app.wait(), app.wait_timeout(secs(30)).unwrap()];
        self.told.send(answers.map(Result::unwrap_err)).unwrap();
        self.reached.add();
    }
}

struct WaitsAt(Waiter);

impl Service for WaitsAt {
    fn run(&self, ctx: &Context) -> ServiceResult {
        self.0.app.get_or_init(|| ctx.supervisor().clone());
        let waiter = self.0.clone();
        let _on_stop = ctx.on_stop(move || waiter.reach(Place::OnStop));
        if matches!(self.0.place, Place::MapFailure | Place::FatalIf) && ctx.incarnation() == 1 {
            return Err("for the filters".into());
        }
        self.0.idle.add();
        ctx.wait_stop();
        if self.0.place == Place::OnStop {
            // A closure that wasn't called by the end of `run` is withdrawn.
            self.0.reached.reach(1);
        }
        Ok(())
    }

    fn interrupt(&self) {
        self.0.reach(Place::Interrupt);
    }
}

impl Drop for WaitsAt {
    fn drop(&mut self) {
        self.0.reach(Place::Drop);
        self.0.reach(Place::DropOfStopped);
    }
}

#[test]
fn wait_for_the_own_end_from_hooks_filters_and_drops() {
    for place in [
        Place::Interrupt,
        Place::OnStop,
        Place::MapFailure,
        Place::FatalIf,
        Place::Drop,
        Place::DropOfStopped,
    ] {
        let app = Supervisor::new("app");
        app.start().unwrap();
        let (told, answers) = unbounded();
        let idle = Tally::new();
        let waiter = Waiter {
            place,
            app: Arc::default(),
            idle: idle.clone(),
            reached: Tally::new(),
            told,
        };
        let (maps, judges) = (waiter.clone(), waiter.clone());
        let spec = Spec::new("a", WaitsAt(waiter))
            .map_failure(move |error| {
                maps.reach(Place::MapFailure);
                Err(error)
            })
            .fatal_if(move |_| {
                judges.reach(Place::FatalIf);
                false
            });
        let id = app.add_spec(spec).unwrap();
        // Asked before that, it has no hooks to call.
        idle.reach(1);
        if place == Place::DropOfStopped {
            app.stop_service(id).unwrap();
            wait_state(&app, "app.a", State::Stopped);
        }
        app.remove_and_wait(id, secs(30)).unwrap();

        for error in take(&answers) {
            says(&error, ErrorKind::WouldWaitForItself, &["app"]);
        }
        assert!(answers.is_empty(), "{place:?}: more than one");
        // Nothing was requested of the others.
        still_works(&app);
    }
}

#[test]
fn remove_and_wait_for_oneself() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let (id, kind) = from_within(&app, |ctx| {
        let own = ctx.supervisor().id(ctx.name()).unwrap();
        ctx.supervisor()
            .remove_and_wait(own, secs(30))
            .unwrap_err()
            .kind()
    });
    assert_eq!(kind, ErrorKind::WouldWaitForItself);
    // Nothing was requested.
    assert_eq!(app.id("within"), Some(id));
    assert_eq!(state(&app, "app.within"), State::Running);
    // Without waiting it may.
    let id = app.id("within").unwrap();
    app.remove_and_wait(id, secs(30)).unwrap();
    let (id, answer) = from_within(&app, |ctx| {
        let own = ctx.supervisor().id(ctx.name()).unwrap();
        ctx.supervisor().remove(own)
    });
    answer.unwrap();
    app.remove_and_wait(id, secs(30)).unwrap();
    still_works(&app);
}

#[test]
fn remove_and_wait_for_the_supervisor_above() {
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    let (_, kind) = from_within(&inner, |ctx| {
        let above = ctx.root().id("inner").unwrap();
        ctx.root()
            .remove_and_wait(above, secs(30))
            .unwrap_err()
            .kind()
    });
    assert_eq!(kind, ErrorKind::WouldWaitForItself);
    assert_eq!(state(&app, "app.inner.within"), State::Running);
    still_works(&app);
}

#[test]
fn wait_service_for_oneself() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let (_, kind) = from_within(&app, |ctx| {
        let own = ctx.supervisor().id(ctx.name()).unwrap();
        ctx.supervisor()
            .wait_service(own, secs(30))
            .unwrap_err()
            .kind()
    });
    assert_eq!(kind, ErrorKind::WouldWaitForItself);
    assert_eq!(state(&app, "app.within"), State::Running);
    still_works(&app);
}

#[test]
fn stop_from_within_only_requests() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let (_, (report, took)) = from_within(&app, |ctx| {
        let root = ctx.root().clone();
        timed(|| root.stop())
    });
    assert!(report.only_requested(), "{report}");
    assert!(report.is_empty() && took < secs(5), "{took:?}");
    assert!(report.to_string().contains("requested"), "{report}");
    app.wait().unwrap();
    assert!(!app.stop().only_requested());
}

/// A stop of a sibling is no wait for oneself.
#[test]
fn remove_and_wait_for_a_sibling() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    add_running(&app, "sibling", obedient());
    let (_, answer) = from_within(&app, |ctx| {
        let sibling = ctx.supervisor().id("sibling").unwrap();
        ctx.supervisor().remove_and_wait(sibling, secs(30))
    });
    answer.unwrap();
    assert_eq!(app.id("sibling"), None);
    still_works(&app);
}

#[test]
fn supervisor_under_two_parents() {
    let (app, other) = (Supervisor::new("app"), Supervisor::new("other"));
    let inner = Supervisor::new("inner");
    app.add("inner", inner.clone()).unwrap();
    app.start().unwrap();
    other.start().unwrap();
    // The same parent twice is two parents, too.
    for parent in [&other, &app] {
        let error = parent.add("again", inner.clone()).unwrap_err();
        says(&error, ErrorKind::Invalid, &["service", "inner", "parent"]);
    }
    add_running(&inner, "a", obedient());
    assert_eq!(state(&app, "app.inner.a"), State::Running);
    assert!(other.report().services().is_empty());
    still_works(&other);
    still_works(&app);
}

#[test]
fn supervisor_under_itself() {
    let (app, inner, leaf) = (
        Supervisor::new("app"),
        Supervisor::new("inner"),
        Supervisor::new("leaf"),
    );
    app.add("itself", app.clone()).unwrap_err();
    inner.add("leaf", leaf.clone()).unwrap();
    app.add("inner", inner.clone()).unwrap();
    // Further down.
    leaf.add("app", app.clone()).unwrap_err();
    inner.add("app", app.clone()).unwrap_err();
    leaf.add("inner", inner.clone()).unwrap_err();
    app.start().unwrap();
    leaf.add("app", app.clone()).unwrap_err();
    add_running(&leaf, "a", obedient());
    assert_eq!(app.report().iter().count(), 3);
    still_works(&app);
}

#[test]
fn refused_supervisor_can_be_added_elsewhere() {
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    app.start().unwrap();
    app.add("bad name", inner.clone()).unwrap_err();
    app.add_spec(Spec::new("inner", inner.clone()).stack_size(1))
        .unwrap_err();
    app.add("inner", inner.clone()).unwrap();
    add_running(&inner, "a", obedient());
    wait_state(&app, "app.inner.a", State::Running);
    still_works(&app);
}

/// Many callers at once: each is answered, one of them is first.
#[test]
fn start_from_many_threads_at_once() {
    let app = Supervisor::new("app");
    let go = Gate::new();
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let (app, go) = (app.clone(), go.clone());
            thread::spawn(move || {
                go.wait();
                app.start()
            })
        })
        .collect();
    go.open();
    let answers: Vec<_> = starts.into_iter().map(|s| s.join().unwrap()).collect();
    assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 1);
    for error in answers.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), ErrorKind::AlreadyRunning);
    }
    still_works(&app);
}

/// There is no incarnation to end, so nothing happens, at once.
#[test]
fn stop_of_a_supervisor_that_is_a_service_and_does_not_run() {
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    app.add("inner", inner.clone()).unwrap();
    let (report, took) = timed(|| inner.stop());
    assert!(report.is_empty() && took < secs(5), "{took:?}");
    app.start().unwrap();
    add_running(&inner, "a", obedient());
    still_works(&app);
}
