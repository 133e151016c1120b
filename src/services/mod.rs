//! Services that nobody should have to write again: what a blocking daemon is made of.
//!
//! Each is a [`Service`](crate::Service) made of nothing but the public interface of this crate,
//! so it goes where any service goes, takes the same [`Spec`](crate::Spec), and is seen in the same
//! report. Those with methods of their own are cheap handles: add a clone, keep another.

mod clock;
mod crew;
mod handle;
mod job;
mod outcome;
mod pool;
mod queue;
mod refused;
mod select;

pub use handle::JobHandle;
pub use job::Job;
pub use pool::{DEFAULT_DRAIN, Drain, PoolStats, WorkerPool, WorkerPoolBuilder};
pub use queue::Queue;
pub use refused::{Closed, PopError, PushError};
