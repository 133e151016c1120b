//! `Supervisor::run`: the front door of a daemon.
//!
//! SIGINT and SIGTERM ask the tree to stop; a second one forces the way out. The handlers are
//! signal-hook's, read on a thread that lives as long as `run` does and calls nobody. When no `run` is
//! under way, the signals act as by default again.

mod defaults;
mod hooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::driver::core::Role;
use crate::driver::limits;
use crate::error::{Error, ErrorKind};
use crate::event::StopCause;
use crate::link::clock;
use crate::supervisor::Supervisor;

use defaults::Hold;
use hooks::Hooks;

const STOP_SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

impl Supervisor {
    /// Runs the tree until SIGINT or SIGTERM, or until it ends by itself. Starts it on this thread
    /// as [`serve`](Supervisor::serve) does; after [`start`](Supervisor::start) it only waits.
    ///
    /// The first signal asks the tree to stop, and `run` answers when the last service has ended: `Ok`,
    /// also with services that did not stop in time; [`stop`](Supervisor::stop) has the report then, and
    /// with it the exit code. The second signal forces: everything that still runs is abandoned. Other
    /// signals call what [`on_signal`](crate::SupervisorBuilder::on_signal) says. After `run` has returned,
    /// a signal acts as by default.
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    ///
    /// fn main() -> Result<ExitCode, backstay::Error> {
    ///     let app = backstay::Supervisor::new("app");
    ///     // .. app.add(..)
    ///     app.run()?;
    ///     Ok(ExitCode::from(app.stop().exit_code()))
    /// }
    /// ```
    ///
    /// A `main` like this one ends with these codes:
    ///
    /// | code | |
    /// |---|---|
    /// | 0 | everything stopped in time, after a signal, [`shutdown`](crate::Context::shutdown) or an automatic shutdown that ended well |
    /// | 3, [`EXIT_CODE_ABANDONED`](crate::EXIT_CODE_ABANDONED) | the same, but some had to be abandoned, and end with the process |
    /// | 1 | `run` answered an error: a limit was exceeded, a service took the tree down, a significant one failed, or a second signal forced the way out; the text names who and why |
    /// | 134 as shells show it (SIGABRT) | the process was aborted: [`PanicPolicy::Abort`](crate::PanicPolicy::Abort), or one of the things that [end a process](crate#guarantees-and-their-limits) |
    ///
    /// The log has the story: why the tree began to end, as `stopping: signal 15 (SIGTERM)` of the root at
    /// info; each service's end; a warning for each that was abandoned, with its thread; and at last how
    /// many those were, as `ended with 1 abandoned`.
    ///
    /// # Errors
    /// As [`serve`](Supervisor::serve); and after a second signal, if anybody had not ended, one
    /// that names who ([`Error::unstopped`]).
    pub fn run(&self) -> Result<(), Error> {
        if let Role::Child { .. } = self.core().role() {
            return Err(Error::new(
                ErrorKind::AlreadyRunning,
                format!(
                    "{}: it is a service of another supervisor, which runs it",
                    self.path()
                ),
            ));
        }
        let watch = Watch::new(self)?;
        let result = if self.core().was_started() {
            self.wait()
        } else {
            self.serve()
        };
        let result = match result {
            // The signal came before the start: that is a stop that was asked for, like any other.
            Err(e) if e.kind() == ErrorKind::Stopped && watch.seen.load(Ordering::Acquire) => {
                Ok(())
            }
            other => other,
        };
        let forced = watch.forced.load(Ordering::Acquire);
        result?;
        let report = self.core().last_end().map(|ended| ended.report.clone());
        let report = report.unwrap_or_default();
        if forced && !report.is_empty() {
            let names: Vec<&str> = report
                .unstopped()
                .iter()
                .map(crate::report::Unstopped::path)
                .collect();
            return Err(Error::forced(
                format!(
                    "{}: a second signal forced the way out; still running: {}",
                    self.path(),
                    names.join(", ")
                ),
                report.unstopped().to_vec(),
            ));
        }
        Ok(())
    }
}

/// Watches for signals until it is dropped.
struct Watch {
    handle: Handle,
    /// A signal to stop has come.
    seen: Arc<AtomicBool>,
    forced: Arc<AtomicBool>,
    hooks: Arc<Hooks>,
    hold: Option<Hold>,
}

impl Watch {
    fn new(supervisor: &Supervisor) -> Result<Watch, Error> {
        let failed = |what: &str, e: std::io::Error| {
            Error::new(ErrorKind::Spawn, format!("signals: {what}: {e}"))
        };
        let hooks = Hooks::new(supervisor.core().clone());
        let wanted: Vec<i32> = STOP_SIGNALS.into_iter().chain(hooks.signals()).collect();
        defaults::install(&wanted).map_err(|e| failed("no handler", e))?;
        let mut signals = Signals::new(&wanted).map_err(|e| failed("no handler", e))?;
        let handle = signals.handle();
        let (seen, forced) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        limits::take_room()?;
        let reader = Reader {
            tree: supervisor.borrowed(),
            seen: seen.clone(),
            forced: forced.clone(),
            hooks: hooks.clone(),
        };
        std::thread::Builder::new()
            .name("backstay-signal".to_owned())
            .spawn(move || signals.forever().for_each(|number| reader.read(number)))
            .map_err(|e| failed("no thread", e))?;
        Ok(Watch {
            handle,
            seen,
            forced,
            hooks,
            hold: Some(Hold::new(wanted)),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // In this order, so that no signal goes unnoticed.
        drop(self.hold.take());
        self.hooks.close();
        self.handle.close();
    }
}

/// On the thread that gets the signals. Blocks for nothing and nobody.
struct Reader {
    tree: Supervisor,
    seen: Arc<AtomicBool>,
    forced: Arc<AtomicBool>,
    hooks: Arc<Hooks>,
}

impl Reader {
    fn read(&self, number: i32) {
        let cause = StopCause::Signal { number };
        if !STOP_SIGNALS.contains(&number) {
            self.hooks.call(number);
        } else if !self.seen.swap(true, Ordering::AcqRel) {
            self.tree.request_stop_because(cause, None);
        } else {
            self.forced.store(true, Ordering::Release);
            self.tree.request_stop_because(cause, Some(clock::now()));
        }
    }
}
