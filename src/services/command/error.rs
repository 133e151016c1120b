//! How a command failed.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// How a [`Command`](super::Command) failed: it could not be started, or it ended badly.
///
/// It is the error of the service's [`Failure`](crate::Failure), so a policy can look at the exit
/// code:
///
/// ```
/// use backstay::services::{Command, CommandError};
/// use backstay::{End, Restart, Spec, Supervisor};
/// use std::time::Duration;
///
/// let app = Supervisor::new("app");
/// let job = Command::new("sh").arg("-c").arg("exit 3");
/// let id = app.add_spec(Spec::new("job", job).restart(Restart::Never))?;
/// app.start()?;
/// let End::Removed { failure: Some(failure) } = app.wait_service(id, Duration::from_secs(10))? else {
///     panic!("it did not fail");
/// };
/// assert_eq!(failure.message(), "sh: exit code 3");
/// let error = failure.error().and_then(|e| e.downcast_ref::<CommandError>());
/// assert_eq!(error.and_then(CommandError::code), Some(3));
/// # assert!(app.stop().is_empty());
/// # Ok::<(), backstay::Error>(())
/// ```
#[derive(Debug)]
pub struct CommandError {
    program: OsString,
    how: How,
}

#[derive(Debug)]
enum How {
    Ended(ExitStatus),
    NotStarted {
        error: io::Error,
        directory: Option<PathBuf>,
    },
    Lost {
        what: &'static str,
        error: io::Error,
    },
}

impl CommandError {
    /// It ended, and not well.
    pub(super) fn ended(program: OsString, status: ExitStatus) -> CommandError {
        CommandError {
            program,
            how: How::Ended(status),
        }
    }

    /// No process was made of it. `directory`: where it was to run, if not where we do.
    pub(super) fn not_started(
        program: OsString,
        error: io::Error,
        directory: Option<PathBuf>,
    ) -> CommandError {
        CommandError {
            program,
            how: How::NotStarted { error, directory },
        }
    }

    /// Something around it did not work.
    pub(super) fn lost(program: OsString, what: &'static str, error: io::Error) -> CommandError {
        CommandError {
            program,
            how: How::Lost { what, error },
        }
    }

    /// The program, as it was given.
    #[must_use]
    pub fn program(&self) -> &Path {
        Path::new(&self.program)
    }

    /// How the process ended; `None` if there was none.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        match &self.how {
            How::Ended(status) => Some(*status),
            How::NotStarted { .. } | How::Lost { .. } => None,
        }
    }

    /// Its exit code, if it ended by itself.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status().and_then(|status| status.code())
    }

    /// The number of the signal that killed it.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        self.status().and_then(|status| status.signal())
    }

    /// What the system said when it could not be started or watched.
    #[must_use]
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.how {
            How::Ended(_) => None,
            How::NotStarted { error, .. } | How::Lost { error, .. } => Some(error),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.program().display())?;
        match &self.how {
            How::Ended(status) => match (status.code(), status.signal()) {
                (Some(code), _) => write!(f, "exit code {code}"),
                (None, Some(signal)) if status.core_dumped() => {
                    write!(f, "killed by signal {signal} (core dumped)")
                }
                (None, Some(signal)) => write!(f, "killed by signal {signal}"),
                (None, None) => write!(f, "ended: {status}"),
            },
            How::NotStarted {
                error,
                directory: None,
            } => write!(f, "could not be started: {error}"),
            How::NotStarted {
                error,
                directory: Some(directory),
            } => write!(
                f,
                "could not be started in {}: {error}",
                directory.display()
            ),
            How::Lost { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

/// Without a source: what the system said is in the text.
impl std::error::Error for CommandError {}
