//! The rows of suture's list that need real threads. Those in virtual time are in the machine's
//! own tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

#[path = "suture/context.rs"]
mod context;
#[path = "suture/events.rs"]
mod events;
#[path = "suture/exits.rs"]
mod exits;
#[path = "suture/failures.rs"]
mod failures;
#[path = "suture/nested.rs"]
mod nested;
#[path = "suture/remove.rs"]
mod remove;
#[path = "suture/start.rs"]
mod start;
#[path = "suture/stop.rs"]
mod stop;
#[path = "suture/threads.rs"]
mod threads;
