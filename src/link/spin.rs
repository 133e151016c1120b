//! A short look before a sleep.
//!
//! Waking a thread that sleeps takes 2 to 15 microseconds, many times what a restart or a reply
//! takes. So a wait that is likely to be short looks for a while before it sleeps; it is likely to
//! be short if the one before it was. Whoever waits for long sleeps at once the next time: a tree
//! that is idle, or that something happens to now and then, doesn't look.
//!
//! It gives way to other threads between looks, since they may be what it waits for. When they take
//! the processor for long, there are better uses for it than looking, and a sleeper that is woken
//! gets it back sooner than one that gave way.
//!
//! Tried and rejected: crossbeam's own backoff, which ends after about two microseconds, too early
//! for a restart; looking without giving way, which is ten times as slow on busy processors; looking
//! always, which costs a tree of a thousand supervisors 20 ms at its start.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::clock;

/// The longest look, and the longest wait that makes the next one look: two wake-ups and what a
/// service does between them.
const LOOK_MAX: Duration = Duration::from_micros(150);

/// How often it looks before it gives way to other threads between looks.
const EAGER_LOOKS: u32 = 64;

/// A longer absence after giving way means that others need the processor.
const YIELD_MAX: Duration = Duration::from_micros(5);

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
    let mut last = clock::now();
    while !ready() && last.saturating_duration_since(begun) <= LOOK_MAX {
        std::thread::yield_now();
        let now = clock::now();
        if now.saturating_duration_since(last) > YIELD_MAX {
            return;
        }
        last = now;
    }
}

/// No more look than there are processors, since they give way to others; on a single one nobody looks.
/// One less, so that a processor was left for those they wait for, made a removal that is waited for half as slow
/// again: its caller and the supervisor wait at the same time.
struct Permit;

static LOOKING: AtomicUsize = AtomicUsize::new(0);

impl Permit {
    fn take() -> Option<Permit> {
        static MAX: OnceLock<usize> = OnceLock::new();
        let max = *MAX.get_or_init(|| match std::thread::available_parallelism() {
            Ok(n) if n.get() > 1 => n.get(),
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
