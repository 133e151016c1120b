//! When a pool closes, and what goes on until then.

use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use backstay::services::{Drain, PushError, Queue, WorkerPool};
use backstay::{
    Context, Restart, Service, ServiceId, ServiceResult, Spec, State, StopOrder, Supervisor,
};

use crate::common::watch::{Crowd, SOON, incarnations};
use crate::common::{
    Gate, HOUR, PATIENCE, Tally, ms, pass, timed, unlimited, wait_for, wait_state,
};
use crate::failures::{builder, ok, run, wait_idle};

fn is_open(pool: &WorkerPool) -> bool {
    !pool.queue().is_closed()
}

#[track_caller]
fn stop_and_wait(app: &Supervisor, id: ServiceId) {
    app.stop_service(id).unwrap();
    wait_state(app, "app.pool", State::Stopped);
}

/// It takes jobs again, and does them when it is started again.
#[test]
fn stopped_pool_can_be_started_again() {
    let pool = builder(2).build().unwrap();
    let app = run(&pool);
    let id = app.id("pool").unwrap();
    for round in 1..=3 {
        for _ in 0..10 {
            pool.push(ok).unwrap();
        }
        assert_eq!(wait_idle(&pool).done, round * 10);
        stop_and_wait(&app, id);
        assert!(is_open(&pool));
        app.start_service(id).unwrap();
    }
    stop_and_wait(&app, id);
    pool.push(ok).unwrap();
    assert_eq!(pool.stats().queued, 1);
    app.start_service(id).unwrap();
    assert_eq!(wait_idle(&pool).done, 31);
    app.remove_and_wait(id, PATIENCE).unwrap();
    assert!(!is_open(&pool));
    app.stop();
}

/// A stop for a restart does not touch the queue, whatever the drain says.
#[test]
fn restart_keeps_the_queue() {
    let pool = builder(1).drain(Drain::Discard).build().unwrap();
    let app = run(&pool);
    let id = app.id("pool").unwrap();
    let (entered, ran) = (Gate::new(), Tally::new());
    let is_in = entered.clone();
    pool.push(move |ctx: &Context| {
        is_in.open();
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    for _ in 0..20 {
        let ran = ran.clone();
        pool.push(move |ctx: &Context| {
            assert_eq!(ctx.incarnation(), 2);
            ran.add();
            Ok(())
        })
        .unwrap();
    }
    entered.wait();
    app.restart_service(id).unwrap();
    ran.reach(20);
    let stats = wait_idle(&pool);
    assert_eq!((stats.done, stats.discarded), (21, 0), "{stats}");
    assert!(app.stop().is_empty());
}

/// By hand: what is in it is done, and the pool is done, though it should always run.
#[test]
fn closing_the_queue_ends_the_pool() {
    let pool = builder(2).build().unwrap();
    let ran = Tally::new();
    for _ in 0..50 {
        let ran = ran.clone();
        pool.push(move |_: &Context| {
            ran.add();
            Ok(())
        })
        .unwrap();
    }
    let app = run(&pool);
    pool.queue().close();
    wait_state(&app, "app.pool", State::Done);
    assert_eq!(ran.get(), 50);
    assert_eq!(app.report().find("app.pool").unwrap().failures(), 0);
    app.stop();
}

/// Provides the handle, or whatever else, and runs the pool itself.
fn runs(pool: &WorkerPool) -> impl Service + use<> {
    let pool = pool.clone();
    move |ctx: &Context| -> ServiceResult { pool.run(ctx) }
}

#[test]
fn pool_run_by_another_service_closes_with_it() {
    let pool = builder(1).build().unwrap();
    let app = unlimited("app");
    let id = app.add("pool", runs(&pool)).unwrap();
    app.start().unwrap();
    pool.push(ok).unwrap();
    assert_eq!(wait_idle(&pool).done, 1);
    app.restart_service(id).unwrap();
    wait_for("it has restarted", || incarnations(&app, ["pool"]) == [2]);
    pool.push(|_: &Context| Err("e".into())).unwrap();
    wait_for("it has failed", || incarnations(&app, ["pool"]) == [3]);
    pool.push(ok).unwrap();
    assert_eq!(wait_idle(&pool).done, 2);
    stop_and_wait(&app, id);
    assert!(is_open(&pool));
    app.remove_and_wait(id, PATIENCE).unwrap();
    assert!(!is_open(&pool));

    // After a failure, too, as it goes then.
    let pool = builder(1).build().unwrap();
    pool.push(|_: &Context| Err("e".into())).unwrap();
    pool.push(ok).unwrap();
    app.add_spec(Spec::new("never", runs(&pool)).restart(Restart::Never))
        .unwrap();
    wait_for("it is closed", || !is_open(&pool));
    assert_eq!(wait_idle(&pool).discarded, 1);

    let pool = builder(1).build().unwrap();
    app.add("last", runs(&pool)).unwrap();
    pool.push(ok).unwrap();
    wait_idle(&pool);
    assert!(app.stop().is_empty());
    assert!(!is_open(&pool));
}

/// A handle that is made for one incarnation and dropped with it closes nothing at a restart.
#[test]
fn passing_handle_closes_nothing_before_the_end() {
    let pool = builder(1).build().unwrap();
    let handle = pool.clone();
    let app = unlimited("app");
    let id = app
        .add("pool", move |ctx: &Context| handle.clone().run(ctx))
        .unwrap();
    app.start().unwrap();
    for n in 2..=3 {
        pool.push(|_: &Context| Err("e".into())).unwrap();
        wait_for("it has failed", || {
            incarnations(&app, ["pool"]) == [2 * n - 2]
        });
        app.restart_service(id).unwrap();
        wait_for("it has restarted", || {
            incarnations(&app, ["pool"]) == [2 * n - 1]
        });
    }
    pool.push(ok).unwrap();
    assert_eq!(wait_idle(&pool).done, 1);
    assert!(app.stop().is_empty());
    assert!(!is_open(&pool));
}

/// The supervisor above fails and starts again, with the same services.
#[test]
fn restart_of_the_supervisor_keeps_the_pool() {
    let pool = builder(1).build().unwrap();
    let inner = Supervisor::builder("inner")
        .limit(backstay::Limit::budget(0, 0).then(backstay::Exceeded::Fail))
        .quiet_panics()
        .build()
        .unwrap();
    inner.add("pool", pool.clone()).unwrap();
    let app = unlimited("app");
    app.add("inner", inner).unwrap();
    app.start().unwrap();
    for n in 1..=3 {
        pool.push(|_: &Context| panic!("again")).unwrap();
        pool.push_timeout(ok, PATIENCE).unwrap();
        wait_for("the job behind it is done", || pool.stats().done == n);
    }
    assert!(is_open(&pool));
    assert!(app.stop().is_empty());
    assert!(!is_open(&pool));
}

/// Jobs push jobs while the pool is being stopped; every one that was taken is done or discarded.
#[test]
fn jobs_that_push_jobs_come_to_an_end() {
    fn breed(pool: WorkerPool, refused: Tally) -> impl FnOnce(&Context) -> ServiceResult + Send {
        move |_| {
            let same = pool.clone();
            if pool.push(breed(same, refused.clone())).is_err() {
                refused.add();
            }
            Ok(())
        }
    }
    let (pool, refused) = (builder(2).build().unwrap(), Tally::new());
    for _ in 0..4 {
        pool.push(breed(pool.clone(), refused.clone())).unwrap();
    }
    let app = run(&pool);
    wait_for("they breed", || pool.stats().done > 100);
    assert!(app.stop().is_empty());
    let stats = pool.stats();
    assert_eq!((stats.queued, stats.running), (0, 0), "{stats}");
    assert_eq!(refused.get() + stats.discarded, 4, "{stats}");
}

/// A pusher that waits for room hears of the stop.
#[test]
fn stop_ends_the_wait_for_room() {
    let pool = WorkerPool::builder(1)
        .queue(Queue::new(1).unwrap())
        .build()
        .unwrap();
    let app = run(&pool);
    let entered = Gate::new();
    let is_in = entered.clone();
    pool.push(move |ctx: &Context| {
        is_in.open();
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    entered.wait();
    pool.push(ok).unwrap();
    let pushing = thread::spawn({
        let pool = pool.clone();
        move || pool.push_timeout(ok, HOUR)
    });
    wait_for("it waits for room", || {
        format!("{:?}", pool.queue()).contains("in_line: 1")
    });
    assert!(app.stop().is_empty());
    let refused = pushing.join().unwrap().unwrap_err();
    assert!(matches!(refused, PushError::Draining(_)), "{refused}");
    assert_eq!(pool.stats().done, 2);
}

/// The stop comes at any moment of the start. Where `run` was entered, what is queued is finished; where
/// it was not, it is discarded. Nothing is in between.
#[test]
fn stop_at_the_start_loses_nothing() {
    for round in 0..100 {
        let pool = builder(2).build().unwrap();
        for _ in 0..10 {
            pool.push(ok).unwrap();
        }
        let app = unlimited("app");
        let entered = Tally::new();
        let (runs, count) = (pool.clone(), entered.clone());
        app.add("pool", move |ctx: &Context| {
            count.add();
            runs.run(ctx)
        })
        .unwrap();
        app.start().unwrap();
        for _ in 0..round * 50 {
            std::hint::spin_loop();
        }
        assert!(app.stop().is_empty());
        let stats = pool.stats();
        let (done, discarded) = match entered.get() {
            0 => (0, 0),
            _ => (10, 0),
        };
        // A closure that was never called does not know that it has a pool: that is still open.
        assert_eq!((stats.done, stats.discarded), (done, discarded), "{stats}");
    }
}

/// Discarding with many threads pushing at the same time.
#[test]
fn pushes_at_the_very_end_are_accounted_for() {
    for drain in [Drain::Discard, Drain::Finish(Duration::MAX)] {
        let pool = builder(2).drain(drain).build().unwrap();
        let app = run(&pool);
        let start = Arc::new(Barrier::new(5));
        let pushing: Vec<_> = (0..4)
            .map(|_| {
                let (pool, start) = (pool.clone(), start.clone());
                thread::spawn(move || {
                    start.wait();
                    let mut taken = 0;
                    loop {
                        match pool.push(ok) {
                            Ok(()) => taken += 1,
                            Err(PushError::Closed(_)) => return taken,
                            Err(_) => thread::yield_now(),
                        }
                    }
                })
            })
            .collect();
        start.wait();
        wait_for("they push", || pool.stats().done > 0);
        assert!(app.stop().is_empty());
        let taken: u64 = pushing.into_iter().map(|p| p.join().unwrap()).sum();
        let stats = pool.stats();
        assert_eq!(stats.done + stats.discarded, taken, "{stats}");
        assert_eq!((stats.queued, stats.running), (0, 0), "{stats}");
    }
}

/// One moment: what was taken is in exactly one place.
#[test]
fn stats_add_up_at_any_moment() {
    const JOBS: u64 = 20_000;
    let pool = builder(3).continue_on_error().build().unwrap();
    let app = run(&pool);
    let pushed = Arc::new(Mutex::new(0));
    let pushing = thread::spawn({
        let (pool, pushed) = (pool.clone(), pushed.clone());
        move || {
            for n in 0..JOBS {
                let job = move |_: &Context| match n % 3 {
                    0 => Err("e".into()),
                    _ => Ok(()),
                };
                let mut count = pushed.lock().unwrap();
                while pool.push(job).is_err() {
                    drop(count);
                    thread::yield_now();
                    count = pushed.lock().unwrap();
                }
                *count += 1;
            }
        }
    });
    loop {
        let count = pushed.lock().unwrap();
        let stats = pool.stats();
        let all = stats.queued + stats.running + stats.done + stats.failed;
        assert_eq!(all, *count, "{stats}");
        assert!(stats.running <= 3, "{stats}");
        if stats.done + stats.failed == JOBS {
            break;
        }
        drop(count);
        thread::yield_now();
    }
    pushing.join().unwrap();
    assert!(app.stop().is_empty());
}

#[test]
fn pool_says_when_it_is_ready() {
    let pool = builder(2).build().unwrap();
    let app = unlimited("app");
    app.add_spec(Spec::new("pool", pool.clone()).ready_timeout(PATIENCE))
        .unwrap();
    app.start().unwrap();
    app.wait_ready(PATIENCE).unwrap();
    assert!(app.report().find("app.pool.2").is_some());
    assert!(app.stop().is_empty());
}

/// Not one alone.
#[test]
fn all_workers_finish_the_queue() {
    let pool = builder(3).build().unwrap();
    let app = run(&pool);
    let (busy, crowd, together) = (Tally::new(), Crowd::new(), Gate::new());
    for _ in 0..3 {
        let busy = busy.clone();
        pool.push(move |ctx: &Context| {
            busy.add();
            ctx.wait_stop();
            Ok(())
        })
        .unwrap();
    }
    busy.reach(3);
    for _ in 0..6 {
        let (crowd, together) = (crowd.clone(), together.clone());
        pool.push(move |ctx: &Context| {
            assert!(ctx.is_stopping());
            let _inside = crowd.enter();
            if crowd.now() == 3 {
                together.open();
            }
            together.wait_timeout(SOON);
            Ok(())
        })
        .unwrap();
    }
    assert!(app.stop().is_empty());
    assert_eq!((crowd.most(), pool.stats().done), (3, 9));
}

/// Many pools that finish their queues at the same time.
#[test]
fn pools_finish_side_by_side() {
    let app = Supervisor::builder("app")
        .stop_order(StopOrder::Parallel)
        .build()
        .unwrap();
    let ran = Tally::new();
    // Of each pool: one may be at its second job before another one has begun.
    let entered: Vec<Tally> = (0..10).map(|_| Tally::new()).collect();
    let pools: Vec<WorkerPool> = (0..10).map(|_| builder(1).build().unwrap()).collect();
    for (n, (pool, entered)) in pools.iter().zip(&entered).enumerate() {
        app.add(format!("pool{n}"), pool.clone()).unwrap();
        for _ in 0..3 {
            let (ran, entered) = (ran.clone(), entered.clone());
            pool.push(move |_: &Context| {
                entered.add();
                pass(ms(30));
                ran.add();
                Ok(())
            })
            .unwrap();
        }
    }
    app.start().unwrap();
    entered.iter().for_each(|entered| entered.reach(1));
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(ran.get(), 30);
}
