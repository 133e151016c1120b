//! Messages to every subscriber.
