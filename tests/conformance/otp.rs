//! What backstay takes over from Erlang/OTP, row by row, on real threads. The rows in virtual time
//! are in the machine's own tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

#[path = "otp/admin.rs"]
mod admin;
#[path = "otp/bounds.rs"]
mod bounds;
#[path = "otp/members.rs"]
mod members;
#[path = "otp/nested.rs"]
mod nested;
#[path = "otp/order.rs"]
mod order;
#[path = "otp/ready.rs"]
mod ready;
#[path = "otp/report.rs"]
mod report;
#[path = "otp/restarts.rs"]
mod restarts;
#[path = "otp/sets.rs"]
mod sets;
#[path = "otp/significant.rs"]
mod significant;
#[path = "otp/stops.rs"]
mod stops;
