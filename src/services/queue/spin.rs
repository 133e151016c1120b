//! A short look before a sleep: under load what a thread waits for is there sooner than the system
//! could put it to sleep and wake it up.

/// Rounds of looking, each twice as long as the one before: about a microsecond in all.
const ROUNDS: u32 = 6;

/// How often it then gives way to other threads, which may be those it waits for.
const YIELDS: u32 = 4;

/// Returns when it is there, or it is time to sleep.
pub(super) fn look(is_there: impl Fn() -> bool) {
    for round in 0..ROUNDS {
        for _ in 0..1 << round {
            std::hint::spin_loop();
        }
        if is_there() {
            return;
        }
    }
    for _ in 0..YIELDS {
        std::thread::yield_now();
        if is_there() {
            return;
        }
    }
}
