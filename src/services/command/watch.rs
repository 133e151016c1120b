//! A descriptor that becomes readable when the child has ended, without reaping it.
//!
//! On Linux that is a pidfd (5.3 and newer). Where there is none, a thread below the service waits
//! in `waitid` and closes its end of a pair of sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::Pid;

use super::below::Below;
use super::group;
use crate::{Context, Error};

/// Before there is a child: everything that might be refused.
#[derive(Debug)]
pub(super) enum Watch {
    Pidfd,
    Thread {
        /// Tells the thread whom to wait for.
        child: Sender<Pid>,
        /// Closed from the other side by the thread.
        ended: UnixStream,
    },
}

impl Watch {
    /// # Errors
    /// There is no pidfd, and no thread or descriptors either; or the service is asked to stop.
    pub(super) fn new(below: &mut Below<'_>) -> Result<Watch, Error> {
        if open(rustix::process::getpid()).is_ok() {
            return Ok(Watch::Pidfd);
        }
        Watch::by_thread(below)
    }

    fn by_thread(below: &mut Below<'_>) -> Result<Watch, Error> {
        let (ended, theirs) = UnixStream::pair()
            .map_err(|e| Error::new(crate::ErrorKind::Spawn, format!("no descriptors: {e}")))?;
        let (child, told) = bounded(1);
        let theirs = std::sync::Arc::new(parking_lot::Mutex::new(Some(theirs)));
        below.add("wait", move |_: &Context| {
            wait_for_child(&told);
            drop(theirs.lock().take());
            Ok(())
        })?;
        Ok(Watch::Thread { child, ended })
    }

    /// # Errors
    /// No descriptor is left.
    pub(super) fn begin(self, child: Pid) -> io::Result<Watched> {
        match self {
            Watch::Pidfd => open(child).map(Watched),
            Watch::Thread { child: tell, ended } => {
                // It is there: it has been waited for.
                let _ = tell.send(child);
                Ok(Watched(ended.into()))
            }
        }
    }
}

/// Nobody is told of if the child could not be started.
fn wait_for_child(told: &Receiver<Pid>) {
    if let Ok(child) = told.recv() {
        group::wait_end(child);
    }
}

/// Readable from the child's end on.
#[derive(Debug)]
pub(super) struct Watched(OwnedFd);

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn open(process: Pid) -> io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};

    Ok(pidfd_open(process, PidfdFlags::empty())?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open(_process: Pid) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}
