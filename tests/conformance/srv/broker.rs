//! The broker: every message to every subscriber, and nobody waits for a slow one.

use backstay::services::{Broker, Closed, Overflow, PushError, Subscription};
use backstay::{ServiceId, Supervisor};

use crate::common::{PATIENCE, wait_for};

fn running(broker: &Broker<u32>) -> (Supervisor, ServiceId) {
    let app = Supervisor::new("app");
    let id = app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    (app, id)
}

#[track_caller]
fn receives(subscription: &Subscription<u32>, messages: impl IntoIterator<Item = u32>) {
    for message in messages {
        assert_eq!(subscription.recv_timeout(PATIENCE), Ok(message));
    }
}

fn publish(broker: &Broker<u32>, messages: impl IntoIterator<Item = u32>) {
    for message in messages {
        broker.publish(message).unwrap();
    }
}

#[test]
fn broker_delivers_everything_in_order_to_everybody() {
    let broker = Broker::new(100).unwrap();
    let everybody = [(); 3].map(|()| broker.subscribe(100).unwrap());
    let (app, _) = running(&broker);
    publish(&broker, 1..=100);
    for subscription in &everybody {
        receives(subscription, 1..=100);
        assert_eq!(subscription.dropped(), 0);
    }
    let stats = broker.stats();
    assert_eq!(stats.subscribers, 3);
    assert_eq!((stats.published, stats.queued), (100, 0));
    assert_eq!((stats.delivered, stats.dropped), (300, 0));
    assert!(app.stop().is_empty());
}

#[test]
fn broker_drops_for_a_slow_subscriber_only() {
    let broker = Broker::new(10).unwrap();
    let (a, b) = (broker.subscribe(2).unwrap(), broker.subscribe(10).unwrap());
    let (app, _) = running(&broker);
    publish(&broker, 1..=10);
    receives(&b, 1..=10);
    assert_eq!((a.dropped(), b.dropped()), (8, 0));
    assert_eq!(a.len(), 2);
    receives(&a, [1, 2]);
    assert!(a.is_empty());
    assert_eq!(broker.stats().dropped, 8);
    assert!(app.stop().is_empty());
}

#[test]
fn broker_can_drop_the_oldest() {
    let broker = Broker::new(10).unwrap();
    let latest = broker.subscribe_with(2, Overflow::DropOldest).unwrap();
    let (app, _) = running(&broker);
    publish(&broker, 1..=10);
    wait_for("all are delivered", || latest.dropped() == 8);
    receives(&latest, [9, 10]);
    let stats = broker.stats();
    assert_eq!((stats.delivered, stats.dropped), (2, 8));
    assert!(app.stop().is_empty());
    assert_eq!(latest.recv(), Err(Closed));
}

#[test]
fn broker_publish_never_blocks() {
    let broker = Broker::new(2).unwrap();
    let subscription = broker.subscribe(2).unwrap();
    publish(&broker, [1, 2]);
    assert_eq!(broker.publish(3), Err(PushError::Full(3)));
    let (app, _) = running(&broker);
    receives(&subscription, [1, 2]);
    assert!(app.stop().is_empty());
}

#[test]
fn broker_unsubscribes_on_drop() {
    let broker = Broker::new(5).unwrap();
    let (stays, goes) = (broker.subscribe(5).unwrap(), broker.subscribe(1).unwrap());
    drop(goes);
    let (app, _) = running(&broker);
    publish(&broker, 1..=5);
    receives(&stays, 1..=5);
    let stats = broker.stats();
    assert_eq!(
        (stats.subscribers, stats.dropped, stats.delivered),
        (1, 0, 5)
    );
    assert!(app.stop().is_empty());
}

#[test]
fn broker_stop_delivers_the_rest_then_closes() {
    for _ in 0..50 {
        let broker = Broker::new(50).unwrap();
        let subscription = broker.subscribe(50).unwrap();
        let (app, _) = running(&broker);
        publish(&broker, 1..=50);
        assert!(app.stop().is_empty());
        for message in 1..=50 {
            assert_eq!(subscription.try_recv(), Ok(message));
        }
        assert_eq!(subscription.recv(), Err(Closed));
        assert_eq!(broker.publish(51), Err(PushError::Closed(51)));
        assert_eq!(broker.stats().published, 50);
    }
}

#[test]
fn broker_subscriptions_survive_a_restart() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let (app, id) = running(&broker);
    publish(&broker, 1..=6);
    app.restart_service(id).unwrap();
    publish(&broker, [7]);
    receives(&subscription, 1..=7);
    wait_for("its second incarnation", || {
        let report = app.report();
        report.find("app.broker").unwrap().incarnation() == 2
    });
    publish(&broker, [8]);
    receives(&subscription, [8]);
    assert!(subscription.is_empty());
    let stats = broker.stats();
    assert_eq!((stats.published, stats.delivered, stats.dropped), (8, 8, 0));
    assert!(app.stop().is_empty());
}
