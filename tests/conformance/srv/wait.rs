//! Operations that run at the same time.
