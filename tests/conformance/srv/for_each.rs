//! The same work for every item of a source.
