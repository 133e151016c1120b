//! What all handles and subscriptions of a broker share.
//!
//! Locks are taken in the order members, mailbox; the inbox has one of its own. None is held while a
//! message is cloned or dropped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::BrokerStats;
use super::inbox::Inbox;
use super::subscription::{Mailbox, Overflow, Subscription, Tally};
use crate::Failure;

pub(super) struct Hub<T> {
    pub(super) inbox: Inbox<T>,
    members: Mutex<Members<T>>,
    /// Grows with each change of the members, for a look without the lock.
    changes: AtomicUsize,
}

struct Members<T> {
    /// In the order of subscribing.
    list: BTreeMap<u64, Arc<Mailbox<T>>>,
    subscribed: u64,
    closed: bool,
    /// Of those who have left.
    left: Tally,
}

impl<T> Hub<T> {
    pub(super) fn new(capacity: usize) -> Hub<T> {
        Hub {
            inbox: Inbox::new(capacity),
            members: Mutex::new(Members {
                list: BTreeMap::new(),
                subscribed: 0,
                closed: false,
                left: Tally::default(),
            }),
            changes: AtomicUsize::new(1),
        }
    }

    /// `None`: it is closed.
    pub(super) fn subscribe(
        hub: &Arc<Hub<T>>,
        capacity: usize,
        overflow: Overflow,
    ) -> Option<Subscription<T>> {
        let mailbox = Arc::new(Mailbox::new(capacity, overflow));
        let mut members = hub.members.lock();
        if members.closed {
            return None;
        }
        members.subscribed += 1;
        let id = members.subscribed;
        members.list.insert(id, mailbox.clone());
        hub.changes.fetch_add(1, Ordering::Release);
        drop(members);
        Some(Subscription::new(hub.clone(), id, mailbox))
    }

    /// The subscription is being dropped. What it has not read is dropped here.
    pub(super) fn leave(&self, id: u64, mailbox: &Mailbox<T>) {
        let mut members = self.members.lock();
        let (tally, unread) = mailbox.empty();
        if members.list.remove(&id).is_some() {
            members.left += tally;
            self.changes.fetch_add(1, Ordering::Release);
        }
        drop(members);
        drop_all(unread);
    }

    /// Everything is delivered, and nothing will be any more.
    pub(super) fn close_members(&self) {
        let mut members = self.members.lock();
        members.closed = true;
        for mailbox in std::mem::take(&mut members.list).into_values() {
            members.left += mailbox.close();
        }
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The members into `list`, if there was a change since `seen`.
    pub(super) fn refresh(&self, seen: &mut usize, list: &mut Vec<Arc<Mailbox<T>>>) {
        if self.changes.load(Ordering::Acquire) == *seen {
            return;
        }
        list.clear();
        let members = self.members.lock();
        *seen = self.changes.load(Ordering::Acquire);
        list.extend(members.list.values().cloned());
    }

    pub(super) fn stats(&self) -> BrokerStats {
        let members = self.members.lock();
        let mut tally = members.left;
        for mailbox in members.list.values() {
            tally += mailbox.tally();
        }
        let subscribers = members.list.len();
        drop(members);
        // Last, so that nothing is delivered here that was not published.
        let (published, queued) = self.inbox.counts();
        BrokerStats {
            subscribers,
            published,
            queued,
            delivered: tally.delivered,
            dropped: tally.dropped,
        }
    }
}

/// Drops messages. A `Drop` that panics keeps none of the others, and goes no further.
pub(super) fn drop_all<T>(mut messages: VecDeque<T>) {
    while Failure::catch(|| {
        while let Some(message) = messages.pop_front() {
            drop(message);
        }
    })
    .is_err()
    {}
}
