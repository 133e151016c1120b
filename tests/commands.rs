//! Commands with real children that behave badly.
#![cfg(all(unix, feature = "process"))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "commands/death.rs"]
mod death;
#[path = "commands/ends.rs"]
mod ends;
#[path = "commands/output.rs"]
mod output;
#[path = "commands/resources.rs"]
mod resources;
