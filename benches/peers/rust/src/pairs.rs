//! W4: clients that each add a service, remove it and wait for its end, again and again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use crate::figures::{figure, figure_each};

/// How often, and how.
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    pub pairs: u64,
    pub clients: u64,
    /// W4r: the client waits until the service's code runs before it removes it.
    pub until_it_runs: bool,
}

impl Pairs {
    /// Clients that are threads. `client` is given its number and how many pairs it is to do, and
    /// answers in how many of them the service's code ran.
    ///
    /// # Panics
    /// A client has panicked.
    pub fn by_threads(self, client: impl Fn(u64, u64) -> u64 + Sync) {
        client(self.clients, self.pairs / 10); // to warm up
        let each = self.pairs / self.clients;
        let begun = Instant::now();
        let ran = std::thread::scope(|scope| {
            let client = &client;
            let clients: Vec<_> = (0..self.clients)
                .map(|c| scope.spawn(move || client(c, each)))
                .collect();
            clients.into_iter().map(|c| c.join().unwrap()).sum()
        });
        self.print(begun, ran, each * self.clients);
    }

    /// The same with tasks on Tokio's runtime.
    ///
    /// # Panics
    /// A client has panicked.
    pub async fn by_tasks<F>(self, client: impl Fn(u64, u64) -> F)
    where
        F: Future<Output = u64> + Send + 'static,
    {
        tokio::spawn(client(self.clients, self.pairs / 10))
            .await
            .unwrap();
        let each = self.pairs / self.clients;
        let begun = Instant::now();
        let clients: Vec<_> = (0..self.clients)
            .map(|c| tokio::spawn(client(c, each)))
            .collect();
        let mut ran = 0;
        for client in clients {
            ran += client.await.unwrap();
        }
        self.print(begun, ran, each * self.clients);
    }

    fn print(self, begun: Instant, ran: u64, pairs: u64) {
        let (time, clients) = (begun.elapsed(), self.clients);
        if self.until_it_runs {
            assert_eq!(ran, pairs);
            figure_each(&format!("w4r_{clients}"), time, pairs);
        } else {
            figure_each(&format!("w4_{clients}"), time, pairs);
            let share = 100.0 * ran as f64 / pairs as f64;
            figure(&format!("w4_{clients}_ran"), share, "%");
        }
    }
}

/// Where a service that is a task tells its client that it runs; one that is a thread has a
/// [`Muster`](crate::Muster) for that.
#[derive(Debug, Default)]
pub struct Entry {
    runs: AtomicBool,
    notify: Notify,
}

impl Entry {
    pub fn runs(&self) {
        self.runs.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    pub async fn wait(&self) {
        self.notify.notified().await;
    }

    pub fn has_run(&self) -> bool {
        self.runs.load(Ordering::Acquire)
    }
}
