//! Bounded queues with credit.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use backstay::services::{PopError, PushError, Queue};
use backstay::{Error, ErrorKind};
use crossbeam_channel::unbounded;

use crate::common::watch::SOON;
use crate::common::{HOUR, PATIENCE, Tally, ms, pass, take, timed, wait_for};

#[test]
fn queue_refuses_at_its_hard_limit() {
    let queue = Queue::new(3).unwrap();
    for item in ["a", "b", "c"] {
        queue.push(item).unwrap();
    }
    let refused = queue.push("d").unwrap_err();
    assert_eq!(refused, PushError::Full("d"));
    assert_eq!(refused.into_inner(), "d");
    assert_eq!(queue.len(), 3);
    let popped = [queue.pop(), queue.pop(), queue.pop(), queue.pop()];
    assert_eq!(popped, [Some("a"), Some("b"), Some("c"), None]);
    assert!(queue.is_empty());
}

#[test]
fn queue_burst_costs_credit() {
    let queue = Queue::with_burst(2, 4, 1).unwrap();
    for n in 1..=3 {
        queue.push(n).unwrap();
    }
    assert_eq!(queue.push(4), Err(PushError::NoCredit(4)));
    // One leaves 2 items, one leaves 1, one leaves none.
    for n in 1..=3 {
        assert_eq!(queue.pop(), Some(n));
    }
    for n in 1..=4 {
        queue.push(n).unwrap();
    }
    assert_eq!(queue.push(5), Err(PushError::Full(5)));
}

#[test]
fn queue_limits_are_validated() {
    let refusals: [(Result<Queue<u8>, Error>, &str); 5] = [
        (Queue::new(0), "hard"),
        (Queue::with_burst(3, 2, 0), "soft"),
        (Queue::with_burst(0, 2, 1), "soft"),
        (Queue::with_burst(2, 4, 3), "credit"),
        (Queue::with_burst(1, usize::MAX, usize::MAX), "credit"),
    ];
    for (refusal, field) in refusals {
        let refusal = refusal.unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Invalid);
        assert!(refusal.to_string().starts_with(field), "{refusal}");
    }
    let queue = Queue::with_burst(2, 2, 0).unwrap();
    for _ in 0..3 {
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        assert_eq!(queue.push(3), Err(PushError::Full(3)));
        assert_eq!((queue.pop(), queue.pop()), (Some(1), Some(2)));
    }
}

#[test]
fn queue_push_timeout_waits_for_room() {
    let queue = Queue::new(1).unwrap();
    queue.push("first").unwrap();
    let popper = queue.clone();
    let (result, took) = timed(|| {
        let popping = thread::spawn(move || {
            pass(ms(100));
            popper.pop()
        });
        let result = queue.push_timeout("second", PATIENCE);
        assert_eq!(popping.join().unwrap(), Some("first"));
        result
    });
    assert_eq!(result, Ok(()));
    assert!((ms(100)..SOON).contains(&took), "{took:?}");

    let (result, took) = timed(|| queue.push_timeout("third", ms(100)));
    assert_eq!(result, Err(PushError::Timeout("third")));
    assert!((ms(100)..SOON).contains(&took), "{took:?}");
    let (result, took) = timed(|| queue.push_timeout("fourth", Duration::ZERO));
    assert_eq!(result, Err(PushError::Timeout("fourth")));
    assert!(took < SOON, "{took:?}");
    // Who gave up left nothing behind.
    assert_eq!((queue.pop(), queue.pop()), (Some("second"), None));
}

#[test]
fn queue_close_wakes_everybody() {
    let (full, empty) = (Queue::new(1).unwrap(), Queue::<u8>::new(1).unwrap());
    full.push("kept").unwrap();
    let (told, tells) = unbounded();
    let (pushers, poppers) = (full.clone(), empty.clone());
    let pusher_told = told.clone();
    thread::spawn(move || {
        let result = pushers.push_timeout("x", HOUR);
        pusher_told.send(format!("{:?}", result.map_err(PushError::into_inner)))
    });
    for _ in 0..2 {
        let (told, popper) = (told.clone(), poppers.clone());
        thread::spawn(move || told.send(format!("{:?}", popper.pop_timeout(HOUR))));
    }
    // Asleep by then, most likely; the case holds also if they are not.
    pass(ms(50));
    let ((), took) = timed(|| {
        full.close();
        empty.close();
    });
    let mut answers = [take(&tells), take(&tells), take(&tells)];
    answers.sort();
    assert_eq!(answers, ["Err(\"x\")", "Err(Closed)", "Err(Closed)"]);
    assert!(took < SOON, "{took:?}");
    assert_eq!(full.push("late"), Err(PushError::Closed("late")));
    assert_eq!(full.push_evicting("late"), Err(PushError::Closed("late")));
    assert_eq!(full.pop_timeout(HOUR), Ok("kept"));
    assert_eq!(full.pop_timeout(HOUR), Err(PopError::Closed));
    assert_eq!(full.pop(), None);
    full.close();
    assert!(full.is_closed() && empty.is_closed());
}

#[test]
fn queue_wakes_one_popper_per_push() {
    const ROUNDS: u32 = 1000;
    let queue = Queue::new(10).unwrap();
    let (got, gets) = unbounded();
    let next_round = Arc::new(Barrier::new(3));
    let poppers = [(); 2].map(|()| {
        let (got, queue, next_round) = (got.clone(), queue.clone(), next_round.clone());
        thread::spawn(move || {
            for _ in 0..ROUNDS {
                got.send(queue.pop_timeout(PATIENCE)).unwrap();
                next_round.wait();
            }
        })
    });
    for round in 0..ROUNDS {
        // No pause between them: each must wake another one.
        queue.push(round).unwrap();
        queue.push(round).unwrap();
        assert_eq!((take(&gets), take(&gets)), (Ok(round), Ok(round)));
        next_round.wait();
    }
    for popper in poppers {
        popper.join().unwrap();
    }
}

#[test]
fn queue_drain_refuses_until_empty() {
    let queue = Queue::new(10).unwrap();
    for n in 0..10 {
        queue.push(n).unwrap();
    }
    let blocked = in_thread(&queue, |queue| queue.push_timeout(10, HOUR));
    let draining = in_thread(&queue, |queue| queue.drain(PATIENCE));
    wait_for("the drain has begun", || match queue.push(10) {
        Err(PushError::Draining(10)) => true,
        Err(PushError::Full(10)) => false,
        other => panic!("{other:?}"),
    });
    // It ends the wait for room, too.
    assert_eq!(blocked.join().unwrap(), Err(PushError::Draining(10)));
    let (popped, count) = (Tally::new(), Tally::new());
    let counting = popped.clone();
    let consuming = in_thread(&queue, move |queue| {
        for n in 0..10 {
            pass(ms(5));
            counting.add();
            assert_eq!(queue.pop(), Some(n));
        }
    });
    while let Err(refused) = queue.push(11) {
        assert_eq!(refused, PushError::Draining(11));
        count.add();
    }
    assert_eq!(popped.get(), 10);
    assert!(count.get() > 0);
    draining.join().unwrap().unwrap();
    consuming.join().unwrap();

    let (result, took) = timed(|| queue.drain(ms(50)));
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Timeout);
    assert!((ms(50)..SOON).contains(&took), "{took:?}");
    queue.push(12).unwrap();
    assert_eq!((queue.pop(), queue.pop()), (Some(11), Some(12)));
    queue.drain(Duration::ZERO).unwrap();
}

fn in_thread<T: Send + 'static, R: Send + 'static>(
    queue: &Queue<T>,
    f: impl FnOnce(&Queue<T>) -> R + Send + 'static,
) -> thread::JoinHandle<R> {
    let queue = queue.clone();
    thread::spawn(move || f(&queue))
}

#[test]
fn queue_of_any_bound_costs_nothing_empty() {
    // Room for so many would be more than there is memory.
    let queue = Queue::new(usize::MAX).unwrap();
    for n in 0..10_000_u64 {
        queue.push([n; 16]).unwrap();
    }
    assert_eq!(queue.len(), 10_000);
    let queue = Queue::with_burst(1, usize::MAX, usize::MAX - 1).unwrap();
    for n in 0..10_000 {
        queue.push(n).unwrap();
    }
    assert_eq!(queue.pop(), Some(0));
}
