//! W4: services added and removed again.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use backstay::Supervisor;

use super::{PATIENCE, crowd, unlimited};

pub struct Pairs {
    supervisor: Supervisor,
}

impl Pairs {
    /// Beside `others` that are idle.
    pub fn new(others: usize) -> Pairs {
        let supervisor = unlimited("pairs");
        let muster = crowd::add_idle(&supervisor, others);
        supervisor.start().unwrap();
        muster.wait();
        Pairs { supervisor }
    }

    /// `n` pairs of an add and a removal that is waited for, by `clients` threads.
    pub fn round(&self, n: u64, clients: u64) -> Duration {
        if clients == 1 {
            let begun = Instant::now();
            self.client(0, n);
            return begun.elapsed();
        }
        let barrier = Barrier::new(clients as usize + 1);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..clients)
                .map(|c| {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        self.client(c, n / clients);
                    })
                })
                .collect();
            barrier.wait();
            let begun = Instant::now();
            threads.into_iter().for_each(|t| t.join().unwrap());
            begun.elapsed()
        })
    }

    fn client(&self, client: u64, n: u64) {
        for _ in 0..n {
            let id = self
                .supervisor
                .add(format!("client{client}"), crowd::idle)
                .unwrap();
            self.supervisor.remove_and_wait(id, PATIENCE).unwrap();
        }
    }

    /// The time of `n` adds, and that of their removals.
    pub fn apart(&self, n: u64) -> (Duration, Duration) {
        let (mut adding, mut removing) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..n {
            let begun = Instant::now();
            let id = self.supervisor.add("one-more", crowd::idle).unwrap();
            let added = Instant::now();
            self.supervisor.remove_and_wait(id, PATIENCE).unwrap();
            adding += added - begun;
            removing += added.elapsed();
        }
        (adding, removing)
    }

    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }
}

impl Drop for Pairs {
    fn drop(&mut self) {
        self.supervisor.stop();
    }
}
