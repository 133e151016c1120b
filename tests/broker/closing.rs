//! When a broker closes, and when it does not.

use backstay::services::{Broker, Closed, PopError, PushError, Subscription};
use backstay::{Context, ErrorKind, Exceeded, Limit, Service, State, Supervisor};

use crate::common::{PATIENCE, Recorder, fails, unlimited, wait_for, wait_state};

/// Its messages, then the end.
#[track_caller]
fn holds(subscription: &Subscription<u32>, messages: impl IntoIterator<Item = u32>) {
    for message in messages {
        assert_eq!(subscription.recv_timeout(PATIENCE), Ok(message));
    }
    assert_eq!(subscription.recv_timeout(PATIENCE), Err(PopError::Closed));
    assert_eq!(subscription.recv(), Err(Closed));
    assert_eq!(subscription.try_recv(), Err(PopError::Closed));
}

#[track_caller]
fn is_closed(broker: &Broker<u32>) {
    assert_eq!(broker.publish(0), Err(PushError::Closed(0)));
    let late = broker.publish_timeout(0, PATIENCE);
    assert_eq!(late, Err(PushError::Closed(0)));
    let refused = broker.subscribe(1).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Gone);
    assert_eq!(broker.stats().subscribers, 0);
}

#[test]
fn removal_closes_it_for_good() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = Supervisor::new("app");
    let id = app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    broker.publish(1).unwrap();
    app.remove_and_wait(id, PATIENCE).unwrap();
    is_closed(&broker);
    holds(&subscription, [1]);
    // Whoever adds it again is told.
    app.add("again", broker.clone()).unwrap();
    wait_state(&app, "app.again", State::Done);
    let report = app.report();
    let again = report.find("app.again").unwrap();
    assert_eq!((again.starts(), again.failures()), (1, 0), "{report}");
    assert!(app.stop().is_empty());
}

#[test]
fn tree_that_never_started_closes_it_too() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = Supervisor::new("app");
    app.add("broker", broker.clone()).unwrap();
    broker.publish(1).unwrap();
    assert!(app.stop().is_empty());
    is_closed(&broker);
    holds(&subscription, [1]);
}

/// Whether `run` was entered or not.
#[test]
fn stop_right_after_the_start_closes_it() {
    for _ in 0..200 {
        let broker = Broker::new(10).unwrap();
        let subscription = broker.subscribe(10).unwrap();
        let app = Supervisor::new("app");
        app.add("broker", broker.clone()).unwrap();
        app.start().unwrap();
        broker.publish(1).unwrap();
        assert!(app.stop().is_empty());
        is_closed(&broker);
        holds(&subscription, [1]);
    }
}

#[test]
fn last_handle_closes_it() {
    let broker = Broker::new(10).unwrap();
    let other = broker.clone();
    let subscription = broker.subscribe(10).unwrap();
    broker.publish(1).unwrap();
    drop(broker);
    other.publish(2).unwrap();
    assert_eq!(subscription.try_recv(), Err(PopError::Timeout));
    drop(other);
    holds(&subscription, [1, 2]);
}

#[test]
fn service_that_runs_it_closes_it_with_itself() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = unlimited("app");
    let inner = broker.clone();
    let id = app
        .add("wrapper", move |ctx: &Context| inner.run(ctx))
        .unwrap();
    app.start().unwrap();
    broker.publish(1).unwrap();
    assert_eq!(subscription.recv(), Ok(1));
    app.restart_service(id).unwrap();
    broker.publish(2).unwrap();
    assert_eq!(subscription.recv(), Ok(2));
    broker.publish(3).unwrap();
    assert!(app.stop().is_empty());
    is_closed(&broker);
    holds(&subscription, [3]);
}

#[test]
fn refused_add_leaves_it_open() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = Supervisor::new("app");
    app.add("broker", broker.clone()).unwrap();
    let refused = app.add("broker", broker.clone()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::DuplicateName);
    app.start().unwrap();
    broker.publish(1).unwrap();
    assert_eq!(subscription.recv(), Ok(1));
    assert!(app.stop().is_empty());
}

#[test]
fn service_that_is_stopped_by_hand_keeps_it() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = Supervisor::new("app");
    let id = app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    broker.publish(1).unwrap();
    assert_eq!(subscription.recv(), Ok(1));
    (2..=6).for_each(|n| broker.publish(n).unwrap());
    app.stop_service(id).unwrap();
    wait_state(&app, "app.broker", State::Stopped);
    // What was accepted before the stop is delivered.
    assert_eq!((subscription.len(), broker.stats().queued), (5, 0));
    (2..=6).for_each(|n| assert_eq!(subscription.recv(), Ok(n)));
    broker.publish(7).unwrap();
    assert_eq!(broker.stats().queued, 1);
    app.start_service(id).unwrap();
    assert_eq!(subscription.recv(), Ok(7));
    assert!(app.stop().is_empty());
    holds(&subscription, []);
}

#[test]
fn supervisor_that_is_restarted_keeps_it() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = unlimited("app");
    let inner = Supervisor::builder("inner")
        .limit(Limit::budget(0, 0).then(Exceeded::Fail))
        .build()
        .unwrap();
    inner.add("broker", broker.clone()).unwrap();
    inner.add("flaky", fails(1, "again")).unwrap();
    app.add("inner", inner).unwrap();
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    broker.publish(1).unwrap();
    events.wait_nth("app.inner", "started", 2);
    broker.publish(2).unwrap();
    assert_eq!(subscription.recv(), Ok(1));
    assert_eq!(subscription.recv(), Ok(2));
    drop(app);
    holds(&subscription, []);
    wait_for("it is closed", || broker.publish(3).is_err());
}

#[test]
fn capacity_of_zero_is_refused() {
    let refused = Broker::<u32>::new(0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("capacity"), "{refused}");
    let broker = Broker::<u32>::new(1).unwrap();
    let refused = broker.subscribe(0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("capacity"), "{refused}");
    assert_eq!(broker.stats().subscribers, 0);
}

/// Memory is taken as messages come.
#[test]
fn any_capacity_costs_nothing_empty() {
    let broker = Broker::new(usize::MAX).unwrap();
    let subscription = broker.subscribe(usize::MAX).unwrap();
    broker.publish(1).unwrap();
    drop(broker);
    holds(&subscription, [1]);
}
