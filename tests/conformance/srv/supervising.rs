//! Orchestrators and groups: what a supervisor does for them.
