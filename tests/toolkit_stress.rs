//! The toolkit under load, with everything happening at once. Nothing may get lost, nothing may come
//! twice, to the last one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "toolkit_stress/broker.rs"]
mod broker;
#[cfg(feature = "net")]
#[path = "toolkit_stress/listener.rs"]
mod listener;
