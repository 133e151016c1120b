//! Everything that user code can do wrong, on real threads: the tree goes on, says so, and stops
//! in time. Each test makes its fault several times in a process of its own and then finds no
//! thread, descriptor or map more than before.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "faults/api.rs"]
mod api;
#[path = "faults/deadlines.rs"]
mod deadlines;
#[path = "faults/drops.rs"]
mod drops;
#[path = "faults/hangs.rs"]
mod hangs;
#[path = "faults/panics.rs"]
mod panics;
#[path = "faults/payloads.rs"]
mod payloads;
#[path = "faults/quiet.rs"]
mod quiet;
#[path = "faults/states.rs"]
mod states;
