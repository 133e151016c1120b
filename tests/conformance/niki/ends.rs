//! What the end of a process means to the application.

use backstay::{AutoShutdown, Context, Restart, Spec, State, Supervisor};

use crate::common::watch::{entry, puppet};
use crate::common::{Recorder, Tally, counted, ending, obedient, secs, state, timed, wait_state};

#[test]
fn clean_return_of_a_fatal_process_ends_the_application() {
    let app = Supervisor::builder("app")
        .auto_shutdown(AutoShutdown::AnySignificant)
        .build()
        .unwrap();
    let mut events = Recorder::of(&app);
    let (starts, ends) = (Tally::new(), Tally::new());
    let q = counted(&starts, ending(&ends, obedient()));
    app.add("q", q).unwrap();
    let (p, service) = puppet();
    let spec = Spec::new("p", service).restart(Restart::OnFailure);
    app.add_spec(spec.significant()).unwrap();
    app.start().unwrap();
    starts.reach(1);
    p.ok();
    app.wait().unwrap();
    assert_eq!(ends.get(), 1);
    assert_eq!(events.count("app.q", "stopping"), 1);
    assert_eq!(events.count("app.q", "stopped"), 1);
    assert_eq!(entry(&app, "app.p").starts(), 1);
    assert_eq!(state(&app, "app.p"), State::Done);
    assert!(app.stop().is_empty());
}

#[test]
fn clean_return_of_a_plain_process_is_no_loose_end() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let (starts, ends) = (Tally::new(), Tally::new());
    let (p, service) = puppet();
    app.add_spec(Spec::new("p", service).restart(Restart::OnFailure))
        .unwrap();
    app.add("q", counted(&starts, ending(&ends, obedient())))
        .unwrap();
    app.start().unwrap();
    starts.reach(1);
    p.ok();
    wait_state(&app, "app.p", State::Done);
    assert_eq!(events.count("app.q", "stopping"), 0);
    assert_eq!(ends.get(), 0);
    let report = app.stop();
    assert!(report.is_empty(), "{report}");
    assert_eq!((starts.get(), ends.get()), (1, 1));
    assert_eq!(events.count("app.p", "failed"), 0);
    app.wait().unwrap();
}

#[test]
fn early_ends_never_block() {
    const PROCESSES: usize = 50;
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    app.add_all((0..PROCESSES).map(|n| {
        let process = |_: &Context| Ok(());
        Spec::new(format!("p{n}"), process).restart(Restart::OnFailure)
    }))
    .unwrap();
    app.start().unwrap();
    // Nobody reads anything, and all are done.
    for n in 0..PROCESSES {
        wait_state(&app, &format!("app.p{n}"), State::Done);
    }
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < secs(1), "{took:?}");
    for n in 0..PROCESSES {
        assert_eq!(events.count(&format!("app.p{n}"), "done"), 1);
    }
}

#[test]
fn ending_needs_no_message() {
    const PROCESSES: u64 = 50;
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let (starts, ends) = (Tally::new(), Tally::new());
    for n in 0..PROCESSES {
        let process = counted(&starts, ending(&ends, obedient()));
        app.add(format!("p{n}"), process).unwrap();
    }
    app.start().unwrap();
    starts.reach(PROCESSES);
    let report = app.stop();
    assert!(report.is_empty(), "{report}");
    assert_eq!(ends.get(), PROCESSES);
    for n in 0..PROCESSES {
        assert_eq!(events.count(&format!("app.p{n}"), "stopped"), 1);
        assert_eq!(state(&app, &format!("app.p{n}")), State::Stopped);
    }
}
