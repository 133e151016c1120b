//! The one who has the turn: hands out what was accepted.
//!
//! It takes some messages at a time and gives each subscriber all of them at once: a lock and a wake-up
//! for many messages cost little more than for one. But only as many as are handed out in no time: the
//! first of them waits until the others are cloned, and so does a stop. Where it stands is kept outside of the code that
//! may panic, which is the messages' own; after a panic it goes on with the next message.

use std::sync::Arc;
use std::time::Duration;

use super::hub::Hub;
use super::inbox::Turn;
use super::subscription::Mailbox;
use crate::services::clock;
use crate::{Context, Failure};

/// How many messages are handed out together at most, if so many wait.
const TOGETHER_MAX: usize = 64;

/// When that takes longer, fewer are handed out together the next time.
const HAND_OUT_MAX: Duration = Duration::from_millis(1);

/// How it ended.
pub(super) enum Ended {
    Stopped,
    Closed,
}

/// Closes a broker. If nobody delivers, what was accepted is delivered here; else whoever does so sees
/// to it.
pub(super) fn close<T: Clone>(hub: &Hub<T>) {
    if hub.inbox.close() {
        drop(Delivery::new(hub));
    }
}

/// Has the turn; dropping it gives it back. Finishes what it has in hand first.
struct Delivery<'a, T: Clone> {
    hub: &'a Hub<T>,
    members: Vec<Arc<Mailbox<T>>>,
    /// The change of the members that it has seen.
    seen: usize,
    /// How many messages to hand out together.
    together: usize,
    /// What is being handed out.
    hand: Vec<T>,
    /// To whom: the place in `members`.
    to: usize,
    /// What was cloned for them.
    copies: Vec<T>,
    /// How many of the clones for them have panicked.
    failed: usize,
    /// A message's `Clone` is running.
    cloning: bool,
    /// What nobody will read, to be dropped.
    lost: Vec<T>,
}

/// One incarnation.
pub(super) fn run<T: Clone + Send + 'static>(hub: &Arc<Hub<T>>, ctx: &Context) -> Ended {
    let waker = hub.clone();
    let _woken = ctx.on_stop(move || waker.inbox.wake());
    if hub.inbox.is_taken() {
        ctx.log("waits: the broker's messages are being delivered elsewhere");
    }
    match hub.inbox.claim(|| ctx.is_stopping()) {
        Turn::Mine => Delivery::new(hub).until_stopped(ctx),
        Turn::Closed => Ended::Closed,
        Turn::GaveUp => Ended::Stopped,
    }
}

impl<'a, T: Clone> Delivery<'a, T> {
    /// For whoever has the turn.
    fn new(hub: &'a Hub<T>) -> Delivery<'a, T> {
        Delivery {
            hub,
            members: Vec::new(),
            seen: 0,
            together: 1,
            hand: Vec::new(),
            to: 0,
            copies: Vec::new(),
            failed: 0,
            cloning: false,
            lost: Vec::new(),
        }
    }

    fn until_stopped(mut self, ctx: &Context) -> Ended {
        let mut told = false;
        let mut tell = |panic: Failure| {
            if !std::mem::replace(&mut told, true) {
                ctx.log(format!("a message could not be cloned or dropped: {panic}"));
            }
        };
        while !ctx.is_stopping() {
            if self.take(usize::MAX, || ctx.is_stopping()) == 0 {
                break;
            }
            self.hand_out(&mut tell);
        }
        if !ctx.is_stopping() {
            return Ended::Closed;
        }
        // At a stop for good: what is accepted by now, and no more, or busy publishers would keep it for
        // ever. Before a restart the rest can wait.
        let for_good = ctx.stop_cause().is_none_or(|cause| cause.is_final());
        let (_, mut left) = match for_good {
            true => self.hub.inbox.counts(),
            false => (0, 0),
        };
        while left > 0 {
            let taken = self.take(left, || true);
            self.hand_out(&mut tell);
            left = if taken == 0 { 0 } else { left - taken };
        }
        Ended::Stopped
    }

    /// Takes as many as may be handed out together, and no more than `max`.
    fn take(&mut self, max: usize, give_up: impl Fn() -> bool) -> usize {
        let max = max.min(self.together);
        self.hub.inbox.take(&mut self.hand, max, give_up)
    }

    /// Hands out what it has in hand, whatever the messages' own code does. `panicked` is told.
    fn hand_out(&mut self, panicked: &mut dyn FnMut(Failure)) {
        let (begun, many) = (clock::now(), self.hand.len());
        self.hand_out_all(panicked);
        if clock::now().saturating_duration_since(begun) > HAND_OUT_MAX {
            self.together = (self.together / 2).max(1);
        } else if many == self.together {
            self.together = (self.together * 2).min(TOGETHER_MAX);
        }
    }

    fn hand_out_all(&mut self, panicked: &mut dyn FnMut(Failure)) {
        self.hub.refresh(&mut self.seen, &mut self.members);
        self.to = 0;
        while let Err(panic) = Failure::catch(|| self.go_on()) {
            if std::mem::take(&mut self.cloning) {
                self.failed += 1;
                if let Some(member) = self.members.get(self.to) {
                    member.lose();
                }
            }
            panicked(panic);
        }
    }

    /// From where it stands.
    fn go_on(&mut self) {
        self.drop_lost();
        while let Some(member) = self.members.get(self.to) {
            if self.to + 1 < self.members.len() {
                self.cloning = true;
                // A clone that panics leaves those before it in place.
                let rest = self.hand.get(self.copies.len() + self.failed..);
                self.copies.extend(rest.unwrap_or_default().iter().cloned());
                self.cloning = false;
                member.offer(&mut self.copies, &mut self.lost);
            } else {
                // The last one needs no clone.
                member.offer(&mut self.hand, &mut self.lost);
            }
            self.failed = 0;
            self.to += 1;
            self.drop_lost();
        }
        // With nobody there.
        self.lost.append(&mut self.hand);
        self.drop_lost();
    }

    /// One after the other: two that panic at once would abort the process.
    fn drop_lost(&mut self) {
        while let Some(message) = self.lost.pop() {
            drop(message);
        }
    }
}

impl<T: Clone> Drop for Delivery<'_, T> {
    fn drop(&mut self) {
        if self.hub.inbox.end_turn() {
            return;
        }
        while self.take(usize::MAX, || true) > 0 {
            self.hand_out(&mut drop);
        }
        self.hub.close_members();
    }
}
