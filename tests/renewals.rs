//! Services that start again by themselves: those whose failures nobody counts, delays or shares. All
//! that holds for a restart holds for theirs, and nothing tells them apart but the time it takes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "renewals/contexts.rs"]
mod contexts;
#[path = "renewals/crowds.rs"]
mod crowds;
#[path = "renewals/decisions.rs"]
mod decisions;
#[path = "renewals/stops.rs"]
mod stops;
#[path = "renewals/told.rs"]
mod told;
#[path = "renewals/values.rs"]
mod values;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use backstay::{Context, ServiceResult};

use common::wait_for;

/// Fails at once, by an error or a panic, and notices if it runs twice at the same time.
#[derive(Clone, Default)]
struct Flaky {
    running: Arc<AtomicBool>,
    runs: Arc<AtomicU64>,
    twice: Arc<AtomicBool>,
}

impl Flaky {
    fn run(&self, ctx: &Context) -> ServiceResult {
        if self.running.swap(true, Ordering::SeqCst) {
            self.twice.store(true, Ordering::SeqCst);
        }
        self.runs.fetch_add(1, Ordering::SeqCst);
        if ctx.is_stopping() {
            // A stop that it sees is obeyed, so that it comes to rest.
            self.running.store(false, Ordering::SeqCst);
            return Ok(());
        }
        self.running.store(false, Ordering::SeqCst);
        assert!(ctx.incarnation() % 3 != 0, "fails by a panic");
        Err("fails by an error".into())
    }

    fn service(&self) -> impl Fn(&Context) -> ServiceResult + Send + Sync + use<> {
        let flaky = self.clone();
        move |ctx: &Context| flaky.run(ctx)
    }

    fn runs(&self) -> u64 {
        self.runs.load(Ordering::SeqCst)
    }

    #[track_caller]
    fn runs_on(&self) {
        let now = self.runs();
        wait_for("it runs again", || self.runs() > now + 3);
    }

    #[track_caller]
    fn ran_alone(&self) {
        assert!(!self.twice.load(Ordering::SeqCst), "it ran twice at once");
    }
}
