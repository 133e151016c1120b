//! Waiting for the next connection, in a way that a stop ends: poll(2) over the socket, the stop's
//! descriptor and a bell.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use super::socket::{Peer, Socket};
use crate::Context;
use crate::services::poll;

pub(super) struct Entrance<'a, S> {
    socket: S,
    stop: BorrowedFd<'a>,
    heard: UnixStream,
    bell: Bell,
}

/// Makes the entrance look up from its waiting.
#[derive(Clone)]
pub(super) struct Bell(Arc<UnixStream>);

impl<'a, S: Socket> Entrance<'a, S> {
    /// # Errors
    /// No descriptors are left.
    pub(super) fn new(socket: S, ctx: &'a Context) -> io::Result<Entrance<'a, S>> {
        socket.prepare()?;
        let (bell, heard) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        Ok(Entrance {
            socket,
            stop: ctx.stop_fd()?,
            heard,
            bell: Bell(Arc::new(bell)),
        })
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// The next connection, or an error; `WouldBlock` when somebody has rung or stopped.
    pub(super) fn accept(&self) -> io::Result<(S::Stream, Peer)> {
        match self.socket.accept() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [
                    poll::readable(&self.socket),
                    poll::readable(&self.stop),
                    poll::readable(&self.heard),
                ];
                poll::wait(&mut fds, None)?;
                if poll::is_ready(&fds[1]) || poll::is_ready(&fds[2]) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                self.socket.accept()
            }
            other => other,
        }
    }
}

impl Bell {
    pub(super) fn ring(&self) {
        // An error: it rings already.
        let _ = (&*self.0).write(&[1]);
    }
}
