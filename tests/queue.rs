//! `Queue` against a naive model, in every sequence of a few steps and in long random ones; and with
//! many threads at both ends.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use backstay::services::{PopError, PushError, Queue};
use common::{PATIENCE, Tally, wait_for};
use crossbeam_channel::unbounded;
use proptest::prelude::*;

/// The documentation of `Queue`, word by word.
#[derive(Clone)]
struct Model {
    items: VecDeque<usize>,
    soft: usize,
    hard: usize,
    credit: usize,
    closed: bool,
}

impl Model {
    fn push(&mut self, item: usize) -> Result<(), PushError<usize>> {
        if self.closed {
            return Err(PushError::Closed(item));
        }
        if self.items.len() == self.hard {
            return Err(PushError::Full(item));
        }
        if self.items.len() >= self.soft {
            if self.credit == 0 {
                return Err(PushError::NoCredit(item));
            }
            self.credit -= 1;
        }
        self.items.push_back(item);
        Ok(())
    }

    fn push_evicting(&mut self, item: usize) -> Result<Option<usize>, PushError<usize>> {
        match self.push(item) {
            Ok(()) => Ok(None),
            Err(PushError::Full(item) | PushError::NoCredit(item)) => {
                let evicted = self.items.pop_front();
                self.items.push_back(item);
                Ok(evicted)
            }
            Err(refused) => Err(refused),
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let item = self.items.pop_front()?;
        if self.items.len() < self.soft && self.credit < self.hard - self.soft {
            self.credit += 1;
        }
        Some(item)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Push,
    PushTimeout,
    Evict,
    Pop,
    PopTimeout,
    Drain,
    Close,
}

/// A queue and its model, which must agree.
struct Both {
    queue: Queue<usize>,
    model: Model,
    next: usize,
}

impl Both {
    fn new(soft: usize, hard: usize, credit: usize) -> Both {
        Both {
            queue: Queue::with_burst(soft, hard, credit).unwrap(),
            model: Model {
                items: VecDeque::new(),
                soft,
                hard,
                credit,
                closed: false,
            },
            next: 0,
        }
    }

    fn step(&mut self, step: Step) {
        self.next += 1;
        let item = self.next;
        let (queue, model) = (&self.queue, &mut self.model);
        match step {
            Step::Push => assert_eq!(queue.push(item), model.push(item)),
            Step::PushTimeout => {
                let expected = model.push(item).map_err(|refused| match refused {
                    PushError::Full(item) | PushError::NoCredit(item) => PushError::Timeout(item),
                    other => other,
                });
                assert_eq!(queue.push_timeout(item, Duration::ZERO), expected);
            }
            Step::Evict => assert_eq!(queue.push_evicting(item), model.push_evicting(item)),
            Step::Pop => assert_eq!(queue.pop(), model.pop()),
            Step::PopTimeout => {
                let expected = model.pop().ok_or(match model.closed {
                    true => PopError::Closed,
                    false => PopError::Timeout,
                });
                assert_eq!(queue.pop_timeout(Duration::ZERO), expected);
            }
            Step::Drain => {
                let is_empty = model.items.is_empty();
                assert_eq!(queue.drain(Duration::ZERO).is_ok(), is_empty);
            }
            Step::Close => {
                queue.close();
                model.closed = true;
            }
        }
        assert_eq!(queue.len(), model.items.len());
        assert_eq!(queue.is_empty(), model.items.is_empty());
        assert_eq!(queue.is_closed(), model.closed);
    }
}

#[test]
fn every_short_sequence_is_as_the_model_says() {
    const STEPS: [Step; 3] = [Step::Push, Step::Evict, Step::Pop];
    const LENGTH: u32 = 8;
    for hard in 1..=4 {
        for soft in 1..=hard {
            for credit in 0..=hard - soft {
                for mut sequence in 0..STEPS.len().pow(LENGTH) {
                    let mut both = Both::new(soft, hard, credit);
                    for _ in 0..LENGTH {
                        both.step(STEPS[sequence % STEPS.len()]);
                        sequence /= STEPS.len();
                    }
                }
            }
        }
    }
}

fn limits() -> impl Strategy<Value = (usize, usize, usize)> {
    (1..40_usize)
        .prop_flat_map(|hard| (1..=hard, Just(hard)))
        .prop_flat_map(|(soft, hard)| (Just(soft), Just(hard), 0..=hard - soft))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => Just(Step::Push),
        4 => Just(Step::PushTimeout),
        4 => Just(Step::Evict),
        18 => Just(Step::Pop),
        4 => Just(Step::PopTimeout),
        2 => Just(Step::Drain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    })]

    #[test]
    fn long_sequences_are_as_the_model_says(
        (soft, hard, credit) in limits(),
        steps in prop::collection::vec(step(), 0..400),
        after_close in prop::collection::vec(step(), 0..60),
    ) {
        let mut both = Both::new(soft, hard, credit);
        steps.into_iter().for_each(|step| both.step(step));
        both.step(Step::Close);
        after_close.into_iter().for_each(|step| both.step(step));
    }
}

fn wait_in_line(queue: &Queue<usize>, n: usize) {
    let wanted = format!("in_line: {n},");
    wait_for("so many wait for room", || {
        format!("{queue:?}").contains(&wanted)
    });
}

/// Whoever has waited longest gets in first; who pushes in between does not take the room away.
#[test]
fn room_goes_to_whoever_has_waited_longest() {
    let queue = Queue::new(1).unwrap();
    queue.push(0).unwrap();
    let pushing: Vec<_> = (1..=3)
        .map(|n| {
            let pushing = thread::spawn({
                let queue = queue.clone();
                move || queue.push_timeout(n, PATIENCE)
            });
            wait_in_line(&queue, n);
            pushing
        })
        .collect();
    for n in 0..=3 {
        assert_eq!(queue.pop(), Some(n));
        let refused = if n < 3 {
            Err(PushError::Full(9))
        } else {
            Ok(())
        };
        assert_eq!(queue.push(9), refused);
    }
    for pushing in pushing {
        assert_eq!(pushing.join().unwrap(), Ok(()));
    }
}

/// What one pop earns and what it frees may be room for two.
#[test]
fn credit_earned_lets_the_line_move_on() {
    let queue = Queue::with_burst(1, 2, 0).unwrap();
    queue.push(0).unwrap();
    let pushing = [1, 2].map(|n| {
        let queue = queue.clone();
        thread::spawn(move || queue.push_timeout(n, PATIENCE))
    });
    wait_in_line(&queue, 2);
    assert_eq!(queue.pop(), Some(0));
    for pushing in pushing {
        assert_eq!(pushing.join().unwrap(), Ok(()));
    }
    assert_eq!(queue.len(), 2);
}

/// A burst's memory is given back, and nothing of what waits is lost by that.
#[test]
fn queue_goes_on_after_a_burst() {
    let queue = Queue::new(usize::MAX).unwrap();
    for _ in 0..3 {
        for n in 0..5_000 {
            queue.push(n).unwrap();
        }
        for n in 0..5_000 {
            assert_eq!(queue.pop(), Some(n));
        }
        assert_eq!(queue.pop(), None);
    }
}

/// Pushers that wait, push or evict, poppers that wait or don't, and somebody who drains: every item
/// comes out once, and nobody sleeps on.
#[test]
fn threads_at_both_ends_lose_nothing() {
    const PUSHERS: usize = 4;
    const EACH: usize = 5_000;
    for (soft, hard, credit) in [(1, 1, 0), (1, 4, 0), (3, 3, 0), (2, 6, 4), (64, 64, 0)] {
        let queue = Queue::with_burst(soft, hard, credit).unwrap();
        let (out, outs) = unbounded();
        let poppers: Vec<_> = (0..3)
            .map(|n| {
                let (queue, out) = (queue.clone(), out.clone());
                thread::spawn(move || {
                    // One of them is impatient.
                    let patience = if n == 0 { Duration::ZERO } else { PATIENCE };
                    loop {
                        match queue.pop_timeout(patience) {
                            Ok(item) => out.send(item).unwrap(),
                            Err(PopError::Timeout) if n == 0 => thread::yield_now(),
                            Err(PopError::Timeout) => panic!("sleeps on"),
                            Err(PopError::Closed) => return,
                        }
                    }
                })
            })
            .collect();
        let pushers: Vec<_> = (0..PUSHERS)
            .map(|pusher| {
                let (queue, out) = (queue.clone(), out.clone());
                thread::spawn(move || {
                    for n in 0..EACH {
                        put(&queue, pusher * EACH + n, n, &out);
                    }
                })
            })
            .collect();
        let drainer = thread::spawn({
            let queue = queue.clone();
            move || (0..50).for_each(|_| queue.drain(PATIENCE).unwrap())
        });
        for thread in pushers.into_iter().chain([drainer]) {
            thread.join().unwrap();
        }
        queue.close();
        poppers.into_iter().for_each(|t| t.join().unwrap());
        drop(out);
        let mut all: Vec<usize> = outs.iter().collect();
        all.sort_unstable();
        let expected: Vec<usize> = (0..PUSHERS * EACH).collect();
        assert!(all == expected, "{} of {}", all.len(), expected.len());
    }
}

/// Puts an item in, in one of three ways; what is evicted is out.
fn put(queue: &Queue<usize>, item: usize, n: usize, out: &crossbeam_channel::Sender<usize>) {
    let mut item = item;
    loop {
        let refused = match n % 8 {
            0 => queue.push(item).err(),
            1 => match queue.push_evicting(item) {
                Ok(evicted) => {
                    evicted.into_iter().for_each(|e| out.send(e).unwrap());
                    None
                }
                Err(refused) => Some(refused),
            },
            _ => queue.push_timeout(item, PATIENCE).err(),
        };
        match refused {
            None => return,
            Some(PushError::Closed(_)) => panic!("still open"),
            Some(PushError::Timeout(_)) => panic!("sleeps on"),
            Some(refused) => item = refused.into_inner(),
        }
        thread::yield_now();
    }
}

/// Who gives up waiting at the very moment of an item or of room neither loses nor doubles it.
#[test]
fn who_times_out_loses_nothing() {
    let queue = Queue::new(1).unwrap();
    let (pushed, popped) = (Tally::new(), Tally::new());
    let moment = Duration::from_micros(20);
    let pushing = thread::spawn({
        let (queue, pushed) = (queue.clone(), pushed.clone());
        move || {
            for n in 0..20_000 {
                match queue.push_timeout(n, moment) {
                    Ok(()) => pushed.add(),
                    Err(refused) => assert_eq!(refused, PushError::Timeout(n)),
                }
            }
        }
    });
    let popping = thread::spawn({
        let (queue, popped) = (queue.clone(), popped.clone());
        move || {
            for _ in 0..20_000 {
                match queue.pop_timeout(moment) {
                    Ok(_) => popped.add(),
                    Err(e) => assert_eq!(e, PopError::Timeout),
                }
            }
        }
    });
    pushing.join().unwrap();
    popping.join().unwrap();
    assert_eq!(pushed.get(), popped.get() + queue.len() as u64);
}

/// A thread whose permission to park was left over from something else is not misled.
#[test]
fn stray_wake_ups_mislead_nobody() {
    let queue = Queue::<u8>::new(1).unwrap();
    let popping = thread::spawn({
        let queue = queue.clone();
        move || queue.pop_timeout(PATIENCE)
    });
    for _ in 0..100 {
        popping.thread().unpark();
        thread::yield_now();
    }
    queue.push(1).unwrap();
    assert_eq!(popping.join().unwrap(), Ok(1));

    queue.push(2).unwrap();
    let pushing = thread::spawn({
        let queue = queue.clone();
        move || queue.push_timeout(3, PATIENCE)
    });
    for _ in 0..100 {
        pushing.thread().unpark();
        thread::yield_now();
    }
    assert_eq!(queue.pop(), Some(2));
    assert_eq!(pushing.join().unwrap(), Ok(()));
    wait_for("it is in", || queue.len() == 1);
}
