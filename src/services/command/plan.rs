//! What is to be run: how each incarnation's process is made.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Command as StdCommand, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::DEFAULT_KILL_AFTER;
use super::error::CommandError;

#[derive(Clone)]
pub(super) struct Plan {
    base: Arc<dyn Fn() -> StdCommand + Send + Sync>,
    changes: Vec<Change>,
    pub(super) kill_after: Duration,
    pub(super) logs_output: bool,
    pub(super) guarded: bool,
}

/// As the methods of `std::process::Command` of these names.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Arg(OsString),
    Env(OsString, OsString),
    EnvRemove(OsString),
    EnvClear,
    CurrentDir(PathBuf),
}

impl Plan {
    pub(super) fn new(base: impl Fn() -> StdCommand + Send + Sync + 'static) -> Plan {
        Plan {
            base: Arc::new(base),
            changes: Vec::new(),
            kill_after: DEFAULT_KILL_AFTER,
            logs_output: true,
            guarded: true,
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// A fresh one. Runs the user's closure.
    pub(super) fn make(&self) -> StdCommand {
        let mut command = (self.base)();
        for change in &self.changes {
            match change {
                Change::Arg(arg) => command.arg(arg),
                Change::Env(key, value) => command.env(key, value),
                Change::EnvRemove(key) => command.env_remove(key),
                Change::EnvClear => command.env_clear(),
                Change::CurrentDir(dir) => command.current_dir(dir),
            };
        }
        if self.logs_output {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
        }
        command
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("changes", &self.changes)
            .field("kill_after", &self.kill_after)
            .field("logs_output", &self.logs_output)
            .field("guarded", &self.guarded)
            .finish_non_exhaustive()
    }
}

pub(super) fn not_started(command: &StdCommand, error: io::Error) -> CommandError {
    let directory = command.get_current_dir().map(PathBuf::from);
    CommandError::not_started(command.get_program().to_owned(), error, directory)
}
