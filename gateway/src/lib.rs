//! A telemetry gateway as it ships on an embedded Linux box: devices send lines over TCP, UDP and a
//! serial line, the lines go into SQLite, and batches of them to a peer. See its README.
//!
//! Read [`tree`] first: it is the whole on one page. Each service is a function of what they share
//! ([`tree::Gateway`]) and its context.

pub mod config;
pub mod demo;
pub mod http;
pub mod intake;
pub mod line;
pub mod store;
pub mod terminal;
pub mod tree;
pub mod trouble;
pub mod upkeep;
pub mod upload;
