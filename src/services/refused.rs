//! What queues, pools and brokers answer when they don't take or give something.

use std::fmt;

use crate::{Error, ErrorKind};

/// Why something was not taken; it comes back in the error.
///
/// Converts into [`Error`] for `?`, which drops what came back. As an error of a service it needs no
/// conversion.
///
/// ```
/// use backstay::services::PushError;
/// use backstay::{Error, ErrorKind};
///
/// let refused = PushError::Full("a letter");
/// assert_eq!(Error::from(refused).kind(), ErrorKind::Full);
/// assert_eq!(refused.into_inner(), "a letter");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum PushError<T> {
    /// The hard limit is reached. There will be room when something was taken out.
    Full(T),
    /// The soft limit is reached, and there is no credit left for more. There will be credit when
    /// fewer than the soft limit were left for a while.
    NoCredit(T),
    /// It is being emptied. Whether it takes more afterwards is up to whoever empties it.
    Draining(T),
    /// It takes nothing any more.
    Closed(T),
    /// There was no room in the time given.
    Timeout(T),
}

impl<T> PushError<T> {
    /// What was not taken.
    pub fn into_inner(self) -> T {
        match self {
            PushError::Full(item)
            | PushError::NoCredit(item)
            | PushError::Draining(item)
            | PushError::Closed(item)
            | PushError::Timeout(item) => item,
        }
    }

    /// The same refusal of something else.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> PushError<U> {
        match self {
            PushError::Full(item) => PushError::Full(f(item)),
            PushError::NoCredit(item) => PushError::NoCredit(f(item)),
            PushError::Draining(item) => PushError::Draining(f(item)),
            PushError::Closed(item) => PushError::Closed(f(item)),
            PushError::Timeout(item) => PushError::Timeout(f(item)),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            PushError::Full(_) => "Full",
            PushError::NoCredit(_) => "NoCredit",
            PushError::Draining(_) => "Draining",
            PushError::Closed(_) => "Closed",
            PushError::Timeout(_) => "Timeout",
        }
    }
}

/// Whatever `T` is: it is not shown.
impl<T> fmt::Debug for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.word()).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for PushError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PushError::Full(_) => "the queue is full",
            PushError::NoCredit(_) => "the queue is over its soft limit and has no credit left",
            PushError::Draining(_) => "the queue is being drained",
            PushError::Closed(_) => "the queue is closed",
            PushError::Timeout(_) => "the queue had no room in time",
        })
    }
}

impl<T> std::error::Error for PushError<T> {}

/// Drops what came back.
impl<T> From<PushError<T>> for Error {
    fn from(refused: PushError<T>) -> Error {
        let kind = match refused {
            PushError::Full(_) | PushError::NoCredit(_) => ErrorKind::Full,
            PushError::Draining(_) => ErrorKind::Stopping,
            PushError::Closed(_) => ErrorKind::Gone,
            PushError::Timeout(_) => ErrorKind::Timeout,
        };
        Error::new(kind, refused.to_string())
    }
}

/// Why a wait brought nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PopError {
    /// Nothing came in the time given.
    Timeout,
    /// Nothing is left, and nothing will come.
    Closed,
}

impl fmt::Display for PopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PopError::Timeout => "nothing came in time",
            PopError::Closed => "nothing is left, and it is closed",
        })
    }
}

impl std::error::Error for PopError {}

impl From<PopError> for Error {
    fn from(e: PopError) -> Error {
        let kind = match e {
            PopError::Timeout => ErrorKind::Timeout,
            PopError::Closed => ErrorKind::Gone,
        };
        Error::new(kind, e.to_string())
    }
}

/// Nothing is left, and nothing will come: the answer of a wait without a time limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Closed;

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        PopError::Closed.fmt(f)
    }
}

impl std::error::Error for Closed {}

impl From<Closed> for PopError {
    fn from(Closed: Closed) -> PopError {
        PopError::Closed
    }
}

impl From<Closed> for Error {
    fn from(Closed: Closed) -> Error {
        PopError::Closed.into()
    }
}
