//! One process of a command, from what it needs to the last of its group.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command as StdCommand, ExitStatus};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, Signal};

use super::below::Below;
use super::error::CommandError;
use super::group::Group;
use super::guard::Guard;
use super::output::Output;
use super::plan::{Plan, not_started};
use super::watch::{Watch, Watched};
use crate::Context;
use crate::services::poll;

/// How many of those it waits for the status names.
const NAMED_MAX: usize = 8;

/// What a process needs, ready before there is one. So whatever can be refused is refused while there
/// is nothing to be cleaned up.
pub(super) struct Incarnation<'a> {
    plan: &'a Plan,
    ctx: &'a Context,
    stop: BorrowedFd<'a>,
    watch: Watch,
    output: Option<Output>,
}

impl<'a> Incarnation<'a> {
    /// # Errors
    /// Threads or descriptors are not to be had; or the service is asked to stop.
    pub(super) fn new(plan: &'a Plan, ctx: &'a Context) -> io::Result<Incarnation<'a>> {
        let mut below = Below::new(ctx);
        Ok(Incarnation {
            plan,
            ctx,
            stop: ctx.stop_fd()?,
            watch: Watch::new(&mut below).map_err(io::Error::other)?,
            output: match plan.logs_output {
                true => Some(Output::new(&mut below, ctx).map_err(io::Error::other)?),
                false => None,
            },
        })
    }

    /// Runs the process. `slot` has its id as long as that is its own.
    ///
    /// # Errors
    /// It could not be started or watched, or it ended badly.
    pub(super) fn run(
        self,
        mut command: StdCommand,
        slot: &Mutex<Option<Pid>>,
    ) -> Result<(), CommandError> {
        let program = command.get_program().to_owned();
        let lost = |what| {
            let program = program.clone();
            move |e| CommandError::lost(program, what, e)
        };
        let guard = match self.plan.guarded {
            true => Some(Guard::start().map_err(|e| not_started(&command, e))?),
            false => None,
        };
        let mut group = Group::start(&mut command, guard).map_err(|e| not_started(&command, e))?;
        let shown = Shown::new(slot, group.pid());
        let (stdout, stderr) = group.take_pipes();
        let reading = match self.output {
            Some(output) => {
                let reading = output.begin(stdout, stderr);
                Some(reading.map_err(lost("its output cannot be read"))?)
            }
            None => {
                // A pipe that was asked for and that nobody reads: writes to it shall fail.
                drop((stdout, stderr));
                None
            }
        };
        let ended = match self.watch.begin(group.pid()) {
            // It has ended, and somebody else has reaped it: what is watched may be anybody.
            _ if group.is_lost() => None,
            Ok(ended) => Some(ended),
            Err(e) => return Err(lost("it cannot be watched")(e)),
        };
        self.ctx.set_status(format!("process {}", group.pid()));
        self.ctx.ready();
        let asked = match ended {
            Some(ended) => see_to(&mut group, self.stop, &ended, self.plan.kill_after)
                .map_err(lost("it cannot be watched"))?,
            None => false,
        };
        drop(shown);
        let status = group.end(|living| self.ctx.set_status(waits_for(living)));
        drop(reading);
        let status = status.map_err(lost("its exit code is lost"))?;
        if status.success() || (asked && is_term(status)) {
            Ok(())
        } else {
            Err(CommandError::ended(program, status))
        }
    }
}

/// Returns when the child has ended, of itself or not. True: it was sent SIGTERM.
fn see_to(
    group: &mut Group,
    stop: BorrowedFd<'_>,
    ended: &Watched,
    kill_after: Duration,
) -> io::Result<bool> {
    let mut fds = [poll::readable(ended), poll::readable(&stop)];
    poll::wait(&mut fds, None)?;
    if poll::is_ready(&fds[0]) {
        return Ok(false);
    }
    let mut end = [poll::readable(ended)];
    let asked = !kill_after.is_zero();
    if asked {
        group.terminate();
        if poll::wait(&mut end, poll::after(kill_after))? {
            return Ok(true);
        }
    }
    group.kill();
    poll::wait(&mut end, None)?;
    Ok(asked)
}

fn is_term(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::TERM.as_raw())
}

fn waits_for(living: &[Pid]) -> String {
    let named: Vec<String> = living
        .iter()
        .take(NAMED_MAX)
        .map(ToString::to_string)
        .collect();
    format!(
        "waits for the end of {} of its process group: {}",
        living.len(),
        named.join(", ")
    )
}

/// The id of the process, where the handle finds it. Gone before the process is reaped, from where on
/// the id may be another's.
struct Shown<'a> {
    slot: &'a Mutex<Option<Pid>>,
    pid: Pid,
}

impl Shown<'_> {
    fn new(slot: &Mutex<Option<Pid>>, pid: Pid) -> Shown<'_> {
        *slot.lock() = Some(pid);
        Shown { slot, pid }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut slot = self.slot.lock();
        if *slot == Some(self.pid) {
            *slot = None;
        }
    }
}
