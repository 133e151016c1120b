//! Work at intervals.
