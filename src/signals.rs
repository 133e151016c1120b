//! `Supervisor::run`: the front door of a daemon.
//!
//! SIGINT and SIGTERM ask the tree to stop; a second one forces the way out. The handlers are
//! signal-hook's, read on a thread that lives as long as `run` does. When no `run` is under way,
//! the signals act as by default again: a handler can't be taken back, so it does what the system
//! would have done.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use signal_hook::iterator::{Handle, Signals};

use crate::driver::core::Role;
use crate::driver::limits;
use crate::error::{Error, ErrorKind};
use crate::event::StopCause;
use crate::link::clock;
use crate::supervisor::Supervisor;

const STOP_SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

impl Supervisor {
    /// Runs the tree until SIGINT or SIGTERM, or until it ends by itself. Starts it on this thread
    /// as [`serve`](Supervisor::serve) does; after [`start`](Supervisor::start) it only waits.
    ///
    /// The first signal asks the tree to stop, and `run` answers when it has: `Ok`, also with
    /// services that did not stop in time; [`stop`](Supervisor::stop) has the report then, and with
    /// it the exit code. The second signal forces: everything that still runs is abandoned. After
    /// `run` has returned, a signal acts as by default.
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
        drop(watch);
        result?;
        let report = self.stop();
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
    /// A signal has come.
    seen: Arc<AtomicBool>,
    forced: Arc<AtomicBool>,
}

impl Watch {
    fn new(supervisor: &Supervisor) -> Result<Watch, Error> {
        let failed = |what: &str, e: std::io::Error| {
            Error::new(ErrorKind::Spawn, format!("signals: {what}: {e}"))
        };
        let defaults = Defaults::get().map_err(|e| failed("no handler", e))?;
        let mut signals = Signals::new(STOP_SIGNALS).map_err(|e| failed("no handler", e))?;
        let handle = signals.handle();
        let (seen, forced) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        limits::take_room()?;
        let (tree, saw, force) = (supervisor.borrowed(), seen.clone(), forced.clone());
        std::thread::Builder::new()
            .name("backstay-signal".to_owned())
            .spawn(move || {
                for (n, number) in signals.forever().enumerate() {
                    saw.store(true, Ordering::Release);
                    if n == 0 {
                        tree.request_stop_because(StopCause::Signal { number }, None);
                    } else {
                        force.store(true, Ordering::Release);
                        tree.request_stop_because(StopCause::Signal { number }, Some(clock::now()));
                    }
                }
            })
            .map_err(|e| failed("no thread", e))?;
        defaults.suspend();
        Ok(Watch {
            handle,
            seen,
            forced,
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Ok(defaults) = Defaults::get() {
            defaults.resume();
        }
        self.handle.close();
    }
}

/// What the signals do while no `run` is under way.
struct Defaults {
    act: Arc<AtomicBool>,
    runs: AtomicUsize,
}

impl Defaults {
    fn get() -> std::io::Result<&'static Defaults> {
        static DEFAULTS: OnceLock<Defaults> = OnceLock::new();
        if let Some(defaults) = DEFAULTS.get() {
            return Ok(defaults);
        }
        let act = Arc::new(AtomicBool::new(true));
        let defaults = DEFAULTS.get_or_init(|| Defaults {
            act: act.clone(),
            runs: AtomicUsize::new(0),
        });
        if Arc::ptr_eq(&defaults.act, &act) {
            for signal in STOP_SIGNALS {
                register_conditional_default(signal, act.clone())?;
            }
        }
        Ok(defaults)
    }

    fn suspend(&self) {
        if self.runs.fetch_add(1, Ordering::AcqRel) == 0 {
            self.act.store(false, Ordering::Release);
        }
    }

    fn resume(&self) {
        if self.runs.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.act.store(true, Ordering::Release);
        }
    }
}
