//! `Interval`: the same again and again.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::clock;
use super::outcome::{caught, exit_in, is_panic, keep, unless_stopping};
use crate::{BoxError, Context, Error, Errors, Exit, Service, ServiceResult};

/// How many panics an [`Interval`] keeps that goes on after panics, but not after errors.
pub const INTERVAL_PANICS_KEPT: usize = 100;

/// Runs a service, waits until a time has passed since that run's start, and runs it again, as
/// fun/srv's daemon does.
///
/// A run that takes longer than the interval is followed by the next at once; what was missed is not
/// caught up on, and two never run at the same time. The first run of an incarnation begins at once.
/// A stop ends the wait; a run it has to wait for, so long work had better look at its context.
///
/// The first error or panic ends the incarnation, and the next one begins with a run after the
/// [`Backoff`](crate::Backoff) of the service; unless the interval shall
/// [go on](Interval::continue_on_error).
///
/// Each run has a context of its own ([`Context::scope`]) that counts as ended when the run has
/// returned: helpers and [`on_stop`](Context::on_stop) closures do not outlive it. The
/// [`interrupt`](Service::interrupt) of the service is called for a stop that comes during a run.
///
/// ```
/// use backstay::services::Interval;
/// use backstay::{service_fn, Supervisor};
/// use std::time::Duration;
///
/// # let app = Supervisor::new("app");
/// # let (tell, told) = backstay::crossbeam_channel::unbounded();
/// let poll = Interval::new(Duration::from_millis(1), service_fn(move |_ctx| {
///     tell.send("polled")?;
///     Err("the sensor is silent".into())
/// }))
/// .continue_on_error(10);
/// let id = app.add("poll", poll)?;
/// app.start()?;
/// for _ in 0..3 {
///     assert_eq!(told.recv()?, "polled");
/// }
/// assert_eq!(app.report().find("app.poll").unwrap().incarnation(), 1);
/// assert!(app.stop().is_empty());
/// # let _ = id;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a service does nothing before it is added"]
pub struct Interval {
    every: Duration,
    run: Arc<dyn Service>,
    keep_last: Option<usize>,
    continue_on_panic: bool,
    jitter: f64,
    at_least: Duration,
}

impl Interval {
    /// Runs begin `every` so often. Zero is a run after the other without a pause, and
    /// [`Duration::MAX`] one run and then a wait for the stop.
    pub fn new(every: Duration, run: impl Service) -> Interval {
        Interval {
            every,
            run: Arc::new(run),
            keep_last: None,
            continue_on_panic: false,
            jitter: 0.0,
            at_least: Duration::ZERO,
        }
    }

    /// An error does not end the incarnation. What the last `keep_last` runs that failed have answered is
    /// kept, and is the answer to the stop; older errors are only counted
    /// ([`Errors::dropped`]). Zero keeps none.
    ///
    /// An error with an [`Exit`] in it does end the incarnation: it says so. So does a panic, unless
    /// [`continue_on_panic`](Interval::continue_on_panic); what was kept is then part of the answer.
    pub fn continue_on_error(mut self, keep_last: usize) -> Interval {
        self.keep_last = Some(keep_last);
        self
    }

    /// A panic does not end the incarnation and is kept like an error. Of panics alone the last
    /// [`INTERVAL_PANICS_KEPT`] are kept.
    pub fn continue_on_panic(mut self) -> Interval {
        self.continue_on_panic = true;
        self
    }

    /// Each interval is longer or shorter at random by up to this part of it, 0 to 1: many of the same
    /// kind do not all come at the same moment. Anything else ends the service
    /// ([`Exit::DoNotRestart`]) with an error that names `jitter`.
    pub fn jitter(mut self, part: f64) -> Interval {
        self.jitter = part;
        self
    }

    /// The next run begins no sooner than this after the end of the one before, however long that took;
    /// zero unless set.
    pub fn at_least(mut self, pause: Duration) -> Interval {
        self.at_least = pause;
        self
    }

    fn check(&self) -> Result<(), Error> {
        if (0.0..=1.0).contains(&self.jitter) {
            return Ok(());
        }
        let why = format!("{} is not between 0 and 1", self.jitter);
        Err(Error::invalid("jitter", why))
    }

    /// One run, and when it began.
    fn run_once(&self, ctx: &Context) -> (Instant, ServiceResult) {
        let mut begun = clock::now();
        let answer = caught(|| {
            ctx.scope(|ctx| {
                let service = self.run.clone();
                let _interrupt = service
                    .has_interrupt()
                    .then(|| ctx.on_stop(move || service.interrupt()));
                // Right before it: the next one counts from here.
                begun = clock::now();
                self.run.run(ctx)
            })
        });
        (begun, unless_stopping(ctx, answer))
    }

    fn goes_on_after(&self, error: &BoxError) -> bool {
        let tolerated = if is_panic(error) {
            self.continue_on_panic
        } else {
            self.keep_last.is_some()
        };
        tolerated && exit_in(error).is_none()
    }

    /// How long to wait now. `random` is in 0..1.
    fn pause(&self, begun: Instant, random: f64) -> Duration {
        let passed = clock::now().saturating_duration_since(begun);
        self.interval(random)
            .saturating_sub(passed)
            .max(self.at_least)
    }

    fn interval(&self, random: f64) -> Duration {
        if self.jitter == 0.0 {
            return self.every;
        }
        let spread = 1.0 + self.jitter * (2.0 * random - 1.0);
        Duration::try_from_secs_f64(self.every.as_secs_f64() * spread).unwrap_or(Duration::MAX)
    }
}

impl Service for Interval {
    fn run(&self, ctx: &Context) -> ServiceResult {
        if let Err(invalid) = self.check() {
            return Err(Exit::DoNotRestart.because(invalid).into());
        }
        let mut kept = Errors::keeping_last(self.keep_last.unwrap_or(INTERVAL_PANICS_KEPT));
        let random = RandomState::new();
        let mut runs = 0_usize;
        loop {
            let (begun, answer) = self.run_once(ctx);
            if let Err(error) = answer {
                if !self.goes_on_after(&error) {
                    return ended_by(error, kept);
                }
                keep(ctx, &mut kept, error);
            }
            runs = runs.wrapping_add(1);
            if ctx
                .sleep(self.pause(begun, part_of_one(random.hash_one(runs))))
                .is_err()
            {
                return kept.into_result();
            }
        }
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

/// The answer if `last` ends the incarnation: never without it.
fn ended_by(last: BoxError, kept: Errors) -> ServiceResult {
    let mut all = Errors::keeping(usize::MAX);
    all.push(kept);
    all.push(last);
    all.into_result()
}

/// Random bits as a number in 0..1.
fn part_of_one(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

impl fmt::Debug for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interval")
            .field("every", &self.every)
            .field("keep_last", &self.keep_last)
            .field("continue_on_panic", &self.continue_on_panic)
            .field("jitter", &self.jitter)
            .field("at_least", &self.at_least)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
