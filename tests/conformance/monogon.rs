//! What backstay takes over from monogon's and wormhole's supervisors, row by row, on real
//! threads. The rows in virtual time are in the machine's own tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

#[path = "monogon/answers.rs"]
mod answers;
#[path = "monogon/below.rs"]
mod below;
#[path = "monogon/groups.rs"]
mod groups;
#[path = "monogon/names.rs"]
mod names;
#[path = "monogon/noise.rs"]
mod noise;
#[path = "monogon/parents.rs"]
mod parents;
#[path = "monogon/stuck.rs"]
mod stuck;
#[path = "monogon/told.rs"]
mod told;
