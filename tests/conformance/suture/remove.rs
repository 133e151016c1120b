//! Removing single services.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstay::{Context, ErrorKind, Exceeded, Limit, State, Supervisor};

use crate::common::{
    Gate, Recorder, Tally, add_running, add_running_as, counted, ending, fails, hung, ms, obedient,
    secs, slow_to_stop, state, timed,
};

#[test]
fn removing_a_hung_service_leaves_the_supervisor_alive() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let release = Gate::new();
    app.start().unwrap();
    let service = hung(&release);
    let id = add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(50)));

    app.remove(id).unwrap();
    events.wait("app.a", "abandoned");
    add_running(&app, "b", obedient());
    release.open();
    events.wait("app.a", "removed");
    app.stop();
    assert_eq!(events.count("app.a", "abandoned"), 1);
    assert_eq!(events.count("app.a", "started"), 1);
}

#[test]
fn remove_stops_and_forgets() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let ends = Tally::new();
    app.start().unwrap();
    let id = add_running(&app, "a", ending(&ends, obedient()));
    add_running(&app, "b", obedient());

    app.remove(id).unwrap();
    events.wait("app.a", "removed");
    assert_eq!(ends.get(), 1);
    assert_eq!(app.id("a"), None);
    let report = app.report();
    let listed: Vec<_> = report.iter().map(|s| (s.path(), s.incarnation())).collect();
    assert_eq!(listed, [("app.b", 1)]);
    assert_eq!(events.count("app.a", "failed"), 0);
    app.stop();
}

#[test]
fn token_of_another_supervisor_is_refused() {
    let (one, two) = (Supervisor::new("one"), Supervisor::new("two"));
    one.start().unwrap();
    two.start().unwrap();
    let mut events = Recorder::of(&one);
    let id = add_running(&one, "a", obedient());
    // The same number in the other one.
    add_running(&two, "a", obedient());

    assert_eq!(
        two.remove(id).unwrap_err().kind(),
        ErrorKind::WrongSupervisor
    );
    let (answer, took) = timed(|| two.remove_and_wait(id, secs(1)));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::WrongSupervisor);
    assert!(took < ms(900), "{took:?}");
    assert_eq!(state(&one, "one.a"), State::Running);
    assert_eq!(state(&two, "two.a"), State::Running);
    assert_eq!(events.count("one.a", "stopping"), 0);
    one.stop();
    two.stop();
}

#[test]
fn remove_and_wait_waits_for_the_real_end() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let flag = ended.clone();
    let id = add_running(&app, "a", move |ctx: &Context| {
        ctx.wait_stop();
        crate::common::pass(ms(100));
        flag.store(true, Ordering::SeqCst);
        Ok(())
    });
    let (answer, took) = timed(|| app.remove_and_wait(id, secs(5)));
    answer.unwrap();
    assert!(ended.load(Ordering::SeqCst));
    assert!(took >= ms(100), "{took:?}");
    app.stop();
}

#[test]
fn remove_and_wait_twice_is_ok() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let id = add_running(&app, "a", obedient());
    app.remove_and_wait(id, secs(30)).unwrap();

    let (again, took) = timed(|| {
        app.remove_and_wait(id, secs(30))
            .and_then(|()| app.remove(id))
    });
    again.unwrap();
    assert!(took < ms(100), "{took:?}");
    app.stop();
}

/// The removed one isn't waited for until the pause is over, nor started then. In virtual time,
/// with others: `machine/tests/suture.rs`.
#[test]
fn remove_during_a_pause_cancels_the_restart() {
    const PAUSE: Duration = secs(3);
    let limit = Limit::decay(0.0, secs(30)).then(Exceeded::Pause {
        time: PAUSE,
        jitter: 0.0,
    });
    let app = Supervisor::builder("app").limit(limit).build().unwrap();
    let mut events = Recorder::of(&app);
    let id = app.add("a", fails(u64::MAX, "always")).unwrap();
    app.start().unwrap();
    events.wait("app", "paused");
    assert_eq!(state(&app, "app.a"), State::Paused);

    let (answer, took) = timed(|| app.remove_and_wait(id, secs(30)));
    answer.unwrap();
    assert!(took < PAUSE / 2, "{took:?}");
    assert_eq!(app.id("a"), None);
    assert_eq!(events.count("app", "resumed"), 0);
    events.wait("app", "resumed");
    app.stop();
    assert_eq!(events.count("app.a", "started"), 1);
}

#[test]
fn remove_and_wait_times_out_on_a_hung_service() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let release = Gate::new();
    let id = add_running(&app, "a", hung(&release));

    let (answer, took) = timed(|| app.remove_and_wait(id, ms(50)));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    assert!((ms(50)..secs(2)).contains(&took), "{took:?}");
    let (_, took) = timed(|| add_running(&app, "b", obedient()));
    assert!(took < secs(1), "{took:?}");
    release.open();
    app.stop();
}

#[test]
fn late_end_satisfies_the_waiter() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let service = slow_to_stop(ms(200));
    let id = add_running_as(&app, "a", service, |spec| spec.stop_timeout(ms(50)));

    let (answer, took) = timed(|| app.remove_and_wait(id, secs(5)));
    answer.unwrap();
    assert!((ms(200)..secs(2)).contains(&took), "{took:?}");
    events.wait("app.a", "removed");
    let words = events.words("app.a");
    assert_eq!(
        words,
        [
            "added",
            "started",
            "stopping",
            "abandoned",
            "ended late",
            "removed"
        ]
    );
    app.stop();
}

#[test]
fn zero_wait_means_no_wait() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let id = add_running(&app, "a", slow_to_stop(ms(200)));

    let (answer, took) = timed(|| app.remove_and_wait(id, Duration::ZERO));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(took < ms(150), "{took:?}");
    events.wait("app.a", "removed");
    assert_eq!(app.id("a"), None);
    app.stop();
}

#[test]
fn remove_and_wait_after_stop_is_an_error() {
    let app = Supervisor::new("app");
    app.start().unwrap();
    let id = add_running(&app, "a", obedient());
    app.stop();

    let (answer, took) = timed(|| app.remove_and_wait(id, secs(10)));
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::Stopped);
    assert!(took < secs(1), "{took:?}");
}

#[test]
fn remove_before_start_forgets_the_service() {
    let app = Supervisor::new("app");
    let runs = Tally::new();
    let id = app.add("a", counted(&runs, obedient())).unwrap();
    app.remove(id).unwrap();
    app.start().unwrap();
    // Whatever is queued before it is carried out before it.
    add_running(&app, "b", obedient());
    assert!(app.report().find("app.a").is_none(), "{}", app.report());
    app.stop();
    assert_eq!(runs.get(), 0);
}

#[test]
fn stop_right_after_a_removal_reports_nothing() {
    for _ in 0..100 {
        let app = Supervisor::new("app");
        let mut events = Recorder::of(&app);
        app.start().unwrap();
        let id = add_running(&app, "a", obedient());
        app.remove_and_wait(id, secs(1)).unwrap();
        let report = app.stop();
        assert!(report.is_empty(), "{report}");
        assert_eq!(events.count("app.a", "abandoned"), 0);
    }
}
