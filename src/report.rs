//! What is running and why: snapshots of a tree, as data.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::failure::Failure;
use crate::key::KeyReport;
use tree::short;

mod dot;
mod drawing;
mod mermaid;
#[cfg(test)]
mod tests;
mod tree;

/// What a service or a supervisor is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum State {
    /// Not started yet: its supervisor isn't running, or something it needs is missing.
    Waiting,
    /// Its thread is being started, or it runs and hasn't said yet that its set-up is finished.
    Starting,
    /// Running.
    Running,
    /// Running, and it has said that its set-up is finished.
    Ready,
    /// It failed and waits for its delay to be over.
    Backoff,
    /// It failed and waits for a pause to be over. Of a supervisor: it pauses.
    Paused,
    /// Asked to stop and still running. Also one that is being removed, while its values are dropped: a
    /// [`Restart::Never`](crate::Restart::Never) service shows it that has ended by itself.
    Stopping,
    /// Stopped because somebody asked for it.
    Stopped,
    /// Ended by itself, for good.
    Done,
    /// Failed too often. Of a supervisor: it failed.
    GivenUp,
    /// It did not end in time; its thread still exists.
    Abandoned,
}

impl State {
    /// The state in one or two words, in lower case.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Starting => "starting",
            State::Running => "running",
            State::Ready => "ready",
            State::Backoff => "backoff",
            State::Paused => "paused",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Done => "done",
            State::GivenUp => "given up",
            State::Abandoned => "abandoned",
        }
    }

    /// Whether its code is running: starting, running, ready, stopping or abandoned.
    #[must_use]
    pub fn is_alive(self) -> bool {
        match self {
            State::Starting
            | State::Running
            | State::Ready
            | State::Stopping
            | State::Abandoned => true,
            State::Waiting
            | State::Backoff
            | State::Paused
            | State::Stopped
            | State::Done
            | State::GivenUp => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// A supervisor and everything below it, at one moment.
///
/// Each entry is consistent in itself; entries of different services may be some microseconds
/// apart. `Display` draws the tree; [`to_dot`](Report::to_dot) and [`to_mermaid`](Report::to_mermaid) draw
/// the graph of who depends on whom.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    pub(crate) path: Arc<str>,
    pub(crate) state: State,
    pub(crate) in_state: Duration,
    pub(crate) services: Vec<ServiceReport>,
}

/// One service of a [`Report`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceReport {
    pub(crate) place: Arc<Place>,
    pub(crate) state: State,
    pub(crate) incarnation: u64,
    pub(crate) in_state: Duration,
    pub(crate) next_start: Option<Duration>,
    pub(crate) starts: u32,
    pub(crate) failures: u32,
    pub(crate) panics: u32,
    pub(crate) stop_timeouts: u32,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) status: Option<Arc<str>>,
    pub(crate) waiting_for: Option<Arc<str>>,
    pub(crate) keys: Box<[KeyReport]>,
    pub(crate) services: Box<[ServiceReport]>,
}

/// Where a service is in its tree. One for all reports of a service: a report of thousands has little
/// to copy then.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) name: Arc<str>,
    pub(crate) path: Arc<str>,
    pub(crate) thread_name: Arc<str>,
}

#[cfg(feature = "serde")]
impl serde::Serialize for ServiceReport {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut s = serializer.serialize_struct("ServiceReport", 16)?;
        s.serialize_field("name", &self.place.name)?;
        s.serialize_field("path", &self.place.path)?;
        s.serialize_field("state", &self.state)?;
        s.serialize_field("incarnation", &self.incarnation)?;
        s.serialize_field("in_state", &self.in_state)?;
        s.serialize_field("next_start", &self.next_start)?;
        s.serialize_field("starts", &self.starts)?;
        s.serialize_field("failures", &self.failures)?;
        s.serialize_field("panics", &self.panics)?;
        s.serialize_field("stop_timeouts", &self.stop_timeouts)?;
        s.serialize_field("last_failure", &self.last_failure)?;
        s.serialize_field("status", &self.status)?;
        s.serialize_field("waiting_for", &self.waiting_for)?;
        s.serialize_field("thread_name", &self.place.thread_name)?;
        s.serialize_field("keys", &self.keys)?;
        s.serialize_field("services", &self.services)?;
        s.end()
    }
}

impl Report {
    /// The supervisor's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the supervisor is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How long the supervisor has been in this state.
    #[must_use]
    pub fn in_state(&self) -> Duration {
        self.in_state
    }

    /// Its services, in order of adding.
    #[must_use]
    pub fn services(&self) -> &[ServiceReport] {
        &self.services
    }

    /// The service of that path, at any depth.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<&ServiceReport> {
        self.iter().find(|s| s.path() == path)
    }

    /// All services at every depth; a supervisor comes before what is below it.
    pub fn iter(&self) -> impl Iterator<Item = &ServiceReport> {
        let mut stack: Vec<&ServiceReport> = self.services.iter().rev().collect();
        std::iter::from_fn(move || {
            let next = stack.pop()?;
            stack.extend(next.services.iter().rev());
            Some(next)
        })
    }
}

impl ServiceReport {
    /// The name it was added under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.place.name
    }

    /// The names from the root down to it, joined with dots.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.place.path
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// The number of its current or last incarnation; 0 before the first start.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// How long it has been in this state.
    #[must_use]
    pub fn in_state(&self) -> Duration {
        self.in_state
    }

    /// In backoff or paused: how long until its next start.
    #[must_use]
    pub fn next_start(&self) -> Option<Duration> {
        self.next_start
    }

    /// How often it was started, without the starts for which no thread could be had; stops counting
    /// at `u32::MAX`, like the counters below.
    #[must_use]
    pub fn starts(&self) -> u32 {
        self.starts
    }

    /// How often it failed, panics included.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How often it panicked.
    #[must_use]
    pub fn panics(&self) -> u32 {
        self.panics
    }

    /// How often it did not stop in time.
    #[must_use]
    pub fn stop_timeouts(&self) -> u32 {
        self.stop_timeouts
    }

    /// Its last failure, or what it last answered to a stop if that was not `Ok`.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Failure> {
        self.last_failure.as_ref()
    }

    /// What it last told about itself: [`Context::set_status`](crate::Context::set_status).
    #[must_use]
    pub fn status(&self) -> Option<&str> {
        self.status.as_deref()
    }

    /// What it waits for, if it is waiting.
    #[must_use]
    pub fn waiting_for(&self) -> Option<&str> {
        self.waiting_for.as_deref()
    }

    /// The name of its thread: the last 15 bytes of its path, which is what the kernel keeps.
    #[must_use]
    pub fn thread_name(&self) -> &str {
        &self.place.thread_name
    }

    /// The keys that it declares: first what it provides, then what it needs, then what it wants.
    #[must_use]
    pub fn keys(&self) -> &[KeyReport] {
        &self.keys
    }

    /// What is below it, if it is a supervisor or runs one.
    #[must_use]
    pub fn services(&self) -> &[ServiceReport] {
        &self.services
    }
}

/// Exit code of a process whose services have all stopped in time.
pub const EXIT_CODE_STOPPED: u8 = 0;

/// Exit code of a process that had to leave threads behind.
pub const EXIT_CODE_ABANDONED: u8 = 3;

/// Who did not stop in time, in the whole tree; empty if everybody did.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StopReport {
    pub(crate) unstopped: Vec<Unstopped>,
    pub(crate) only_requested: bool,
}

/// A service that did not stop in time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Unstopped {
    pub(crate) path: Arc<str>,
    pub(crate) incarnation: u64,
    pub(crate) thread_name: Arc<str>,
    pub(crate) waited: Duration,
}

impl StopReport {
    /// Whether everybody stopped in time. Also true when the stop was [only
    /// requested](StopReport::only_requested).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.unstopped.is_empty()
    }

    /// Who did not, in the order in which they were given up.
    #[must_use]
    pub fn unstopped(&self) -> &[Unstopped] {
        &self.unstopped
    }

    /// The call came from a thread of the tree itself, so it asked for the stop and did not wait.
    #[must_use]
    pub fn only_requested(&self) -> bool {
        self.only_requested
    }

    /// [`EXIT_CODE_STOPPED`] or [`EXIT_CODE_ABANDONED`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.is_empty() {
            EXIT_CODE_STOPPED
        } else {
            EXIT_CODE_ABANDONED
        }
    }
}

impl fmt::Display for StopReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.only_requested {
            return f.write_str("the stop was requested from within the tree and not waited for");
        }
        if self.unstopped.is_empty() {
            return f.write_str("everything stopped in time");
        }
        f.write_str("did not stop in time:")?;
        for u in &self.unstopped {
            write!(f, "\n  {u}")?;
        }
        Ok(())
    }
}

impl Unstopped {
    /// The service's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which incarnation.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The name of the thread that still exists.
    #[must_use]
    pub fn thread_name(&self) -> &str {
        &self.thread_name
    }

    /// How long it was waited for.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl fmt::Display for Unstopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (incarnation {}, thread {}, waited {})",
            self.path,
            self.incarnation,
            self.thread_name,
            short(self.waited)
        )
    }
}

/// How a service ended, from [`Supervisor::wait_service`](crate::Supervisor::wait_service).
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum End {
    /// By itself, for good.
    Done,
    /// Because somebody asked for it.
    Stopped,
    /// It was removed, or is a [`Restart::Never`](crate::Restart::Never) service that has ended.
    Removed {
        /// Its own failure, if it ended by one.
        failure: Option<Failure>,
    },
    /// It failed too often.
    GivenUp {
        /// The last time.
        failure: Failure,
    },
}
