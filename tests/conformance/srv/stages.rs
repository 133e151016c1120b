//! A run and what follows it.
