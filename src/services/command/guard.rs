//! The guard: a small process that leads a command's process group and kills it when we are gone.
//!
//! It is `/bin/sh`, waiting for the end of a pipe whose other end only this process has. However
//! this process ends, also by SIGKILL, the kernel closes that end; the guard sees it and kills the
//! whole group, itself included.
//!
//! Why there is no moment without it: the guard runs before the command does, and the command joins
//! the guard's group before it becomes the program (std sets the group between fork and exec). A
//! process that dies in between leaves a copy of the pipe's end in the half-made child, which closes
//! it on exec: so the guard can't see the end of the pipe before the child is in the group.
//!
//! A command may leave the group to lead its own, as `timeout` does. The guard is told the command's
//! process id and kills that group as well.
//!
//! Rejected: `PR_SET_PDEATHSIG`. It needs `unsafe` (pre_exec) or a crate around that, of which there
//! is none that builds with our oldest compiler and sends SIGKILL; it reaches the command alone, not
//! its children; it is forgotten when a set-user-id program is run; it fires when the *thread* ends
//! that started the child; and the parent can die before it is set.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command as StdCommand, Stdio};
use std::time::Duration;

use rustix::process::Pid;

use super::group::state_of;
use crate::services::poll;

#[cfg(not(target_os = "android"))]
const SHELL: &str = "/bin/sh";
#[cfg(target_os = "android")]
const SHELL: &str = "/system/bin/sh";

/// Nothing but what every POSIX shell has built in. The signals that a group is sent to make it stop
/// or reload are not for the guard. The forms of `kill` are those that dash, bash, ksh, mksh, zsh
/// and busybox agree on.
const SCRIPT: &str = "\
trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU
echo
read -r child
read -r nothing
test -n \"$child\" && kill -KILL \"-$child\"
kill -KILL 0
";

/// What the guard is called in a list of processes.
const NAME: &str = "backstay-guard";

/// How long a signal for the group waits for the guard to ignore it. It takes about a millisecond; a
/// guard that is later is killed by that signal, and from then on does not guard.
const GUARD_READY_MAX: Duration = Duration::from_secs(1);

/// Leads a process group. Whoever has it reaps it, after the last signal to the group.
#[derive(Debug)]
pub(super) struct Guard {
    pub(super) child: Child,
    /// Ours alone. The guard acts when it closes.
    line: Option<ChildStdin>,
    /// Until the guard has said that it ignores signals.
    hello: Option<ChildStdout>,
}

impl Guard {
    /// # Errors
    /// There is no shell, or no process to be had.
    pub(super) fn start() -> io::Result<Guard> {
        let mut child = StdCommand::new(SHELL)
            .args(["-c", SCRIPT, NAME])
            // No file that a shell would read at its start, no directory kept in use.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("its guard, {SHELL}: {e}")))?;
        Ok(Guard {
            line: child.stdin.take(),
            hello: child.stdout.take(),
            child,
        })
    }

    /// Tells it whom else to kill. A guard that is gone is not told: the write would raise SIGPIPE in
    /// a program that doesn't ignore it.
    pub(super) fn tell(&mut self, child: Pid, guard: Pid) {
        if state_of(guard).is_running() {
            if let Some(line) = &mut self.line {
                // An error: it has just been killed.
                let _ = line.write_all(format!("{}\n", child.as_raw_nonzero()).as_bytes());
            }
        }
    }

    /// Waits until it ignores signals: normally since long.
    pub(super) fn wait_ready(&mut self) {
        if let Some(hello) = self.hello.take() {
            let until = poll::after(GUARD_READY_MAX);
            // An error or too late: see `GUARD_READY_MAX`.
            let _ = poll::wait(&mut [poll::readable(&hello)], until);
        }
    }
}
