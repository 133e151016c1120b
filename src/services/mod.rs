//! Services that nobody should have to write again: what a blocking daemon is made of.
//!
//! Each is a [`Service`](crate::Service) made of nothing but the public interface of this crate,
//! so it goes where any service goes, takes the same [`Spec`](crate::Spec), and is seen in the same
//! report. Those with methods of their own are cheap handles: add a clone, keep another.
//!
//! | service | what it does |
//! |---|---|
//! | `Command` (feature `process`; unix, not OpenBSD) | a child process, its whole group, and its output in the log |
//! | `Listener` (feature `net`) | accepts connections, a supervised thread for each |

#[cfg(any(feature = "net", all(unix, feature = "process")))]
mod clock;
// OpenBSD has no waitid(2): nothing there waits for a child without reaping it.
#[cfg(all(unix, not(target_os = "openbsd"), feature = "process"))]
mod command;
mod crew;
#[cfg(feature = "net")]
mod listener;
#[cfg(all(unix, any(feature = "net", feature = "process")))]
mod poll;
mod refused;

#[cfg(all(unix, not(target_os = "openbsd"), feature = "process"))]
pub use command::{Command, CommandError, DEFAULT_KILL_AFTER, OUTPUT_LINE_BYTES_MAX};
#[cfg(feature = "net")]
pub use listener::{ConnectionError, DEFAULT_LINGER, DEFAULT_MAX_CONNECTIONS, Listener};
pub use refused::{Closed, PopError, PushError};
