//! How a connection failed.

use std::error::Error as StdError;
use std::fmt;
use std::net::SocketAddr;

use super::socket::Peer;
use crate::{BoxError, Failure};

/// How the handler of one connection failed: it answered an error, or panicked.
///
/// It is the error of the [`Failure`] in the failed event of that connection. Its `source()` is what the
/// handler answered, or the panic, a [`Failure`].
#[derive(Debug)]
pub struct ConnectionError {
    peer: Peer,
    why: Why,
}

#[derive(Debug)]
enum Why {
    Answered(BoxError),
    Panicked(Failure),
}

impl ConnectionError {
    pub(super) fn answered(peer: Peer, error: BoxError) -> ConnectionError {
        ConnectionError {
            peer,
            why: Why::Answered(error),
        }
    }

    pub(super) fn panicked(peer: Peer, panic: Failure) -> ConnectionError {
        ConnectionError {
            peer,
            why: Why::Panicked(panic),
        }
    }

    /// The address of the other end; `None` for a unix socket.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.address()
    }

    /// Whether the handler panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.why, Why::Panicked(_))
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.peer)?;
        match &self.why {
            Why::Answered(error) => write!(f, "{error}"),
            Why::Panicked(panic) => {
                write!(f, "panicked: {}", panic.message())?;
                match panic.location() {
                    Some(location) => write!(f, " at {location}"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl StdError for ConnectionError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.why {
            Why::Answered(error) => Some(&**error),
            Why::Panicked(panic) => Some(panic),
        }
    }
}
