//! Panics of everything that is the user's, and errors at the wrong moment.

use std::error::Error as StdError;
use std::fmt;

use backstay::services::{ForEach, Job, PoolStats, Queue, WorkerPool, WorkerPoolBuilder};
use backstay::{
    BoxError, Context, Errors, Exit, Failure, FailureKind, Restart, ServiceResult, Spec, State,
    Stopping, Supervisor,
};

use crate::common::watch::incarnations;
use crate::common::{
    Gate, PATIENCE, Recorder, Tally, answer, failed, unlimited, wait_for, wait_state,
};

pub(crate) fn builder(workers: usize) -> WorkerPoolBuilder {
    WorkerPool::builder(workers).queue(Queue::new(1000).unwrap())
}

/// A running tree with the pool in it.
pub(crate) fn run_as(pool: &WorkerPool, restart: Restart) -> Supervisor {
    let app = unlimited("app");
    let spec = Spec::new("pool", pool.clone()).restart(restart);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    app
}

pub(crate) fn run(pool: &WorkerPool) -> Supervisor {
    run_as(pool, Restart::Always)
}

/// All jobs have ended and none is left.
#[track_caller]
pub(crate) fn wait_idle(pool: &WorkerPool) -> PoolStats {
    let mut last = pool.stats();
    wait_for("no job is left", || {
        last = pool.stats();
        last.queued + last.running == 0
    });
    last
}

pub(crate) fn ok(_: &Context) -> ServiceResult {
    Ok(())
}

fn texts(errors: &Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

/// A value whose `Drop` panics.
struct Grenade(&'static str);

impl Drop for Grenade {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("{}", self.0);
        }
    }
}

/// An error that panics wherever it can.
struct Hostile(Grenade);

impl fmt::Debug for Hostile {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("debug")
    }
}

impl fmt::Display for Hostile {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("display")
    }
}

impl StdError for Hostile {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let _ = &self.0;
        panic!("source")
    }
}

fn hostile() -> BoxError {
    Box::new(Hostile(Grenade("drop of an error")))
}

/// Drops something hostile.
fn defuse<T>(value: T) {
    drop(Failure::catch(|| drop(value)));
}

/// None of them harms a worker; each job is counted once, as what it answered.
#[test]
fn user_code_that_panics_anywhere_is_contained() {
    let pool = builder(2)
        .continue_on_error()
        .continue_on_panic()
        .exclude(|e| {
            assert!(!e.is::<fmt::Error>(), "in exclude");
            e.is::<std::num::ParseIntError>()
        })
        .keep_errors(1000)
        .build()
        .unwrap();
    let app = run(&pool);
    let jobs: Vec<Job> = (0..20)
        .flat_map(|_| {
            let grenade = Grenade("drop in a job");
            let kept = Grenade("drop of what nobody waits for");
            let submitted = pool.submit(move |_: &Context| Ok(kept)).unwrap();
            drop(submitted);
            [
                Job::new(|_: &Context| panic!("in a job")),
                // Consumed by the call, so it is the job that panics.
                Job::new(move |_: &Context| {
                    drop(grenade);
                    Ok(())
                }),
                Job::new(|_: &Context| Err(fmt::Error.into())),
                Job::new(|_: &Context| Err(hostile())),
                Job::new(|_: &Context| {
                    Err(Failure::catch(|| panic!("caught")).unwrap_err().into())
                }),
                Job::new(|_: &Context| {
                    "x".parse::<u8>()?;
                    Ok(())
                }),
                Job::new(ok),
            ]
        })
        .collect();
    let total = jobs.len() as u64 + 20;
    for job in jobs {
        pool.queue().push_timeout(job, PATIENCE).unwrap();
    }
    let stats = wait_idle(&pool);
    assert_eq!(stats.done + stats.failed + stats.panicked, total, "{stats}");
    assert_eq!((stats.failed, stats.panicked), (40, 60), "{stats}");
    assert_eq!(incarnations(&app, ["pool"]), [1]);
    // Everything but what was excluded: panics of jobs and of their remains, of exclude, errors. The
    // remains of a job are dropped after it was counted.
    let mut errors: Vec<BoxError> = Vec::new();
    wait_for("all errors are kept", || {
        errors.extend(pool.take_errors());
        errors.len() == 140
    });
    let count = |part: &str| {
        let told = errors.iter().filter(|e| !e.is::<Hostile>());
        told.filter(|e| e.to_string().contains(part)).count()
    };
    assert_eq!(count("in a job"), 40);
    assert_eq!(count("drop of what nobody waits for"), 20);
    // The error itself, and the panic.
    assert_eq!(count("in exclude"), 20);
    assert_eq!(errors.iter().filter(|e| e.is::<fmt::Error>()).count(), 20);
    assert_eq!(count("caught"), 20);
    assert_eq!(errors.iter().filter(|e| e.is::<Hostile>()).count(), 20);
    // They panic here, too, if they are not handled with care.
    errors.into_iter().for_each(defuse);
    assert!(app.stop().is_empty());
}

#[test]
fn hostile_errors_beyond_the_bound_are_dropped_and_counted() {
    let pool = builder(2)
        .continue_on_error()
        .keep_errors(0)
        .build()
        .unwrap();
    let app = run(&pool);
    let mut events = Recorder::of(&app);
    for _ in 0..50 {
        pool.push(|_: &Context| Err(hostile())).unwrap();
    }
    assert_eq!(wait_idle(&pool).failed, 50);
    assert!(app.stop().is_empty());
    let failure = answer(&events.wait("app.pool", "stopped")).unwrap();
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    // Each was not kept, nor was the panic of its drop.
    assert_eq!((errors.len(), errors.dropped()), (0, 100));
}

#[test]
fn hostile_verdict_fails_the_pool_and_no_more() {
    let pool = builder(1).build().unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    pool.push(|_: &Context| Err(hostile())).unwrap();
    pool.push(ok).unwrap();
    app.add("pool", pool.clone()).unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.pool", "failed")).failure;
    assert!(failure.error().unwrap().is::<Hostile>());
    let stats = wait_idle(&pool);
    assert_eq!((stats.done, stats.failed), (1, 1));
    assert!(app.stop().is_empty());
    // Whoever has the last one drops the error.
    defuse((failure, events, app));
}

#[test]
fn handler_that_panics_is_told_of_and_all_goes_on() {
    let pool = builder(1)
        .continue_on_error()
        .on_error(|e| panic!("handling {e}"))
        .build()
        .unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add("pool", pool.clone()).unwrap();
    app.start().unwrap();
    for n in 0..3 {
        pool.push(move |_: &Context| Err(format!("e{n}").into()))
            .unwrap();
    }
    assert_eq!(wait_idle(&pool).failed, 3);
    assert!(app.stop().is_empty());
    let failure = answer(&events.wait("app.pool", "stopped")).unwrap();
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    assert_eq!(errors.len(), 3);
    assert!(texts(errors)[2].contains("handling e2"), "{errors}");
}

/// The error that ends it comes first, what was kept before behind it; a panic among them counts.
#[test]
fn what_was_kept_comes_with_the_verdict() {
    let pool = builder(1).continue_on_error().build().unwrap();
    for n in 0..3 {
        pool.push(move |_: &Context| Err(format!("e{n}").into()))
            .unwrap();
    }
    pool.push(|_: &Context| panic!("the end")).unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let spec = Spec::new("pool", pool.clone()).restart(Restart::Never);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.pool", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Panic);
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    let texts = texts(errors);
    assert!(texts[0].contains("the end"), "{texts:?}");
    assert_eq!(texts[1..], ["e0", "e1", "e2"]);
    app.stop();
}

#[test]
fn single_error_stays_itself() {
    let pool = builder(1).build().unwrap();
    pool.push(|_: &Context| {
        "x".parse::<u8>()?;
        Ok(())
    })
    .unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let spec = Spec::new("pool", pool.clone()).restart(Restart::Never);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.pool", "failed")).failure;
    assert!(failure.error().unwrap().is::<std::num::ParseIntError>());
    app.stop();
}

/// Of all that run when one ends it, each is counted, and what they answer is not lost.
#[test]
fn failures_of_those_that_ran_along_are_not_lost() {
    let pool = builder(3).build().unwrap();
    let (together, go) = (Tally::new(), Gate::new());
    for n in 0..3 {
        let (together, go) = (together.clone(), go.clone());
        let job = move |_: &Context| {
            together.add();
            go.wait();
            Err(format!("e{n}").into())
        };
        pool.push(job).unwrap();
    }
    pool.push(ok).unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let spec = Spec::new("pool", pool.clone()).restart(Restart::Never);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    together.reach(3);
    go.open();
    let failure = failed(&events.wait("app.pool", "failed")).failure;
    for n in 0..3 {
        assert!(failure.message().contains(&format!("e{n}")), "{failure}");
    }
    events.wait("app.pool", "removed");
    let stats = pool.stats();
    assert_eq!(
        (stats.failed, stats.discarded, stats.done),
        (3, 1, 0),
        "{stats}"
    );
    app.stop();
}

/// Also where one worker hands on what others have done.
#[test]
fn hostile_errors_do_not_stop_what_is_handed_on() {
    let (out, outs) = crossbeam_channel::unbounded();
    let service = ForEach::map_ordered(
        3,
        || 0..100,
        |_: &Context, n: u64| match n % 3 {
            0 => Err(hostile()),
            _ => Ok(n),
        },
        move |_: &Context, n| match n % 5 {
            0 => Err(hostile()),
            _ => Ok(out.send(n)?),
        },
    )
    .continue_on_panic()
    .exclude(|e| e.is::<Hostile>())
    .keep_errors(1000);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add_spec(Spec::new("each", service).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    // What is left of it are the panics of their drops.
    let failure = failed(&events.wait("app.each", "failed")).failure;
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    assert_eq!(errors.len(), 47);
    let expected: Vec<u64> = (0..100).filter(|n| n % 3 != 0 && n % 5 != 0).collect();
    assert_eq!(outs.try_iter().collect::<Vec<_>>(), expected);
    app.stop();
}

/// With an exit in an error, or in one of several, beyond every rule.
#[test]
fn exits_are_found_before_the_rules() {
    for exit in [
        || -> BoxError { Exit::DoNotRestart.because("enough").into() },
        || {
            let mut errors = Errors::new();
            errors.push("one");
            errors.push(Exit::DoNotRestart);
            errors.into()
        },
    ] {
        let handled = Tally::new();
        let count = handled.clone();
        let pool = builder(1)
            .continue_on_error()
            .exclude(|_| true)
            .on_error(move |_| count.add())
            .build()
            .unwrap();
        pool.push(move |_: &Context| Err(exit())).unwrap();
        pool.push(ok).unwrap();
        let app = run(&pool);
        wait_state(&app, "app.pool", State::Done);
        let stats = pool.stats();
        assert_eq!(
            (stats.done, stats.failed, stats.queued),
            (1, 0, 1),
            "{stats}"
        );
        assert_eq!(handled.get(), 0);
        app.stop();
    }
}

#[test]
fn terminate_tree_from_a_job_ends_the_tree() {
    let pool = builder(2).build().unwrap();
    let app = run(&pool);
    pool.push(|_: &Context| Err(Exit::TerminateTree.because("no disk").into()))
        .unwrap();
    let error = app.wait().unwrap_err();
    assert!(error.to_string().contains("no disk"), "{error}");
}

/// A job that a stop cuts short did what it was asked to; the others are finished all the same.
#[test]
fn jobs_cut_short_by_a_stop_are_no_failures() {
    let pool = builder(2).build().unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add("pool", pool.clone()).unwrap();
    app.start().unwrap();
    let entered = Tally::new();
    for _ in 0..2 {
        let entered = entered.clone();
        let job = move |ctx: &Context| {
            entered.add();
            ctx.sleep(PATIENCE)?;
            Err("nobody asked".into())
        };
        pool.push(job).unwrap();
    }
    entered.reach(2);
    for _ in 0..10 {
        pool.push(ok).unwrap();
    }
    assert!(app.stop().is_empty());
    let stats = pool.stats();
    assert_eq!(
        (stats.done, stats.failed, stats.discarded),
        (12, 0, 0),
        "{stats}"
    );
    assert!(answer(&events.wait("app.pool", "stopped")).is_none());
}

/// The same word when nobody asked is an error as any other.
#[test]
fn stopping_that_nobody_asked_for_is_an_error() {
    let pool = builder(1).continue_on_error().build().unwrap();
    let app = run(&pool);
    pool.push(|_: &Context| Err(Stopping::default().into()))
        .unwrap();
    assert_eq!(wait_idle(&pool).failed, 1);
    app.stop();
}

/// An error while the queue is being finished ends that, too.
#[test]
fn error_during_the_drain_discards_the_rest() {
    let pool = builder(1).build().unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add("pool", pool.clone()).unwrap();
    app.start().unwrap();
    let entered = Gate::new();
    let is_in = entered.clone();
    pool.push(move |ctx: &Context| {
        is_in.open();
        ctx.wait_stop();
        Err("e".into())
    })
    .unwrap();
    for _ in 0..5 {
        pool.push(ok).unwrap();
    }
    entered.wait();
    assert!(app.stop().is_empty());
    let stats = pool.stats();
    assert_eq!((stats.failed, stats.discarded), (1, 5), "{stats}");
    assert_eq!(
        answer(&events.wait("app.pool", "stopped"))
            .unwrap()
            .message(),
        "e"
    );
}

/// Discarded jobs are dropped one by one, whatever their `Drop` does.
#[test]
fn jobs_that_panic_when_they_are_dropped_do_not_keep_the_others() {
    let pool = builder(1).build().unwrap();
    let dropped = Tally::new();
    struct Counts(Tally);
    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.add();
            panic!("drop of a job");
        }
    }
    for _ in 0..10 {
        let counts = Counts(dropped.clone());
        pool.push(move |_: &Context| {
            let _counts = &counts;
            Ok(())
        })
        .unwrap();
    }
    let app = unlimited("app");
    let id = app.add("pool", pool.clone()).unwrap();
    app.remove(id).unwrap();
    assert_eq!((dropped.get(), pool.stats().discarded), (10, 10));
    assert_eq!(pool.take_errors().len(), 10);
    // And without ever having been added.
    let pool = builder(1).build().unwrap();
    for _ in 0..3 {
        let counts = Counts(dropped.clone());
        pool.push(move |_: &Context| {
            let _counts = &counts;
            Ok(())
        })
        .unwrap();
    }
    drop(pool);
    assert_eq!(dropped.get(), 13);
}
