//! The workloads of the benchmarks, and the bare limits beside them: what the same work costs with
//! nothing but threads and channels.
//!
//! Each takes a number and answers a time, so that a benchmark can run them in turns: the machine
//! drifts, and only a ratio of figures taken side by side means anything.

// Each benchmark uses a part, and none of it is a library.
#![allow(dead_code, unreachable_pub)]
// A benchmark that can't go on has nothing better to do than to panic.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod bare;
pub mod chains;
pub mod crowd;
pub mod flaky;
pub mod growth;
pub mod jobs;
pub mod pairs;
pub mod procfs;
pub mod rounds;
pub mod tree;

use std::time::Duration;

use backstay::{Limit, Strategy, Supervisor};

/// Long enough for everything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The strategy of all supervisors: `BACKSTAY_BENCH_STRATEGY` is `all` or `rest`, or it is one for one. With
/// another one a failure is a restart of thousands, so leave out what fails.
pub fn strategy() -> Strategy {
    match std::env::var("BACKSTAY_BENCH_STRATEGY").as_deref() {
        Ok("all") => Strategy::OneForAll,
        Ok("rest") => Strategy::RestForOne,
        Ok(_) | Err(_) => Strategy::OneForOne,
    }
}

/// A supervisor that restarts without end and shows no panics.
pub fn unlimited(name: &str) -> Supervisor {
    Supervisor::builder(name)
        .strategy(strategy())
        .limit(Limit::none())
        .quiet_panics()
        .max_services(100_000)
        .build()
        .unwrap()
}
