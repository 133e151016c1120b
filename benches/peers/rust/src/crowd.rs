//! W2: services that wait at a gate and then panic together, each as often as all others.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use crate::Muster;
use crate::figures::{cpu_time, figure, figure_each};

#[derive(Debug)]
pub struct Crowd {
    services: u64,
    panics_each: u64,
    missing: AtomicUsize,
    done: Sender<Instant>,
    pub at_the_gate: Muster,
}

/// What one service knows over all its runs.
#[derive(Debug)]
pub struct Member {
    left: AtomicU64,
}

impl Crowd {
    /// With the time at which the last service ran for good.
    pub fn new(services: u64, panics: u64) -> (Crowd, Receiver<Instant>) {
        let (done, all_done) = mpsc::channel();
        let crowd = Crowd {
            services,
            panics_each: panics / services,
            missing: AtomicUsize::new(services as usize),
            done,
            at_the_gate: Muster::new(services as usize),
        };
        (crowd, all_done)
    }

    pub fn member(&self) -> Member {
        let left = AtomicU64::new(self.panics_each);
        Member { left }
    }

    /// Takes the time from the opening of the gate, at which all have to be first, until the last
    /// service runs for good.
    pub fn measure(&self, all_done: &Receiver<Instant>, open: impl Fn()) {
        self.at_the_gate.wait();
        let (begun, cpu) = (Instant::now(), cpu_time());
        open();
        let end = all_done.recv().unwrap_or(begun);
        let cpu = cpu_time() - cpu;
        let panics = self.panics_each * self.services;
        let rate = panics as f64 / (end - begun).as_secs_f64();
        figure("w2_rate", rate, "1/s");
        figure_each("w2_cpu", cpu, panics);
    }
}

impl Member {
    /// Whether this is the first run, which waits at the gate.
    pub fn is_first(&self, crowd: &Crowd) -> bool {
        self.left.load(Ordering::Relaxed) == crowd.panics_each
    }

    /// Behind the gate.
    ///
    /// # Panics
    /// As long as there are panics left.
    pub fn run(&self, crowd: &Crowd) {
        if self.left.load(Ordering::Relaxed) > 0 {
            self.left.fetch_sub(1, Ordering::Relaxed);
            panic!("a service panics");
        }
        if crowd.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            // If nobody listens any more, it is over anyway.
            let _ = crowd.done.send(Instant::now());
        }
    }
}
