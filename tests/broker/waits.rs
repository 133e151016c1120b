//! Waiting for room, for messages, and for a stop.

use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use backstay::services::{Broker, Closed, PopError, PushError};
use backstay::{Context, State, Stopping, Supervisor};

use crate::common::{PATIENCE, Tally, add_running, ms, secs, timed, unlimited, wait_state};

#[test]
fn publish_timeout_waits_for_room() {
    let broker = Broker::new(1).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    broker.publish(1).unwrap();
    let (refused, took) = timed(|| broker.publish_timeout(2, ms(100)));
    assert_eq!(refused, Err(PushError::Timeout(2)));
    assert!(took >= ms(100), "{took:?}");
    let refused = broker.publish_timeout(2, Duration::ZERO);
    assert_eq!(refused, Err(PushError::Timeout(2)));
    let app = Supervisor::new("app");
    app.add("broker", broker.clone()).unwrap();
    thread::scope(|s| {
        let waiting: Vec<_> = (2..=9)
            .map(|n| {
                s.spawn({
                    let broker = &broker;
                    move || broker.publish_timeout(n, if n == 9 { Duration::MAX } else { PATIENCE })
                })
            })
            .collect();
        app.start().unwrap();
        for publisher in waiting {
            assert_eq!(publisher.join().unwrap(), Ok(()));
        }
    });
    let mut received: Vec<u32> = (1..=9)
        .map(|_| subscription.recv_timeout(PATIENCE).unwrap())
        .collect();
    received.sort_unstable();
    assert_eq!(received, (1..=9).collect::<Vec<u32>>());
    assert!(app.stop().is_empty());
}

#[test]
fn closing_wakes_everybody() {
    for _ in 0..100 {
        let broker = Broker::new(1).unwrap();
        let subscription = broker.subscribe(1).unwrap();
        let app = Supervisor::new("app");
        app.add("broker", broker.clone()).unwrap();
        broker.publish(1).unwrap();
        thread::scope(|s| {
            let publishers = [(); 2].map(|()| s.spawn(|| broker.publish_timeout(2, PATIENCE)));
            let receivers = [(); 3].map(|()| s.spawn(|| subscription.recv_timeout(PATIENCE)));
            // It never ran, and closes all the same.
            assert!(app.stop().is_empty());
            for publisher in publishers {
                assert_eq!(publisher.join().unwrap(), Err(PushError::Closed(2)));
            }
            let got = receivers.map(|r| r.join().unwrap());
            let messages = got.iter().filter(|g| **g == Ok(1)).count();
            let ends = got.iter().filter(|g| **g == Err(PopError::Closed)).count();
            assert_eq!((messages, ends), (1, 2));
        });
    }
}

#[test]
fn recv_timeout_takes_its_time() {
    let broker = Broker::<u32>::new(1).unwrap();
    let subscription = broker.subscribe(1).unwrap();
    let (nothing, took) = timed(|| subscription.recv_timeout(ms(50)));
    assert_eq!(nothing, Err(PopError::Timeout));
    assert!(took >= ms(50), "{took:?}");
    let (nothing, took) = timed(|| subscription.recv_timeout(Duration::ZERO));
    assert_eq!(nothing, Err(PopError::Timeout));
    assert!(took < secs(1), "{took:?}");
}

#[test]
fn recv_or_stop_ends_with_its_service() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = unlimited("app");
    app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    let (received, stopped) = (Tally::new(), Tally::new());
    let (got, ended) = (received.clone(), stopped.clone());
    let id = add_running(&app, "reader", move |ctx: &Context| {
        loop {
            match subscription.recv_or_stop(ctx) {
                Ok(Some(_)) => got.add(),
                Ok(None) => return Err(Closed.into()),
                Err(stopping) => {
                    // Messages or not.
                    assert_eq!(subscription.recv_or_stop(ctx), Err(stopping));
                    ended.add();
                    return Err(stopping.into());
                }
            }
        }
    });
    broker.publish(1).unwrap();
    received.reach(1);
    app.stop_service(id).unwrap();
    stopped.reach(1);
    broker.publish(2).unwrap();
    // What waits is there for the next incarnation.
    app.start_service(id).unwrap();
    received.reach(2);
    let stats = broker.stats();
    assert_eq!((stats.delivered, stats.dropped), (2, 0));
    assert!(app.stop().is_empty());
    assert_eq!(stopped.get(), 2);
    let _: Stopping = Stopping::default();
}

#[test]
fn recv_or_stop_ends_with_the_broker() {
    let broker = Broker::<u32>::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = Supervisor::new("app");
    app.start().unwrap();
    let closed = Tally::new();
    let end = closed.clone();
    add_running(&app, "reader", move |ctx: &Context| {
        if subscription.recv_or_stop(ctx)?.is_none() {
            end.add();
        }
        ctx.wait_stop();
        Ok(())
    });
    drop(broker);
    closed.reach(1);
    assert!(app.stop().is_empty());
}

/// A wake-up for a message that comes to a thread which is about to stop is handed on.
#[test]
fn no_wake_up_is_lost_between_threads() {
    const ROUNDS: usize = 300;
    let broker = Broker::new(10).unwrap();
    let subscription = Arc::new(broker.subscribe(10).unwrap());
    let app = unlimited("app");
    app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    let (others, received) = (Arc::clone(&subscription), Tally::new());
    let got = received.clone();
    let id = add_running(&app, "reader", move |ctx: &Context| {
        while others.recv_or_stop(ctx)?.is_some() {
            got.add();
        }
        Ok(())
    });
    for round in 0..ROUNDS {
        let before = received.get();
        thread::scope(|s| {
            let other = s.spawn(|| subscription.recv_timeout(PATIENCE).unwrap());
            let stop = s.spawn(|| app.stop_service(id).unwrap());
            broker.publish(round).unwrap();
            stop.join().unwrap();
            wait_state(&app, "app.reader", State::Stopped);
            // Either has it. If it was the service, there is another one for the other thread.
            if received.get() > before {
                broker.publish(round).unwrap();
            }
            other.join().unwrap();
        });
        app.start_service(id).unwrap();
        wait_state(&app, "app.reader", State::Running);
    }
    assert!(app.stop().is_empty());
}

/// A message may be anything that can be sent and cloned.
#[test]
fn message_need_not_be_shared_between_threads() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    let broker = Broker::new(1).unwrap();
    let subscription = broker.subscribe(1).unwrap();
    is_shared(&broker);
    is_shared(&subscription);
    broker.publish(Cell::new(1)).unwrap();
    drop(broker);
    assert_eq!(subscription.recv().unwrap().get(), 1);
}

#[test]
fn stats_can_be_read() {
    let broker = Broker::new(2).unwrap();
    let subscription = broker.subscribe(1).unwrap();
    broker.publish(1).unwrap();
    assert_eq!(
        broker.stats().to_string(),
        "subscribers 1, published 1, queued 1, delivered 0, dropped 0"
    );
    assert!(format!("{broker:?}").contains("published: 1"));
    assert!(format!("{subscription:?}").contains("waiting: 0"));
}
