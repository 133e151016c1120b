//! How one incarnation of a service ended badly.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{BoxError, SOURCE_DEPTH_MAX};
use crate::errors::Errors;
use crate::text::OneLine;

/// One failure: of which service, in which incarnation, how and where.
///
/// Cheap to clone. As an error its `source()` is the error that the service answered, if it
/// answered one.
#[derive(Clone)]
pub struct Failure(Arc<Inner>);

/// Its `Drop`, which drops the user's error, is in [`driver::discard`](crate::driver::discard).
pub(crate) struct Inner {
    pub(crate) path: Arc<str>,
    incarnation: u64,
    kind: FailureKind,
    message: Box<str>,
    location: Option<Box<str>>,
    thread_name: Option<Arc<str>>,
    run_time: Duration,
    pub(crate) error: Option<BoxError>,
    /// A panic in the `Drop` of that is not shown by the hook before ours.
    pub(crate) quiet: bool,
    /// The text of the error before a filter replaced it, and nothing of that is left in `error`.
    mapped_from: Option<Mapped>,
    trace: Option<Trace>,
}

/// In which way an incarnation failed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum FailureKind {
    /// `run` answered an error.
    Error,
    /// `run` panicked.
    Panic,
    /// `run` answered `Ok` unasked, although the service is to run for ever
    /// ([`Restart::Always`](crate::Restart::Always)).
    Returned,
    /// No thread could be started for it.
    Spawn,
    /// It was not ready within its ready timeout.
    ReadyTimeout,
}

impl FailureKind {
    /// What the failures say that only the supervisor knows of.
    pub(crate) const RETURNED: &str = "returned unexpectedly";
    pub(crate) const READY_TIMEOUT: &str = "was not ready in time";

    /// The kind in one word, in lower case.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            FailureKind::Error => "error",
            FailureKind::Panic => "panic",
            FailureKind::Returned => "returned",
            FailureKind::Spawn => "spawn",
            FailureKind::ReadyTimeout => "ready timeout",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The parts of a failure, put together where it happened.
pub(crate) struct FailureParts {
    pub(crate) path: Arc<str>,
    pub(crate) incarnation: u64,
    pub(crate) kind: FailureKind,
    pub(crate) message: Box<str>,
    pub(crate) location: Option<Box<str>>,
    pub(crate) thread_name: Option<Arc<str>>,
    pub(crate) run_time: Duration,
    pub(crate) error: Option<BoxError>,
    pub(crate) quiet: bool,
    pub(crate) mapped_from: Option<Box<str>>,
    pub(crate) trace: Option<Trace>,
}

impl Failure {
    pub(crate) fn new(parts: FailureParts) -> Failure {
        let FailureParts {
            path,
            incarnation,
            kind,
            message,
            location,
            thread_name,
            run_time,
            error,
            quiet,
            mapped_from,
            trace,
        } = parts;
        let mapped_from = mapped_from.map(|text| Mapped {
            text: message.clone(),
            from: Text(text),
        });
        Failure(Arc::new(Inner {
            path,
            incarnation,
            kind,
            message,
            location,
            thread_name,
            run_time,
            error,
            quiet,
            mapped_from,
            trace,
        }))
    }

    /// The path of the service that failed.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Which incarnation of it: 1 is the first start.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// In which way.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// The error's text, or the panic's message.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// `file:line:column` of a panic. `None` for other failures, for a panic raised by
    /// [`std::panic::resume_unwind`], and where another panic hook replaced ours.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.0.location.as_deref()
    }

    /// The name of the thread on which it happened.
    #[must_use]
    pub fn thread_name(&self) -> Option<&str> {
        self.0.thread_name.as_deref()
    }

    /// How long the incarnation had run.
    #[must_use]
    pub fn run_time(&self) -> Duration {
        self.0.run_time
    }

    /// The error that `run` answered.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.error.as_deref()
    }

    /// Where a panic came from; with the feature `backtrace`, whatever `RUST_BACKTRACE` says.
    ///
    /// That variable is for Rust's own message, which comes first: with `RUST_BACKTRACE=1` the first panic of a
    /// process looks up names before the failure is told, which takes 50 to 150 ms and tens of megabytes.
    #[must_use]
    pub fn backtrace(&self) -> Option<&Trace> {
        self.0.trace.as_ref()
    }

    /// The failure that an error is about as a whole: the error itself, a [`crate::Error`] that
    /// carries one, or one of their sources. An [`Errors`] is about several. Runs the user's
    /// `source()`.
    pub(crate) fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Failure> {
        let mut next = Some(error);
        for _ in 0..SOURCE_DEPTH_MAX {
            let error = next?;
            if let Some(failure) = error.downcast_ref::<Failure>() {
                return Some(failure);
            }
            if Errors::is_several(error) {
                return None;
            }
            next = error.source();
        }
        None
    }

    /// The panic that a service has caught with [`Failure::catch`] and answers: the error itself, or
    /// the first such member of an [`Errors`]. A panic further down is the cause of something else.
    pub(crate) fn caught<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Failure> {
        let is_panic = |failure: &&Failure| failure.kind() == FailureKind::Panic;
        match error.downcast_ref::<Errors>() {
            Some(errors) => errors
                .iter()
                .filter_map(|e| e.downcast_ref::<Failure>())
                .find(is_panic),
            None => error.downcast_ref::<Failure>().filter(is_panic),
        }
    }

    /// The location, unless the message says it: of a panic that was one of several errors.
    pub(crate) fn unsaid_location(&self) -> Option<&str> {
        match self.0.error {
            None => self.location(),
            Some(_) => None,
        }
    }

    pub(crate) fn trace(&self) -> Option<Trace> {
        self.0.trace.clone()
    }
}

impl fmt::Display for Failure {
    /// One line, whatever the message: its line breaks are `; `. With `{:#}` the message is as it is, and a
    /// panic's backtrace follows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        // Caught on a thread that belongs to no service.
        if !inner.path.is_empty() {
            write!(f, "{} (incarnation {}) ", inner.path, inner.incarnation)?;
        }
        match inner.kind {
            FailureKind::Error => f.write_str("failed: ")?,
            FailureKind::Panic => f.write_str("panicked: ")?,
            FailureKind::Returned | FailureKind::Spawn | FailureKind::ReadyTimeout => {}
        }
        if f.alternate() {
            f.write_str(&inner.message)?;
        } else {
            OneLine(&inner.message).fmt(f)?;
        }
        if let Some(location) = self.unsaid_location() {
            write!(f, " at {location}")?;
        }
        match &inner.trace {
            Some(trace) if f.alternate() => write!(f, "\n{trace}"),
            Some(_) | None => Ok(()),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("path", &self.0.path)
            .field("incarnation", &self.0.incarnation)
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("location", &self.0.location)
            .field("thread_name", &self.0.thread_name)
            .field("run_time", &self.0.run_time)
            .finish_non_exhaustive()
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Some(mapped) = &self.0.mapped_from {
            return Some(mapped);
        }
        self.0
            .error
            .as_ref()
            .map(|e| &**e as &(dyn StdError + 'static))
    }
}

/// Stands in a chain for an error that [`Spec::map_failure`](crate::Spec::map_failure) has made, so that what
/// it was made from comes after it.
#[derive(Debug)]
struct Mapped {
    text: Box<str>,
    from: Text,
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Mapped {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.from)
    }
}

/// What is left of an error.
#[derive(Debug)]
pub(crate) struct Text(pub(crate) Box<str>);

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Text {}

#[cfg(feature = "serde")]
impl serde::Serialize for Failure {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut s = serializer.serialize_struct("Failure", 7)?;
        s.serialize_field("path", self.path())?;
        s.serialize_field("incarnation", &self.incarnation())?;
        s.serialize_field("kind", &self.kind())?;
        s.serialize_field("message", self.message())?;
        s.serialize_field("location", &self.location())?;
        s.serialize_field("thread_name", &self.thread_name())?;
        s.serialize_field("run_time", &self.run_time())?;
        s.end()
    }
}

/// How many frames of a panic's stack are kept.
pub const TRACE_FRAMES_MAX: usize = 64;

/// The stack of a panic: addresses, made into names only when it is formatted. In a service it ends
/// where its `run` was called.
///
/// The first formatting in a process reads its debug information, which takes about 100 ms and
/// some tens of MiB; the memory is given back afterwards. A stripped binary gives addresses only.
#[derive(Clone)]
pub struct Trace(Arc<[usize]>);

impl Trace {
    #[cfg(feature = "backtrace")]
    pub(crate) fn new(addresses: &[usize]) -> Trace {
        Trace(Arc::from(addresses))
    }

    /// The return addresses, innermost first; at most [`TRACE_FRAMES_MAX`].
    #[must_use]
    pub fn addresses(&self) -> &[usize] {
        &self.0
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({} frames)", self.0.len())
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.0.iter().enumerate() {
            writeln!(f, "{i:4}: {}", describe(*address))?;
        }
        release_symbols();
        Ok(())
    }
}

/// Function, file and line of one address. Inlined functions follow on lines of their own.
#[cfg(feature = "backtrace")]
fn describe(address: usize) -> String {
    let mut text = String::new();
    // Nothing in the callback resolves again or clears the cache: backtrace's symbols would dangle.
    backtrace::resolve(address as *mut std::ffi::c_void, |symbol| {
        if !text.is_empty() {
            text.push_str("\n      ");
        }
        match symbol.name() {
            Some(name) => text.push_str(&format!("{name:#}")),
            None => text.push_str(&format!("{address:#x}")),
        }
        if let (Some(file), Some(line)) = (symbol.filename(), symbol.lineno()) {
            text.push_str(&format!("\n             at {}:{line}", file.display()));
        }
    });
    if text.is_empty() {
        text = format!("{address:#x}");
    }
    text
}

#[cfg(feature = "backtrace")]
fn release_symbols() {
    backtrace::clear_symbol_cache();
}

#[cfg(not(feature = "backtrace"))]
fn describe(address: usize) -> String {
    format!("{address:#x}")
}

#[cfg(not(feature = "backtrace"))]
fn release_symbols() {}
