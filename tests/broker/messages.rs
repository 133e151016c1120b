//! Messages whose own code is slow, panics, or calls the broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstay::services::{Broker, Overflow, PushError, Subscription};
use backstay::{State, Supervisor};

use crate::common::{Gate, PATIENCE, Recorder, Tally, unlimited, wait_for, wait_state};

type Code = Arc<dyn Fn(u32) + Send + Sync>;

/// A message with a number, and with code of its own for clones and drops.
struct Letter {
    number: u32,
    on_clone: Code,
    on_drop: Code,
}

impl Letter {
    fn new(number: u32, on_clone: &Code, on_drop: &Code) -> Letter {
        Letter {
            number,
            on_clone: on_clone.clone(),
            on_drop: on_drop.clone(),
        }
    }

    fn take(self) -> u32 {
        self.number
    }
}

impl Clone for Letter {
    fn clone(&self) -> Letter {
        (self.on_clone)(self.number);
        Letter::new(self.number, &self.on_clone, &self.on_drop)
    }
}

impl Drop for Letter {
    fn drop(&mut self) {
        (self.on_drop)(self.number);
    }
}

fn nothing() -> Code {
    Arc::new(|_| {})
}

fn running(broker: &Broker<Letter>) -> Supervisor {
    let app = unlimited("app");
    app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    app
}

/// What is left in it, up to the end.
fn rest(subscription: &Subscription<Letter>) -> Vec<u32> {
    std::iter::from_fn(|| subscription.recv().ok().map(Letter::take)).collect()
}

#[test]
fn panicking_clone_is_lost_for_one_subscriber_and_told_once() {
    const PUBLISHED: u32 = 100;
    let clones = Arc::new(AtomicUsize::new(0));
    let counter = clones.clone();
    let on_clone: Code = Arc::new(move |n| {
        counter.fetch_add(1, Ordering::SeqCst);
        assert!(n % 10 != 0, "no clone of {n}");
    });
    let broker = Broker::new(PUBLISHED as usize).unwrap();
    let all = [(); 3].map(|()| broker.subscribe(PUBLISHED as usize).unwrap());
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    for n in 1..=PUBLISHED {
        broker
            .publish(Letter::new(n, &on_clone, &nothing()))
            .ok()
            .unwrap();
    }
    wait_for("all are delivered", || broker.stats().delivered == 280);
    assert!(app.stop().is_empty());

    // The last one needs no clone.
    let whole: Vec<u32> = (1..=PUBLISHED).collect();
    let part: Vec<u32> = (1..=PUBLISHED).filter(|n| n % 10 != 0).collect();
    let received = all.each_ref().map(rest);
    assert_eq!(received, [part.clone(), part, whole]);
    assert_eq!(all.each_ref().map(Subscription::dropped), [10, 10, 0]);
    let stats = broker.stats();
    assert_eq!(
        (stats.published, stats.delivered, stats.dropped),
        (100, 280, 20)
    );
    assert_eq!(clones.load(Ordering::SeqCst), 200);
    assert_eq!(events.count("app.broker", "failed"), 0);
    let told = events.wait("app.broker", "log").to_string();
    assert!(told.contains("no clone of 10"), "{told}");
    assert_eq!(events.count("app.broker", "log"), 1);
}

#[test]
fn panicking_drop_goes_no_further() {
    let drops = Tally::new();
    let counter = drops.clone();
    let on_drop: Code = Arc::new(move |n| {
        counter.add();
        assert!(n % 2 == 0, "no drop of {n}");
    });
    let broker = Broker::new(100).unwrap();
    let newest = broker.subscribe(10).unwrap();
    let oldest = broker.subscribe_with(10, Overflow::DropOldest).unwrap();
    let gone = broker.subscribe(100).unwrap();
    let app = running(&broker);
    for n in 1..=100 {
        broker
            .publish(Letter::new(n, &nothing(), &on_drop))
            .ok()
            .unwrap();
    }
    wait_for("all are delivered", || gone.len() == 100);
    assert_eq!((newest.dropped(), oldest.dropped()), (90, 90));
    drops.reach(180);
    // Here, too: 50 of them panic.
    drop(gone);
    drops.reach(280);
    assert!(app.stop().is_empty());
    let kept = |s: &Subscription<Letter>| {
        let numbers = std::iter::from_fn(|| {
            let letter = s.recv().ok()?;
            let number = letter.number;
            std::mem::forget(letter);
            Some(number)
        });
        numbers.collect::<Vec<u32>>()
    };
    assert_eq!(kept(&newest), (1..=10).collect::<Vec<u32>>());
    assert_eq!(kept(&oldest), (91..=100).collect::<Vec<u32>>());
    let report = app.report();
    assert_eq!(report.find("app.broker").unwrap().incarnation(), 1);
}

/// A deadlock otherwise.
#[test]
fn clone_and_drop_may_call_the_broker() {
    let broker = Broker::<Letter>::new(100).unwrap();
    let a = broker.subscribe(1).unwrap();
    let b = broker.subscribe_with(1, Overflow::DropOldest).unwrap();
    let calls = Tally::new();
    let (handle, counter) = (broker.clone(), calls.clone());
    let call: Code = Arc::new(move |n| {
        if n > 0 {
            let extra = handle.subscribe(5).unwrap();
            handle
                .publish(Letter::new(0, &nothing(), &nothing()))
                .ok()
                .unwrap();
            assert!(handle.stats().subscribers >= 3);
            drop(extra);
            counter.add();
        }
    });
    let app = running(&broker);
    for n in 1..=5 {
        broker.publish(Letter::new(n, &call, &call)).ok().unwrap();
    }
    // A clone each for `a`, and all but a few are dropped.
    calls.reach(10);
    wait_for("all are delivered", || broker.stats().queued == 0);
    assert_eq!(a.recv().ok().map(|l| l.number), Some(1));
    assert!(b.recv().is_ok());
    assert!(app.stop().is_empty());
}

#[test]
fn slow_clone_holds_up_nobody_else() {
    let (begun, go_on) = (Gate::new(), Gate::new());
    let (at_it, gate) = (begun.clone(), go_on.clone());
    let on_clone: Code = Arc::new(move |n| {
        if n == 2 {
            at_it.open();
            gate.wait();
        }
    });
    let letter = |n| Letter::new(n, &on_clone, &nothing());
    let broker = Broker::new(2).unwrap();
    let (a, b) = (broker.subscribe(10).unwrap(), broker.subscribe(10).unwrap());
    let app = running(&broker);
    broker.publish(letter(1)).ok().unwrap();
    assert_eq!(b.recv().unwrap().take(), 1);
    broker.publish(letter(2)).ok().unwrap();
    begun.wait();
    // It has begun with the second, so there is room for two.
    broker.publish(letter(3)).ok().unwrap();
    broker.publish(letter(4)).ok().unwrap();
    let refused = broker.publish(letter(5)).err();
    assert!(matches!(&refused, Some(PushError::Full(l)) if l.number == 5));
    assert_eq!(broker.stats().queued, 2);
    assert_eq!(a.recv().unwrap().take(), 1);
    assert!(a.is_empty());
    let late = broker.subscribe(10).unwrap();
    drop(b);
    assert_eq!(broker.stats().subscribers, 2);
    go_on.open();
    assert!(app.stop().is_empty());
    assert_eq!(rest(&a), [2, 3, 4]);
    assert_eq!(rest(&late), [3, 4]);
}

/// Of several that were taken together, those behind the first wait all the same.
#[test]
fn message_in_hand_takes_up_room() {
    let begun = [(); 2].map(|()| Gate::new());
    let go_on = [(); 2].map(|()| Gate::new());
    let (at_it, gates) = (begun.clone(), go_on.clone());
    let on_clone: Code = Arc::new(move |n| {
        if let (Some(begun), Some(gate)) = (at_it.get(n as usize), gates.get(n as usize)) {
            begun.open();
            gate.wait();
        }
    });
    let broker = Broker::new(4).unwrap();
    let all = [(); 2].map(|()| broker.subscribe(10).unwrap());
    let app = running(&broker);
    let publish = |n| {
        broker
            .publish(Letter::new(n, &on_clone, &nothing()))
            .is_ok()
    };
    assert!(publish(0));
    begun[0].wait();
    assert!((1..=4).all(publish));
    assert!(!publish(5));
    go_on[0].open();
    begun[1].wait();
    // It has begun with one of the four.
    assert_eq!(broker.stats().queued, 3);
    assert!(publish(5));
    assert!(!publish(6));
    go_on[1].open();
    assert!(app.stop().is_empty());
    assert_eq!(
        all.each_ref().map(rest),
        [(); 2].map(|()| (0..=5).collect::<Vec<u32>>())
    );
}

#[test]
fn stop_by_hand_delivers_what_was_accepted() {
    let (begun, go_on) = (Gate::new(), Gate::new());
    let (at_it, gate) = (begun.clone(), go_on.clone());
    let on_clone: Code = Arc::new(move |_| {
        at_it.open();
        gate.wait();
    });
    let broker = Broker::new(10).unwrap();
    let all = [(); 2].map(|()| broker.subscribe(10).unwrap());
    let app = unlimited("app");
    let id = app.add("broker", broker.clone()).unwrap();
    app.start().unwrap();
    for n in 1..=5 {
        broker
            .publish(Letter::new(n, &on_clone, &nothing()))
            .ok()
            .unwrap();
    }
    begun.wait();
    app.stop_service(id).unwrap();
    wait_state(&app, "app.broker", State::Stopping);
    go_on.open();
    wait_state(&app, "app.broker", State::Stopped);
    assert_eq!(all.each_ref().map(Subscription::len), [5, 5]);
    assert_eq!(broker.stats().queued, 0);
    assert!(app.stop().is_empty());
}

/// Nothing is kept for whoever has left, but what became of its messages is remembered.
#[test]
fn every_message_is_dropped_once() {
    let (made, gone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (clones, drops) = (made.clone(), gone.clone());
    let on_clone: Code = Arc::new(move |_| {
        clones.fetch_add(1, Ordering::SeqCst);
    });
    let on_drop: Code = Arc::new(move |_| {
        drops.fetch_add(1, Ordering::SeqCst);
    });
    let broker = Broker::new(1_000).unwrap();
    let (leaves, stays) = (broker.subscribe(500).unwrap(), broker.subscribe(5).unwrap());
    let app = running(&broker);
    for n in 0..1_000 {
        made.fetch_add(1, Ordering::SeqCst);
        broker
            .publish(Letter::new(n, &on_clone, &on_drop))
            .ok()
            .unwrap();
        if n == 700 {
            assert!(leaves.recv_timeout(PATIENCE).is_ok());
        }
    }
    wait_for("all are delivered", || {
        leaves.dropped() == 499 || broker.stats().queued == 0
    });
    wait_for("all are delivered", || broker.stats().queued == 0);
    wait_for("the last one, too", || stays.dropped() == 995);
    let before = broker.stats();
    drop(leaves);
    let after = broker.stats();
    assert_eq!(
        (before.delivered, before.dropped),
        (after.delivered, after.dropped)
    );
    assert!(app.stop().is_empty());
    drop((stays, broker, app));
    wait_for("all are dropped", || {
        gone.load(Ordering::SeqCst) == made.load(Ordering::SeqCst)
    });
}
