//! backstay
#![forbid(unsafe_code)]
mod error; mod event; mod exit; mod failure; mod id; mod machine; mod report;
