//! A stop of the tree in every state that a service can be in: in time, nothing starts once more,
//! and nothing is left.

use backstay::{
    Backoff, Context, Exceeded, Exit, Limit, Restart, Service, ServiceId, Spec, State, StopReport,
    Supervisor,
};

use crate::common::process::leaves_nothing;
use crate::common::{
    Gate, HOUR, Recorder, add_running, add_running_as, fails, hung, ms, obedient, secs, timed,
    unlimited, wait_state,
};

const ROUNDS: u32 = 6;

/// Stops the tree once `app.a` is in that state. No start of it comes after the stop.
fn stop_while(app: &Supervisor, events: &mut Recorder, wanted: State) -> StopReport {
    let incarnation = || app.report().find("app.a").unwrap().incarnation();
    wait_state(app, "app.a", wanted);
    let last = incarnation();
    let (report, took) = timed(|| app.stop());
    assert!(took < secs(5), "{took:?}");
    assert_eq!(incarnation(), last);
    assert_eq!(events.count("app.a", "started") as u64, last);
    app.wait().unwrap();
    report
}

/// One round: `app` with a service `a` of that spec, and what brings it to its state.
fn round(spec: Spec, reach: impl Fn(&Supervisor, &mut Recorder), wanted: State) {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    reach(&app, &mut events);
    let report = stop_while(&app, &mut events, wanted);
    assert!(report.is_empty(), "{report}");
    assert!(
        !app.report().find("app.a").unwrap().state().is_alive(),
        "{}",
        app.report()
    );
}

fn nothing(_: &Supervisor, _: &mut Recorder) {}

#[test]
fn stop_before_the_start() {
    leaves_nothing("states::stop_before_the_start", ROUNDS, || {
        let app = unlimited("app");
        app.add("a", obedient()).unwrap();
        assert_eq!(app.report().find("app.a").unwrap().state(), State::Waiting);
        assert!(app.stop().is_empty());
        app.start().unwrap_err();
    });
}

#[test]
fn stop_while_waiting() {
    leaves_nothing("states::stop_while_waiting", ROUNDS, || {
        let pausing = Limit::decay(0.0, HOUR).then(Exceeded::Pause {
            time: HOUR,
            jitter: 0.0,
        });
        let app = Supervisor::builder("app").limit(pausing).build().unwrap();
        let mut events = Recorder::of(&app);
        app.add("pauses", fails(1, "once")).unwrap();
        app.start().unwrap();
        events.wait("app", "paused");
        app.add("a", obedient()).unwrap();
        assert!(stop_while(&app, &mut events, State::Waiting).is_empty());
        assert_eq!(events.count("app.a", "started"), 0);
    });
}

/// It waits for an input that never comes.
#[test]
fn stop_while_waiting_for_an_input() {
    leaves_nothing("states::stop_while_waiting_for_an_input", ROUNDS, || {
        let missing = |_: &Context| Err(Exit::Missing.into());
        let parked = |_: &Supervisor, events: &mut Recorder| {
            events.wait("app.a", "waiting");
        };
        round(Spec::new("a", missing), parked, State::Waiting);
    });
}

#[test]
fn stop_while_starting() {
    leaves_nothing("states::stop_while_starting", ROUNDS, || {
        round(
            Spec::new("a", obedient()).ready_timeout(HOUR),
            nothing,
            State::Starting,
        );
    });
}

#[test]
fn stop_while_running() {
    leaves_nothing("states::stop_while_running", ROUNDS, || {
        round(Spec::new("a", obedient()), nothing, State::Running);
    });
}

#[test]
fn stop_while_ready() {
    leaves_nothing("states::stop_while_ready", ROUNDS, || {
        let service = |ctx: &Context| {
            ctx.ready();
            ctx.wait_stop();
            Ok(())
        };
        round(
            Spec::new("a", service).ready_timeout(HOUR),
            nothing,
            State::Ready,
        );
    });
}

#[test]
fn stop_while_in_backoff() {
    leaves_nothing("states::stop_while_in_backoff", ROUNDS, || {
        round(
            Spec::new("a", fails(1, "once")).backoff(Backoff::fixed(HOUR)),
            nothing,
            State::Backoff,
        );
    });
}

#[test]
fn stop_while_paused() {
    leaves_nothing("states::stop_while_paused", ROUNDS, || {
        let pausing = Limit::decay(0.0, HOUR).then(Exceeded::Pause {
            time: HOUR,
            jitter: 0.0,
        });
        let app = Supervisor::builder("app").limit(pausing).build().unwrap();
        let mut events = Recorder::of(&app);
        app.add("a", fails(1, "once")).unwrap();
        app.start().unwrap();
        assert!(stop_while(&app, &mut events, State::Paused).is_empty());
    });
}

/// It is on its way already; the stop of the tree takes it over, and it never starts again.
fn stop_on_the_way(test: &str, ask: fn(&Supervisor, ServiceId)) {
    leaves_nothing(test, ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let release = Gate::new();
        let wait = release.clone();
        app.start().unwrap();
        let id = add_running(&app, "a", move |ctx: &Context| {
            ctx.wait_stop();
            wait.wait();
            Ok(())
        });
        ask(&app, id);
        wait_state(&app, "app.a", State::Stopping);
        app.request_stop();
        release.open();
        assert!(app.stop().is_empty());
        assert_eq!(events.count("app.a", "started"), 1);
    });
}

#[test]
fn stop_while_stopping() {
    stop_on_the_way("states::stop_while_stopping", |app, id| {
        app.stop_service(id).unwrap();
    });
}

#[test]
fn stop_while_stopping_for_a_restart() {
    stop_on_the_way("states::stop_while_stopping_for_a_restart", |app, id| {
        app.restart_service(id).unwrap();
    });
}

#[test]
fn stop_while_being_removed() {
    stop_on_the_way("states::stop_while_being_removed", |app, id| {
        app.remove(id).unwrap();
    });
}

#[test]
fn stop_while_stopped() {
    leaves_nothing("states::stop_while_stopped", ROUNDS, || {
        let stop = |app: &Supervisor, events: &mut Recorder| {
            events.wait("app.a", "started");
            app.stop_service(app.id("a").unwrap()).unwrap();
        };
        round(Spec::new("a", obedient()), stop, State::Stopped);
    });
}

#[test]
fn stop_while_done() {
    leaves_nothing("states::stop_while_done", ROUNDS, || {
        let job = Spec::new("a", |_: &Context| Ok(())).restart(Restart::OnFailure);
        round(job, nothing, State::Done);
    });
}

#[test]
fn stop_while_given_up() {
    leaves_nothing("states::stop_while_given_up", ROUNDS, || {
        let limit = Limit::budget(0, 0).then(Exceeded::StopService);
        round(
            Spec::new("a", fails(1, "once")).limit(limit),
            nothing,
            State::GivenUp,
        );
    });
}

/// What was abandoned before is still there, so the report names it, without waiting again.
#[test]
fn stop_while_abandoned() {
    leaves_nothing("states::stop_while_abandoned", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let release = Gate::new();
        app.start().unwrap();
        let service = hung(&release);
        let id = add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(20)));
        app.stop_service(id).unwrap();
        let report = stop_while(&app, &mut events, State::Abandoned);
        let [hanging] = report.unstopped() else {
            panic!("{report}")
        };
        assert_eq!(hanging.path(), "app.a");
        assert_eq!(events.count("app.a", "abandoned"), 1);
        release.open();
    });
}

/// From the service itself, at any moment of its run.
#[test]
fn stop_from_within() {
    leaves_nothing("states::stop_from_within", ROUNDS, || {
        let app = unlimited("app");
        let asks: [fn(&Context); 2] = [Context::shutdown, |ctx| ctx.root().request_stop()];
        let service = move |ctx: &Context| {
            asks[ctx.incarnation() as usize % 2](ctx);
            ctx.wait_stop();
            Ok(())
        };
        app.add("a", obedient()).unwrap();
        app.add("b", service).unwrap();
        app.start().unwrap();
        app.wait().unwrap();
        assert!(app.stop().is_empty());
    });
}

#[test]
fn nested_stop_in_every_depth() {
    leaves_nothing("states::nested_stop_in_every_depth", ROUNDS, || {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let mut parent = app.clone();
        let leaves: [fn() -> Box<dyn Service>; 2] = [
            || Box::new(obedient()),
            || Box::new(fails(u64::MAX, "always")),
        ];
        for _ in 0..5 {
            let inner = unlimited("inner");
            for (i, leaf) in leaves.iter().enumerate() {
                let spec = Spec::new(format!("leaf{i}"), leaf());
                inner.add_spec(spec.backoff(Backoff::fixed(ms(1)))).unwrap();
            }
            parent.add("n", inner.clone()).unwrap();
            parent = inner;
        }
        app.start().unwrap();
        events.wait("app.n.n.n.n.n.leaf1", "failed");
        let report = app.stop();
        assert!(report.is_empty(), "{report}");
    });
}
