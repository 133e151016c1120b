//! How a service, or a whole supervisor, is to be treated: plain data, checked once, and the
//! counters that apply it.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use super::time::Moment;
use crate::error::Error;

/// How long a service may take to stop, unless set.
pub const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// When a service that ended by itself is started again (Erlang's restart types).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Restart {
    /// However it ended; also `Ok` is a failure then (permanent).
    #[default]
    Always,
    /// Only if it failed; with `Ok` it is done (transient).
    OnFailure,
    /// Never; it leaves the report, its name and its place at its end (temporary).
    Never,
}

/// In which order a supervisor stops its services.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum StopOrder {
    /// Exactly the reverse of the start; each is asked when the one after it has ended.
    #[default]
    Reverse,
    /// All at once, for big flat sets.
    Parallel,
}

/// What a panic means, whatever the restart type of the service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// A failure like any other.
    #[default]
    Restart,
    /// The supervisor fails with it.
    Escalate,
    /// The process is aborted, after one line on standard error.
    Abort,
}

/// Whether a supervisor stops when its significant services have ended (OTP's auto_shutdown).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum AutoShutdown {
    /// It does not.
    #[default]
    Never,
    /// When one of them has ended by itself.
    AnySignificant,
    /// When the last of them has ended by itself. If one of them has failed for good and wasn't started
    /// again since, the supervisor fails with the first such failure.
    AllSignificant,
}

/// The threshold of the default limit: strictly more failures than this pause (suture).
pub const DEFAULT_THRESHOLD: f64 = 5.0;
/// The half life of the default limit's count (suture).
pub const DEFAULT_HALF_LIFE: Duration = Duration::from_secs(30);
/// How long the default limit pauses (suture).
pub const DEFAULT_PAUSE: Duration = Duration::from_secs(15);
/// A default pause is longer by up to this part of it.
pub const DEFAULT_PAUSE_JITTER: f64 = 0.5;

/// How many failures are too many, and what happens then.
///
/// ```
/// use backstay::{Exceeded, Limit};
/// use std::time::Duration;
///
/// // Erlang's intensity and period: the third failure within ten seconds ends the supervisor.
/// let strict = Limit::window(2, Duration::from_secs(10));
/// // suture's decaying count, but the service that exceeds it is given up.
/// let patient = Limit::decay(5.0, Duration::from_secs(30)).then(Exceeded::StopService);
/// # let _ = (strict, patient);
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Limit {
    measure: Measure,
    then: Exceeded,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Measure {
    None,
    Window { restarts: u32, period: Duration },
    Decay { threshold: f64, half_life: Duration },
    Budget { errors: u32, panics: u32 },
}

/// What happens when a [`Limit`] is exceeded.
#[derive(Clone, Copy, PartialEq, Debug)]
#[non_exhaustive]
pub enum Exceeded {
    /// Start nothing for `time`, lengthened at random by up to `jitter` times itself; then count
    /// from zero.
    Pause {
        /// How long at least.
        time: Duration,
        /// 0 is exactly `time`; 0.5 is up to half as long again.
        jitter: f64,
    },
    /// Give up the service that failed; the others run on.
    StopService,
    /// Stop all services and fail, to the parent or to whoever waits.
    Fail,
}

impl Limit {
    /// No number of failures is too many. Without a delay either ([`Backoff::none`]), a service that always
    /// fails at once keeps a processor busy.
    #[must_use]
    pub fn none() -> Limit {
        Limit {
            measure: Measure::None,
            then: Exceeded::Fail,
        }
    }

    /// At most `restarts` within `period`; a failure exactly one `period` old still counts
    /// (Erlang's intensity and period). Exceeded, the supervisor fails unless
    /// [`then`](Limit::then) says otherwise. `restarts` are also the most failures that are remembered.
    #[must_use]
    pub fn window(restarts: u32, period: Duration) -> Limit {
        Limit {
            measure: Measure::Window { restarts, period },
            then: Exceeded::Fail,
        }
    }

    /// A count that each failure raises by one and that halves with every `half_life`; it is
    /// exceeded above `threshold` (suture's decay). Exceeded, the supervisor pauses for
    /// [`DEFAULT_PAUSE`] unless [`then`](Limit::then) says otherwise.
    #[must_use]
    pub fn decay(threshold: f64, half_life: Duration) -> Limit {
        Limit {
            measure: Measure::Decay {
                threshold,
                half_life,
            },
            then: Exceeded::Pause {
                time: DEFAULT_PAUSE,
                jitter: DEFAULT_PAUSE_JITTER,
            },
        }
    }

    /// `errors` restarts after errors and `panics` after panics, counted apart; the next is too
    /// many. A plain return counts as an error. Refilled when a service fails that had been ready
    /// for its backoff's [`reset_after`](Backoff::reset_after).
    #[must_use]
    pub fn budget(errors: u32, panics: u32) -> Limit {
        Limit {
            measure: Measure::Budget { errors, panics },
            then: Exceeded::Fail,
        }
    }

    /// What happens when it is exceeded.
    #[must_use]
    pub fn then(mut self, then: Exceeded) -> Limit {
        self.then = then;
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.measure {
            Measure::None | Measure::Budget { .. } => {}
            Measure::Window { period, .. } => {
                if period.is_zero() {
                    return Err(Error::invalid("limit", "the period of a window is zero"));
                }
            }
            Measure::Decay {
                threshold,
                half_life,
            } => {
                if threshold.is_nan() || threshold < 0.0 {
                    return Err(Error::invalid(
                        "limit",
                        format!("the threshold {threshold} is negative or no number"),
                    ));
                }
                if half_life.is_zero() {
                    return Err(Error::invalid("limit", "the half life is zero"));
                }
            }
        }
        if let Exceeded::Pause { jitter, .. } = self.then {
            check_part("limit", "the jitter of a pause", jitter)?;
        }
        Ok(())
    }
}

impl Default for Limit {
    /// suture's: a count above [`DEFAULT_THRESHOLD`] that halves every [`DEFAULT_HALF_LIFE`]
    /// pauses for [`DEFAULT_PAUSE`].
    fn default() -> Limit {
        Limit::decay(DEFAULT_THRESHOLD, DEFAULT_HALF_LIFE)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.measure {
            Measure::None => f.write_str("no limit"),
            Measure::Window { restarts, period } => {
                write!(f, "limit of {restarts} restarts in {period:?}")
            }
            Measure::Decay {
                threshold,
                half_life,
            } => {
                write!(
                    f,
                    "limit of {threshold} failures, halved every {half_life:?}"
                )
            }
            Measure::Budget { errors, panics } => {
                write!(f, "budget of {errors} errors and {panics} panics")
            }
        }
    }
}

fn check_part(field: &str, what: &str, value: f64) -> Result<(), Error> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(Error::invalid(
            field,
            format!("{what} is {value}, not between 0 and 1"),
        ))
    }
}

/// The factor of an exponential backoff unless set.
pub const DEFAULT_FACTOR: f64 = 2.0;
/// The jitter of an exponential backoff unless set.
pub const DEFAULT_JITTER: f64 = 0.1;
/// How long a service must have been ready for an exponential backoff to start over, unless set.
pub const DEFAULT_RESET_AFTER: Duration = Duration::from_secs(60);

/// How long a service waits after a failure before it starts again. Delays count from the death.
///
/// ```
/// use backstay::Backoff;
/// use std::time::Duration;
///
/// let gentle = Backoff::exponential(Duration::from_millis(500), Duration::from_secs(60)).factor(1.5);
/// # let _ = gentle;
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    reset_after: Option<Duration>,
}

impl Backoff {
    /// No delay.
    #[must_use]
    pub fn none() -> Backoff {
        Backoff::fixed(Duration::ZERO)
    }

    /// Always the same delay; no jitter and no reset unless set.
    #[must_use]
    pub fn fixed(delay: Duration) -> Backoff {
        Backoff {
            first: delay,
            max: Duration::MAX,
            factor: 1.0,
            jitter: 0.0,
            reset_after: None,
        }
    }

    /// `first`, then each time longer by the factor ([`DEFAULT_FACTOR`]), never above `max`; with
    /// jitter ([`DEFAULT_JITTER`]), and from the beginning again after
    /// [`reset_after`](Backoff::reset_after) ([`DEFAULT_RESET_AFTER`]). It never gives up by itself.
    #[must_use]
    pub fn exponential(first: Duration, max: Duration) -> Backoff {
        Backoff {
            first,
            max,
            factor: DEFAULT_FACTOR,
            jitter: DEFAULT_JITTER,
            reset_after: Some(DEFAULT_RESET_AFTER),
        }
    }

    /// By how much each delay is longer than the one before; at least 1.
    #[must_use]
    pub fn factor(mut self, factor: f64) -> Backoff {
        self.factor = factor;
        self
    }

    /// Each delay is longer or shorter at random by up to this part of it; 0 to 1.
    #[must_use]
    pub fn jitter(mut self, part: f64) -> Backoff {
        self.jitter = part;
        self
    }

    /// The next delay is the first again once the service has been ready this long; zero resets
    /// as soon as it was ready.
    #[must_use]
    pub fn reset_after(mut self, ready_for: Duration) -> Backoff {
        self.reset_after = Some(ready_for);
        self
    }

    pub(crate) fn check(&self, field: &str) -> Result<(), Error> {
        if self.max < self.first {
            return Err(Error::invalid(
                field,
                format!(
                    "max {:?} is below the first delay {:?}",
                    self.max, self.first
                ),
            ));
        }
        if self.factor.is_nan() || self.factor < 1.0 {
            return Err(Error::invalid(
                field,
                format!("the factor {} is below 1", self.factor),
            ));
        }
        check_part(field, "the jitter", self.jitter)
    }

    /// The delay after `earlier` failures in a row. `random` is in 0..1.
    pub(crate) fn delay(&self, earlier: u32, random: f64) -> Duration {
        if self.first.is_zero() {
            return Duration::ZERO;
        }
        let max = self.max.as_secs_f64();
        // An infinite product is clamped like any other.
        let grown = (self.first.as_secs_f64() * self.factor.powf(f64::from(earlier))).min(max);
        let spread = grown * (1.0 + self.jitter * (2.0 * random - 1.0));
        let secs = spread.clamp(0.0, max);
        // 1.6875 s and the like are exact in both; `max` itself may not be in floating point.
        if secs >= max {
            self.max
        } else {
            Duration::try_from_secs_f64(secs).unwrap_or(self.max)
        }
    }

    /// Whether there is never a delay.
    pub(crate) fn is_none(&self) -> bool {
        self.first.is_zero()
    }

    pub(crate) fn resets_after(&self) -> Option<Duration> {
        self.reset_after
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::none()
    }
}

/// What a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Counted {
    Error,
    Panic,
}

/// The answer to one failure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Count {
    pub(crate) count: f64,
    pub(crate) limit: f64,
    /// What to do about it, if it was one too many.
    pub(crate) exceeded: Option<Exceeded>,
}

/// The count and what it may reach, where nothing is counted.
pub(crate) const UNCOUNTED: (f64, f64) = (0.0, f64::INFINITY);

/// A limit with its count.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Limiter {
    limit: Limit,
    tally: Tally,
}

#[derive(Clone, Debug, PartialEq)]
enum Tally {
    None,
    /// At most `restarts + 1` moments, on a clock that may stand still.
    Window(VecDeque<Moment>),
    Decay {
        count: f64,
        at: Moment,
    },
    Budget {
        errors: u32,
        panics: u32,
    },
}

impl Limiter {
    pub(crate) fn new(limit: Limit) -> Limiter {
        let tally = Limiter::empty(&limit);
        Limiter { limit, tally }
    }

    fn empty(limit: &Limit) -> Tally {
        match limit.measure {
            Measure::None => Tally::None,
            Measure::Window { .. } => Tally::Window(VecDeque::new()),
            Measure::Decay { .. } => Tally::Decay {
                count: 0.0,
                at: Moment::START,
            },
            Measure::Budget { .. } => Tally::Budget {
                errors: 0,
                panics: 0,
            },
        }
    }

    pub(crate) fn reset(&mut self) {
        self.tally = Limiter::empty(&self.limit);
    }

    /// A service that had run well has failed: a budget is full again.
    pub(crate) fn refill(&mut self) {
        if let Tally::Budget { errors, panics } = &mut self.tally {
            *errors = 0;
            *panics = 0;
        }
    }

    /// The count and what it may reach, without counting.
    pub(crate) fn peek(&self) -> (f64, f64) {
        match (&self.tally, self.limit.measure) {
            (Tally::Window(failures), Measure::Window { restarts, .. }) => {
                (failures.len() as f64, f64::from(restarts))
            }
            (Tally::Decay { count, .. }, Measure::Decay { threshold, .. }) => (*count, threshold),
            (
                Tally::Budget { errors, panics },
                Measure::Budget {
                    errors: errors_max, ..
                },
            ) => (
                f64::from(errors.saturating_add(*panics)),
                f64::from(errors_max),
            ),
            (Tally::None | Tally::Window(_) | Tally::Decay { .. } | Tally::Budget { .. }, _) => {
                UNCOUNTED
            }
        }
    }

    /// Whether it is no limit at all.
    pub(crate) fn is_none(&self) -> bool {
        self.tally == Tally::None
    }

    /// Counts one failure at `now`.
    pub(crate) fn count(&mut self, now: Moment, what: Counted) -> Count {
        let (count, limit) = match (&mut self.tally, self.limit.measure) {
            (Tally::Window(failures), Measure::Window { restarts, period }) => {
                while failures.front().is_some_and(|&f| now.since(f) > period) {
                    failures.pop_front();
                }
                failures.push_back(now);
                let count = failures.len() as f64;
                if failures.len() as u64 > u64::from(restarts) {
                    // One more than allowed is exceeded whatever came before.
                    failures.pop_front();
                }
                (count, f64::from(restarts))
            }
            (
                Tally::Decay { count, at },
                Measure::Decay {
                    threshold,
                    half_life,
                },
            ) => {
                let half_lives = now.since(*at).as_secs_f64() / half_life.as_secs_f64();
                *count = *count * 0.5f64.powf(half_lives) + 1.0;
                *at = now;
                (*count, threshold)
            }
            (
                Tally::Budget { errors, panics },
                Measure::Budget {
                    errors: errors_max,
                    panics: panics_max,
                },
            ) => {
                let (used, max) = match what {
                    Counted::Error => (errors, errors_max),
                    Counted::Panic => (panics, panics_max),
                };
                *used = used.saturating_add(1);
                (f64::from(*used), f64::from(max))
            }
            (Tally::None | Tally::Window(_) | Tally::Decay { .. } | Tally::Budget { .. }, _) => {
                UNCOUNTED
            }
        };
        Count {
            count,
            limit,
            exceeded: (count > limit).then_some(self.limit.then),
        }
    }
}

/// A small deterministic generator (splitmix64) for jitter: the same seed, the same delays.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// In 0..1.
    pub(crate) fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}
