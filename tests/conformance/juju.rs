//! What backstay takes over from juju's dependency engine and its Runner, row by row, on real
//! threads. The rows in virtual time are in `src/machine/tests`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
