//! Worker pools beyond the rows of the conformance: what panics where, who waits for what, when a pool
//! closes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "pool/ends.rs"]
mod ends;
#[path = "pool/failures.rs"]
mod failures;
#[path = "pool/handles.rs"]
mod handles;
