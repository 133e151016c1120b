//! `Cleanup`: what remains to be done at the end.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use parking_lot::Mutex;

use super::outcome::caught;
use super::refused::PushError;
use super::tasks::{Rules, Task, do_all};
use crate::{BoxError, Context, Error, Errors, Exit, Failure, Service, ServiceResult};

/// How long a task of a [`Cleanup`] may take unless set.
pub const DEFAULT_TASK_TIMEOUT: Duration = Duration::from_secs(5);

/// How many tasks and errors together a [`Cleanup`] holds. One more is refused.
pub const CLEANUP_TASKS_MAX: usize = 100_000;

/// Holds tasks until it is asked to stop, then runs them: the last one first, as values are dropped.
///
/// Added first, it stops last, so its tasks run when every other service of its supervisor has ended. A
/// cheap handle: add a clone, keep others, or hand them out under a key where services find it.
///
/// ```
/// use backstay::services::Cleanup;
/// use backstay::{Context, Supervisor};
///
/// # let dir = std::env::temp_dir().join(format!("backstay-cleanup-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir)?;
/// # let pid_file = dir.join("pid");
/// # let (tell, told) = backstay::crossbeam_channel::bounded(1);
/// let app = Supervisor::new("app");
/// let cleanup = Cleanup::new();
/// app.add("cleanup", cleanup.clone())?;
/// # let path = pid_file.clone();
/// app.add("web", move |ctx: &Context| {
///     std::fs::write(&pid_file, std::process::id().to_string())?;
///     let file = pid_file.clone();
///     cleanup.push(move || Ok(std::fs::remove_file(file)?))?;
/// #   let _ = tell.send(());
///     ctx.wait_stop();
///     Ok(())
/// })?;
/// app.start()?;
/// # told.recv()?;
/// # let pid_file = path;
/// # assert!(pid_file.exists());
/// assert!(app.stop().is_empty());
/// assert!(!pid_file.exists());
/// # std::fs::remove_dir_all(dir)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # At a stop
///
/// * Every stop runs what was pushed up to then, also one for a restart: the services around it
///   usually restart along, and push again what they need. From the beginning of that until the stop is
///   over, or for good if it is a stop for good, further tasks are refused. A stop for a restart that is
///   asked for before `run` was entered leaves the tasks to the next one.
/// * A task's error or panic is no reason to stop: the other tasks still run. All errors, those of
///   [`push_error`](Cleanup::push_error) first and then those of tasks in the order in which they were
///   begun, are what the service answers to the stop, and show in the event.
/// * A task that takes longer than the [task timeout](Cleanup::task_timeout) is given up: that is an
///   error, which names its position (counted from 1 as they were pushed), and the next task begins. Its thread
///   cannot be ended; it goes on beside whatever follows. With
///   [`CLEANUP_GIVEN_UP_MAX`](super::CLEANUP_GIVEN_UP_MAX) of those about, tasks run on the service's own
///   thread, and so they do when no thread is to be had; there they cannot be given up.
/// * The stop timeout of the service has to cover all tasks together. When it is over the service is
///   abandoned, and goes on with its tasks.
///
/// A task that was taken is not lost if no stop comes for it, because the service was stopped before it
/// ran or was not started again: it runs when the supervisor [lets go](Service::retire) of the service,
/// without a task timeout, and its error goes to the log. Only the tasks of a `Cleanup` that was never
/// added are dropped uncalled.
#[derive(Clone)]
#[must_use = "tasks run only if the service is added"]
pub struct Cleanup {
    shared: Arc<Shared>,
    threads: usize,
    task_timeout: Duration,
}

struct Shared {
    state: Mutex<State>,
    /// Threads of tasks that were given up and still run.
    given_up: Arc<AtomicUsize>,
}

struct State {
    held: Vec<Held>,
    stage: Stage,
    /// How often the service was started.
    starts: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Open,
    /// A stop runs the tasks.
    Stopping,
    Ended,
}

enum Held {
    Task(Task),
    Error(BoxError),
}

impl Cleanup {
    /// Without a task; runs one at a time, each for at most [`DEFAULT_TASK_TIMEOUT`].
    pub fn new() -> Cleanup {
        Cleanup {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    held: Vec::new(),
                    stage: Stage::Open,
                    starts: 0,
                }),
                given_up: Arc::default(),
            }),
            threads: 1,
            task_timeout: DEFAULT_TASK_TIMEOUT,
        }
    }

    /// How many tasks run at the same time; one unless set. They are begun last in, first out all the
    /// same. Zero ends the service ([`Exit::DoNotRestart`]) with an error that names `parallel`. Holds for
    /// this handle and clones of it: it is the service's that counts.
    pub fn parallel(mut self, threads: usize) -> Cleanup {
        self.threads = threads;
        self
    }

    /// How long a task may take before it is given up; [`DEFAULT_TASK_TIMEOUT`] unless set. Zero waits for
    /// none, and [`Duration::MAX`] for ever. Holds for this handle and clones of it, as
    /// [`parallel`](Cleanup::parallel) does.
    pub fn task_timeout(mut self, d: Duration) -> Cleanup {
        self.task_timeout = d;
        self
    }

    /// Adds a task. It runs once.
    ///
    /// # Errors
    /// The task is dropped, uncalled; [`try_push`](Cleanup::try_push) gives it back instead.
    /// [`ErrorKind::Stopping`](crate::ErrorKind::Stopping): the tasks are being run for a stop. [`ErrorKind::Gone`](crate::ErrorKind::Gone): that stop was for
    /// good. [`ErrorKind::Full`](crate::ErrorKind::Full): it holds [`CLEANUP_TASKS_MAX`].
    pub fn push(&self, f: impl FnOnce() -> ServiceResult + Send + 'static) -> Result<(), Error> {
        self.try_push(f).map_err(told)
    }

    /// Adds a task, or gives it back, so that the caller can do it on the spot.
    ///
    /// ```
    /// use backstay::services::Cleanup;
    ///
    /// let cleanup = Cleanup::new();
    /// if let Err(refused) = cleanup.try_push(|| Ok(())) {
    ///     let task = refused.into_inner();
    ///     task()?; // too late to be held
    /// }
    /// # Ok::<(), backstay::BoxError>(())
    /// ```
    ///
    /// # Errors
    /// The task, as [`PushError::Draining`], [`PushError::Closed`] or [`PushError::Full`], in the cases
    /// of [`push`](Cleanup::push).
    pub fn try_push<F>(&self, f: F) -> Result<(), PushError<F>>
    where
        F: FnOnce() -> ServiceResult + Send + 'static,
    {
        self.shared.hold(f, |f| Held::Task(Box::new(f)))
    }

    /// Adds an error that is only reported, together with those of the tasks.
    ///
    /// # Errors
    /// The same as [`push`](Cleanup::push) has.
    pub fn push_error(&self, e: impl Into<BoxError>) -> Result<(), Error> {
        self.shared.hold(e.into(), Held::Error).map_err(told)
    }
}

/// The refusal in words. Drops what was refused.
fn told<T>(refused: PushError<T>) -> Error {
    let why = match &refused {
        PushError::Draining(_) => "its tasks are being run".to_owned(),
        PushError::Full(_) => format!("it holds {CLEANUP_TASKS_MAX} tasks and errors"),
        PushError::Closed(_) | PushError::NoCredit(_) | PushError::Timeout(_) => {
            "it has ended".to_owned()
        }
    };
    Error::new(Error::from(refused).kind(), format!("cleanup: {why}"))
}

impl Shared {
    /// Nothing is dropped under the lock: a refused value goes back to the caller.
    fn hold<T>(&self, value: T, held: impl FnOnce(T) -> Held) -> Result<(), PushError<T>> {
        let mut state = self.state.lock();
        match state.stage {
            Stage::Stopping => Err(PushError::Draining(value)),
            Stage::Ended => Err(PushError::Closed(value)),
            Stage::Open if state.held.len() >= CLEANUP_TASKS_MAX => Err(PushError::Full(value)),
            Stage::Open => {
                state.held.push(held(value));
                Ok(())
            }
        }
    }

    fn open(&self) -> usize {
        let mut state = self.state.lock();
        state.stage = Stage::Open;
        state.starts += 1;
        state.starts
    }

    /// Takes everything, and refuses more.
    fn close(&self, stage: Stage) -> Vec<Held> {
        let mut state = self.state.lock();
        state.stage = stage;
        std::mem::take(&mut state.held)
    }

    /// The stop of the `start`th start is over. If the service was started again meanwhile, because this
    /// one took too long, it has nothing to say any more.
    fn stopped(&self, start: usize, then: Stage) {
        let mut state = self.state.lock();
        if state.starts == start {
            state.stage = then;
        }
    }
}

impl Service for Cleanup {
    fn run(&self, ctx: &Context) -> ServiceResult {
        if self.threads == 0 {
            let invalid = Error::invalid("parallel", "0 threads run no task");
            return Err(Exit::DoNotRestart.because(invalid).into());
        }
        let start = self.shared.open();
        ctx.wait_stop();
        let (tasks, handed_in) = sorted(self.shared.close(Stage::Stopping));
        let rules = Rules {
            threads: self.threads,
            timeout: self.task_timeout,
            given_up: self.shared.given_up.clone(),
        };
        let mut errors = Errors::keeping(usize::MAX);
        errors.push(handed_in);
        errors.push(do_all(ctx, tasks, rules));
        let for_good = ctx.stop_cause().is_none_or(|cause| cause.is_final());
        let then = if for_good { Stage::Ended } else { Stage::Open };
        self.shared.stopped(start, then);
        errors.into_result()
    }

    fn retire(&self) {
        for held in self.shared.close(Stage::Ended).into_iter().rev() {
            let answer = match held {
                Held::Task(task) => caught(task),
                Held::Error(error) => Err(error),
            };
            if let Err(error) = answer {
                write_off(error);
            }
        }
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

/// The tasks, and the errors that were handed in.
fn sorted(held: Vec<Held>) -> (Vec<Task>, Errors) {
    let (mut tasks, mut errors) = (Vec::new(), Errors::new());
    for held in held {
        match held {
            Held::Task(task) => tasks.push(task),
            Held::Error(error) => errors.push(error),
        }
    }
    (tasks, errors)
}

/// Nobody is left to be told but the log. The text and the `Drop` of the error are the user's, and so
/// is the logger.
fn write_off(error: BoxError) {
    let text = Failure::catch(|| log::warn!(target: "backstay", "cleanup: {error}"));
    drop(text);
    drop(Failure::catch(|| drop(error)));
}

impl Default for Cleanup {
    fn default() -> Cleanup {
        Cleanup::new()
    }
}

impl fmt::Debug for Cleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (held, stage) = {
            let state = self.shared.state.lock();
            (state.held.len(), state.stage)
        };
        f.debug_struct("Cleanup")
            .field("held", &held)
            .field("stage", &stage)
            .field("parallel", &self.threads)
            .field("task_timeout", &self.task_timeout)
            .finish_non_exhaustive()
    }
}
