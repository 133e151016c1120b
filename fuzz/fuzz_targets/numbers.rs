//! Delays and limits of any numbers: what is refused, and that what is not never leaves its bounds.
#![no_main]

use std::time::Duration;

use backstay_fuzz::is_one_line;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

use machine::policy::{Backoff, Counted, Exceeded, Limit, Limiter, Random};
use machine::time::Moment;

/// They are not public: taken as they are.
#[allow(dead_code, reason = "the machine uses all of it")]
#[path = "."]
mod machine {
    #[path = "../../src/machine/policy.rs"]
    pub mod policy;
    #[path = "../../src/machine/time.rs"]
    pub mod time;
}

mod error {
    pub use backstay::Error;
}

#[derive(Arbitrary, Debug)]
struct Input {
    first: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    earlier: u32,
    seed: u64,
    limit: Measure,
    pause_jitter: Option<f64>,
    /// How long after the one before; true: it was a panic.
    failures: Vec<(Duration, bool)>,
}

#[derive(Arbitrary, Debug)]
enum Measure {
    Window(u32, Duration),
    Decay(f64, Duration),
    Budget(u32, u32),
}

fuzz_target!(|input: Input| {
    backoff(&input);
    limit(&input);
});

fn is_part(value: f64) -> bool {
    value >= 0.0 && value <= 1.0
}

fn backoff(input: &Input) {
    let (first, max) = (input.first, input.max);
    let exact = Backoff::exponential(first, max)
        .factor(input.factor)
        .jitter(0.0);
    let backoff = exact.jitter(input.jitter);
    let is_good = first <= max && input.factor >= 1.0 && is_part(input.jitter);
    if let Err(error) = backoff.check("backoff") {
        assert!(!is_good && is_one_line(&error.to_string()), "{error}");
        return;
    }
    assert!(is_good);
    let random = Random::new(input.seed).next();
    assert!((0.0..1.0).contains(&random));
    let grown = exact.delay(input.earlier, random);
    assert!(grown <= max && exact.delay(0, random) <= grown);
    assert!(grown <= exact.delay(input.earlier.saturating_add(1), random));
    if first.is_zero() {
        assert!(grown.is_zero());
    } else {
        near(exact.delay(0, random), first.as_secs_f64());
    }
    let delay = backoff.delay(input.earlier, random);
    assert!(delay <= max);
    let spread = grown.as_secs_f64() * (1.0 + input.jitter * (2.0 * random - 1.0));
    near(delay, spread.min(max.as_secs_f64()));
    // Nothing overflows later on.
    assert!(Moment::NEVER.plus(delay) == Moment::NEVER);
}

/// As far as floating point can tell.
fn near(got: Duration, expected: f64) {
    let slack = expected * 1e-12 + 2e-9;
    assert!(
        (got.as_secs_f64() - expected).abs() <= slack,
        "{got:?}, {expected}"
    );
}

fn limit(input: &Input) {
    let (limit, is_good) = match input.limit {
        Measure::Window(restarts, period) => (Limit::window(restarts, period), !period.is_zero()),
        Measure::Decay(threshold, half_life) => (
            Limit::decay(threshold, half_life),
            threshold >= 0.0 && !half_life.is_zero(),
        ),
        Measure::Budget(errors, panics) => (Limit::budget(errors, panics), true),
    };
    let (limit, is_good) = match input.pause_jitter {
        Some(jitter) => {
            let time = input.first;
            (
                limit.then(Exceeded::Pause { time, jitter }),
                is_good && is_part(jitter),
            )
        }
        None => (limit, is_good),
    };
    assert!(is_one_line(&limit.to_string()));
    if let Err(error) = limit.check() {
        assert!(!is_good && is_one_line(&error.to_string()), "{error}");
        return;
    }
    assert!(is_good);
    let mut limiter = Limiter::new(limit);
    let mut now = Moment::START;
    let (mut times, mut panics) = (Vec::new(), 0_u32);
    for (after, is_panic) in &input.failures {
        now = now.plus(*after);
        times.push(now);
        panics += u32::from(*is_panic);
        let what = if *is_panic {
            Counted::Panic
        } else {
            Counted::Error
        };
        let count = limiter.count(now, what);
        assert!(count.count.is_finite() && count.count >= 1.0);
        let exceeded = match input.limit {
            Measure::Window(restarts, period) => {
                let within = times.iter().filter(|at| now.since(**at) <= period).count();
                within as u64 > u64::from(restarts)
            }
            Measure::Decay(threshold, _) => {
                assert!(count.count <= times.len() as f64);
                count.count > threshold
            }
            Measure::Budget(_, panics_max) if *is_panic => panics > panics_max,
            Measure::Budget(errors_max, _) => times.len() as u32 - panics > errors_max,
        };
        assert_eq!(count.exceeded.is_some(), exceeded, "{count:?}");
    }
}
