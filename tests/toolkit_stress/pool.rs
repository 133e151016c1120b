//! Two pools under jobs that fail and panic, and under restarts, until they are stopped in the middle.
//! One ends at each failure, the other one goes on. Every job ends in exactly one way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;

use backstay::services::{Drain, Job, JobHandle, PoolStats, PushError, Queue, WorkerPool};
use backstay::{Context, ErrorKind, Limit, ServiceResult, Supervisor};

use crate::common::{HOUR, Tally, ms, wait_for};

/// For both pools together, before the stop.
const JOBS: u64 = 1_500_000;

/// More than any machine does in that time.
const JOBS_MAX: usize = 4_000_000;

/// Restarts on demand of each pool, spread over the time.
const RESTARTS: u64 = 40;

/// In the mark of a job: it was begun; it was dropped.
const BEGUN: u8 = 1;
const DROPPED: u8 = 16;

/// The jobs of one pool, by number.
struct Jobs {
    marks: Vec<AtomicU8>,
    made: AtomicUsize,
    taken: AtomicUsize,
    handed_back: AtomicUsize,
}

/// One job's place, noted when it goes.
struct Place {
    jobs: Arc<Jobs>,
    number: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.jobs.marks[self.number].fetch_add(DROPPED, Ordering::Relaxed);
    }
}

impl Jobs {
    fn new() -> Arc<Jobs> {
        Arc::new(Jobs {
            marks: (0..JOBS_MAX).map(|_| AtomicU8::new(0)).collect(),
            made: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            handed_back: AtomicUsize::new(0),
        })
    }

    fn place(self: &Arc<Jobs>) -> Option<Place> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        (number < JOBS_MAX).then(|| Place {
            jobs: self.clone(),
            number,
        })
    }
}

/// How often jobs of a pool fail and panic: one in so many.
#[derive(Clone, Copy)]
struct Odds {
    error: usize,
    panic: usize,
}

fn job(place: Place, odds: Odds) -> impl FnOnce(&Context) -> ServiceResult + Send + 'static {
    move |_| {
        let number = place.number;
        place.jobs.marks[number].fetch_add(BEGUN, Ordering::Relaxed);
        assert!(number % odds.panic != 7, "one of those that panic");
        if number % odds.error == 3 {
            return Err("one of those that fail".into());
        }
        Ok(())
    }
}

/// Pushes until the pool is closed.
fn push_all(pool: &WorkerPool, jobs: &Arc<Jobs>, odds: Odds) -> Vec<JobHandle<usize>> {
    let mut handles = Vec::new();
    while let Some(place) = jobs.place() {
        let number = place.number;
        let refused = match number % 1000 {
            // Somebody waits for one in a thousand.
            0 => {
                let job = job(place, odds);
                let submitted = pool.submit(move |ctx: &Context| {
                    job(ctx)?;
                    Ok(number)
                });
                match submitted {
                    Ok(handle) => {
                        handles.push(handle);
                        None
                    }
                    Err(refused) => Some(refused),
                }
            }
            1 => pool.push(job(place, odds)).err(),
            _ => pool.push_timeout(job(place, odds), HOUR).err(),
        };
        let given_up = match refused {
            None => None,
            Some(refused) => insist(pool, refused),
        };
        match given_up {
            None => jobs.taken.fetch_add(1, Ordering::Relaxed),
            Some(job) => {
                jobs.handed_back.fetch_add(1, Ordering::Relaxed);
                drop(job);
                return handles;
            }
        };
    }
    handles
}

/// Until the job that was refused is taken, or the queue is closed.
fn insist(pool: &WorkerPool, refused: PushError<Job>) -> Option<Job> {
    let mut refused = refused;
    loop {
        let job = match refused {
            PushError::Closed(job) => return Some(job),
            other => other.into_inner(),
        };
        match pool.queue().push_timeout(job, ms(10)) {
            Ok(()) => return None,
            Err(again) => refused = again,
        }
        thread::yield_now();
    }
}

#[track_caller]
fn check(name: &str, stats: PoolStats, jobs: &Jobs, handles: Vec<JobHandle<usize>>) {
    let made = jobs.made.load(Ordering::SeqCst).min(JOBS_MAX);
    let (mut ran, mut not) = (0, 0);
    for (number, mark) in jobs.marks[..made].iter().enumerate() {
        match mark.load(Ordering::SeqCst) {
            mark if mark == BEGUN + DROPPED => ran += 1,
            DROPPED => not += 1,
            other => panic!("{name}: job {number} of {made} is marked {other}"),
        }
    }
    let taken = jobs.taken.load(Ordering::SeqCst) as u64;
    let handed_back = jobs.handed_back.load(Ordering::SeqCst) as u64;
    assert_eq!((stats.queued, stats.running), (0, 0), "{name}: {stats}");
    assert_eq!(
        stats.done + stats.failed + stats.panicked,
        ran,
        "{name}: {stats}"
    );
    assert_eq!(ran + stats.discarded, taken, "{name}: {stats}");
    assert_eq!(stats.discarded + handed_back, not, "{name}: {stats}");
    for handle in handles {
        assert!(handle.is_finished(), "{name}");
        match handle.wait() {
            Ok(number) => assert_eq!(jobs.marks[number].load(Ordering::SeqCst), BEGUN + DROPPED),
            Err(e) => assert!(
                matches!(e.kind(), ErrorKind::Failed | ErrorKind::Gone),
                "{e}"
            ),
        }
    }
}

#[test]
fn every_job_ends_in_exactly_one_way() {
    let strict_odds = Odds {
        error: 1_000,
        panic: 3_000,
    };
    let tolerant_odds = Odds {
        error: 50,
        panic: 1_000,
    };
    let handled = Tally::new();
    let count = handled.clone();
    let strict = WorkerPool::builder(2)
        .queue(Queue::with_burst(50, 100, 50).unwrap())
        .drain(Drain::Discard)
        .build()
        .unwrap();
    let tolerant = WorkerPool::builder(3)
        .queue(Queue::new(1_000).unwrap())
        .continue_on_error()
        .continue_on_panic()
        .on_error(move |_| count.add())
        .build()
        .unwrap();
    let app = Supervisor::builder("app")
        .limit(Limit::none())
        .quiet_panics()
        .build()
        .unwrap();
    let ids = [("strict", &strict), ("tolerant", &tolerant)]
        .map(|(name, pool)| app.add(name, pool.clone()).unwrap());
    app.start().unwrap();

    let jobs = [Jobs::new(), Jobs::new()];
    let pushing = [
        (&strict, &jobs[0], strict_odds),
        (&tolerant, &jobs[1], tolerant_odds),
        (&tolerant, &jobs[1], tolerant_odds),
    ]
    .map(|(pool, jobs, odds)| {
        let (pool, jobs) = (pool.clone(), jobs.clone());
        thread::spawn(move || push_all(&pool, &jobs, odds))
    });
    let ended = || {
        let [a, b] = [&strict, &tolerant].map(WorkerPool::stats);
        a.done + a.failed + a.panicked + b.done + b.failed + b.panicked
    };
    for round in 1..=RESTARTS {
        wait_for("they do their jobs", || {
            ended() >= JOBS * round / (RESTARTS + 1)
        });
        for id in ids {
            app.restart_service(id).unwrap();
        }
    }
    wait_for("they do their jobs", || ended() >= JOBS);
    assert!(app.stop().is_empty());

    let [of_strict, first, second] = pushing.map(|pushing| pushing.join().unwrap());
    let stats = [&strict, &tolerant].map(WorkerPool::stats);
    let of_tolerant = first.into_iter().chain(second).collect();
    check("strict", stats[0], &jobs[0], of_strict);
    check("tolerant", stats[1], &jobs[1], of_tolerant);
    assert_eq!(handled.get(), stats[1].failed + stats[1].panicked);
    for stats in stats {
        assert!(stats.failed > 0 && stats.panicked > 0, "{stats}");
    }
    // Failures have ended the strict one, and restarts on demand both.
    let report = app.report();
    let [of_strict, of_tolerant] =
        ["app.strict", "app.tolerant"].map(|path| report.find(path).unwrap());
    assert!(of_strict.failures() > 10, "{of_strict}");
    assert_eq!(of_tolerant.failures(), 0, "{of_tolerant}");
    assert!(of_tolerant.starts() > 1, "{of_tolerant}");
}
