//! What concerns a whole process: its limits, its panic strategy, its threads. Each in a process
//! of its own.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common_process;

mod process {
    #[cfg(feature = "signals")]
    mod ends;
    #[cfg(feature = "signals")]
    mod hangup;
    #[cfg(target_os = "linux")]
    mod maps;
    mod panic_abort;
    #[cfg(feature = "signals")]
    mod second_signal;
    #[cfg(feature = "signals")]
    mod signals;
    mod spawn;
    #[cfg(target_os = "linux")]
    mod threads;
}
