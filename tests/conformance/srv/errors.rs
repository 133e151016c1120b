//! Several failures as one.
