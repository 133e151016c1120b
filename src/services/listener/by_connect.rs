//! Waiting for the next connection where there is no poll(2): `accept` blocks, and whoever wants to end
//! that connects.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::socket::{Peer, Socket};
use crate::{Context, OnStop};

/// How long the connection that wakes the accepting thread may take. It is there at once, unless the
/// backlog is full, and then that thread doesn't sleep.
const RING_MAX: Duration = Duration::from_secs(1);

pub(super) struct Entrance<'a, S> {
    socket: S,
    bell: Bell,
    _at_stop: OnStop,
    _ctx: &'a Context,
}

/// Makes the entrance look up from its waiting, with a connection that nobody serves.
#[derive(Clone)]
pub(super) struct Bell(Option<SocketAddr>);

impl<'a, S: Socket> Entrance<'a, S> {
    /// The result is for the other kind of entrance: this one needs nothing.
    pub(super) fn new(socket: S, ctx: &'a Context) -> io::Result<Entrance<'a, S>> {
        let bell = Bell(socket.address().map(reachable));
        let at_stop = bell.clone();
        Ok(Entrance {
            socket,
            bell,
            _at_stop: ctx.on_stop(move || at_stop.ring()),
            _ctx: ctx,
        })
    }

    pub(super) fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// The next connection, or an error. Whoever asks must see by himself whether it only rang.
    pub(super) fn accept(&self) -> io::Result<(S::Stream, Peer)> {
        self.socket.accept()
    }
}

impl Bell {
    pub(super) fn ring(&self) {
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::Supervisor;

    #[test]
    fn a_stop_and_a_bell_end_a_blocked_accept() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            let app = Supervisor::new("app");
            let (tell, told) = crossbeam_channel::unbounded();
            let service = move |ctx: &Context| {
                let entrance = Entrance::new(TcpListener::bind(address)?, ctx)?;
                tell.send(entrance.bell())?;
                entrance.accept()?;
                ctx.set_status("rung");
                // The stop's connection.
                entrance.accept()?;
                Ok(())
            };
            app.add("a", service).unwrap();
            app.start().unwrap();
            let patience = Duration::from_secs(30);
            told.recv_timeout(patience).unwrap().ring();
            while app
                .report()
                .find("app.a")
                .is_none_or(|a| a.status().is_none())
            {
                std::thread::yield_now();
            }
            assert!(app.stop().is_empty());
        }
    }
}
