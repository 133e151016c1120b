//! Toolkit handles by key.
