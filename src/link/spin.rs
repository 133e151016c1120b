//! A short look before a sleep.
//!
//! Waking a thread that sleeps takes 2 to 15 microseconds, many times what a restart or a reply
//! takes. So a wait that is likely to be short looks for a while before it sleeps; it is likely to
//! be short if the one before it was. Whoever waits for long sleeps at once the next time: a tree
//! that is idle, or that something happens to now and then, doesn't look.
//!
//! It gives way to other threads between looks, since they may be what it waits for: when each of
//! several callers is served by the same supervisor, giving way is all the waking there is. A thread that
//! needs the processor for long, of this process or of another, keeps it for some milliseconds then,
//! while a sleeper that is woken gets it back soon. So after that nobody gives way for a while.
//!
//! Tried and rejected: crossbeam's own backoff, which ends after about two microseconds, too early
//! for a restart; looking without giving way, which is ten times as slow on busy processors; looking
//! always, which costs a tree of a thousand supervisors 20 ms at its start; to sleep as soon as another
//! thread has taken the processor for more than a few microseconds, which made four callers at a time a
//! third slower than one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::clock;

/// The longest look, and the longest wait that makes the next one look: two wake-ups and what a
/// service does between them.
const LOOK_MAX: Duration = Duration::from_micros(150);

/// How often it looks before it gives way to other threads between looks.
const EAGER_LOOKS: u32 = 64;

/// A longer absence after giving way means that others need the processor, for more than what a
/// service or a supervisor does between two waits.
const AWAY_MAX: Duration = Duration::from_micros(1_000);

/// Nobody gives way in so many looks after that: what they would have saved is about what was lost, if
/// it was the three milliseconds of a time slice.
const LOOKS_CUT_SHORT: usize = 256;

/// Remembers whether the waits at one place are short.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    last_was_short: bool,
}

impl Spin {
    /// The first wait is expected to be short.
    pub(crate) fn expecting() -> Spin {
        Spin {
            last_was_short: true,
        }
    }

    /// Calls `sleep`, which waits until `ready` is true or something else happens; before it looks
    /// for `ready`, if that is worth it.
    pub(crate) fn wait<R>(&mut self, ready: impl Fn() -> bool, sleep: impl FnOnce() -> R) -> R {
        let begun = clock::now();
        if self.last_was_short {
            look_since(begun, ready);
        }
        let answer = sleep();
        self.last_was_short = clock::now().saturating_duration_since(begun) <= LOOK_MAX;
        answer
    }
}

/// Looks for something that is very likely to come soon. Returns when it is there, or it is time to
/// sleep.
pub(crate) fn look(ready: impl Fn() -> bool) {
    if !ready() {
        look_since(clock::now(), ready);
    }
}

fn look_since(begun: Instant, ready: impl Fn() -> bool) {
    let Some(_permit) = Permit::take() else {
        return;
    };
    for _ in 0..EAGER_LOOKS {
        if ready() {
            return;
        }
        std::hint::spin_loop();
    }
    if CUT.is_on() {
        return;
    }
    let mut last = clock::now();
    while !ready() && last.saturating_duration_since(begun) <= LOOK_MAX {
        std::thread::yield_now();
        let now = clock::now();
        if now.saturating_duration_since(last) > AWAY_MAX {
            CUT.begin();
            return;
        }
        last = now;
    }
}

static CUT: Cut = Cut(AtomicUsize::new(0));

/// How many looks from now on don't give way.
struct Cut(AtomicUsize);

impl Cut {
    fn begin(&self) {
        self.0.store(LOOKS_CUT_SHORT, Ordering::Relaxed);
    }

    /// Whether the look that asks is one of them.
    fn is_on(&self) -> bool {
        let one_less = |n: usize| n.checked_sub(1);
        // As a rule nothing is written.
        self.0.load(Ordering::Relaxed) > 0
            && self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
                .is_ok()
    }
}

/// Only so many look at a time; on a single processor nobody does. With one for each processor, four
/// callers at a time were a third slower than one; without a limit a thousand services that fail take
/// a tenth more of the processors.
const PERMITS_PER_PROCESSOR: usize = 3;

struct Permit;

static LOOKING: AtomicUsize = AtomicUsize::new(0);

impl Permit {
    fn take() -> Option<Permit> {
        static MAX: OnceLock<usize> = OnceLock::new();
        let max = *MAX.get_or_init(|| match std::thread::available_parallelism() {
            Ok(n) if n.get() > 1 => n.get().saturating_mul(PERMITS_PER_PROCESSOR),
            Ok(_) | Err(_) => 0,
        });
        if LOOKING.fetch_add(1, Ordering::Relaxed) < max {
            return Some(Permit);
        }
        LOOKING.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        LOOKING.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_ends_after_so_many_looks() {
        let cut = Cut(AtomicUsize::new(0));
        assert!(!cut.is_on());
        for _ in 0..2 {
            cut.begin();
            assert!((0..LOOKS_CUT_SHORT).all(|_| cut.is_on()));
            assert!(!cut.is_on());
            assert!(!cut.is_on());
        }
    }
}
