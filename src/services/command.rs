//! A child process as a service.

mod below;
mod error;
mod group;
mod guard;
mod incarnation;
mod lines;
mod members;
mod output;
mod plan;
#[cfg(any(target_os = "linux", target_os = "android"))]
mod stat;
mod watch;

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Command as StdCommand;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Pid;

use crate::{Context, Service, ServiceResult};
use incarnation::Incarnation;
use plan::{Change, Plan, not_started};

pub use error::CommandError;
pub use lines::OUTPUT_LINE_BYTES_MAX;

/// How long a [`Command`] has between SIGTERM and SIGKILL, unless set. Less than the time that a service
/// has to stop ([`DEFAULT_STOP_TIMEOUT`](crate::DEFAULT_STOP_TIMEOUT)).
pub const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(5);

/// A child process as a service: one incarnation, one process, and nothing of it is left afterwards.
///
/// ```
/// use backstay::services::Command;
/// use backstay::{End, Restart, Spec, Supervisor};
/// use std::time::Duration;
///
/// let app = Supervisor::new("app");
/// let sleeper = Command::new("sleep").arg("60").kill_after(Duration::from_secs(1));
/// app.add("sleeper", sleeper.clone())?;
/// let job = Command::new("sh").arg("-c").arg("echo hello; exit 0");
/// let id = app.add_spec(Spec::new("job", job).restart(Restart::OnFailure))?;
/// app.start()?;
///
/// assert!(matches!(app.wait_service(id, Duration::from_secs(10))?, End::Done));
/// # while sleeper.pid().is_none() { std::thread::yield_now() }
/// let pid = sleeper.pid().expect("it runs");
/// assert!(app.stop().is_empty()); // SIGTERM was enough
/// assert_eq!(sleeper.pid(), None);
/// # assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
/// # Ok::<(), backstay::Error>(())
/// ```
///
/// # Its end
///
/// `run` returns as soon as the process has ended: `Ok` after exit code 0, otherwise a
/// [`CommandError`] with the program and the exit code or signal. Asked to stop, it sends
/// SIGTERM (and SIGCONT, for who is stopped), and SIGKILL after [`kill_after`](Command::kill_after). An
/// end by that SIGTERM is `Ok`. `kill_after` ought to be shorter than the service's stop timeout; else
/// the service is abandoned before the process is killed.
///
/// # Its group
///
/// The process is in a process group of its own, and all signals go to the whole group. When the
/// process ends, also by itself, the rest of the group gets SIGKILL, and `run` returns when nobody of
/// it lives any more; who is dead and only waits for its parent counts as gone. No zombie is left of
/// the process itself. A process that has left the group (with `setsid` or `setpgid`, as daemons
/// do) can't be reached and lives on. The group that the command itself may have made for itself
/// (as `timeout` does) counts as its group, too. A member that may not be killed by us (it runs
/// as another user) is waited for until it ends; the service's status names it.
///
/// # If this process dies
///
/// However this process ends, also by SIGKILL or an abort: the group gets SIGKILL at once. That
/// holds from the first instruction of the program on, and for all its members. A
/// small process watches over it, the *guard*: `/bin/sh`, waiting on a pipe, seen as `backstay-guard`
/// in a list of processes. It leads the group, so the group's id is not [`pid`](Command::pid). It does
/// not hold if the guard itself was killed from outside before, nor while a copy of this process
/// exists that was forked and has not run a program. For systems without `/bin/sh` there is
/// [`unguarded`](Command::unguarded). When this process replaces itself (`exec`) it has ended, too.
///
/// # Its output
///
/// Standard output and error go to the [`log`] crate, a record for each line: the target is the service's
/// path, the level is info. Parts that are no UTF-8 are replaced; lines longer than
/// [`OUTPUT_LINE_BYTES_MAX`] are cut into several. They are no events. Nothing piles up: while the
/// logger blocks, writes of the process do. What a process that left the group writes after the end is
/// not read. Standard input is empty. [`keep_stdio`](Command::keep_stdio) leaves all three alone.
///
/// # What it needs
///
/// The program must not reap children that are not its own (`waitpid(-1)`), nor ignore SIGCHLD. Then the
/// exit code is lost and the incarnation fails; nobody else is ever signalled in our place.
/// Without a pidfd (Linux before 5.3, other systems) there is one more thread. Without `/proc` the end
/// of the group is waited for at most a second, because a dead member can't be told from a living one.
///
/// A method of the builder makes another command than its clones; a clone of a finished one is a handle
/// of it. If several services run it at the same time, each has a process of its own, and `pid` is the
/// one started last.
#[derive(Clone)]
pub struct Command {
    plan: Arc<Plan>,
    pid: Arc<Mutex<Option<Pid>>>,
}

impl Command {
    /// A command that runs this program: a path, or a name to be looked up in `PATH`.
    pub fn new(program: impl Into<OsString>) -> Command {
        let program = program.into();
        Command::from_std(move || StdCommand::new(&program))
    }

    /// A command that runs what `make` makes, once for each incarnation; for what only
    /// [`std::process::Command`] can say. A panic of `make` is a failure.
    ///
    /// Its process group is replaced. So are its standard streams, of which nobody can say whether
    /// they were set, unless [`keep_stdio`](Command::keep_stdio) says otherwise.
    pub fn from_std(make: impl Fn() -> StdCommand + Send + Sync + 'static) -> Command {
        Command {
            plan: Arc::new(Plan::new(make)),
            pid: Arc::default(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(self, arg: impl Into<OsString>) -> Command {
        self.change(Change::Arg(arg.into()))
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args(self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Command {
        args.into_iter().fold(self, Command::arg)
    }

    /// Sets a variable of the environment, which is otherwise that of this process.
    #[must_use]
    pub fn env(self, key: impl Into<OsString>, value: impl Into<OsString>) -> Command {
        self.change(Change::Env(key.into(), value.into()))
    }

    /// Sets several variables.
    #[must_use]
    pub fn envs<K, V>(self, vars: impl IntoIterator<Item = (K, V)>) -> Command
    where
        K: Into<OsString>,
        V: Into<OsString>,
    {
        vars.into_iter()
            .fold(self, |command, (key, value)| command.env(key, value))
    }

    /// Takes a variable out of the environment.
    #[must_use]
    pub fn env_remove(self, key: impl Into<OsString>) -> Command {
        self.change(Change::EnvRemove(key.into()))
    }

    /// Begins with an empty environment.
    #[must_use]
    pub fn env_clear(self) -> Command {
        self.change(Change::EnvClear)
    }

    /// The directory it runs in; that of this process unless set.
    #[must_use]
    pub fn current_dir(self, dir: impl Into<PathBuf>) -> Command {
        self.change(Change::CurrentDir(dir.into()))
    }

    /// How long after SIGTERM the group gets SIGKILL; [`DEFAULT_KILL_AFTER`], 5 s, unless set. Zero
    /// sends SIGKILL at once and no SIGTERM; [`Duration::MAX`] never kills.
    #[must_use]
    pub fn kill_after(self, grace: Duration) -> Command {
        self.edit(|plan| plan.kill_after = grace)
    }

    /// Leaves standard input, output and error as they are: those of this process, or what
    /// [`from_std`](Command::from_std) set. A pipe asked for there has nobody at its other end.
    #[must_use]
    pub fn keep_stdio(self) -> Command {
        self.edit(|plan| plan.logs_output = false)
    }

    /// Runs it without a guard: if this process is killed, it lives on. It leads its group itself then.
    /// For systems without a shell, and where a second small process is one too many.
    #[must_use]
    pub fn unguarded(self) -> Command {
        self.edit(|plan| plan.guarded = false)
    }

    /// The id of the process that runs, of whichever clone. `None` before its start and from its end
    /// on.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.pid
            .lock()
            .map(|pid| pid.as_raw_nonzero().get().unsigned_abs())
    }

    fn change(self, change: Change) -> Command {
        self.edit(|plan| plan.change(change))
    }

    fn edit(mut self, edit: impl FnOnce(&mut Plan)) -> Command {
        edit(Arc::make_mut(&mut self.plan));
        if Arc::get_mut(&mut self.pid).is_none() {
            // Another command than its clones from here on.
            self.pid = Arc::default();
        }
        self
    }
}

impl Service for Command {
    fn run(&self, ctx: &Context) -> ServiceResult {
        // The user's closure, while there is nothing yet to be cleaned up.
        let command = self.plan.make();
        match Incarnation::new(&self.plan, ctx) {
            Ok(incarnation) if !ctx.is_stopping() => Ok(incarnation.run(command, &self.pid)?),
            Ok(_) => Ok(()),
            // The reason is the stop.
            Err(_) if ctx.is_stopping() => Ok(()),
            Err(e) => Err(not_started(&command, e).into()),
        }
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("plan", &self.plan)
            .field("pid", &self.pid())
            .finish()
    }
}
