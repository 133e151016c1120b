//! Services in chains of ten, each of which provides for the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use backstay::crossbeam_channel::{Receiver, unbounded};
use backstay::{Context, Key, ServiceId, Spec, Supervisor};

use super::crowd::Muster;
use super::{PATIENCE, unlimited};

const LENGTH: usize = 10;

/// Chains whose services run, and how the last one of the first chain tells that it does.
pub struct Chains {
    supervisor: Supervisor,
    first: ServiceId,
    last_runs: Receiver<()>,
}

fn key(n: usize) -> Key<u32> {
    Key::new(Box::leak(format!("k{n}").into_boxed_str()))
}

impl Chains {
    /// How long `services` in chains take from the start until all have begun.
    pub fn start(services: usize) -> (Chains, Duration) {
        let supervisor = unlimited("chains");
        let muster = Muster::new(services);
        let (tell, last_runs) = unbounded();
        let specs = (0..services).map(|n| {
            let (muster, tell) = (muster.clone(), tell.clone());
            let (first, last) = (n % LENGTH == 0, n % LENGTH == LENGTH - 1);
            let (own, before) = (key(n), key(n.wrapping_sub(1)));
            let spec = Spec::new(format!("s{n}"), move |ctx: &Context| {
                if !first {
                    let value: Arc<u32> = ctx.get(&before)?;
                    std::hint::black_box(value);
                }
                if ctx.incarnation() == 1 {
                    muster.begun();
                }
                if last {
                    if n < LENGTH {
                        tell.send(())?;
                    }
                } else {
                    ctx.provide(&own, n as u32)?;
                }
                ctx.wait_stop();
                Ok(())
            });
            let spec = if first { spec } else { spec.needs(&before) };
            if last { spec } else { spec.provides(&own) }
        });
        let ids = supervisor.add_all(specs).unwrap();
        let begun = Instant::now();
        supervisor.start().unwrap();
        muster.wait();
        let took = begun.elapsed();
        let first = ids[0];
        let chains = Chains {
            supervisor,
            first,
            last_runs,
        };
        chains.await_last();
        (chains, took)
    }

    fn await_last(&self) {
        self.last_runs.recv_timeout(PATIENCE).unwrap();
    }

    /// The first service of the first chain restarts, and with it the nine that depend on it.
    pub fn bounce(&self) -> Duration {
        let begun = Instant::now();
        self.supervisor.restart_service(self.first).unwrap();
        self.await_last();
        begun.elapsed()
    }

    pub fn stop(self) -> Duration {
        let begun = Instant::now();
        assert!(self.supervisor.stop().is_empty());
        begun.elapsed()
    }
}
