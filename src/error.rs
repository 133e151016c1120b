//! The one error type of the API, and the small errors that a service meets.

use std::error::Error as StdError;
use std::fmt;

use crate::failure::Failure;
use crate::report::Unstopped;

/// Any error a service may answer.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What [`Service::run`](crate::Service::run) answers.
pub type ServiceResult = Result<(), BoxError>;

/// Why a call was refused or a supervisor failed.
///
/// `Debug` prints the same text as `Display`, then the causes, because that is what
/// `fn main() -> Result<(), backstay::Error>` shows.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    text: String,
    failure: Option<Failure>,
    unstopped: Vec<Unstopped>,
}

/// What an [`Error`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The supervisor failed; [`Error::failure`] has the reason.
    Failed,
    /// The supervisor has ended and takes no more calls.
    Stopped,
    /// It is running already, or runs as a service of another supervisor.
    AlreadyRunning,
    /// It was not started yet.
    NotStarted,
    /// The id belongs to another supervisor.
    WrongSupervisor,
    /// There is no such service (any more).
    UnknownService,
    /// It did not happen in the time given.
    Timeout,
    /// The name is taken.
    DuplicateName,
    /// The name may not be used.
    BadName,
    /// A field of a spec or of a builder has a value that cannot be; the text names the field.
    Invalid,
    /// Services would need each other in a circle.
    Cycle,
    /// Nobody provides a required input.
    MissingProvider,
    /// A bound is reached; the text names it. Of the system's limits that of the memory maps alone
    /// (`vm.max_map_count`); at others a start fails with [`FailureKind::Spawn`](crate::FailureKind::Spawn).
    Full,
    /// The call would wait for the end of the thread that makes it.
    WouldWaitForItself,
    /// The calling service, or the supervisor called, is being stopped.
    Stopping,
    /// Not everything got ready; see [`NotReady`].
    NotReady,
    /// No thread could be started.
    Spawn,
    /// What was waited for can't come any more.
    Gone,
}

impl Error {
    /// An error of one's own making, for services that have an interface like this crate's.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            text: text.into(),
            failure: None,
            unstopped: Vec::new(),
        }))
    }

    /// An [`ErrorKind::Invalid`]: the field of that name has a value that cannot be, and why.
    pub fn invalid(field: &str, why: impl fmt::Display) -> Error {
        Error::new(ErrorKind::Invalid, format!("{field}: {why}"))
    }

    pub(crate) fn failed(text: impl Into<String>, failure: Failure) -> Error {
        let mut error = Error::new(ErrorKind::Failed, text);
        error.0.failure = Some(failure);
        error
    }

    #[cfg(all(unix, feature = "signals"))]
    pub(crate) fn forced(text: impl Into<String>, unstopped: Vec<Unstopped>) -> Error {
        let mut error = Error::new(ErrorKind::Timeout, text);
        error.0.unstopped = unstopped;
        error
    }

    pub(crate) fn stopped(path: impl fmt::Display) -> Error {
        Error::new(
            ErrorKind::Stopped,
            format!("{path}: the supervisor has ended"),
        )
    }

    /// What the error is about.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The failure that ended the supervisor, for [`ErrorKind::Failed`].
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.0.failure.as_ref()
    }

    /// Who had not ended when a second signal forced the way out; otherwise empty.
    #[must_use]
    pub fn unstopped(&self) -> &[Unstopped] {
        &self.0.unstopped
    }
}

impl Clone for Error {
    fn clone(&self) -> Error {
        Error(Box::new(Inner {
            kind: self.0.kind,
            text: self.0.text.clone(),
            failure: self.0.failure.clone(),
            unstopped: self.0.unstopped.clone(),
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = StdError::source(self);
        for _ in 0..SOURCE_DEPTH_MAX {
            let Some(error) = cause else { break };
            write!(f, "\n  caused by: {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.failure.as_ref().map(|f| f as _)
    }
}

/// How far a chain of `source()` is followed. A chain that is longer, or a circle, ends here.
pub const SOURCE_DEPTH_MAX: usize = 64;

/// The answer of [`Context::sleep`](crate::Context::sleep) and other waits that a stop cut short.
///
/// Returned from `run` with `?` it makes a clean end, because the end of a service that was asked
/// to stop is judged by the request. Kept and returned when nobody asked, it is an ordinary error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stopping;

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the service is asked to stop")
    }
}

impl StdError for Stopping {}

/// A type without a value: nothing is ever sent over [`Context::stop_signal`](crate::Context::stop_signal).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Never {}

/// Who was not ready in time, and why; from [`Supervisor::wait_ready`](crate::Supervisor::wait_ready).
#[derive(Clone)]
pub struct NotReady {
    pub(crate) path: String,
    pub(crate) why: String,
    pub(crate) missing: Vec<(std::sync::Arc<str>, std::sync::Arc<str>)>,
}

impl NotReady {
    /// The path of each service that is missing, and the reason.
    #[must_use]
    pub fn missing(&self) -> &[(std::sync::Arc<str>, std::sync::Arc<str>)] {
        &self.missing
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not ready: {}", self.path, self.why)?;
        for (i, (path, why)) in self.missing.iter().enumerate() {
            write!(f, "{}{path} ({why})", if i == 0 { ": " } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl StdError for NotReady {}

/// An [`ErrorKind::Failed`] that carries it.
impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        Error::failed(failure.to_string(), failure)
    }
}

impl From<NotReady> for Error {
    fn from(e: NotReady) -> Error {
        Error::new(ErrorKind::NotReady, e.to_string())
    }
}
