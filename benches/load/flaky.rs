//! W1 and W1e: one service that fails at once, as often as it is told.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backstay::crossbeam_channel::{Receiver, Sender, bounded, select};
use backstay::{Context, Limit, ServiceResult, Spec, Supervisor};
use parking_lot::Mutex;

use super::{bare, unlimited};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    Panic,
    Error,
}

pub struct Flaky {
    supervisor: Supervisor,
    go: Sender<u64>,
    took: Receiver<Duration>,
}

impl Flaky {
    /// Without a limit: it restarts by itself.
    pub fn new(how: How) -> Flaky {
        Flaky::under(how, unlimited("flaky"))
    }

    /// Under a limit that is never reached: its supervisor decides every restart.
    pub fn counted(how: How) -> Flaky {
        let supervisor = Supervisor::builder("flaky")
            .limit(out_of_reach())
            .quiet_panics();
        Flaky::under(how, supervisor.build().unwrap())
    }

    fn under(how: How, supervisor: Supervisor) -> Flaky {
        bare::install_hook();
        let (go, took) = add(&supervisor, how, |spec| spec);
        supervisor.start().unwrap();
        Flaky {
            supervisor,
            go,
            took,
        }
    }

    /// The time from the first failure to running again after the `n`th.
    pub fn round(&self, n: u64) -> Duration {
        self.go.send(n).unwrap();
        self.took.recv().unwrap()
    }
}

impl Drop for Flaky {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}

/// A limit that counts, and is never reached.
pub fn out_of_reach() -> Limit {
    Limit::decay(f64::MAX, Duration::from_secs(30))
}

/// Adds such a service. It fails as often as a number sent says, then tells how long that took.
pub fn add(
    supervisor: &Supervisor,
    how: How,
    with: impl FnOnce(Spec) -> Spec,
) -> (Sender<u64>, Receiver<Duration>) {
    let (go, orders) = bounded::<u64>(1);
    let (done, took) = bounded(1);
    let left = AtomicU64::new(0);
    let begun = Mutex::new(None::<Instant>);
    let service = move |ctx: &Context| -> ServiceResult {
        if left.load(Ordering::Relaxed) == 0 {
            if let Some(begun) = begun.lock().take() {
                done.send(begun.elapsed())?;
            }
            let n = select! {
                recv(orders) -> n => n?,
                recv(ctx.stop_signal()) -> _ => return Ok(()),
            };
            left.store(n, Ordering::Relaxed);
            *begun.lock() = Some(Instant::now());
        }
        left.fetch_sub(1, Ordering::Relaxed);
        match how {
            How::Panic => panic!("a service panics"),
            How::Error => Err("a service fails".into()),
        }
    };
    let name = format!("flaky{}", supervisor.report().services().len());
    supervisor.add_spec(with(Spec::new(name, service))).unwrap();
    (go, took)
}
