//! What is left to the supervisor.

use backstay::{
    AutoShutdown, Context, Exit, Limit, Restart, ServiceResult, Spec, State, Supervisor,
    SupervisorBuilder,
};

use crate::Flaky;
use crate::common::{HOUR, PATIENCE, wait_for, wait_state};

/// Those with anything to decide are left to the supervisor.
#[test]
fn limits_delays_and_groups_are_kept() {
    let kept = |build: fn(SupervisorBuilder) -> SupervisorBuilder, with: fn(Spec) -> Spec| {
        let app = build(Supervisor::builder("app").quiet_panics())
            .build()
            .unwrap();
        let flaky = Flaky::default();
        app.add_spec(with(Spec::new("flaky", flaky.service())))
            .unwrap();
        app.start().unwrap();
        (app, flaky)
    };
    let window = |b: SupervisorBuilder| b.limit(Limit::window(7, HOUR));
    let (app, flaky) = kept(window, |spec| spec);
    assert!(app.wait_timeout(PATIENCE).unwrap().is_err());
    assert_eq!(flaky.runs(), 8);

    let none = |b: SupervisorBuilder| b.limit(Limit::none());
    let (app, flaky) = kept(none, |spec| {
        let limit = Limit::window(7, HOUR).then(backstay::Exceeded::StopService);
        spec.limit(limit)
    });
    wait_state(&app, "app.flaky", State::GivenUp);
    assert_eq!(flaky.runs(), 8);
    app.stop();

    let (app, flaky) = kept(none, |spec| spec.backoff(backstay::Backoff::fixed(HOUR)));
    wait_state(&app, "app.flaky", State::Backoff);
    assert_eq!(flaky.runs(), 1);
    app.stop();

    let (app, flaky) = kept(none, |spec| spec.restart(Restart::Never));
    wait_for("it is gone", || app.report().find("app.flaky").is_none());
    assert_eq!(flaky.runs(), 1);
    app.stop();

    let (app, flaky) = kept(none, |spec| spec.fatal_if(|f| f.incarnation() == 7));
    assert!(app.wait_timeout(PATIENCE).unwrap().is_err());
    assert_eq!(flaky.runs(), 7);
}

/// Whatever is no plain failure is left to the supervisor, which has heard of all before it.
#[test]
fn the_last_end_is_judged_as_ever() {
    let after_four = |last: fn() -> ServiceResult| {
        let app = Supervisor::builder("app")
            .limit(Limit::none())
            .auto_shutdown(AutoShutdown::AnySignificant)
            .quiet_panics()
            .build()
            .unwrap();
        let service = move |ctx: &Context| -> ServiceResult {
            match ctx.incarnation() {
                1..5 => Err("fails".into()),
                5 => last(),
                n => panic!("there is no {n}"),
            }
        };
        let spec = Spec::new("flaky", service).restart(Restart::OnFailure);
        app.add_spec(spec.significant()).unwrap();
        app.start().unwrap();
        (app.wait_timeout(PATIENCE).unwrap(), app.report())
    };
    for (last, is_ok, is_there) in [
        ((|| Ok(())) as fn() -> ServiceResult, true, true),
        (|| Err(Exit::DoNotRestart.into()), true, true),
        (|| Err(Exit::Uninstall.into()), true, false),
        (|| Err(Exit::TerminateTree.into()), false, true),
    ] {
        let (result, report) = after_four(last);
        assert_eq!(result.is_ok(), is_ok, "{result:?}");
        let service = report.find("app.flaky");
        assert_eq!(service.is_some(), is_there, "{report}");
        let failures = service.map_or(4, |s| s.failures());
        assert_eq!(failures, 4, "{report}");
    }
}
