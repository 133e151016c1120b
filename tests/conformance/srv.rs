//! What backstay takes over from fun/srv, row by row: the toolkit.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

#[path = "srv/broker.rs"]
mod broker;
#[path = "srv/cleanup.rs"]
mod cleanup;
#[cfg(all(unix, feature = "process"))]
#[path = "srv/commands.rs"]
mod commands;
#[path = "srv/errors.rs"]
mod errors;
#[path = "srv/for_each.rs"]
mod for_each;
#[path = "srv/intervals.rs"]
mod intervals;
#[path = "srv/keys.rs"]
mod keys;
#[cfg(feature = "net")]
#[path = "srv/listener.rs"]
mod listener;
#[path = "srv/pools.rs"]
mod pools;
#[path = "srv/queues.rs"]
mod queues;
#[path = "srv/stages.rs"]
mod stages;
#[path = "srv/supervising.rs"]
mod supervising;
#[path = "srv/wait.rs"]
mod wait;
