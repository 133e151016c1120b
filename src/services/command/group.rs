//! The processes of one incarnation, and who may be sent a signal when.
//!
//! Protocol.
//!
//! * There are up to two process groups: the guard's, which the child joins before it is the program,
//!   and one that the child itself may have made since, whose id is the child's process id. Without a
//!   guard the child leads the only one. Both *leaders*, guard and child, are our own children.
//! * A process id, and a group of that id, can be given to somebody else only after the leader was
//!   reaped. So a leader is reaped at the very end, by [`Group::end`] alone, and nothing is signalled
//!   after that. Waiting for the end of the child does not reap it (`watch`).
//! * Somebody else in this process may reap what is not theirs (`waitpid(-1)`, SIGCHLD ignored). So
//!   before each signal the kernel is asked whether the leader is still our child.
//! * A process that is a zombie or a member of a killed group makes no more children: the kernel
//!   delivers a signal to a whole group before or after a fork, never in between. So who lives in a
//!   group after SIGKILL is on its way out, and is waited for.
//!
//! Whichever way a `Group` goes, also by an early return or a panic, its processes go with it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command as StdCommand, ExitStatus};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, waitid,
};

use super::guard::Guard;
use super::members;

/// Has the processes of one incarnation. Dropped, it ends them.
#[derive(Debug)]
pub(super) struct Group {
    child: Child,
    pid: Pid,
    guard: Option<(Guard, Pid)>,
    /// Reaped: nothing is signalled any more.
    over: bool,
}

impl Group {
    /// Starts the command in the guard's group, or as the leader of one.
    ///
    /// # Errors
    /// It can't be started; nothing of it is left then.
    pub(super) fn start(command: &mut StdCommand, guard: Option<Guard>) -> io::Result<Group> {
        let mut unclaimed = guard.map(Unclaimed::new);
        let leader = unclaimed
            .as_ref()
            .map_or(0, |guard| guard.pid.as_raw_nonzero().get());
        let child = command.process_group(leader).spawn()?;
        let pid = Pid::from_child(&child);
        let mut guard = unclaimed.as_mut().and_then(Unclaimed::take);
        if let Some((guard, leader)) = &mut guard {
            guard.tell(pid, *leader);
        }
        Ok(Group {
            child,
            pid,
            guard,
            over: false,
        })
    }

    pub(super) fn pid(&self) -> Pid {
        self.pid
    }

    /// Our ends of its pipes, if it has any. That of its input is closed.
    pub(super) fn take_pipes(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        drop(self.child.stdin.take());
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Somebody else has reaped the child.
    pub(super) fn is_lost(&self) -> bool {
        !state_of(self.pid).is_ours()
    }

    /// Asks everybody to end. Who was stopped goes on, to be able to.
    pub(super) fn terminate(&mut self) {
        if let Some((guard, _)) = &mut self.guard {
            guard.wait_ready();
        }
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Each process gets it once: it is in one group. Errors are all the same here: nobody is there,
    /// or what is there may not be signalled by us.
    fn signal(&self, signal: Signal) {
        if self.over {
            return;
        }
        for leader in self.leaders() {
            if state_of(leader).is_ours() {
                let _ = kill_process_group(leader, signal);
            }
        }
        // It may be in a group that neither of them leads.
        if state_of(self.pid).is_ours() {
            let own = getpgid(Some(self.pid));
            if own.is_ok_and(|own| !self.leaders().any(|leader| leader == own)) {
                let _ = kill_process(self.pid, signal);
            }
        }
    }

    fn leaders(&self) -> impl Iterator<Item = Pid> + use<> {
        [Some(self.pid), self.guard.as_ref().map(|(_, pid)| *pid)]
            .into_iter()
            .flatten()
    }

    /// Kills whoever is left, waits until they are gone, and reaps guard and child. `told` hears
    /// whom it waits for.
    ///
    /// # Errors
    /// Somebody else has reaped the child.
    pub(super) fn end(&mut self, told: impl FnMut(&[Pid])) -> io::Result<ExitStatus> {
        let leaders: Vec<Pid> = self.leaders().collect();
        self.kill();
        for leader in &leaders {
            wait_end(*leader);
        }
        let all_seen = members::wait_gone(&leaders, || self.kill(), told);
        self.over = true;
        let status = self.child.wait();
        if let Some((guard, _)) = &mut self.guard {
            // An error: somebody else has reaped it.
            let _ = guard.child.wait();
        }
        if !all_seen {
            members::wait_gone_unseen(&leaders);
        }
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.over {
            // An error: there is nothing to reap.
            let _ = self.end(|_| {});
        }
    }
}

/// A guard without a command: ended if that can't be started.
struct Unclaimed {
    guard: Option<Guard>,
    pid: Pid,
}

impl Unclaimed {
    fn new(guard: Guard) -> Unclaimed {
        Unclaimed {
            pid: Pid::from_child(&guard.child),
            guard: Some(guard),
        }
    }

    fn take(&mut self) -> Option<(Guard, Pid)> {
        self.guard.take().map(|guard| (guard, self.pid))
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(guard) = &mut self.guard {
            // Its group is itself.
            let _ = guard.child.kill();
            let _ = guard.child.wait();
        }
    }
}

/// What the kernel says of a process that we have started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leader {
    Running,
    /// Waits to be reaped.
    Ended,
    /// Was reaped: the id may be somebody else's.
    Gone,
}

impl Leader {
    pub(super) fn is_running(self) -> bool {
        self == Leader::Running
    }

    fn is_ours(self) -> bool {
        self != Leader::Gone
    }
}

/// Looks, without waiting and without reaping.
pub(super) fn state_of(leader: Pid) -> Leader {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::Pid(leader), look) {
        Ok(None) => Leader::Running,
        Ok(Some(_)) => Leader::Ended,
        Err(_) => Leader::Gone,
    }
}

/// Blocks until our child has ended, without reaping it.
pub(super) fn wait_end(leader: Pid) {
    let wait = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while matches!(waitid(WaitId::Pid(leader), wait), Err(Errno::INTR)) {}
}
