//! Where the toolkit reads the clock.

use std::time::Instant;

pub(super) fn now() -> Instant {
    Instant::now()
}
