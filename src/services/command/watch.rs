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

#[cfg(target_os = "linux")]
fn open(process: Pid) -> io::Result<OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};

    Ok(pidfd_open(process, PidfdFlags::empty())?)
}

#[cfg(not(target_os = "linux"))]
fn open(_process: Pid) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::services::poll;
    use crate::{End, Restart, ServiceResult, Spec, Supervisor};

    const LONG: Duration = Duration::from_secs(30);

    fn run(body: fn(&mut Below<'_>) -> ServiceResult) {
        let app = Supervisor::new("app");
        let service = move |ctx: &Context| body(&mut Below::new(ctx));
        let spec = Spec::new("a", service).restart(Restart::OnFailure);
        let id = app.add_spec(spec).unwrap();
        app.start().unwrap();
        let end = app.wait_service(id, LONG).unwrap();
        assert!(matches!(end, End::Done), "{end:?}\n{:#}", app.report());
        app.stop();
    }

    fn sees_the_end(watch: Watch) -> ServiceResult {
        let mut child = Command::new("sleep").arg("60").spawn()?;
        let watched = watch.begin(Pid::from_child(&child))?;
        let mut fds = [poll::readable(&watched)];
        assert!(!poll::wait(&mut fds, poll::after(Duration::ZERO))?);
        child.kill()?;
        assert!(poll::wait(&mut fds, poll::after(LONG))?);
        // It was not reaped.
        assert_eq!(child.wait()?.signal(), Some(9));
        Ok(())
    }

    #[test]
    fn with_a_pidfd() {
        if open(rustix::process::getpid()).is_ok() {
            run(|below| sees_the_end(Watch::new(below)?));
        }
    }

    #[test]
    fn with_a_thread() {
        run(|below| sees_the_end(Watch::by_thread(below)?));
    }

    #[test]
    fn the_thread_ends_if_there_is_no_child() {
        run(|below| {
            drop(Watch::by_thread(below)?);
            Ok(())
        });
    }
}
