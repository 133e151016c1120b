//! Jobs through a worker pool, and through a bare channel to bare threads.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use backstay::services::{Queue, WorkerPool};
use backstay::{BoxError, Context, Supervisor};
use crossbeam_channel::bounded;

use super::unlimited;

/// What a job carries.
#[derive(Clone, Copy)]
pub enum Way {
    /// Nothing: its box takes no memory.
    Empty,
    /// Some words, so that each is allocated and freed.
    Carry,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Empty => "empty jobs",
            Way::Carry => "jobs of 32 bytes",
        })
    }
}

type BareJob = Box<dyn FnOnce(&u32) -> Result<(), BoxError> + Send>;

pub fn through_channel(n: u64, workers: usize, way: Way, capacity: usize) -> Duration {
    let (sender, receiver) = bounded::<BareJob>(capacity);
    let threads: Vec<_> = (0..workers)
        .map(|_| {
            let receiver = receiver.clone();
            thread::spawn(move || receiver.iter().for_each(|job| job(&1).unwrap()))
        })
        .collect();
    drop(receiver);
    let begun = Instant::now();
    for i in 0..n {
        let job: BareJob = match way {
            Way::Empty => Box::new(|_: &u32| Ok(())),
            Way::Carry => {
                let words = [i; 4];
                Box::new(move |_: &u32| drop_words(words))
            }
        };
        sender.send(job).unwrap();
    }
    drop(sender);
    threads.into_iter().for_each(|t| t.join().unwrap());
    begun.elapsed()
}

pub fn through_pool(n: u64, workers: usize, way: Way, capacity: usize) -> Duration {
    let (app, pool) = start(workers, capacity);
    let begun = Instant::now();
    for i in 0..n {
        match way {
            Way::Empty => pool.push_timeout(|_: &Context| Ok(()), Duration::MAX),
            Way::Carry => {
                let words = [i; 4];
                pool.push_timeout(move |_: &Context| drop_words(words), Duration::MAX)
            }
        }
        .unwrap();
    }
    while pool.stats().done <= n {
        thread::yield_now();
    }
    let took = begun.elapsed();
    app.stop();
    took
}

fn drop_words(words: [u64; 4]) -> Result<(), BoxError> {
    std::hint::black_box(words);
    Ok(())
}

/// A pool whose workers are there: one job is done.
fn start(workers: usize, capacity: usize) -> (Supervisor, WorkerPool) {
    let pool = WorkerPool::builder(workers)
        .queue(Queue::new(capacity).unwrap())
        .build()
        .unwrap();
    let app = unlimited("app");
    app.add("pool", pool.clone()).unwrap();
    app.start().unwrap();
    pool.submit(|_: &Context| Ok(())).unwrap().wait().unwrap();
    (app, pool)
}

/// Jobs whose answers are waited for, one after the other.
pub fn round_trips(n: u64) -> Duration {
    let (app, pool) = start(1, 16);
    let begun = Instant::now();
    for i in 0..n {
        let handle = pool.submit(move |_: &Context| Ok(i)).unwrap();
        assert_eq!(handle.wait().unwrap(), i);
    }
    let took = begun.elapsed();
    app.stop();
    took
}
