//! `Interval`: the same again, never two at a time, never too early.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use backstay::services::{Interval, Job, Wait};
use backstay::{Context, Errors, Exit, FailureKind, Restart, Service, ServiceResult, Spec, State};
use crossbeam_channel::{bounded, unbounded};

use crate::common::watch::{Crowd, SOON, entry};
use crate::common::{
    Gate, HOUR, Recorder, Tally, add_running, answer, failed, ms, pass, take, timed, unlimited,
    wait_state,
};

/// Calls `f` with the number of the run, from 1 and over all incarnations.
fn numbered(
    f: impl Fn(u64, &Context) -> ServiceResult + Send + Sync + 'static,
) -> impl Fn(&Context) -> ServiceResult + Send + Sync {
    let runs = AtomicU64::new(0);
    move |ctx: &Context| f(runs.fetch_add(1, Ordering::SeqCst) + 1, ctx)
}

/// Runs it until there have been `n` runs; when each began.
fn starts_of(n: u64, every: Duration, run_time: Duration) -> Vec<Instant> {
    let app = unlimited("app");
    let (runs, crowd) = (Tally::new(), Crowd::new());
    let starts = Arc::new(Mutex::new(Vec::new()));
    let (ran, begun, inside) = (runs.clone(), starts.clone(), crowd.clone());
    let run = move |_: &Context| {
        begun.lock().unwrap().push(Instant::now());
        let _inside = inside.enter();
        pass(run_time);
        ran.add();
        Ok(())
    };
    app.start().unwrap();
    app.add("a", Interval::new(every, run)).unwrap();
    runs.reach(n);
    assert_eq!(entry(&app, "app.a").incarnation(), 1);
    assert!(app.stop().is_empty());
    assert_eq!(crowd.most(), 1);
    let starts = starts.lock().unwrap().clone();
    starts[..n as usize].to_vec()
}

/// The shortest and the longest of the times from one start to the next.
fn gaps(starts: &[Instant]) -> (Duration, Duration) {
    let gaps = || starts.windows(2).map(|pair| pair[1] - pair[0]);
    (gaps().min().unwrap(), gaps().max().unwrap())
}

#[test]
fn interval_keeps_the_distance_between_starts() {
    let (shortest, longest) = gaps(&starts_of(5, ms(50), ms(10)));
    assert!(shortest >= ms(50), "{shortest:?}");
    assert!(longest < SOON, "{longest:?}");
}

#[test]
fn interval_does_not_catch_up() {
    let (shortest, longest) = gaps(&starts_of(4, ms(50), ms(120)));
    assert!(shortest >= ms(120), "{shortest:?}");
    assert!(longest < SOON, "{longest:?}");
}

#[test]
fn interval_stop_interrupts_the_wait() {
    let app = unlimited("app");
    let runs = Tally::new();
    let ran = runs.clone();
    let run = move |_: &Context| {
        ran.add();
        Ok(())
    };
    app.start().unwrap();
    app.add("a", Interval::new(HOUR, run)).unwrap();
    runs.reach(1);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < SOON, "{took:?}");
    assert_eq!(runs.get(), 1);
}

#[test]
fn interval_error_ends_the_incarnation() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (tell, told) = unbounded();
    let run = numbered(move |n, ctx| {
        tell.send((n, ctx.incarnation()))?;
        match n {
            3 => Err("third".into()),
            _ => Ok(()),
        }
    });
    app.start().unwrap();
    app.add("a", Interval::new(ms(10), run)).unwrap();
    let runs: Vec<_> = (0..4).map(|_| take(&told)).collect();
    assert_eq!(runs, [(1, 1), (2, 1), (3, 1), (4, 2)]);
    assert!(app.stop().is_empty());
    assert_eq!(events.count("app.a", "failed"), 1);
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(failure.message(), "third");
}

/// Adds it, waits for `n` runs, and stops the tree: the service's answer to that.
fn answer_after(
    n: u64,
    interval: impl FnOnce(Interval) -> Interval,
    run: impl Fn(u64, &Context) -> ServiceResult + Send + Sync + 'static,
) -> Option<backstay::Failure> {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let (begin, begun) = unbounded();
    let run = numbered(move |number, ctx| {
        begin.send(number)?;
        if number > n {
            ctx.wait_stop();
            return Ok(());
        }
        run(number, ctx)
    });
    app.start().unwrap();
    app.add("a", interval(Interval::new(ms(1), run))).unwrap();
    // The one after them has begun.
    while take(&begun) <= n {}
    let service = entry(&app, "app.a");
    assert_eq!((service.incarnation(), service.failures()), (1, 0));
    assert!(app.stop().is_empty());
    answer(&events.wait("app.a", "stopped"))
}

#[test]
fn interval_continues_on_error_and_keeps_the_last() {
    let fails = |n: u64, _: &Context| Err(n.to_string().into());
    let answer = answer_after(10, |i| i.continue_on_error(3), fails).unwrap();
    let errors = answer.error().unwrap().downcast_ref::<Errors>().unwrap();
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["8", "9", "10"]);
    assert_eq!(errors.dropped(), 7);

    // Of none that is kept the number is told.
    let answer = answer_after(10, |i| i.continue_on_error(0), fails).unwrap();
    let errors = answer.error().unwrap().downcast_ref::<Errors>().unwrap();
    assert_eq!((errors.len(), errors.dropped()), (0, 10));

    // Without an error there is no answer.
    assert!(answer_after(3, |i| i.continue_on_error(3), |_, _| Ok(())).is_none());
}

#[test]
fn interval_catches_a_panic_per_run() {
    let answer = answer_after(
        5,
        |i| i.continue_on_error(10).continue_on_panic(),
        |n, _| match n {
            2 => panic!("second"),
            _ => Ok(()),
        },
    )
    .unwrap();
    assert_eq!(
        (answer.kind(), answer.message()),
        (FailureKind::Panic, "second")
    );
    assert!(answer.location().unwrap().contains("intervals.rs"));

    // Without the other option errors still end it, and the panics up to then are in the answer.
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let run = numbered(|n, _| match n {
        1 => panic!("first"),
        _ => Err("second".into()),
    });
    let interval = Interval::new(ms(1), run).continue_on_panic();
    app.add_spec(Spec::new("a", interval).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Panic);
    let text = failure.message();
    assert!(
        text.starts_with("first") && text.ends_with("; second"),
        "{text}"
    );
    assert!(app.stop().is_empty());
}

#[test]
fn interval_panic_ends_it_and_loses_nothing() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let run = numbered(|n, _| match n {
        1..=3 => Err(n.to_string().into()),
        _ => panic!("fourth"),
    });
    let interval = Interval::new(ms(1), run).continue_on_error(2);
    app.add_spec(Spec::new("a", interval).restart(Restart::Never))
        .unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.a", "failed")).failure;
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert!(failure.location().unwrap().contains("intervals.rs"));
    let errors = failure.error().unwrap().downcast_ref::<Errors>().unwrap();
    assert_eq!((errors.len(), errors.dropped()), (3, 1));
    assert!(failure.message().starts_with("2; 3; fourth"), "{failure}");
    assert!(app.stop().is_empty());
}

#[test]
fn interval_takes_a_timeout_as_an_ordinary_error() {
    let answer = answer_after(
        2,
        |i| i.continue_on_error(10),
        |n, _| match n {
            1 => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            _ => Ok(()),
        },
    )
    .unwrap();
    assert!(answer.error().unwrap().is::<io::Error>());
}

#[test]
fn interval_exit_ends_it_all_the_same() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let run = numbered(|n, _| match n {
        1 => Err("one".into()),
        _ => Err(Exit::DoNotRestart.because("enough").into()),
    });
    let interval = Interval::new(ms(1), run).continue_on_error(10);
    app.add("a", interval.continue_on_panic()).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.a", State::Done);
    assert_eq!(events.count("app.a", "failed"), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn interval_context_ends_with_each_run() {
    let app = unlimited("app");
    let (lend, lent) = bounded::<Context>(1);
    let (tell, told) = unbounded();
    let woken = Gate::new();
    let helper = {
        let woken = woken.clone();
        std::thread::spawn(move || {
            let ctx = take(&lent);
            ctx.wait_stop();
            woken.open();
            // Nothing that is done with it reaches a later run.
            let late = ctx.on_stop(|| panic!("too late"));
            drop(late);
            ctx.is_stopping()
        })
    };
    let wait = woken.clone();
    let run = numbered(move |n, ctx| {
        match n {
            1 => lend.send(ctx.clone())?,
            2 => {
                wait.wait();
                tell.send((ctx.is_stopping(), ctx.incarnation()))?;
            }
            _ => {}
        }
        Ok(())
    });
    app.start().unwrap();
    app.add("a", Interval::new(ms(1), run)).unwrap();
    assert_eq!(take(&told), (false, 1));
    assert!(helper.join().unwrap());
    assert!(app.stop().is_empty());
}

/// Blocks until it is interrupted.
struct Blocking {
    entered: Tally,
    interrupted: Tally,
    released: Gate,
}

impl Service for Blocking {
    fn run(&self, _: &Context) -> ServiceResult {
        self.entered.add();
        if self.entered.get() > 2 {
            self.released.wait();
        }
        Ok(())
    }

    fn interrupt(&self) {
        self.interrupted.add();
        self.released.open();
    }
}

#[test]
fn interval_interrupts_the_run_that_a_stop_finds() {
    let app = unlimited("app");
    let (entered, interrupted) = (Tally::new(), Tally::new());
    let service = || Blocking {
        entered: entered.clone(),
        interrupted: interrupted.clone(),
        released: Gate::new(),
    };
    app.start().unwrap();
    app.add("a", Interval::new(ms(1), service())).unwrap();
    entered.reach(3);
    assert!(app.stop().is_empty());
    assert_eq!((entered.get(), interrupted.get()), (3, 1));

    // Not one that has returned.
    let app = unlimited("app");
    app.start().unwrap();
    let (before, waiting) = (entered.get(), Interval::new(HOUR, service()));
    add_running(&app, "a", waiting);
    assert!(app.stop().is_empty());
    assert!(entered.get() <= before + 1);
}

#[test]
fn interval_pauses_at_least_so_long_after_a_run() {
    let app = unlimited("app");
    let (tell, told) = unbounded();
    let run = move |_: &Context| {
        let begun = Instant::now();
        pass(ms(20));
        tell.send((begun, Instant::now()))?;
        Ok(())
    };
    app.start().unwrap();
    let interval = Interval::new(ms(1), run).at_least(ms(30)).jitter(1.0);
    app.add("a", interval).unwrap();
    let runs: Vec<_> = (0..4).map(|_| take(&told)).collect();
    assert!(app.stop().is_empty());
    for pair in runs.windows(2) {
        assert!(pair[1].0 - pair[0].1 >= ms(30));
    }
}

#[test]
fn interval_jitter_out_of_range_is_refused_by_name() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let ran = runs.clone();
    let run = move |_: &Context| {
        ran.add();
        Ok(())
    };
    app.add("a", Interval::new(ms(1), run).jitter(1.5)).unwrap();
    app.start().unwrap();
    wait_state(&app, "app.a", State::Done);
    let report = entry(&app, "app.a");
    let told = report.last_failure().unwrap().to_string();
    assert!(told.contains("jitter"), "{told}");
    assert_eq!((runs.get(), events.count("app.a", "failed")), (0, 0));
    assert!(app.stop().is_empty());
}

#[test]
fn interval_runs_services_that_have_threads_of_their_own() {
    let app = unlimited("app");
    let ops = Tally::new();
    let ran = ops.clone();
    let wait = Wait::new(move || {
        let ran = ran.clone();
        (0..3).map(move |_| {
            let ran = ran.clone();
            Job::new(move |_| {
                ran.add();
                Ok(())
            })
        })
    });
    app.start().unwrap();
    app.add("a", Interval::new(ms(1), wait)).unwrap();
    ops.reach(15);
    let service = entry(&app, "app.a");
    assert_eq!((service.incarnation(), service.failures()), (1, 0));
    assert!(app.stop().is_empty());
}
