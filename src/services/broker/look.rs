//! A short look before a sleep, as crossbeam's channels take it: waking a thread that sleeps takes
//! many times as long as most of what a broker waits for.

/// How often it looks, each time after twice as many pauses of the processor.
const EAGER_LOOKS: u32 = 7;

/// How often it looks after that, giving way to other threads in between.
const PATIENT_LOOKS: u32 = 4;

/// Returns when `ready` is true, or it is time to sleep: after a few microseconds.
pub(super) fn look(ready: impl Fn() -> bool) {
    for round in 0..EAGER_LOOKS {
        if ready() {
            return;
        }
        for _ in 0..1 << round {
            std::hint::spin_loop();
        }
    }
    for _ in 0..PATIENT_LOOKS {
        if ready() {
            return;
        }
        std::thread::yield_now();
    }
}
