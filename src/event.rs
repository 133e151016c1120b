//! What happens in a tree, as data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::Failure;

/// One thing that happened to one service or supervisor. Cheap to clone.
///
/// `failed(n)` always comes before `started(n + 1)` of the same service.
#[derive(Clone)]
pub struct Event(Arc<Inner>);

struct Inner {
    seq: u64,
    path: Arc<str>,
    incarnation: u64,
    kind: EventKind,
}

impl Event {
    pub(crate) fn new(seq: u64, path: Arc<str>, incarnation: u64, kind: EventKind) -> Event {
        Event(Arc::new(Inner {
            seq,
            path,
            incarnation,
            kind,
        }))
    }

    /// The number of the event in its tree. Numbers grow; they may have gaps, because events
    /// that nobody listens to are not made.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.0.seq
    }

    /// The service's path; the supervisor's for paused, resumed and ended.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.path
    }

    pub(crate) fn shared_path(&self) -> &Arc<str> {
        &self.0.path
    }

    /// The incarnation it happened to; 0 before the first start and for a supervisor's own
    /// events.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.0.incarnation
    }

    /// What happened.
    #[must_use]
    pub fn kind(&self) -> &EventKind {
        &self.0.kind
    }

    /// The kind in one or two words, in lower case: "failed", "ended late".
    #[must_use]
    pub fn word(&self) -> &'static str {
        self.0.kind.word()
    }

    pub(crate) fn level(&self) -> log::Level {
        self.0.kind.level(self.0.incarnation)
    }
}

/// What happened.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum EventKind {
    /// The service belongs to the supervisor now.
    Added,
    /// An incarnation was started: it has a thread, which is about to enter `run`. Where no thread can be
    /// had there is only a failed event.
    Started,
    /// It said that its set-up is finished.
    Ready,
    /// It ended by itself and is not to be started again.
    Done,
    /// It is forgotten: ended, its values dropped, its name free.
    Removed,
    /// It will start when what it waits for is there.
    Waiting {
        /// What it waits for.
        reason: Arc<str>,
    },
    /// It failed.
    Failed {
        /// How.
        failure: Failure,
        /// The count of failures that the limit compares, this one included; 0 without a limit.
        count: f64,
        /// What the count may reach; infinite without a limit.
        limit: f64,
        /// What becomes of the service.
        next: Next,
    },
    /// It was asked to stop.
    Stopping {
        /// Why.
        cause: StopCause,
    },
    /// It ended after it was asked to, or answered [`Exit::Bounce`](crate::Exit::Bounce) or
    /// [`Exit::Missing`](crate::Exit::Missing), or `stop_service` found it not running. A service that
    /// has failed and waits to be started again when its supervisor stops has had its end: the failed
    /// event.
    Stopped {
        /// What came back after the request, if it was not `Ok`.
        answer: Option<Failure>,
    },
    /// Too many failures: the supervisor starts nothing for a while.
    Paused {
        /// For how long.
        time: Duration,
    },
    /// The pause is over.
    Resumed,
    /// Too many failures: the service is not started any more.
    GivenUp {
        /// The last of them.
        failure: Failure,
    },
    /// It did not end within its stop timeout. Its thread still exists.
    Abandoned {
        /// The name of that thread.
        thread: Arc<str>,
        /// How long it was waited for.
        waited: Duration,
    },
    /// An abandoned incarnation has ended after all.
    EndedLate,
    /// A hook, a filter, an observer, a `Drop` or a `Display` of the user's panicked.
    HookPanicked {
        /// Which, and the panic's message.
        message: Arc<str>,
    },
    /// The service had something to say: [`Context::log`](crate::Context::log).
    Log {
        /// What.
        text: Arc<str>,
    },
    /// The supervisor has ended.
    Ended {
        /// How many services below it did not end in time.
        abandoned: usize,
    },
}

impl EventKind {
    /// The kind in one or two words, in lower case.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            EventKind::Added => "added",
            EventKind::Started => "started",
            EventKind::Ready => "ready",
            EventKind::Done => "done",
            EventKind::Removed => "removed",
            EventKind::Waiting { .. } => "waiting",
            EventKind::Failed { .. } => "failed",
            EventKind::Stopping { .. } => "stopping",
            EventKind::Stopped { .. } => "stopped",
            EventKind::Paused { .. } => "paused",
            EventKind::Resumed => "resumed",
            EventKind::GivenUp { .. } => "given up",
            EventKind::Abandoned { .. } => "abandoned",
            EventKind::EndedLate => "ended late",
            EventKind::HookPanicked { .. } => "hook panicked",
            EventKind::Log { .. } => "log",
            EventKind::Ended { .. } => "ended",
        }
    }

    /// How important it is as a log record. A supervisor's own events have the incarnation 0.
    pub(crate) fn level(&self, incarnation: u64) -> log::Level {
        match self {
            // Why a tree ends: see `Run::log_end`.
            EventKind::Stopping { .. } if incarnation == 0 => log::Level::Info,
            EventKind::GivenUp { .. } => log::Level::Error,
            EventKind::Failed { .. }
            | EventKind::Paused { .. }
            | EventKind::Abandoned { .. }
            | EventKind::HookPanicked { .. } => log::Level::Warn,
            EventKind::Started
            | EventKind::Ready
            | EventKind::Done
            | EventKind::Removed
            | EventKind::Stopped { .. }
            | EventKind::Resumed
            | EventKind::EndedLate
            | EventKind::Log { .. }
            | EventKind::Ended { .. } => log::Level::Info,
            EventKind::Added | EventKind::Waiting { .. } | EventKind::Stopping { .. } => {
                log::Level::Debug
            }
        }
    }
}

/// What becomes of a service that failed.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Next {
    /// It starts again after this delay, counted from its death; zero is at once.
    Restart {
        /// How long.
        delay: Duration,
    },
    /// It starts again when the supervisor's pause is over.
    Queued,
    /// It waits for others, or for an input.
    Waits,
    /// It stays down: done, given up or removed.
    Stays,
    /// The supervisor ends.
    Ends,
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Next::Restart { delay } if delay.is_zero() => f.write_str("restarting at once"),
            Next::Restart { delay } => write!(f, "restarting in {delay:.3?}"),
            Next::Queued => f.write_str("restarting after the pause"),
            Next::Waits => f.write_str("restarting with others"),
            Next::Stays => f.write_str("not restarting"),
            Next::Ends => f.write_str("the supervisor ends"),
        }
    }
}

/// Why a service was asked to stop.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum StopCause {
    /// Somebody called `stop`, `request_stop`, `shutdown` or `stop_service`.
    Ordered,
    /// It is being removed.
    Removed,
    /// It restarts together with another service, or on demand.
    RestartWith {
        /// The service whose end, or whose restart on demand, it is.
        path: Arc<str>,
    },
    /// One of its inputs changed or went.
    Input {
        /// The key's name.
        key: Arc<str>,
        /// Who provides it.
        path: Arc<str>,
    },
    /// The supervisor's limit was exceeded.
    Limit,
    /// A service answered [`Exit::TerminateTree`](crate::Exit::TerminateTree), failed fatally, or
    /// panicked under [`PanicPolicy::Escalate`](crate::PanicPolicy::Escalate).
    Terminated {
        /// Which.
        path: Arc<str>,
    },
    /// A significant service ended.
    AutoShutdown {
        /// Which.
        path: Arc<str>,
    },
    /// The process got a signal.
    Signal {
        /// Its number.
        number: i32,
    },
    /// It was not ready in time.
    ReadyTimeout,
    /// A supervisor that it runs below itself failed.
    Nested {
        /// The path of the service.
        path: Arc<str>,
    },
}

impl StopCause {
    /// Whether this is a stop for good, and not one for a restart.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            StopCause::Ordered
            | StopCause::Removed
            | StopCause::Limit
            | StopCause::Terminated { .. }
            | StopCause::AutoShutdown { .. }
            | StopCause::Signal { .. } => true,
            StopCause::RestartWith { .. }
            | StopCause::Input { .. }
            | StopCause::ReadyTimeout
            | StopCause::Nested { .. } => false,
        }
    }
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopCause::Ordered => f.write_str("ordered"),
            StopCause::Removed => f.write_str("removed"),
            StopCause::RestartWith { path } => write!(f, "restart with {path}"),
            StopCause::Input { key, path } => write!(f, "input {key} of {path} changed"),
            StopCause::Limit => f.write_str("too many failures"),
            StopCause::Terminated { path } => write!(f, "terminated by {path}"),
            StopCause::AutoShutdown { path } => write!(f, "significant {path} ended"),
            // These two have the same number everywhere.
            StopCause::Signal { number: 2 } => f.write_str("signal 2 (SIGINT)"),
            StopCause::Signal { number: 15 } => f.write_str("signal 15 (SIGTERM)"),
            StopCause::Signal { number } => write!(f, "signal {number}"),
            StopCause::ReadyTimeout => f.write_str("not ready in time"),
            StopCause::Nested { path } => write!(f, "what runs below {path} failed"),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventKind::Added
            | EventKind::Started
            | EventKind::Ready
            | EventKind::Done
            | EventKind::Removed
            | EventKind::Resumed
            | EventKind::EndedLate => f.write_str(self.word()),
            EventKind::Waiting { reason } => write!(f, "waiting: {reason}"),
            EventKind::Failed {
                failure,
                count,
                limit,
                next,
            } => {
                write!(f, "failed ({}): {}", failure.kind(), failure.message())?;
                if let Some(location) = failure.unsaid_location() {
                    write!(f, " at {location}")?;
                }
                if limit.is_finite() {
                    write!(f, "; count {count:.2} of {limit}")?;
                }
                write!(f, "; {next}")
            }
            EventKind::Stopping { cause } => write!(f, "stopping: {cause}"),
            EventKind::Stopped { answer: None } => f.write_str("stopped"),
            EventKind::Stopped {
                answer: Some(answer),
            } => {
                write!(f, "stopped; it answered: {}", answer.message())
            }
            EventKind::Paused { time } => write!(f, "paused for {time:.3?}"),
            EventKind::GivenUp { failure } => write!(f, "given up: {}", failure.message()),
            EventKind::Abandoned { thread, waited } => {
                write!(
                    f,
                    "abandoned: thread {thread} did not end within {waited:.3?}"
                )
            }
            EventKind::HookPanicked { message } => write!(f, "hook panicked: {message}"),
            EventKind::Log { text } => f.write_str(text),
            EventKind::Ended { abandoned: 0 } => f.write_str("ended"),
            EventKind::Ended { abandoned } => write!(f, "ended with {abandoned} abandoned"),
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.incarnation == 0 {
            write!(f, "{} {}", self.0.path, self.0.kind)
        } else {
            write!(
                f,
                "{} [{}] {}",
                self.0.path, self.0.incarnation, self.0.kind
            )
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("seq", &self.0.seq)
            .field("path", &self.0.path)
            .field("incarnation", &self.0.incarnation)
            .field("kind", &self.0.kind)
            .finish()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut s = serializer.serialize_struct("Event", 5)?;
        s.serialize_field("seq", &self.seq())?;
        s.serialize_field("path", self.path())?;
        s.serialize_field("incarnation", &self.incarnation())?;
        s.serialize_field("word", self.word())?;
        s.serialize_field("kind", self.kind())?;
        s.end()
    }
}
