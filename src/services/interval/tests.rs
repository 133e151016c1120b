//! How long an interval waits.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use super::{Interval, part_of_one};
use crate::service_fn;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn every(d: Duration) -> Interval {
    Interval::new(d, service_fn(|_ctx| Ok(())))
}

#[test]
fn jitter_stays_in_its_band_and_uses_it() {
    let interval = every(ms(100)).jitter(0.2);
    assert_eq!(interval.interval(0.0), ms(80));
    assert_eq!(interval.interval(0.5), ms(100));
    assert_eq!(interval.interval(1.0), ms(120));
    assert_eq!(every(ms(100)).interval(0.9), ms(100));
    assert_eq!(part_of_one(0), 0.0);
    assert!(part_of_one(u64::MAX) < 1.0);
}

#[test]
fn long_intervals_stay_long() {
    assert_eq!(every(Duration::MAX).interval(0.0), Duration::MAX);
    assert_eq!(
        every(Duration::MAX).jitter(1.0).interval(1.0),
        Duration::MAX
    );
}

#[test]
fn jitter_is_a_part() {
    for part in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        let error = every(ms(1)).jitter(part).check().unwrap_err();
        assert!(error.to_string().contains("jitter"), "{error}");
    }
    for part in [0.0, 1.0] {
        every(ms(1)).jitter(part).check().unwrap();
    }
}
