//! The broker beyond its rows of the conformance tests: when it closes, what messages may do in their own
//! code, who waits for whom.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

mod broker {
    mod closing;
    mod messages;
    mod restarts;
    mod waits;
}
