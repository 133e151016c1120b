//! The order of starting and stopping.

use backstay::{Context, Restart, Spec, State, StopOrder};

use crate::common::process::{in_own_process, threads, wait_threads};
use crate::common::watch::{SOON, missing, puppet, quiet};
use crate::common::{
    HOUR, Recorder, Tally, counted, ending, ms, obedient, slow_to_stop, timed, unlimited, wait_for,
    wait_state,
};

#[test]
fn services_start_in_order_of_adding() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    for name in ["a", "b", "c"] {
        // None of them ever says that it is ready.
        app.add_spec(Spec::new(name, obedient()).ready_timeout(HOUR))
            .unwrap();
    }
    app.start().unwrap();
    let waits = app.wait_ready(ms(0)).unwrap_err();
    assert_eq!(missing(&waits), ["app.a", "app.b", "app.c"]);

    events.wait("app.c", "started");
    assert_eq!(events.who("started"), ["app.a", "app.b", "app.c"]);
    assert!(app.stop().is_empty());
}

#[test]
fn services_stop_in_exact_reverse() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let add = |name| {
        app.add(name, counted(&runs, slow_to_stop(ms(100))))
            .unwrap()
    };
    add("a");
    add("b");
    app.start().unwrap();
    runs.reach(2);
    add("c");
    runs.reach(3);

    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took >= ms(300), "{took:?}");
    assert_eq!(
        events.story(&["stopping", "stopped"]),
        [
            "app.c stopping",
            "app.c stopped",
            "app.b stopping",
            "app.b stopped",
            "app.a stopping",
            "app.a stopped",
        ]
    );
}

#[test]
fn parallel_stop_of_a_big_flat_set() {
    const SERVICES: u64 = 1000;
    let app = quiet("app")
        .stop_order(StopOrder::Parallel)
        .build()
        .unwrap();
    let runs = Tally::new();
    let specs = (0..SERVICES).map(|i| {
        let service = counted(&runs, slow_to_stop(ms(10)));
        Spec::new(format!("s{i}"), service).stack_size(backstay::STACK_SIZE_MIN)
    });
    app.add_all(specs).unwrap();
    app.start().unwrap();
    runs.reach(SERVICES);

    // One after the other they take 10 s at least.
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
}

/// In a process of its own, so that its threads can be counted.
#[test]
fn thousand_one_shot_services_leave_nothing() {
    const SERVICES: usize = 1000;
    in_own_process("order::thousand_one_shot_services_leave_nothing", || {
        let app = unlimited("app");
        let (runs, ends) = (Tally::new(), Tally::new());
        app.add("sibling", counted(&runs, obedient())).unwrap();
        app.start().unwrap();
        runs.reach(1);
        let before = threads();
        for i in 0..SERVICES {
            let job = move |_: &Context| {
                assert!(i % 10 != 0, "every tenth panics");
                Ok(())
            };
            let spec = Spec::new(format!("j{i}"), ending(&ends, job)).restart(Restart::Never);
            app.add_spec(spec).unwrap();
        }

        ends.reach(SERVICES as u64);
        wait_for("only the sibling is left", || {
            app.report().services().len() == 1
        });
        wait_threads(before);
        let report = app.report();
        let sibling = report.find("app.sibling").unwrap();
        assert_eq!((sibling.incarnation(), sibling.failures()), (1, 0));
        assert!(app.stop().is_empty());
        assert_eq!(ends.get(), SERVICES as u64);
    });
}

#[test]
fn done_service_keeps_its_place_in_the_order() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (b, service) = puppet();
    app.add("a", obedient()).unwrap();
    let id = app
        .add_spec(Spec::new("b", service).restart(Restart::OnFailure))
        .unwrap();
    app.add("c", obedient()).unwrap();
    app.start().unwrap();
    b.ok();
    wait_state(&app, "app.b", State::Done);

    app.start_service(id).unwrap();
    assert_eq!(events.wait_nth("app.b", "started", 2).incarnation(), 2);
    assert!(app.stop().is_empty());
    assert_eq!(events.who("stopped"), ["app.c", "app.b", "app.a"]);
}
