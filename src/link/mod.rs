//! What a service's thread and its supervisor share. Nothing here runs user code or blocks while
//! it holds a lock.

pub(crate) mod cell;
pub(crate) mod clock;
pub(crate) mod fact;
pub(crate) mod hub;
pub(crate) mod lane;
pub(crate) mod licence;
pub(crate) mod life;
pub(crate) mod shelf;
pub(crate) mod sleepers;
pub(crate) mod spin;
pub(crate) mod waker;
