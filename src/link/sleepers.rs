//! Threads that wait for a change of what a lock protects.
//!
//! What a condition variable does, with the list of those that wait inside the lock: whoever changes
//! something takes the list and wakes its threads after it has let go of the lock. A condition
//! variable of parking_lot keeps some 400 bytes for each thread that has ever waited, in a table for
//! all of them; one of the standard library makes a system call at each change, though nobody waits.

use std::thread::{self, Thread};
use std::time::Instant;

use parking_lot::MutexGuard;

use super::clock;

#[derive(Default)]
pub(crate) struct Sleepers(Vec<Thread>);

/// What a lock protects, if threads wait for its changes.
pub(crate) trait Watched {
    fn sleepers(&mut self) -> &mut Sleepers;
}

/// Lets go of the lock, waits and takes it again: after a change, at the deadline, or without a
/// reason. True: the deadline is there.
pub(crate) fn sleep<T: Watched>(guard: &mut MutexGuard<'_, T>, until: Option<Instant>) -> bool {
    let own = thread::current();
    guard.sleepers().0.push(own.clone());
    MutexGuard::unlocked(guard, || match until {
        None => thread::park(),
        Some(at) => thread::park_timeout(at.saturating_duration_since(clock::now())),
    });
    guard.sleepers().0.retain(|t| t.id() != own.id());
    until.is_some_and(|at| at <= clock::now())
}

/// Lets go of the lock and wakes everybody who waits.
pub(crate) fn wake<T: Watched>(mut guard: MutexGuard<'_, T>) {
    let sleepers = std::mem::take(guard.sleepers());
    drop(guard);
    for thread in sleepers.0 {
        thread.unpark();
    }
}
