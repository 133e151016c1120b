//! W2: many services that all panic, and W3's idle ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use backstay::crossbeam_channel::bounded;
use backstay::{Context, Spec, Supervisor};
use parking_lot::{Condvar, Mutex};

use super::{PATIENCE, bare, procfs, unlimited};

/// What W2 takes.
pub struct Took {
    pub time: Duration,
    /// Of the whole process.
    pub cpu: Duration,
}

/// `services` that panic `panics` times in all, together.
pub fn panics(services: u64, panics: u64) -> Took {
    bare::install_hook();
    let supervisor = unlimited("crowd");
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let left = Arc::new(AtomicU64::new(services));
    let (done, all_done) = bounded(1);
    for i in 0..services {
        let (gate, left, done) = (gate.clone(), left.clone(), done.clone());
        let own = AtomicU64::new(panics / services);
        let service = move |ctx: &Context| {
            if ctx.incarnation() == 1 {
                let mut open = gate.0.lock();
                while !*open {
                    gate.1.wait(&mut open);
                }
            }
            if own.load(Ordering::Relaxed) == 0 {
                if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                    done.send(Instant::now())?;
                }
                ctx.wait_stop();
                return Ok(());
            }
            own.fetch_sub(1, Ordering::Relaxed);
            panic!("a service panics");
        };
        supervisor.add(format!("s{i}"), service).unwrap();
    }
    supervisor.start().unwrap();
    supervisor.wait_ready(PATIENCE).unwrap();
    let cpu = procfs::cpu_time();
    let begun = Instant::now();
    *gate.0.lock() = true;
    gate.1.notify_all();
    let ended: Instant = all_done.recv().unwrap();
    let took = Took {
        time: ended - begun,
        cpu: procfs::cpu_time().saturating_sub(cpu),
    };
    supervisor.stop();
    took
}

/// Adds services that wait for their stop. What comes back tells when all have begun.
pub fn add_idle(supervisor: &Supervisor, n: usize) -> Muster {
    let muster = Muster::new(n);
    let specs = (0..n).map(|i| {
        let muster = muster.clone();
        let service = move |ctx: &Context| {
            muster.begun();
            ctx.wait_stop();
            Ok(())
        };
        Spec::new(format!("idle{i}"), service)
    });
    supervisor.add_all(specs).unwrap();
    muster
}

pub fn idle(ctx: &Context) -> backstay::ServiceResult {
    ctx.wait_stop();
    Ok(())
}

/// Counts threads that have begun; the last one wakes who waits.
#[derive(Clone)]
pub struct Muster {
    missing: Arc<AtomicU64>,
    waiting: Thread,
}

impl Muster {
    /// To be waited for by this thread.
    pub fn new(n: usize) -> Muster {
        Muster {
            missing: Arc::new(AtomicU64::new(n as u64)),
            waiting: thread::current(),
        }
    }

    pub fn begun(&self) {
        if self.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiting.unpark();
        }
    }

    pub fn wait(&self) {
        while self.missing.load(Ordering::Acquire) > 0 {
            thread::park();
        }
    }
}
