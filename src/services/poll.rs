//! Waiting for descriptors: poll(2), with a deadline instead of a time.

use std::io;
#[cfg(feature = "process")]
use std::time::Duration;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::clock;

/// The deadline of a wait that begins now; `None` is never.
#[cfg(feature = "process")]
pub(super) fn after(time: Duration) -> Option<Instant> {
    clock::now().checked_add(time)
}

/// Blocks until something is to be read from one of them, or it is closed; `is_ready` tells which.
/// False: the deadline is there. Not before it, and signals don't matter.
pub(super) fn wait(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<bool> {
    loop {
        let left = until.map(|at| at.saturating_duration_since(clock::now()));
        // More than the type can say: for ever.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(fds, timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(true),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Something is to be read, or there is an end or an error to be met.
pub(super) fn is_ready(fd: &PollFd<'_>) -> bool {
    fd.revents()
        .intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)
}

/// For [`wait`].
pub(super) fn readable<F: std::os::fd::AsFd>(fd: &F) -> PollFd<'_> {
    PollFd::new(fd, PollFlags::IN)
}
