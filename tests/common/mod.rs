//! What the tests on real threads share: patient waits, gates, an event recorder, usual services.
//!
//! Nothing here sleeps to let something happen: every wait is for a condition, with a deadline so
//! long that only a failing test meets it.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[cfg(all(unix, feature = "process"))]
pub(crate) mod children;
pub(crate) mod process;
pub(crate) mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backstay::{
    Context, Event, EventKind, Events, Failure, Limit, Next, Service, ServiceId, ServiceResult,
    Spec, State, Supervisor,
};
use crossbeam_channel::Receiver;

/// How long a wait may take before the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How many events a recorder keeps that were not read yet.
const RECORDED_MAX: usize = 20_000;

/// An hour: for ever, as far as a test is concerned.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Waits for a condition that nobody announces.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        // The pace of the polling, not a guess at how long it takes.
        std::thread::sleep(ms(1));
    }
}

/// What `f` answers, and how long it took.
pub(crate) fn timed<R>(f: impl FnOnce() -> R) -> (R, Duration) {
    let begun = Instant::now();
    let answer = f();
    (answer, begun.elapsed())
}

/// The next thing that a service tells the test.
#[track_caller]
pub(crate) fn take<T>(channel: &Receiver<T>) -> T {
    channel.recv_timeout(PATIENCE).expect("told in time")
}

/// Shut until somebody opens it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn new() -> Gate {
        Gate::default()
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    pub(crate) fn is_open(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[track_caller]
    pub(crate) fn wait(&self) {
        assert!(self.wait_timeout(PATIENCE), "the gate was never opened");
    }

    /// Whether it was opened in time.
    pub(crate) fn wait_timeout(&self, time: Duration) -> bool {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, _) = self
            .0
            .1
            .wait_timeout_while(open, time, |open| !*open)
            .unwrap_or_else(PoisonError::into_inner);
        *open
    }
}

/// A count that can be waited for.
#[derive(Clone, Default, Debug)]
pub(crate) struct Tally(Arc<(Mutex<u64>, Condvar)>);

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally::default()
    }

    pub(crate) fn add(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    pub(crate) fn get(&self) -> u64 {
        *self.0.0.lock().unwrap()
    }

    /// Waits until it is at least `n`.
    #[track_caller]
    pub(crate) fn reach(&self, n: u64) {
        let count = self.0.0.lock().unwrap();
        let (count, _) = self
            .0
            .1
            .wait_timeout_while(count, PATIENCE, |count| *count < n)
            .unwrap();
        assert!(*count >= n, "counted {} instead of {n}", *count);
    }
}

/// Every event of a tree, from the moment of its making.
pub(crate) struct Recorder {
    events: Events,
    seen: Vec<Event>,
}

impl Recorder {
    pub(crate) fn of(supervisor: &Supervisor) -> Recorder {
        Recorder {
            events: supervisor.subscribe(RECORDED_MAX),
            seen: Vec::new(),
        }
    }

    /// Waits for the first event of that path and word since the recording began.
    #[track_caller]
    pub(crate) fn wait(&mut self, path: &str, word: &str) -> Event {
        self.wait_nth(path, word, 1)
    }

    /// Waits for the `n`th such event, counted from 1 and from the beginning of the recording.
    #[track_caller]
    pub(crate) fn wait_nth(&mut self, path: &str, word: &str, n: usize) -> Event {
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.seen.iter().filter(|e| is(e, path, word)).nth(n - 1);
            if let Some(event) = found {
                return event.clone();
            }
            let left = until.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Some(event) => self.seen.push(event),
                None => panic!("no event {n} {path:?} {word:?} in: {:#?}", self.lines()),
            }
        }
    }

    /// Everything up to now.
    pub(crate) fn all(&mut self) -> &[Event] {
        while let Some(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        assert_eq!(self.events.dropped(), 0, "the recorder was too small");
        &self.seen
    }

    /// How many there have been up to now.
    pub(crate) fn count(&mut self, path: &str, word: &str) -> usize {
        self.all().iter().filter(|e| is(e, path, word)).count()
    }

    /// The words of one path up to now, in order.
    pub(crate) fn words(&mut self, path: &str) -> Vec<&'static str> {
        self.all()
            .iter()
            .filter(|e| e.path() == path)
            .map(Event::word)
            .collect()
    }

    /// What one path was asked to stop for up to now, in order.
    pub(crate) fn causes(&mut self, path: &str) -> Vec<backstay::StopCause> {
        let cause = |e: &Event| match e.kind() {
            EventKind::Stopping { cause } if e.path() == path => Some(cause.clone()),
            _ => None,
        };
        self.all().iter().filter_map(cause).collect()
    }

    fn lines(&self) -> Vec<String> {
        self.seen.iter().map(ToString::to_string).collect()
    }
}

fn is(event: &Event, path: &str, word: &str) -> bool {
    event.path() == path && event.word() == word
}

/// What a failed event carries.
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    pub(crate) count: f64,
    pub(crate) limit: f64,
    pub(crate) next: Next,
}

#[track_caller]
pub(crate) fn failed(event: &Event) -> Failed {
    match event.kind() {
        EventKind::Failed {
            failure,
            count,
            limit,
            next,
        } => Failed {
            failure: failure.clone(),
            count: *count,
            limit: *limit,
            next: *next,
        },
        other => panic!("{other} is no failure"),
    }
}

/// What a stopped event carries.
#[track_caller]
pub(crate) fn answer(event: &Event) -> Option<Failure> {
    match event.kind() {
        EventKind::Stopped { answer } => answer.clone(),
        other => panic!("{other} is no stop"),
    }
}

/// The state of one path.
#[track_caller]
pub(crate) fn state(supervisor: &Supervisor, path: &str) -> State {
    let report = supervisor.report();
    report
        .find(path)
        .unwrap_or_else(|| panic!("no {path} in\n{report}"))
        .state()
}

#[track_caller]
pub(crate) fn wait_state(supervisor: &Supervisor, path: &str, wanted: State) {
    wait_for(&format!("{path} is {wanted}"), || {
        supervisor
            .report()
            .find(path)
            .is_some_and(|s| s.state() == wanted)
    });
}

/// The supervisor's failure count, seen through a service that fails once more.
#[track_caller]
pub(crate) fn count_with_one_more(supervisor: &Supervisor) -> f64 {
    let mut events = Recorder::of(supervisor);
    supervisor.add("probe", fails(1, "probe")).unwrap();
    let event = events.wait(&format!("{}.probe", supervisor.path()), "failed");
    failed(&event).count
}

/// A root without a limit that keeps its panics to itself.
pub(crate) fn unlimited(name: &str) -> Supervisor {
    Supervisor::builder(name)
        .limit(Limit::none())
        .quiet_panics()
        .build()
        .unwrap()
}

/// Waits for its stop.
pub(crate) fn obedient() -> impl Service {
    |ctx: &Context| {
        ctx.wait_stop();
        Ok(())
    }
}

/// Ignores stops until it is released.
pub(crate) fn hung(release: &Gate) -> impl Service + use<> {
    let release = release.clone();
    move |_: &Context| {
        release.wait();
        Ok(())
    }
}

/// Answers an error in its first `n` incarnations, then waits for its stop.
pub(crate) fn fails(n: u64, text: &'static str) -> impl Service {
    let left = AtomicU64::new(n);
    move |ctx: &Context| {
        if left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |l| l.checked_sub(1))
            .is_ok()
        {
            return Err(text.into());
        }
        ctx.wait_stop();
        Ok(())
    }
}

/// Panics once, however `f` likes, then waits for its stop.
pub(crate) fn panics_once(f: impl Fn() + Send + Sync + 'static) -> impl Service {
    move |ctx: &Context| {
        if ctx.incarnation() == 1 {
            f();
        }
        ctx.wait_stop();
        Ok(())
    }
}

/// Counts how often it was entered, then does the same as `inner`.
pub(crate) fn counted<S: Service>(runs: &Tally, inner: S) -> Watched<S> {
    let (runs, ends) = (runs.clone(), Tally::new());
    Watched { runs, ends, inner }
}

/// Counts how often it has ended, however it does.
pub(crate) fn ending<S: Service>(ends: &Tally, inner: S) -> Watched<S> {
    let (runs, ends) = (Tally::new(), ends.clone());
    Watched { runs, ends, inner }
}

pub(crate) struct Watched<S> {
    runs: Tally,
    ends: Tally,
    inner: S,
}

impl<S: Service> Service for Watched<S> {
    fn run(&self, ctx: &Context) -> ServiceResult {
        struct OnDrop<'a>(&'a Tally);
        impl Drop for OnDrop<'_> {
            fn drop(&mut self) {
                self.0.add();
            }
        }
        let _end = OnDrop(&self.ends);
        self.runs.add();
        self.inner.run(ctx)
    }

    fn interrupt(&self) {
        self.inner.interrupt();
    }

    fn retire(&self) {
        self.inner.retire();
    }

    fn has_interrupt(&self) -> bool {
        self.inner.has_interrupt()
    }
}

/// Lets time pass that is part of the case: how long a service needs, or how long nothing may happen.
/// Never to let something happen; [`wait_for`] does that.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// Needs `time` to end after it was asked to.
pub(crate) fn slow_to_stop(time: Duration) -> impl Service {
    move |ctx: &Context| {
        ctx.wait_stop();
        pass(time);
        Ok(())
    }
}

/// Adds a service to a running supervisor and waits until it has been entered. A started event is
/// not enough for that: whoever is asked to stop first is never entered.
#[track_caller]
pub(crate) fn add_running(supervisor: &Supervisor, name: &str, service: impl Service) -> ServiceId {
    add_running_as(supervisor, name, service, |spec| spec)
}

/// The same with a spec.
#[track_caller]
pub(crate) fn add_running_as(
    supervisor: &Supervisor,
    name: &str,
    service: impl Service,
    with: impl FnOnce(Spec) -> Spec,
) -> ServiceId {
    let runs = Tally::new();
    let spec = with(Spec::new(name, counted(&runs, service)));
    let id = supervisor.add_spec(spec).unwrap();
    runs.reach(1);
    id
}
