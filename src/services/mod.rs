//! Services that nobody should have to write again: what a blocking daemon is made of.
//!
//! Each is a [`Service`](crate::Service) made of nothing but the public interface of this crate,
//! so it goes where any service goes, takes the same [`Spec`](crate::Spec), and is seen in the same
//! report. Those with methods of their own are cheap handles: add a clone, keep another.
//!
//! | service | what it does |
//! |---|---|
//! | [`Broker`] | every message to every subscriber, and waits for none of them |

mod broker;
mod clock;
mod crew;
mod refused;

pub use broker::{Broker, BrokerStats, Overflow, Subscription};
pub use refused::{Closed, PopError, PushError};
