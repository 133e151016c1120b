//! Services that nobody should have to write again: what a blocking daemon is made of.
//!
//! Each is a [`Service`](crate::Service) made of nothing but the public interface of this crate,
//! so it goes where any service goes, takes the same [`Spec`](crate::Spec), and is seen in the same
//! report. Those with methods of their own are cheap handles: add a clone, keep another.
//!
//! | service | what it does |
//! |---|---|
//! | [`Broker`] | every message to every subscriber, and nobody waits for a slow one |
//! | [`Cleanup`] | holds tasks, and runs them at a stop, the last one first |
//! | `Command` (feature `process`; unix, not OpenBSD) | a child process, its whole group, and its output in the log |
//! | [`ForEach`] | something done with every item of an iterator or a channel, by several threads |
//! | [`Interruptible`] | a blocking call, and what makes it return |
//! | [`Interval`] | the same again and again, so often |
//! | `Listener` (feature `net`) | accepts connections, a supervised thread for each |
//! | [`Staged`] | run, shutdown, cleanup and error handler, in this order |
//! | [`Wait`] | several operations at once, until the last one has ended |
//! | [`WorkerPool`] | jobs from a bounded queue, done by several threads |
//!
//! Without being services themselves: [`Queue`] is the bounded queue of a pool, for other uses, too; a
//! [`Job`] is what is in it, and a [`JobHandle`] the claim to what that answers.

mod broker;
mod cleanup;
mod clock;
// OpenBSD has no waitid(2): nothing there waits for a child without reaping it.
#[cfg(all(unix, not(target_os = "openbsd"), feature = "process"))]
mod command;
mod crew;
mod for_each;
mod handle;
mod interruptible;
mod interval;
mod job;
#[cfg(feature = "net")]
mod listener;
mod outcome;
#[cfg(all(unix, any(feature = "net", feature = "process")))]
mod poll;
mod pool;
mod queue;
mod refused;
mod select;
mod staged;
mod tasks;
mod wait;

pub use broker::{Broker, BrokerStats, Overflow, Subscription};
pub use cleanup::{CLEANUP_TASKS_MAX, Cleanup, DEFAULT_TASK_TIMEOUT};
#[cfg(all(unix, not(target_os = "openbsd"), feature = "process"))]
pub use command::{Command, CommandError, DEFAULT_KILL_AFTER, OUTPUT_LINE_BYTES_MAX};
pub use for_each::ForEach;
pub use handle::JobHandle;
pub use interruptible::Interruptible;
pub use interval::{INTERVAL_PANICS_KEPT, Interval};
pub use job::Job;
#[cfg(feature = "net")]
pub use listener::{ConnectionError, DEFAULT_LINGER, DEFAULT_MAX_CONNECTIONS, Listener};
pub use pool::{DEFAULT_DRAIN, Drain, PoolStats, WorkerPool, WorkerPoolBuilder};
pub use queue::Queue;
pub use refused::{Closed, PopError, PushError};
pub use staged::Staged;
pub use tasks::CLEANUP_GIVEN_UP_MAX;
pub use wait::Wait;
