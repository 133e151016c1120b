//! How many lines were acknowledged, over time.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::crowd::Orders;

/// The count is looked at so often.
const SAMPLE: Duration = Duration::from_millis(20);

/// When, and how many until then.
type Samples = Mutex<Vec<(Instant, usize)>>;

pub struct Figures {
    samples: Arc<Samples>,
    over: Arc<AtomicBool>,
    sampler: Option<JoinHandle<()>>,
}

impl Figures {
    pub fn of(orders: &Arc<Orders>) -> Figures {
        let (samples, over) = (Arc::<Samples>::default(), Arc::<AtomicBool>::default());
        let (orders, kept, is_over) = (orders.clone(), samples.clone(), over.clone());
        let sampler = thread::spawn(move || {
            while !is_over.load(Relaxed) {
                let now = (Instant::now(), orders.acknowledged.load(Relaxed));
                kept.lock().unwrap().push(now);
                thread::sleep(SAMPLE);
            }
        });
        Figures {
            samples,
            over,
            sampler: Some(sampler),
        }
    }

    /// Lines per second in the last so long.
    pub fn rate_of_last(&self, time: Duration) -> f64 {
        let from = Instant::now() - time;
        let samples = self.samples.lock().unwrap();
        let mut inside = samples.iter().filter(|(at, _)| *at >= from);
        let (first, last) = (inside.next().unwrap(), inside.next_back().unwrap());
        (last.1 - first.1) as f64 / (last.0 - first.0).as_secs_f64()
    }

    /// Lines per second in the next so long.
    pub fn rate_of_next(&self, time: Duration) -> f64 {
        thread::sleep(time);
        self.rate_of_last(time)
    }

    /// The longest time since `from` in which nothing at all was acknowledged.
    pub fn longest_outage_since(&self, from: Instant) -> Duration {
        let samples = self.samples.lock().unwrap();
        let mut longest = Duration::ZERO;
        let mut last = (from, 0);
        for (at, count) in samples.iter().filter(|(at, _)| *at >= from) {
            if *count != last.1 {
                last = (*at, *count);
            }
            longest = longest.max(*at - last.0);
        }
        longest
    }
}

impl Drop for Figures {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
        let _ended = self.sampler.take().map(JoinHandle::join);
    }
}

pub fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
