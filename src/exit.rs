//! What a service may answer besides `Ok(())` and an ordinary error.

use std::error::Error as StdError;
use std::fmt;

use crate::error::BoxError;
use crate::errors::{Errors, search};

/// An answer that says what shall become of the service.
///
/// Return it as an error from [`Service::run`](crate::Service::run), alone or
/// [`because`](Exit::because) of something. It is found anywhere in a chain of
/// [`source()`](StdError::source), also behind wrappers that forward `source()` to what they wrap,
/// and in every member of an [`Errors`](crate::Errors). Of several the outermost wins, and of those in
/// one `Errors` the first.
///
/// ```
/// use backstay::{service_fn, Context, Exit};
///
/// let once = service_fn(|_ctx: &Context| Err(Exit::DoNotRestart.into()));
/// let expired = service_fn(|_ctx: &Context| Err(Exit::TerminateTree.because("key expired").into()));
/// # let _ = (once, expired);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Exit {
    /// Done, whatever the restart type; no failure (suture's `ErrDoNotRestart`).
    DoNotRestart,
    /// The whole tree shall stop and answer this failure (suture's `ErrTerminateSupervisorTree`).
    TerminateTree,
    /// Start again after the first delay; not counted, and the delay doesn't grow (juju's
    /// `ErrBounce`).
    Bounce,
    /// Remove the service (juju's `ErrUninstall`).
    Uninstall,
    /// An input is missing: wait until one changes; no failure (juju's `ErrMissing`).
    Missing,
}

impl Exit {
    /// This answer, with its cause.
    pub fn because(self, err: impl Into<BoxError>) -> Because {
        Because {
            marker: Marker {
                exit: self,
                cause: Some(err.into()),
            },
        }
    }

    fn text(self) -> &'static str {
        match self {
            Exit::DoNotRestart => "do not restart",
            Exit::TerminateTree => "terminate the tree",
            Exit::Bounce => "bounce",
            Exit::Uninstall => "uninstall",
            Exit::Missing => "an input is missing",
        }
    }

    pub(crate) fn marker(self) -> &'static Marker {
        const fn bare(exit: Exit) -> Marker {
            Marker { exit, cause: None }
        }
        static MARKERS: [Marker; 5] = [
            bare(Exit::DoNotRestart),
            bare(Exit::TerminateTree),
            bare(Exit::Bounce),
            bare(Exit::Uninstall),
            bare(Exit::Missing),
        ];
        match self {
            Exit::DoNotRestart => &MARKERS[0],
            Exit::TerminateTree => &MARKERS[1],
            Exit::Bounce => &MARKERS[2],
            Exit::Uninstall => &MARKERS[3],
            Exit::Missing => &MARKERS[4],
        }
    }

    /// The `Exit` that an error carries: what a supervisor finds in the answer of a service. For code
    /// that runs something on behalf of a service, goes on after errors, and wants to see the one it
    /// must not go on after.
    ///
    /// Calls the error's [`source()`](StdError::source), and those of its sources.
    ///
    /// ```
    /// use backstay::{BoxError, Errors, Exit};
    ///
    /// let mut errors = Errors::new();
    /// errors.push("the line is noisy");
    /// errors.push(Exit::TerminateTree.because("key expired"));
    /// let answer: BoxError = errors.into();
    /// assert_eq!(Exit::find(&*answer), Some(Exit::TerminateTree));
    /// ```
    #[must_use]
    pub fn find(error: &(dyn StdError + 'static)) -> Option<Exit> {
        let mut lost = None;
        search(error, |error| {
            lost = lost.or_else(|| Errors::lost_exit(error));
            if let Some(exit) = error.downcast_ref::<Exit>() {
                return Some(*exit);
            }
            if let Some(because) = error.downcast_ref::<Because>() {
                return Some(because.marker.exit);
            }
            error.downcast_ref::<Marker>().map(|marker| marker.exit)
        })
        .or(lost)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl StdError for Exit {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.marker())
    }
}

/// An [`Exit`] with its cause; made by [`Exit::because`].
#[derive(Debug)]
pub struct Because {
    marker: Marker,
}

impl Because {
    /// The answer.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.marker.exit
    }

    /// What it was answered for.
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.marker.cause.as_deref()
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.marker.cause {
            Some(cause) => write!(f, "{}: {cause}", self.marker.exit),
            None => write!(f, "{}", self.marker.exit),
        }
    }
}

impl StdError for Because {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.marker)
    }
}

/// What stays visible when a wrapper's `source()` skips the wrapped error and answers that
/// error's own `source()`, as transparent wrappers do.
#[derive(Debug)]
pub(crate) struct Marker {
    exit: Exit,
    cause: Option<BoxError>,
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.exit.text())
    }
}

impl StdError for Marker {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause
            .as_ref()
            .map(|c| &**c as &(dyn StdError + 'static))
    }
}
