//! What becomes of a job that somebody waits for.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use backstay::services::{Drain, JobHandle, WorkerPool};
use backstay::{BoxError, Context, ErrorKind, FailureKind, ServiceResult, Spec, State, Supervisor};
use crossbeam_channel::unbounded;

use crate::common::watch::SOON;
use crate::common::{
    Gate, PATIENCE, add_running, ms, take, timed, unlimited, wait_for, wait_state,
};
use crate::failures::{builder, ok, run, wait_idle};

#[track_caller]
fn kind_of<R: Send + 'static>(handle: &JobHandle<R>) -> ErrorKind {
    match handle.wait_timeout(PATIENCE) {
        Ok(_) => panic!("it was done"),
        Err(error) => error.kind(),
    }
}

#[test]
fn value_failure_and_panic_come_back() {
    let pool = builder(2)
        .continue_on_error()
        .continue_on_panic()
        .build()
        .unwrap();
    let app = run(&pool);
    let value = pool
        .submit(|_: &Context| Ok(String::from("value")))
        .unwrap();
    let error = pool.submit(|_: &Context| Ok("x".parse::<u8>()?)).unwrap();
    let panics = pool
        .submit(|_: &Context| -> Result<u8, BoxError> { panic!("bang") })
        .unwrap();

    assert_eq!(value.wait().unwrap(), "value");
    // It is counted by then.
    assert!(pool.stats().done >= 1);
    let again = value.wait().unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Gone);

    for _ in 0..2 {
        let failed = error.wait().unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Failed);
        let failure = failed.failure().unwrap();
        assert!(failure.error().unwrap().is::<std::num::ParseIntError>());
        assert!(failure.path().starts_with("app.pool."), "{failure}");
    }
    let failed = panics.wait().unwrap_err();
    let failure = failed.failure().unwrap();
    assert_eq!(
        (failure.message(), failure.kind()),
        ("bang", FailureKind::Panic)
    );
    assert!(failure.location().unwrap().contains("handles.rs"));
    assert!(panics.is_finished());
    let stats = wait_idle(&pool);
    assert_eq!(
        (stats.done, stats.failed, stats.panicked),
        (1, 1, 1),
        "{stats}"
    );
    // The pool has got them as well.
    assert_eq!(pool.take_errors().len(), 2);
    assert!(app.stop().is_empty());
}

#[test]
fn rules_hold_for_submitted_jobs() {
    let pool = builder(1)
        .exclude(|e| e.is::<std::num::ParseIntError>())
        .build()
        .unwrap();
    let app = run(&pool);
    let excluded = pool.submit(|_: &Context| Ok("x".parse::<u8>()?)).unwrap();
    assert_eq!(kind_of(&excluded), ErrorKind::Failed);
    assert_eq!(pool.stats().done, 1);
    let ends_it = pool
        .submit(|_: &Context| -> ServiceResult { Err("e".into()) })
        .unwrap();
    assert_eq!(kind_of(&ends_it), ErrorKind::Failed);
    wait_for("it is in its second incarnation", || {
        app.report().find("app.pool").unwrap().incarnation() == 2
    });
    assert!(app.stop().is_empty());
}

#[test]
fn discarded_jobs_are_gone() {
    let pool = builder(1).drain(Drain::Discard).build().unwrap();
    let app = run(&pool);
    let (entered, release) = (Gate::new(), Gate::new());
    let (is_in, held) = (entered.clone(), release.clone());
    let running = pool
        .submit(move |_: &Context| {
            is_in.open();
            held.wait();
            Ok(())
        })
        .unwrap();
    let queued = pool.submit(|_: &Context| Ok(())).unwrap();
    entered.wait();
    app.request_stop();
    assert_eq!(kind_of(&queued), ErrorKind::Gone);
    assert!(!running.is_finished());
    release.open();
    running.wait().unwrap();
    assert!(app.stop().is_empty());
}

/// Wherever the pool, or its queue, or the job goes.
#[test]
fn nobody_waits_in_vain() {
    // All handles of a pool that was never added.
    let pool = builder(1).build().unwrap();
    let handle = pool.submit(|_: &Context| Ok(1)).unwrap();
    let waiting = thread::spawn(move || kind_of(&handle));
    drop(pool);
    assert_eq!(waiting.join().unwrap(), ErrorKind::Gone);

    // Removed before it ran, while others still have handles.
    let pool = builder(1).build().unwrap();
    let handle = pool.submit(|_: &Context| Ok(1)).unwrap();
    let app = Supervisor::new("app");
    let id = app.add("pool", pool.clone()).unwrap();
    app.remove(id).unwrap();
    assert_eq!(kind_of(&handle), ErrorKind::Gone);
    assert!(pool.push(ok).is_err());

    // In a tree that is stopped before it starts, two levels down.
    let pool = builder(1).build().unwrap();
    let handle = pool.submit(|_: &Context| Ok(1)).unwrap();
    let (app, inner) = (Supervisor::new("app"), Supervisor::new("inner"));
    inner.add("pool", pool.clone()).unwrap();
    app.add("inner", inner).unwrap();
    app.stop();
    assert_eq!(kind_of(&handle), ErrorKind::Gone);

    // Taken out of the queue by hand, and dropped.
    let pool = builder(1).build().unwrap();
    let handle = pool.submit(|_: &Context| Ok(1)).unwrap();
    drop(pool.queue().pop());
    assert_eq!(kind_of(&handle), ErrorKind::Gone);

    // Refused.
    pool.queue().close();
    let refused = pool.submit(|_: &Context| Ok(1)).unwrap_err();
    drop(refused);
}

/// A pool whose only worker hangs is abandoned; those who wait for what is behind it hear of that.
#[test]
fn jobs_behind_one_that_hangs_are_given_up_in_time() {
    let pool = builder(1).drain(Drain::Finish(ms(50))).build().unwrap();
    let (entered, release) = (Gate::new(), Gate::new());
    let (is_in, held) = (entered.clone(), release.clone());
    let hung = pool
        .submit(move |_: &Context| {
            is_in.open();
            held.wait();
            Ok(())
        })
        .unwrap();
    let behind = pool.submit(|_: &Context| Ok(())).unwrap();
    let app = unlimited("app");
    app.add_spec(Spec::new("pool", pool.clone()).stop_timeout(ms(200)))
        .unwrap();
    app.start().unwrap();
    entered.wait();
    let stopping = thread::spawn({
        let app = app.clone();
        move || app.stop()
    });
    assert_eq!(kind_of(&behind), ErrorKind::Gone);
    let report = stopping.join().unwrap();
    let [unstopped] = report.unstopped() else {
        panic!("{report}")
    };
    assert_eq!(unstopped.path(), "app.pool.1");
    assert!(!hung.is_finished());
    release.open();
    hung.wait().unwrap();
    wait_for("it is closed with its late end", || {
        pool.queue().is_closed()
    });
}

#[test]
fn wait_ends_at_the_stop_of_whoever_waits() {
    let pool = builder(1).build().unwrap();
    // The pool does not run.
    let handle = pool.submit(|_: &Context| Ok(1)).unwrap();
    let (told, tells) = unbounded();
    let app = Supervisor::new("app");
    app.start().unwrap();
    let id = add_running(&app, "waits", move |_: &Context| {
        told.send(handle.wait().map_err(|e| e.kind()))?;
        Ok(())
    });
    let (result, took) = timed(|| app.remove_and_wait(id, PATIENCE));
    result.unwrap();
    assert!(took < SOON, "{took:?}");
    assert_eq!(take(&tells), Err(ErrorKind::Stopping));
    app.stop();
}

/// A job that waits for one behind it blocks its only worker, but not the stop.
#[test]
fn jobs_that_wait_for_each_other_do_not_hold_up_the_stop() {
    let pool = builder(1).continue_on_error().build().unwrap();
    let app = run(&pool);
    let entered = Gate::new();
    let (is_in, same) = (entered.clone(), pool.clone());
    let outer = pool
        .submit(move |_: &Context| {
            let inner = same.submit(|_: &Context| Ok(1))?;
            is_in.open();
            Ok(inner.wait()?)
        })
        .unwrap();
    entered.wait();
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    let error = outer.wait().unwrap_err();
    assert!(error.to_string().contains("asked to stop"), "{error}");
    // The other one was finished.
    assert_eq!(pool.stats().done, 1);
}

#[test]
fn wait_timeout_ends_in_time() {
    let pool = builder(1).build().unwrap();
    let handle = pool.submit(|_: &Context| Ok(1)).unwrap();
    let (result, took) = timed(|| handle.wait_timeout(ms(50)));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    assert!((ms(50)..SOON).contains(&took), "{took:?}");
    let now = handle.wait_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(now.kind(), ErrorKind::Timeout);
    let app = run(&pool);
    assert_eq!(handle.wait_timeout(Duration::MAX).unwrap(), 1);
    app.stop();
}

/// By hand a job answers as a pool would have it, and whoever waits is told.
#[test]
fn submitted_jobs_can_be_done_by_hand() {
    let pool: WorkerPool = builder(3).build().unwrap();
    let value = pool.submit(|_: &Context| Ok(7)).unwrap();
    let error = pool
        .submit(|_: &Context| -> Result<u8, _> { Err("e".into()) })
        .unwrap();
    let panics = pool
        .submit(|_: &Context| -> Result<u8, _> { panic!("p") })
        .unwrap();
    let jobs = Mutex::new([(); 3].map(|()| pool.queue().pop()));
    let (told, tells) = unbounded();
    let app = unlimited("app");
    let by_hand = move |ctx: &Context| {
        for job in jobs.lock().unwrap().iter_mut().filter_map(Option::take) {
            told.send(job.run(ctx).map_err(|e| e.to_string()))?;
        }
        Ok(())
    };
    app.add_spec(Spec::new("hand", by_hand).restart(backstay::Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    assert_eq!(take(&tells), Ok(()));
    assert!(take(&tells).unwrap_err().contains('e'));
    assert!(take(&tells).unwrap_err().contains("panicked: p"));
    wait_state(&app, "app.hand", State::Done);
    assert_eq!(value.wait().unwrap(), 7);
    assert_eq!(error.wait().unwrap_err().failure().unwrap().message(), "e");
    assert_eq!(kind_of(&panics), ErrorKind::Failed);
    app.stop();
}
