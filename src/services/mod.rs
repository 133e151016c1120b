//! Services that nobody should have to write again: what a blocking daemon is made of.
//!
//! Each is a [`Service`](crate::Service) made of nothing but the public interface of this crate,
//! so it goes where any service goes, takes the same [`Spec`](crate::Spec), and is seen in the same
//! report. Those with methods of their own are cheap handles: add a clone, keep another.
//!
//! | service | what it does |
//! |---|---|
//! | [`Cleanup`] | holds tasks, and runs them at a stop, the last one first |
//! | [`Interruptible`] | a blocking call, and what makes it return |
//! | [`Interval`] | the same again and again, so often |
//! | [`Staged`] | run, shutdown, cleanup and error handler, in this order |
//! | [`Wait`] | several operations at once, until the last one has ended |

mod cleanup;
mod clock;
mod crew;
mod interruptible;
mod interval;
mod job;
mod outcome;
mod refused;
mod staged;
mod tasks;
mod wait;

pub use cleanup::{CLEANUP_TASKS_MAX, Cleanup, DEFAULT_TASK_TIMEOUT};
pub use interruptible::Interruptible;
pub use interval::{INTERVAL_PANICS_KEPT, Interval};
pub use job::Job;
pub use refused::{Closed, PopError, PushError};
pub use staged::Staged;
pub use tasks::CLEANUP_GIVEN_UP_MAX;
pub use wait::Wait;
