//! The toolkit under load: many threads, failures and panics, a stop in the middle; everything is
//! accounted for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "toolkit_stress/broker.rs"]
mod broker;
#[cfg(feature = "net")]
#[path = "toolkit_stress/listener.rs"]
mod listener;
#[path = "toolkit_stress/pool.rs"]
mod pool;
