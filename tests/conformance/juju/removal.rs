//! Removing, waiting for it, and what answers when there is nothing to wait for.

use backstay::{Backoff, Context, Error, ErrorKind, Spec, StopReport};
use crossbeam_channel::unbounded;

use crate::common::watch::{SOON, is_listed, missing, wait_gone};
use crate::common::{
    Gate, Recorder, Tally, add_running, counted, ending, fails, hung, ms, obedient, pass, secs,
    slow_to_stop, take, timed, unlimited,
};

#[test]
fn remove_and_wait_returns_after_the_real_end() {
    let app = unlimited("app");
    app.start().unwrap();
    let ends = Tally::new();
    let slow = ending(&ends, slow_to_stop(ms(300)));
    let a = add_running(&app, "a", slow);
    let (removed, took) = timed(|| app.remove_and_wait(a, secs(5)));
    removed.unwrap();
    assert!(took >= ms(300), "{took:?}");
    assert_eq!(ends.get(), 1);
    // What it asks for is so.
    let (again, took) = timed(|| app.remove_and_wait(a, secs(30)));
    again.unwrap();
    assert!(took < SOON, "{took:?}");
    assert!(app.stop().is_empty());
}

#[test]
fn remove_and_wait_times_out_and_the_removal_goes_on() {
    let app = unlimited("app");
    app.start().unwrap();
    let (ends, release) = (Tally::new(), Gate::new());
    let a = add_running(&app, "a", ending(&ends, hung(&release)));
    let (removed, took) = timed(|| app.remove_and_wait(a, ms(100)));
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(took >= ms(100), "{took:?}");
    // It still runs, so nobody has waited for its end.
    assert_eq!(ends.get(), 0);
    assert!(is_listed(&app, "app.a"));
    release.open();
    wait_gone(&app, "app.a");
    assert_eq!(ends.get(), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn removal_during_backoff_is_immediate() {
    let (app, runs) = (unlimited("app"), Tally::new());
    let mut events = Recorder::of(&app);
    let spec = Spec::new("a", counted(&runs, fails(1, "boom")));
    let a = app
        .add_spec(spec.backoff(Backoff::fixed(secs(60))))
        .unwrap();
    app.start().unwrap();
    events.wait("app.a", "failed");
    let (removed, took) = timed(|| app.remove_and_wait(a, secs(30)));
    removed.unwrap();
    assert!(took < SOON, "{took:?}");
    events.settle();
    assert_eq!(runs.get(), 1);
    assert!(app.stop().is_empty());
}

#[test]
fn name_is_taken_until_the_old_one_has_ended() {
    let app = unlimited("app");
    app.start().unwrap();
    let a = add_running(&app, "a", slow_to_stop(ms(300)));
    app.remove(a).unwrap();
    let refused = app.add("a", obedient()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DuplicateName);
    app.remove_and_wait(a, SOON).unwrap();
    let next = app.add("a", obedient()).unwrap();
    assert_ne!(next, a);
    assert!(app.stop().is_empty());
}

#[test]
fn service_waiting_for_its_own_end_gets_an_error() {
    type Told = (Result<(), Error>, Result<(), Error>, StopReport);
    let app = unlimited("app");
    let (tell, told) = unbounded::<Told>();
    let own = move |ctx: &Context| {
        let app = ctx.supervisor();
        let id = app.id(ctx.name()).unwrap();
        let removed = app.remove_and_wait(id, secs(5));
        tell.send((removed, app.wait(), app.stop()))?;
        ctx.wait_stop();
        Ok(())
    };
    app.start().unwrap();
    app.add("a", own).unwrap();
    let ((removed, waited, stopped), took) = timed(|| take(&told));
    assert!(took < SOON, "{took:?}");
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::WouldWaitForItself);
    assert_eq!(waited.unwrap_err().kind(), ErrorKind::WouldWaitForItself);
    assert!(stopped.only_requested());
    assert!(stopped.to_string().contains("not waited for"), "{stopped}");
    app.wait().unwrap();
    assert!(is_listed(&app, "app.a"), "it was not removed");
}

#[test]
fn waiter_gets_an_answer_when_the_supervisor_ends() {
    let (app, runs) = (unlimited("app"), Tally::new());
    let spec = Spec::new("a", counted(&runs, obedient())).ready_timeout(secs(50));
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    runs.reach(1);
    let waits = app.clone();
    let waiter = std::thread::spawn(move || waits.wait_ready(secs(60)));
    // Time to begin waiting. Later it gets the same answer.
    pass(ms(100));
    let (not_ready, took) = timed(|| {
        app.stop();
        waiter.join().unwrap().unwrap_err()
    });
    assert!(took < SOON, "{took:?}");
    assert!(missing(&not_ready).len() <= 1, "{not_ready}");
    assert!(not_ready.to_string().contains("stop"), "{not_ready}");
}

#[test]
fn unknown_ids_and_dead_supervisors_answer_with_errors() {
    let app = unlimited("app");
    app.start().unwrap();
    let kept = add_running(&app, "kept", obedient());
    let gone = add_running(&app, "gone", obedient());
    app.remove_and_wait(gone, SOON).unwrap();
    let ask = |id| {
        let answers = || {
            [
                app.stop_service(id),
                app.start_service(id),
                app.restart_service(id),
                app.remove_and_wait(id, secs(10)),
            ]
        };
        let (answers, took) = timed(answers);
        assert!(took < SOON, "{took:?}");
        answers
    };
    let [stop, start, restart, remove] = ask(gone);
    for answer in [stop, start, restart] {
        assert_eq!(answer.unwrap_err().kind(), ErrorKind::UnknownService);
    }
    remove.unwrap();

    assert!(app.stop().is_empty());
    for answer in ask(kept) {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped);
        assert!(error.to_string().contains("has ended"), "{error}");
    }
}
