//! `Staged`: run, shutdown, cleanup, error handler.

use std::fmt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::outcome::{caught, unless_stopping};
use crate::{Context, Errors, Service, ServiceResult};

type Stage = dyn Fn() -> ServiceResult + Send + Sync;

type Handler = dyn Fn(&Errors) + Send + Sync;

/// A service in stages, as in Go's fun/srv: `run`, then `shutdown`, then `cleanup`, then `on_error`.
///
/// In each incarnation every stage is called exactly once, whatever the others have answered:
///
/// | stage | called | for |
/// |---|---|---|
/// | `run` | first | the work |
/// | [`shutdown`](Staged::shutdown) | when a stop is asked for, on a thread of its own, or when `run` is over, whichever is first | making `run` return |
/// | [`cleanup`](Staged::cleanup) | when both have returned | giving back what they used |
/// | [`on_error`](Staged::on_error) | last, if any of them has failed | telling somebody |
///
/// A panic in a stage is caught and counts as its error; the other stages still run. Afterwards the
/// service answers what there was, in the order of this table: nothing, the one error itself, or all
/// of them as an [`Errors`]. So a panic in `run` is a panic of the service, with its message and
/// location. The [`Stopping`](crate::Stopping) that `?` hands on after a stop request is no error.
///
/// ```
/// use backstay::services::Staged;
/// use backstay::{service_fn, Supervisor};
/// use std::sync::Mutex;
/// use std::sync::mpsc::channel;
///
/// # let app = Supervisor::new("app");
/// let (jobs, queue) = channel::<Option<String>>();
/// # jobs.send(Some("a page".to_owned()))?;
/// let (queue, printed) = (Mutex::new(queue), channel::<String>());
/// # let (print, printed) = printed;
/// # let (cleaned, clean) = channel();
/// let printer = Staged::new(move |_ctx| {
///     // Knows nothing of stops.
///     while let Some(job) = queue.lock().unwrap().recv()? {
///         print.send(job)?;
///     }
///     Ok(())
/// })
/// .shutdown(move || Ok(jobs.send(None)?)) // ends the loop
/// .cleanup(move || Ok(cleaned.send("paper away")?))
/// .on_error(|errors| eprintln!("printer: {errors}"));
/// app.add("printer", printer)?;
/// app.start()?;
/// assert_eq!(printed.recv()?, "a page");
///
/// assert!(app.stop().is_empty());
/// assert_eq!(clean.recv()?, "paper away");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// The incarnation has ended when the last stage has returned; the stop timeout covers all of them. After
/// a timeout a late `run` is still followed by the other stages. What `run` does not do itself before
/// it returns, such as waiting for a supervisor from [`Context::supervise`], is not over before
/// `cleanup`.
///
/// If there is no thread for `shutdown` at a stop request, it is called when `run` is over.
#[must_use = "a service does nothing before it is added"]
pub struct Staged {
    run: Box<dyn Fn(&Context) -> ServiceResult + Send + Sync>,
    shutdown: Option<Arc<Stage>>,
    cleanup: Option<Box<Stage>>,
    on_error: Option<Box<Handler>>,
}

impl Staged {
    /// The work: blocks until it is done, or its context says stop, or `shutdown` makes it return.
    pub fn new(run: impl Fn(&Context) -> ServiceResult + Send + Sync + 'static) -> Staged {
        Staged {
            run: Box::new(run),
            shutdown: None,
            cleanup: None,
            on_error: None,
        }
    }

    /// Called once, when a stop is asked for or `run` is over. Until it has returned, `cleanup` waits.
    pub fn shutdown(mut self, f: impl Fn() -> ServiceResult + Send + Sync + 'static) -> Staged {
        self.shutdown = Some(Arc::new(f));
        self
    }

    /// Called once, when `run` and `shutdown` have returned.
    pub fn cleanup(mut self, f: impl Fn() -> ServiceResult + Send + Sync + 'static) -> Staged {
        self.cleanup = Some(Box::new(f));
        self
    }

    /// Called last, if a stage has answered an error or panicked, with all of these in the order of
    /// the stages. An [`Exit`](crate::Exit) is an error, too. If the handler panics, that is added to
    /// what the service answers.
    pub fn on_error(mut self, f: impl Fn(&Errors) + Send + Sync + 'static) -> Staged {
        self.on_error = Some(Box::new(f));
        self
    }
}

impl Service for Staged {
    fn run(&self, ctx: &Context) -> ServiceResult {
        let mut errors = Errors::new();
        let shutdown = self.shutdown.clone().map(Once::new);
        let at_a_stop = shutdown
            .clone()
            .map(|once| ctx.on_stop(move || once.call()));
        errors.push_result(unless_stopping(ctx, caught(|| (self.run)(ctx))));
        if let Some(once) = shutdown {
            once.call();
            errors.push_result(once.wait());
        }
        drop(at_a_stop);
        if let Some(cleanup) = &self.cleanup {
            errors.push_result(caught(cleanup));
        }
        if let (Some(on_error), false) = (&self.on_error, errors.is_empty()) {
            let handled = caught(|| {
                on_error(&errors);
                Ok(())
            });
            errors.push_result(handled);
        }
        errors.into_result()
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged")
            .field("shutdown", &self.shutdown.is_some())
            .field("cleanup", &self.cleanup.is_some())
            .field("on_error", &self.on_error.is_some())
            .finish_non_exhaustive()
    }
}

/// The shutdown of one incarnation, which two threads may come to call.
struct Once {
    stage: Arc<Stage>,
    state: Mutex<OnceState>,
    returned: Condvar,
}

enum OnceState {
    NotCalled,
    InCall,
    Returned(ServiceResult),
}

impl Once {
    fn new(stage: Arc<Stage>) -> Arc<Once> {
        Arc::new(Once {
            stage,
            state: Mutex::new(OnceState::NotCalled),
            returned: Condvar::new(),
        })
    }

    /// Calls it, unless somebody else does or did.
    fn call(&self) {
        {
            let mut state = self.state.lock();
            match *state {
                OnceState::NotCalled => *state = OnceState::InCall,
                OnceState::InCall | OnceState::Returned(_) => return,
            }
        }
        let answer = caught(&*self.stage);
        *self.state.lock() = OnceState::Returned(answer);
        self.returned.notify_all();
    }

    /// What came of the call, once.
    fn wait(&self) -> ServiceResult {
        let mut state = self.state.lock();
        loop {
            match &mut *state {
                OnceState::Returned(answer) => return std::mem::replace(answer, Ok(())),
                OnceState::NotCalled | OnceState::InCall => self.returned.wait(&mut state),
            }
        }
    }
}
