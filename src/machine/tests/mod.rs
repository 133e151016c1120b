//! The machine in virtual time: no thread, no clock, no sleep.
//!
//! - `harness`: a small world around one machine, for everything that reads as a story, and `told`:
//!   what was said in it;
//! - one file for each of the systems whose behaviours are listed in the conformance tables, with
//!   the rows' ids as names, and `regressions` for holes that were found and closed;
//! - `early`, `ends`, `views`: who was never ready, ends that meet something else, what is published;
//! - `admission`: which services with keys may be added; `waves`: one restart of several as data;
//! - `classify`: the table of what an end means, complete;
//! - `differential`: the same histories here and in Erlang/OTP;
//! - `graph`, `graph_stops`, `graph_regressions`, `graphs`: services that provide for each other;
//! - `exhaustive`: every reachable state of small machines, with the design's rules as invariants;
//! - `model`: long random histories against a naive model.

mod admission;
mod backoff;
mod classify;
mod differential;
mod early;
mod ends;
mod exhaustive;
mod graph;
mod graph_regressions;
mod graph_stops;
mod graphs;
mod harness;
mod limits;
mod model;
mod niki;
mod otp;
mod regressions;
mod renewals;
mod requests;
mod sets;
mod shutdown;
mod suture;
mod told;
mod views;
mod waves;
