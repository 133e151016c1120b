//! What a broker costs beside bare channels: in turns, in one process, and the median of the rounds'
//! ratios.
//!
//! `cargo bench --bench broker [-- NAME..]` prints one line per figure; with `BACKSTAY_BENCH_STRICT=1`
//! a missed target fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod load;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use backstay::Supervisor;
use backstay::crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use backstay::services::{Broker, Subscription};

use load::PATIENCE;
use load::rounds::{Rounds, Verdicts};

const ROUNDS: usize = 15;
const SUBSCRIBERS: usize = 10;
const MESSAGES: usize = 50_000;

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let mut verdicts = Verdicts::default();
    if wants("unread") {
        unread(&mut verdicts);
    }
    if wants("read") {
        read(&mut verdicts);
    }
    if wants("trip") {
        trip(&verdicts);
    }
    verdicts.exit_code()
}

/// Nobody reads meanwhile: what the sending alone costs.
fn unread(verdicts: &mut Verdicts) {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let n = MESSAGES as u64;
        rounds.add_time("bounded", bare_unread(|| bounded(MESSAGES)), n);
        let (first, again) = broker_unread();
        rounds.add_time("first", first, n);
        rounds.add_time("broker", again, n);
        rounds.add_time("unbounded", bare_unread(unbounded), n);
    }
    for bare in ["bounded", "unbounded"] {
        verdicts.at_most(
            &format!("broker, a message to {SUBSCRIBERS} subscribers, to as many sends, {bare}"),
            &format!(
                "{:.3} us to {:.3} us",
                rounds.median("broker"),
                rounds.median(bare)
            ),
            rounds.ratio("broker", bare),
            1.5,
        );
    }
    verdicts.say(
        "  the first time, when the memory is still to be had, to as many sends, bounded",
        &format!(
            "{:.3} us ({:.2})",
            rounds.median("first"),
            rounds.ratio("first", "bounded")
        ),
    );
}

/// Everybody reads at the same time.
fn read(verdicts: &mut Verdicts) {
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let n = MESSAGES as u64;
        rounds.add_time("bare", bare_read(), n);
        rounds.add_time("broker", broker_read(), n);
    }
    verdicts.at_most(
        &format!("broker, a message received by {SUBSCRIBERS} threads, to as many sends"),
        &format!(
            "{:.3} us to {:.3} us",
            rounds.median("broker"),
            rounds.median("bare")
        ),
        rounds.ratio("broker", "bare"),
        1.5,
    );
}

/// One message after the other: by way of the broker's thread to one subscriber, and an answer by channel.
/// Beside it the same with a thread that hands on from channel to channel.
fn trip(verdicts: &Verdicts) {
    const N: u64 = 5_000;
    let (broker, app) = running(16);
    let subscription = broker.subscribe(16).unwrap();
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let publish = |i| broker.publish(i).unwrap();
        let took = trips(N, publish, || subscription.recv().unwrap());
        rounds.add_time("broker", took, N);
        let ((first, relay), (hand_on, last)) = (bounded::<u64>(16), bounded(16));
        let relay = thread::spawn(move || relay.iter().for_each(|i| hand_on.send(i).unwrap()));
        let send = |i| first.send(i).unwrap();
        rounds.add_time("bare", trips(N, send, || last.recv().unwrap()), N);
        drop(first);
        relay.join().unwrap();
    }
    verdicts.say(
        "broker, one message to one subscriber and an answer, to the same with channels",
        &format!(
            "{:.2} us to {:.2} us",
            rounds.median("broker"),
            rounds.median("bare")
        ),
    );
    assert!(app.stop().is_empty());
}

fn trips(n: u64, send: impl Fn(u64), receive: impl Fn() -> u64 + Sync) -> Duration {
    let (answer, answers) = bounded::<u64>(16);
    thread::scope(|s| {
        let receive = &receive;
        s.spawn(move || (0..n).for_each(|_| answer.send(receive()).unwrap()));
        timed(|| {
            (0..n).for_each(|i| {
                send(i);
                answers.recv().unwrap();
            })
        })
    })
}

fn timed(f: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    f();
    begun.elapsed()
}

fn running(capacity: usize) -> (Broker<u64>, Supervisor) {
    let broker = Broker::new(capacity).unwrap();
    let app = load::unlimited("bench");
    app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    app.wait_ready(PATIENCE).unwrap();
    (broker, app)
}

/// The first time with the memory for the messages still to be had, and again with it there, which the
/// channels have from the beginning.
fn broker_unread() -> (Duration, Duration) {
    let (broker, app) = running(MESSAGES);
    let subscriptions: Vec<Subscription<u64>> = (0..SUBSCRIBERS)
        .map(|_| broker.subscribe(MESSAGES).unwrap())
        .collect();
    let fill = || {
        timed(|| {
            for i in 0..MESSAGES as u64 {
                broker.publish(i).unwrap();
            }
            while subscriptions.last().unwrap().len() < MESSAGES {
                thread::yield_now();
            }
        })
    };
    let first = fill();
    for subscription in &subscriptions {
        while subscription.try_recv().is_ok() {}
    }
    let again = fill();
    assert!(app.stop().is_empty());
    (first, again)
}

fn bare_unread(channel: impl Fn() -> (Sender<u64>, Receiver<u64>)) -> Duration {
    let (senders, _receivers): (Vec<_>, Vec<_>) = (0..SUBSCRIBERS).map(|_| channel()).unzip();
    timed(|| {
        for i in 0..MESSAGES as u64 {
            for sender in &senders {
                sender.send(i).unwrap();
            }
        }
    })
}

fn broker_read() -> Duration {
    let (broker, app) = running(MESSAGES);
    let subscriptions: Vec<Subscription<u64>> = (0..SUBSCRIBERS)
        .map(|_| broker.subscribe(MESSAGES).unwrap())
        .collect();
    let took = thread::scope(|s| {
        for subscription in &subscriptions {
            s.spawn(|| {
                (0..MESSAGES).for_each(|_| {
                    std::hint::black_box(subscription.recv().unwrap());
                })
            });
        }
        let begun = Instant::now();
        for i in 0..MESSAGES as u64 {
            broker.publish(i).unwrap();
        }
        begun
    })
    .elapsed();
    assert!(app.stop().is_empty());
    took
}

fn bare_read() -> Duration {
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..SUBSCRIBERS).map(|_| bounded::<u64>(MESSAGES)).unzip();
    thread::scope(|s| {
        for receiver in &receivers {
            s.spawn(|| {
                (0..MESSAGES).for_each(|_| {
                    std::hint::black_box(receiver.recv().unwrap());
                })
            });
        }
        let begun = Instant::now();
        for i in 0..MESSAGES as u64 {
            for sender in &senders {
                sender.send(i).unwrap();
            }
        }
        begun
    })
    .elapsed()
}
