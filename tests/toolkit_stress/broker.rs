//! A broker that is restarted again and again, with subscribers that come, go, and don't keep up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use backstay::services::{Broker, Closed, Overflow, Subscription};

use crate::common::{PATIENCE, unlimited};

const PUBLISHERS: usize = 2;
const MESSAGES_EACH: u64 = 65_000;
const PUBLISHED: u64 = PUBLISHERS as u64 * MESSAGES_EACH;

/// Those that are there from the beginning to the end: a million messages for all of them.
const KEEPING_UP: usize = 4;
const SLOW: usize = 2;
const LATEST: usize = 2;

/// Messages of one publisher between two restarts.
const RESTART_EVERY: u64 = 1_000;

#[derive(Clone, Copy)]
struct Message {
    publisher: usize,
    number: u64,
}

/// What one subscriber has received: of each publisher in order.
#[derive(Default)]
struct Received {
    count: u64,
    last: [u64; PUBLISHERS],
}

impl Received {
    fn add(&mut self, message: Message) {
        let last = &mut self.last[message.publisher];
        assert!(message.number > *last, "{} after {last}", message.number);
        *last = message.number;
        self.count += 1;
    }

    /// Everything up to the end; `pause` after each.
    fn all(mut self, subscription: &Subscription<Message>, pause: impl Fn(u64)) -> Received {
        loop {
            match subscription.recv() {
                Ok(message) => self.add(message),
                Err(Closed) => return self,
            }
            pause(self.count);
        }
    }
}

#[test]
fn every_message_is_delivered_or_dropped_for_each_subscriber() {
    let broker = Broker::<Message>::new(256).unwrap();
    let subscribe = |n: usize, capacity, overflow| -> Vec<Subscription<Message>> {
        let one = |_| broker.subscribe_with(capacity, overflow).unwrap();
        (0..n).map(one).collect()
    };
    let keeping_up = subscribe(KEEPING_UP, PUBLISHED as usize, Overflow::DropNewest);
    let slow = subscribe(SLOW, 4, Overflow::DropNewest);
    let latest = subscribe(LATEST, 4, Overflow::DropOldest);
    let app = unlimited("app");
    let id = app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    let over = AtomicBool::new(false);

    thread::scope(|s| {
        let readers: Vec<_> = keeping_up
            .iter()
            .map(|sub| (sub, s.spawn(|| Received::default().all(sub, |_| {}))))
            .chain(slow.iter().chain(&latest).map(|sub| {
                let yields = |count| (0..count % 8).for_each(|_| thread::yield_now());
                (sub, s.spawn(move || Received::default().all(sub, yields)))
            }))
            .collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                s.spawn({
                    let (broker, app) = (&broker, &app);
                    move || publish(broker, publisher, || app.restart_service(id).unwrap())
                })
            })
            .collect();
        let visitors = [3, 70].map(|stay| {
            s.spawn({
                let (broker, over) = (&broker, &over);
                move || come_and_go(broker, over, stay)
            })
        });
        publishers.into_iter().for_each(|p| p.join().unwrap());
        over.store(true, Ordering::Relaxed);
        let visits: u64 = visitors.map(|v| v.join().unwrap()).iter().sum();
        assert!(visits > 0);
        assert!(app.stop().is_empty());

        let (mut received, mut dropped) = (0, 0);
        for (subscription, reader) in readers {
            let got = reader.join().unwrap().count;
            assert_eq!(got + subscription.dropped(), PUBLISHED);
            received += got;
            dropped += subscription.dropped();
        }
        assert!(keeping_up.iter().all(|sub| sub.dropped() == 0));
        let stats = broker.stats();
        assert_eq!((stats.published, stats.queued), (PUBLISHED, 0));
        // The visitors had some, too.
        assert!(
            stats.delivered >= received && stats.dropped >= dropped,
            "{stats}"
        );
    });
    let report = app.report();
    let broker = report.find("app.broker").unwrap();
    assert!(broker.incarnation() > 2, "{report}");
    assert_eq!(broker.failures(), 0, "{report}");
}

fn publish(broker: &Broker<Message>, publisher: usize, restart: impl Fn()) {
    for number in 1..=MESSAGES_EACH {
        if number % RESTART_EVERY == 0 {
            restart();
        }
        let message = Message { publisher, number };
        // Now and then one that doesn't wait.
        let mut answer = broker.publish(message);
        if answer.is_err() {
            answer = broker.publish_timeout(message, PATIENCE);
        }
        answer.unwrap();
    }
}

/// Stays for that many messages, and comes back. Answers how often.
fn come_and_go(broker: &Broker<Message>, over: &AtomicBool, stay: u64) -> u64 {
    let mut visits = 0;
    while !over.load(Ordering::Relaxed) {
        let subscription = broker.subscribe(8).unwrap();
        let mut received = Received::default();
        while received.count < stay && !over.load(Ordering::Relaxed) {
            match subscription.recv_timeout(crate::common::ms(10)) {
                Ok(message) => received.add(message),
                Err(_) => break,
            }
        }
        visits += 1;
    }
    visits
}
