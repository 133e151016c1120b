//! What backstay takes over from juju's dependency engine and its Runner, row by row, on real
//! threads. The rows in virtual time are in `src/machine/tests`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

#[path = "juju/adding.rs"]
mod adding;
#[path = "juju/answers.rs"]
mod answers;
#[path = "juju/bounces.rs"]
mod bounces;
#[path = "juju/changes.rs"]
mod changes;
#[path = "juju/fatal.rs"]
mod fatal;
#[path = "juju/parts.rs"]
mod parts;
#[path = "juju/refusals.rs"]
mod refusals;
#[path = "juju/removal.rs"]
mod removal;
#[path = "juju/report.rs"]
mod report;
#[path = "juju/setup.rs"]
mod setup;
#[path = "juju/stops.rs"]
mod stops;
#[path = "juju/values.rs"]
mod values;
#[path = "juju/wanted.rs"]
mod wanted;
