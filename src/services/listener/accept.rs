//! The accepting thread: from the bound socket to the end of the last connection.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connections::{Connection, Connections, Handler};
use super::entrance::Entrance;
use super::socket::{Peer, Socket};
use super::{Settings, Shown};
use crate::services::{clock, crew};
use crate::{Context, ErrorKind, ServiceResult, Supervisor};

/// How long nothing is accepted after the system had no descriptor, memory or thread for one more
/// connection. It waits in the backlog meanwhile.
const EXHAUSTED_BACKOFF: Duration = Duration::from_millis(100);

/// Being out of something is told once; and again when it has been well for this long.
const EXHAUSTED_TOLD_AGAIN: Duration = Duration::from_secs(10);

/// Serves the connections of a socket until a stop, or until a handler wants an end. `about`: what
/// it listens at, also shown by `shown` as long as it does.
pub(super) fn serve<S: Socket>(
    ctx: &Context,
    settings: &Settings,
    socket: S,
    about: &str,
    shown: Option<Shown<'_>>,
    handler: Arc<Handler<S::Stream>>,
) -> ServiceResult {
    if let Some(on_bind) = &settings.on_bind {
        on_bind(ctx, shown.as_ref().map(|shown| shown.address))?;
    }
    let crew = match ctx.supervise(crew::builder()) {
        Ok(crew) => crew,
        Err(e) if e.kind() == ErrorKind::Stopping => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    let entrance = Entrance::new(socket, ctx)?;
    let connections = Connections::new(settings.max_connections, handler, entrance.bell());
    let mut acceptor = Acceptor {
        ctx,
        crew: &crew,
        connections: &connections,
        about,
        exhausted: None,
    };
    ctx.set_status(format!("listens at {about}"));
    ctx.ready();
    let accepted = acceptor.run(&entrance);
    // From here on connects are refused.
    drop((entrance, shown));
    // Nothing, if that is what has ended it.
    crew.request_stop();
    connections.close(settings.linger);
    match connections.take_exit() {
        Some(exit) => Err(exit),
        None => Ok(accepted?),
    }
}

struct Acceptor<'a, S: Socket> {
    ctx: &'a Context,
    crew: &'a Supervisor,
    connections: &'a Arc<Connections<S::Stream>>,
    about: &'a str,
    /// When something was lacking the last time.
    exhausted: Option<Instant>,
}

impl<S: Socket> Acceptor<'_, S> {
    /// # Errors
    /// The socket is of no use any more.
    fn run(&mut self, entrance: &Entrance<'_, S>) -> io::Result<()> {
        while self.connections.wait_for_room(self.ctx) {
            match entrance.accept() {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(e) => match Trouble::of(&e) {
                    Trouble::Nothing => {}
                    Trouble::Exhausted => self.wait_for_better(&e),
                    Trouble::Fatal => {
                        let text = format!("{}: cannot accept: {e}", self.about);
                        return Err(io::Error::new(e.kind(), text));
                    }
                },
            }
        }
        Ok(())
    }

    /// Keeps it until there is what it needs, or a stop.
    fn admit(&mut self, stream: S::Stream, peer: Peer) {
        let mut accepted = (stream, peer);
        let connection = loop {
            if self.is_over() {
                return;
            }
            let (stream, peer) = accepted;
            match self.connections.register(stream, peer) {
                Ok(connection) => break connection,
                Err((stream, peer, e)) => {
                    accepted = (stream, peer);
                    self.wait_for_better(&e);
                }
            }
        };
        self.dispatch(connection);
    }

    fn dispatch(&mut self, mut connection: Connection<S::Stream>) {
        while !self.is_over() {
            match self.connections.dispatch(self.crew, connection) {
                Ok(()) => return,
                Err((refused, e)) => {
                    connection = refused;
                    self.wait_for_better(&e);
                }
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ctx.is_stopping() || self.connections.is_over()
    }

    /// Tells that something is lacking, unless it was told already, and waits a little.
    fn wait_for_better(&mut self, lacking: &dyn std::fmt::Display) {
        let now = clock::now();
        let told = self
            .exhausted
            .is_some_and(|last| now.saturating_duration_since(last) < EXHAUSTED_TOLD_AGAIN);
        if !told {
            let text = format!(
                "{}: new connections wait in the backlog: {lacking}",
                self.about
            );
            self.ctx.log(text);
        }
        self.exhausted = Some(now);
        // An error: it shall stop.
        let _ = self.ctx.sleep(EXHAUSTED_BACKOFF);
    }
}

/// What an error of `accept` means for the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    /// There was no connection, or only that one had an end: go on.
    Nothing,
    /// Something is used up, which may be given back.
    Exhausted,
    Fatal,
}

impl Trouble {
    fn of(e: &io::Error) -> Trouble {
        use io::ErrorKind as Kind;

        if e.kind() == Kind::OutOfMemory || is_one_of(e, EXHAUSTED) {
            return Trouble::Exhausted;
        }
        let kinds = [
            Kind::WouldBlock,
            Kind::Interrupted,
            // accept(2) of Linux hands on what the network said of the new connection.
            Kind::ConnectionAborted,
            Kind::ConnectionReset,
            Kind::ConnectionRefused,
            Kind::TimedOut,
            Kind::HostUnreachable,
            Kind::NetworkUnreachable,
            Kind::NetworkDown,
            // A firewall's.
            Kind::PermissionDenied,
        ];
        if kinds.contains(&e.kind()) || is_one_of(e, OF_ONE_CONNECTION) {
            Trouble::Nothing
        } else {
            Trouble::Fatal
        }
    }
}

fn is_one_of(e: &io::Error, codes: &[i32]) -> bool {
    e.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(unix)]
mod codes {
    use rustix::io::Errno;

    pub(super) const EXHAUSTED: &[i32] = &[
        Errno::MFILE.raw_os_error(),
        Errno::NFILE.raw_os_error(),
        Errno::NOBUFS.raw_os_error(),
        Errno::NOMEM.raw_os_error(),
    ];

    pub(super) const OF_ONE_CONNECTION: &[i32] = &[
        Errno::PROTO.raw_os_error(),
        Errno::NOPROTOOPT.raw_os_error(),
        Errno::OPNOTSUPP.raw_os_error(),
        Errno::HOSTDOWN.raw_os_error(),
    ];
}

#[cfg(not(unix))]
mod codes {
    /// Windows' WSAEMFILE and WSAENOBUFS.
    pub(super) const EXHAUSTED: &[i32] = &[10024, 10055];
    pub(super) const OF_ONE_CONNECTION: &[i32] = &[];
}

use codes::{EXHAUSTED, OF_ONE_CONNECTION};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exhaustion_is_waited_for() {
        for code in EXHAUSTED {
            let e = io::Error::from_raw_os_error(*code);
            assert_eq!(Trouble::of(&e), Trouble::Exhausted, "{e}");
        }
    }

    #[test]
    fn the_end_of_one_connection_is_no_trouble() {
        for code in OF_ONE_CONNECTION {
            let e = io::Error::from_raw_os_error(*code);
            assert_eq!(Trouble::of(&e), Trouble::Nothing, "{e}");
        }
        for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::WouldBlock] {
            assert_eq!(Trouble::of(&kind.into()), Trouble::Nothing, "{kind}");
        }
    }

    #[test]
    fn a_socket_that_is_none_is_fatal() {
        for kind in [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported] {
            assert_eq!(Trouble::of(&kind.into()), Trouble::Fatal, "{kind}");
        }
    }
}
