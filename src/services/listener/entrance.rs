//! Waiting for the next connection, in a way that a stop ends.
//!
//! On unix that is poll(2) over the socket, the stop's descriptor and a bell. Elsewhere `accept` blocks,
//! and whoever wants to end it connects.

#[cfg(unix)]
pub(super) use by_poll::{Bell, Entrance};

#[cfg(not(unix))]
pub(super) use by_connect::{Bell, Entrance};

#[cfg(unix)]
mod by_poll {
    use std::io::{self, Write};
    use std::os::fd::BorrowedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;

    use super::super::super::poll;
    use super::super::socket::{Peer, Socket};
    use crate::Context;

    pub(in super::super) struct Entrance<'a, S> {
        socket: S,
        stop: BorrowedFd<'a>,
        heard: UnixStream,
        bell: Bell,
    }

    /// Makes the entrance look up from its waiting.
    #[derive(Clone)]
    pub(in super::super) struct Bell(Arc<UnixStream>);

    impl<'a, S: Socket> Entrance<'a, S> {
        /// # Errors
        /// No descriptors are left.
        pub(in super::super) fn new(socket: S, ctx: &'a Context) -> io::Result<Entrance<'a, S>> {
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

        pub(in super::super) fn bell(&self) -> Bell {
            self.bell.clone()
        }

        /// The next connection, or an error; `WouldBlock` when somebody has rung or stopped.
        pub(in super::super) fn accept(&self) -> io::Result<(S::Stream, Peer)> {
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
        pub(in super::super) fn ring(&self) {
            // An error: it rings already.
            let _ = (&*self.0).write(&[1]);
        }
    }
}

#[cfg(any(not(unix), test))]
mod by_connect {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
    use std::time::Duration;

    use super::super::socket::{Peer, Socket};
    use crate::{Context, OnStop};

    /// How long the connection that wakes the accepting thread may take. It is there at once, unless the
    /// backlog is full, and then that thread doesn't sleep.
    const RING_MAX: Duration = Duration::from_secs(1);

    pub(in super::super) struct Entrance<'a, S> {
        socket: S,
        bell: Bell,
        _at_stop: OnStop,
        _ctx: &'a Context,
    }

    /// Makes the entrance look up from its waiting, with a connection that nobody serves.
    #[derive(Clone)]
    pub(in super::super) struct Bell(Option<SocketAddr>);

    impl<'a, S: Socket> Entrance<'a, S> {
        /// The result is for the other kind of entrance: this one needs nothing.
        pub(in super::super) fn new(socket: S, ctx: &'a Context) -> io::Result<Entrance<'a, S>> {
            let bell = Bell(socket.address().map(reachable));
            let at_stop = bell.clone();
            Ok(Entrance {
                socket,
                bell,
                _at_stop: ctx.on_stop(move || at_stop.ring()),
                _ctx: ctx,
            })
        }

        pub(in super::super) fn bell(&self) -> Bell {
            self.bell.clone()
        }

        /// The next connection, or an error. Whoever asks must see by himself whether it only rang.
        pub(in super::super) fn accept(&self) -> io::Result<(S::Stream, Peer)> {
            self.socket.accept()
        }
    }

    impl Bell {
        pub(in super::super) fn ring(&self) {
            if let Some(address) = &self.0 {
                // An error: nobody listens any more.
                let _ = TcpStream::connect_timeout(address, RING_MAX);
            }
        }
    }

    /// Bound to all addresses, it is reached at the own one.
    fn reachable(mut address: SocketAddr) -> SocketAddr {
        match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(_) | IpAddr::V6(_) => {}
        }
        address
    }
}
