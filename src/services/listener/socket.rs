//! The kinds of sockets that can be listened on, as far as a listener has to know.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// A socket that accepts connections. Dropped, it refuses them.
#[cfg(unix)]
pub(super) trait Socket: std::os::fd::AsFd + Sized + 'static {
    type Stream: Stream;

    /// Never blocks once [`prepare`](Socket::prepare) was called. The stream's own calls do.
    fn accept(&self) -> io::Result<(Self::Stream, Peer)>;

    /// Its calls don't block from here on.
    fn prepare(&self) -> io::Result<()>;

    #[cfg(test)]
    fn address(&self) -> Option<SocketAddr>;
}

/// A socket that accepts connections. Dropped, it refuses them.
#[cfg(not(unix))]
pub(super) trait Socket: Sized + 'static {
    type Stream: Stream;

    /// Blocks.
    fn accept(&self) -> io::Result<(Self::Stream, Peer)>;

    fn address(&self) -> Option<SocketAddr>;
}

/// A connection's end.
pub(super) trait Stream: Sized + Send + 'static {
    /// Another handle of the same connection.
    fn duplicate(&self) -> io::Result<Self>;

    /// Ends reads and writes of all handles. An error: the other side has done so already.
    fn end(&self);
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix {
        /// Few clients give themselves one.
        name: Option<std::path::PathBuf>,
        /// Where they have connected to.
        at: std::sync::Arc<std::path::Path>,
    },
}

impl Peer {
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Peer::Tcp(address) => Some(*address),
            #[cfg(unix)]
            Peer::Unix { .. } => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => write!(f, "connection from {address}"),
            #[cfg(unix)]
            Peer::Unix {
                name: Some(name),
                at,
            } => write!(f, "connection from {} to {}", name.display(), at.display()),
            #[cfg(unix)]
            Peer::Unix { name: None, at } => write!(f, "connection to {}", at.display()),
        }
    }
}

/// What goes wrong with an address names it. The kind stays what it was.
pub(super) fn named(address: impl fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |e| io::Error::new(e.kind(), format!("{address}: {e}"))
}

/// The systems on which an accepted connection doesn't block because its listener doesn't.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
macro_rules! unblock {
    ($stream:expr) => {
        $stream.set_nonblocking(false)?
    };
}
#[cfg(any(target_os = "linux", target_os = "android", not(unix)))]
macro_rules! unblock {
    ($stream:expr) => {};
}

impl Socket for TcpListener {
    type Stream = TcpStream;

    fn accept(&self) -> io::Result<(TcpStream, Peer)> {
        let (stream, address) = TcpListener::accept(self)?;
        unblock!(stream);
        Ok((stream, Peer::Tcp(address)))
    }

    #[cfg(unix)]
    fn prepare(&self) -> io::Result<()> {
        self.set_nonblocking(true)
    }

    #[cfg(any(not(unix), test))]
    fn address(&self) -> Option<SocketAddr> {
        self.local_addr().ok()
    }
}

impl Stream for TcpStream {
    fn duplicate(&self) -> io::Result<TcpStream> {
        self.try_clone()
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

#[cfg(unix)]
impl Stream for std::os::unix::net::UnixStream {
    fn duplicate(&self) -> io::Result<Self> {
        self.try_clone()
    }

    fn end(&self) {
        let _ = self.shutdown(Shutdown::Both);
    }
}

#[cfg(unix)]
impl Socket for super::socket_file::UnixSocket {
    type Stream = std::os::unix::net::UnixStream;

    fn accept(&self) -> io::Result<(Self::Stream, Peer)> {
        let (stream, address) = self.listener().accept()?;
        unblock!(stream);
        let peer = Peer::Unix {
            name: address.as_pathname().map(std::path::Path::to_owned),
            at: self.path().clone(),
        };
        Ok((stream, peer))
    }

    fn prepare(&self) -> io::Result<()> {
        self.listener().set_nonblocking(true)
    }

    #[cfg(test)]
    fn address(&self) -> Option<SocketAddr> {
        None
    }
}
