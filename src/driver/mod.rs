//! The supervisor thread: waits for the next input, steps the machine, carries out its commands.
//!
//! ```text
//! service threads --- ends, ready ----> facts (unbounded) ---+
//! stop requests, parents --- levels --> facts (wake-up) -----+--> inbox --> machine.step
//! callers ------------ tickets -------> commands (bounded) --+                |
//!                                       time (deadline) -----+                v
//!   service threads <--- orders, stop signals ------------------------ commands
//!   cells, board    <--- published before anything is answered or started ---+
//!   events          <--- subscribers directly, observers by the dispatcher --+
//! ```
//!
//! A service whose failures nobody counts, delays or shares is started again by its own thread, and the
//! supervisor catches up later: see [`licence`](crate::link::licence).
//!
//! It runs no user code, joins nobody, and never waits but in its inbox.

pub(crate) mod below;
pub(crate) mod board;
pub(crate) mod body;
mod carry;
mod catch;
pub(crate) mod core;
mod detach;
pub(crate) mod discard;
pub(crate) mod dispatch;
mod engine;
mod fence;
mod filter;
pub(crate) mod finish;
mod inbox;
mod launch;
pub(crate) mod limits;
pub(crate) mod mark;
mod orders;
pub(crate) mod panic;
mod publish;
mod renew;
pub(crate) mod request;
mod rest;
mod run;
mod start;
pub(crate) mod stop;
mod thread;
pub(crate) mod view;

pub(crate) use start::{run_nested, run_root, start_root};
