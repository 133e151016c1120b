//! Tasks that run at the stop, and calls around somebody else's server.
