//! One delivers at a time, whatever incarnations and services there are.

use std::sync::Arc;

use backstay::services::Broker;
use backstay::{Spec, State, Supervisor};

use crate::common::{Gate, PATIENCE, Recorder, ms, unlimited, wait_state};

/// Clones of the first message wait at a gate.
struct Gated {
    number: u32,
    begun: Gate,
    gate: Arc<Gate>,
}

impl Clone for Gated {
    fn clone(&self) -> Gated {
        if self.number == 1 {
            self.begun.open();
            self.gate.wait();
        }
        Gated {
            number: self.number,
            begun: self.begun.clone(),
            gate: self.gate.clone(),
        }
    }
}

#[test]
fn incarnation_beside_an_abandoned_one_waits_for_it() {
    let broker = Broker::new(10).unwrap();
    let (a, b) = (broker.subscribe(10).unwrap(), broker.subscribe(10).unwrap());
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let spec = Spec::new("broker", broker.clone())
        .stop_timeout(ms(20))
        .allow_overlap(1);
    let id = app.add_spec(spec).unwrap();
    app.start().unwrap();
    let (begun, gate) = (Gate::new(), Arc::new(Gate::new()));
    for number in 1..=5 {
        let (begun, gate) = (begun.clone(), gate.clone());
        let message = Gated {
            number,
            begun,
            gate,
        };
        broker.publish(message).ok().unwrap();
    }
    begun.wait();
    app.restart_service(id).unwrap();
    events.wait_nth("app.broker", "started", 2);
    // It says that it waits.
    events.wait("app.broker", "log");
    gate.open();
    for subscription in [&a, &b] {
        for number in 1..=5 {
            let message = subscription.recv_timeout(PATIENCE).unwrap();
            assert_eq!(message.number, number);
        }
        assert!(subscription.is_empty());
    }
    events.wait("app.broker", "ended late");
}

#[test]
fn second_service_takes_over() {
    let broker = Broker::new(10).unwrap();
    let subscription = broker.subscribe(10).unwrap();
    let app = Supervisor::new("app");
    let first = app.add("first", broker.clone()).unwrap();
    app.start().unwrap();
    broker.publish(1).unwrap();
    assert_eq!(subscription.recv(), Ok(1));
    let mut events = Recorder::of(&app);
    app.add("second", broker.clone()).unwrap();
    events.wait("app.second", "log");
    app.stop_service(first).unwrap();
    wait_state(&app, "app.first", State::Stopped);
    broker.publish(2).unwrap();
    assert_eq!(subscription.recv(), Ok(2));
    // The first one's removal closes it while the second delivers.
    broker.publish(3).unwrap();
    app.remove_and_wait(first, PATIENCE).unwrap();
    wait_state(&app, "app.second", State::Done);
    assert_eq!(subscription.recv(), Ok(3));
    assert!(subscription.recv().is_err());
    assert!(app.stop().is_empty());
}

/// What is accepted while it stops waits for the next incarnation, or for the end.
#[test]
fn busy_publishers_hold_up_no_stop() {
    let broker = Broker::new(1_000).unwrap();
    let subscription = broker.subscribe(1).unwrap();
    let app = Supervisor::new("app");
    app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    let publisher = broker.clone();
    let publishing = std::thread::spawn(move || {
        let mut accepted = 0_u64;
        loop {
            match publisher.publish(accepted) {
                Ok(()) => accepted += 1,
                Err(backstay::services::PushError::Closed(_)) => return accepted,
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    subscription.recv().unwrap();
    assert!(app.stop().is_empty());
    let accepted = publishing.join().unwrap();
    let stats = broker.stats();
    assert_eq!((stats.published, stats.queued), (accepted, 0));
    assert_eq!(stats.delivered + stats.dropped, accepted);
}
