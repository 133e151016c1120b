//! Worker pools.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use backstay::services::{Drain, Job, PoolStats, PushError, Queue, WorkerPool, WorkerPoolBuilder};
use backstay::{
    Context, Errors, Exit, FailureKind, Restart, ServiceId, ServiceResult, Spec, State, Supervisor,
};
use crossbeam_channel::unbounded;

use crate::common::watch::{Crowd, SOON, incarnations};
use crate::common::{
    Gate, PATIENCE, Recorder, Tally, answer, failed, ms, pass, take, timed, unlimited, wait_for,
    wait_state,
};

fn builder(workers: usize) -> WorkerPoolBuilder {
    WorkerPool::builder(workers).queue(Queue::new(1000).unwrap())
}

fn add(app: &Supervisor, pool: &WorkerPool, restart: Restart) -> ServiceId {
    let spec = Spec::new("pool", pool.clone()).restart(restart);
    app.add_spec(spec).unwrap()
}

/// A running tree with the pool in it.
fn run(pool: &WorkerPool) -> Supervisor {
    let app = unlimited("app");
    add(&app, pool, Restart::Always);
    app.start().unwrap();
    app
}

/// All jobs have ended and none is left.
#[track_caller]
fn wait_idle(pool: &WorkerPool) -> PoolStats {
    let mut last = pool.stats();
    wait_for("no job is left", || {
        last = pool.stats();
        last.queued + last.running == 0
    });
    last
}

/// The members of what the pool has answered.
fn members(events: &mut Recorder) -> Vec<String> {
    let Some(failure) = answer(&events.wait("app.pool", "stopped")) else {
        return Vec::new();
    };
    match failure.error().and_then(|e| e.downcast_ref::<Errors>()) {
        Some(errors) => errors.iter().map(ToString::to_string).collect(),
        None => vec![failure.message().to_owned()],
    }
}

#[test]
fn pool_runs_every_job_on_its_workers() {
    let pool = builder(4).build().unwrap();
    let app = run(&pool);
    let (crowd, (told, names)) = (Crowd::new(), unbounded());
    let together = Gate::new();
    for _ in 0..100 {
        let (crowd, told, together) = (crowd.clone(), told.clone(), together.clone());
        let job = move |_: &Context| {
            let _inside = crowd.enter();
            // The first ones wait until there are as many as there can be.
            if crowd.now() == 4 {
                together.open();
            }
            together.wait();
            told.send(thread::current().name().map(str::to_owned))?;
            Ok(())
        };
        pool.push_timeout(job, PATIENCE).unwrap();
    }
    let names: BTreeSet<_> = (0..100).map(|_| take(&names).unwrap()).collect();
    assert!((2..=4).contains(&names.len()), "{names:?}");
    assert!(
        names.iter().all(|n| n.starts_with("app.pool.")),
        "{names:?}"
    );
    assert_eq!(wait_idle(&pool).done, 100);
    assert_eq!(crowd.most(), 4);
    assert!(app.stop().is_empty());
}

#[test]
fn pool_without_workers_is_refused() {
    let error = WorkerPool::builder(0).build().unwrap_err();
    assert!(error.to_string().starts_with("workers"), "{error}");
    let error = WorkerPool::builder(usize::MAX).build().unwrap_err();
    assert!(error.to_string().starts_with("workers"), "{error}");
}

#[test]
fn pool_default_queue_has_the_documented_limits() {
    let pool = WorkerPool::builder(2).build().unwrap();
    for _ in 0..6 {
        pool.push(|_: &Context| Ok(())).unwrap();
    }
    let refused = pool.push(|_: &Context| Ok(())).unwrap_err();
    assert!(matches!(refused, PushError::NoCredit(_)), "{refused}");
    assert_eq!(pool.stats().queued, 6);
}

/// Pushes job 1, which fails when jobs 2 to 4 run, those, which then take 200 ms, and 12 more. Each
/// notes that it ran.
fn push_sixteen(pool: &WorkerPool) -> Vec<Tally> {
    let ran: Vec<Tally> = (0..16).map(|_| Tally::new()).collect();
    let (others, failing) = (Tally::new(), Gate::new());
    for (n, ran) in ran.iter().cloned().enumerate() {
        let (others, failing) = (others.clone(), failing.clone());
        let job = move |_: &Context| {
            ran.add();
            match n {
                0 => {
                    others.reach(3);
                    failing.open();
                    return Err("e1".into());
                }
                1..=3 => {
                    others.add();
                    failing.wait();
                    pass(ms(200));
                }
                _ => {}
            }
            Ok(())
        };
        pool.push(job).unwrap();
    }
    ran
}

#[test]
fn pool_first_error_aborts_all_workers() {
    let pool = builder(4).build().unwrap();
    let ran = push_sixteen(&pool);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, &pool, Restart::Never);
    app.start().unwrap();
    let failure = failed(&events.wait("app.pool", "failed")).failure;
    assert_eq!(
        (failure.message(), failure.kind()),
        ("e1", FailureKind::Error)
    );
    let counts: Vec<u64> = ran.iter().map(Tally::get).collect();
    assert_eq!(counts, [[1, 1, 1, 1], [0; 4], [0; 4], [0; 4]].concat());
    events.wait("app.pool", "removed");
    let stats = pool.stats();
    assert_eq!(
        (stats.done, stats.failed, stats.discarded),
        (3, 1, 12),
        "{stats}"
    );
    let refused = pool.push(|_: &Context| Ok(())).unwrap_err();
    assert!(matches!(refused, PushError::Closed(_)), "{refused}");
    app.stop();
}

#[test]
fn pool_jobs_survive_a_restart() {
    let pool = builder(4).build().unwrap();
    let ran = push_sixteen(&pool);
    let app = run(&pool);
    let stats = wait_idle(&pool);
    assert_eq!(
        (stats.done, stats.failed, stats.discarded),
        (15, 1, 0),
        "{stats}"
    );
    assert!(ran.iter().all(|ran| ran.get() == 1));
    assert_eq!(incarnations(&app, ["pool"]), [2]);
    assert!(app.stop().is_empty());
}

#[test]
fn pool_continues_on_error_and_collects() {
    for (failing, of, kept, dropped) in [(10, 50, 10, 0), (1000, 1000, 100, 900)] {
        let pool = builder(4)
            .continue_on_error()
            .keep_errors(100)
            .build()
            .unwrap();
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        add(&app, &pool, Restart::Always);
        app.start().unwrap();
        for n in 0..of {
            let job = move |_: &Context| {
                if n < failing {
                    return Err(format!("e{n}").into());
                }
                Ok(())
            };
            pool.push_timeout(job, PATIENCE).unwrap();
        }
        let stats = wait_idle(&pool);
        assert_eq!(
            (stats.done, stats.failed),
            (of - failing, failing),
            "{stats}"
        );
        assert!(app.stop().is_empty());
        let failure = answer(&events.wait("app.pool", "stopped")).unwrap();
        let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
        assert_eq!((errors.len(), errors.dropped()), (kept, dropped));
        assert_eq!(incarnations(&app, ["pool"]), [1]);
    }
}

/// Twenty jobs for one worker after the other, the fifth panics.
fn push_twenty(pool: &WorkerPool) -> Tally {
    let ran = Tally::new();
    for n in 1..=20 {
        let ran = ran.clone();
        let job = move |_: &Context| {
            ran.add();
            assert_ne!(n, 5, "the fifth one");
            Ok(())
        };
        pool.push(job).unwrap();
    }
    ran
}

#[test]
fn pool_panic_aborts_unless_continued() {
    // With another worker it would be a race who is first: the panic, or the jobs behind it.
    let pool = builder(1).continue_on_error().build().unwrap();
    let ran = push_twenty(&pool);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, &pool, Restart::Never);
    app.start().unwrap();
    let failure = failed(&events.wait("app.pool", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert!(failure.message().contains("the fifth one"), "{failure}");
    assert!(
        failure.location().unwrap().contains("pools.rs"),
        "{failure}"
    );
    assert_eq!(ran.get(), 5);
    app.stop();

    let pool = builder(2)
        .continue_on_error()
        .continue_on_panic()
        .build()
        .unwrap();
    let ran = push_twenty(&pool);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, &pool, Restart::Never);
    app.start().unwrap();
    let stats = wait_idle(&pool);
    assert_eq!((ran.get(), stats.panicked, stats.done), (20, 1, 19));
    assert!(app.stop().is_empty());
    let members = members(&mut events);
    assert_eq!(members.len(), 1);
    assert!(members[0].contains("the fifth one"), "{members:?}");
}

#[test]
fn pool_excluded_errors_count_as_ok() {
    let pool = builder(2).exclude(|_| true).build().unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, &pool, Restart::Always);
    app.start().unwrap();
    for _ in 0..10 {
        pool.push(|_: &Context| Err("skip".into())).unwrap();
    }
    let stats = wait_idle(&pool);
    assert_eq!((stats.done, stats.failed), (10, 0), "{stats}");
    pool.push(|_: &Context| panic!("no excuse")).unwrap();
    let failure = failed(&events.wait("app.pool", "failed")).failure;
    assert_eq!(
        (failure.message(), failure.kind(), failure.incarnation()),
        ("no excuse", FailureKind::Panic, 1)
    );
    assert_eq!(pool.stats().panicked, 1);
    events.wait_nth("app.pool", "started", 2);
    assert!(app.stop().is_empty());
}

#[test]
fn pool_handler_sees_each_failure_and_nothing_is_kept() {
    let handled = Tally::new();
    let count = handled.clone();
    let pool = builder(4)
        .continue_on_error()
        .continue_on_panic()
        .on_error(move |_| count.add())
        .build()
        .unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, &pool, Restart::Always);
    app.start().unwrap();
    for n in 0..100 {
        let job = move |_: &Context| {
            assert_ne!(n, 50, "in the middle");
            Err("e".into())
        };
        pool.push(job).unwrap();
    }
    handled.reach(100);
    let stats = wait_idle(&pool);
    assert_eq!((stats.failed, stats.panicked), (99, 1), "{stats}");
    assert!(app.stop().is_empty());
    assert_eq!(handled.get(), 100);
    assert!(answer(&events.wait("app.pool", "stopped")).is_none());
}

#[test]
fn pool_handler_sees_the_aborting_error() {
    let (told, errors) = unbounded();
    let pool = builder(1)
        .on_error(move |e| told.send(e.to_string()).unwrap())
        .build()
        .unwrap();
    let ran = Tally::new();
    for n in 1..=5 {
        let ran = ran.clone();
        let job = move |_: &Context| {
            ran.add();
            match n {
                2 => Err("e".into()),
                _ => Ok(()),
            }
        };
        pool.push(job).unwrap();
    }
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    add(&app, &pool, Restart::Never);
    app.start().unwrap();
    let failure = failed(&events.wait("app.pool", "failed")).failure;
    assert_eq!(failure.message(), "e");
    app.stop();
    assert_eq!((ran.get(), errors.len()), (2, 1));
    assert_eq!(take(&errors), "e");
}

#[test]
fn pool_stop_drains_the_queue() {
    let pool = WorkerPool::builder(2)
        .queue(Queue::new(100).unwrap())
        .build()
        .unwrap();
    let ran = Tally::new();
    let app = run(&pool);
    wait_state(&app, "app.pool", State::Ready);
    for _ in 0..80 {
        let ran = ran.clone();
        let job = move |_: &Context| {
            pass(ms(5));
            ran.add();
            Ok(())
        };
        pool.push(job).unwrap();
    }
    let stopping = thread::spawn({
        let app = app.clone();
        move || app.stop()
    });
    let refused = loop {
        // Taken until the stop has come that far.
        match pool.push(|_: &Context| Ok(())) {
            Ok(()) => thread::yield_now(),
            Err(PushError::Full(_) | PushError::NoCredit(_)) => thread::yield_now(),
            Err(refused) => break refused,
        }
    };
    assert!(
        matches!(refused, PushError::Draining(_) | PushError::Closed(_)),
        "{refused}"
    );
    assert!(stopping.join().unwrap().is_empty());
    assert_eq!(ran.get(), 80);
    let stats = pool.stats();
    assert_eq!(
        (stats.discarded, stats.queued, stats.running),
        (0, 0, 0),
        "{stats}"
    );
}

#[test]
fn pool_stop_can_discard_the_queue() {
    let pool = builder(1).drain(Drain::Discard).build().unwrap();
    let (running, ran) = (Gate::new(), Tally::new());
    for _ in 0..10 {
        let (running, ran) = (running.clone(), ran.clone());
        let job = move |_: &Context| {
            running.open();
            pass(ms(200));
            ran.add();
            Ok(())
        };
        pool.push(job).unwrap();
    }
    let app = run(&pool);
    running.wait();
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(ran.get(), 1);
    let stats = pool.stats();
    assert_eq!((stats.done, stats.discarded), (1, 9), "{stats}");
}

#[test]
fn pool_drain_ends_at_its_own_limit() {
    let pool = builder(1).drain(Drain::Finish(ms(300))).build().unwrap();
    let (running, asked) = (Gate::new(), Arc::new(AtomicU64::new(0)));
    for _ in 0..10 {
        let (running, asked) = (running.clone(), asked.clone());
        let job = move |ctx: &Context| {
            running.open();
            if ctx.is_stopping() {
                asked.fetch_add(1, Ordering::SeqCst);
            }
            pass(ms(100));
            Ok(())
        };
        pool.push(job).unwrap();
    }
    let app = run(&pool);
    running.wait();
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!((ms(300)..SOON).contains(&took), "{took:?}");
    let stats = pool.stats();
    assert_eq!(stats.done + stats.discarded, 10, "{stats}");
    // One was running, and the others began within 300 ms.
    assert!((2..=4).contains(&stats.done), "{stats}");
    assert!((1..=3).contains(&asked.load(Ordering::SeqCst)));
}

#[test]
fn pool_push_after_the_end_gives_the_job_back() {
    let pool = builder(1).build().unwrap();
    let app = run(&pool);
    assert!(app.stop().is_empty());
    let ran = Tally::new();
    let runs = ran.clone();
    let refused = pool
        .push(move |ctx: &Context| {
            assert_eq!(ctx.path(), "app.hand");
            runs.add();
            Ok(())
        })
        .unwrap_err();
    let PushError::Closed(job) = refused else {
        panic!("{refused}")
    };
    let job = std::sync::Mutex::new(Some(job));
    let app = unlimited("app");
    let by_hand = move |ctx: &Context| -> ServiceResult {
        let job: Option<Job> = job.lock().unwrap().take();
        job.map_or(Ok(()), |job| job.run(ctx))
    };
    app.add_spec(Spec::new("hand", by_hand).restart(Restart::OnFailure))
        .unwrap();
    app.start().unwrap();
    wait_state(&app, "app.hand", State::Done);
    assert_eq!(ran.get(), 1);
    app.stop();
}

#[test]
fn pool_job_with_an_exit_ends_the_pool() {
    let pool = builder(1).continue_on_error().build().unwrap();
    let ran = Tally::new();
    for n in 1..=5 {
        let ran = ran.clone();
        let job = move |_: &Context| {
            ran.add();
            match n {
                2 => Err(Exit::DoNotRestart.into()),
                _ => Ok(()),
            }
        };
        pool.push(job).unwrap();
    }
    let app = run(&pool);
    wait_state(&app, "app.pool", State::Done);
    let entry = app.report();
    assert_eq!(entry.find("app.pool").unwrap().failures(), 0);
    assert_eq!((ran.get(), pool.stats().queued), (2, 3));
    app.stop();
    assert_eq!(pool.stats().discarded, 3);
}
