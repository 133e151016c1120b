//! `Wait`: several operations at once, until the last one has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::crew;
use super::job::Job;
use super::outcome::{caught, keep, unless_stopping};
use crate::{BoxError, Context, Error, Errors, Restart, Service, ServiceResult, Spec, Supervisor};

/// Runs operations, each on a thread of its own as soon as the iterator has given it, and ends with the
/// last of them, as fun/srv's wait groups do.
///
/// An operation that fails or panics does not disturb the others; all errors together are the answer,
/// in the order in which the operations ended. A stop reaches every operation through its context,
/// and nothing more is taken from the iterator. Operations are services below this one, named by their
/// number from 1: they are in the report, and if one does not end in time it is named.
///
/// The iterator is asked for the next operation while the ones before run, and may take its time: one
/// over a channel ends when the channel is closed. It is not interrupted by a stop, so whoever feeds
/// such a channel had better close it at a stop. Each incarnation makes an iterator of its own.
///
/// When the iterator is at its end and all operations have ended the service answers, so it is one for
/// [`Restart::OnFailure`] or [`Restart::Never`].
///
/// ```
/// use backstay::services::{Job, Wait};
/// use backstay::{Context, End, Restart, Spec, Supervisor};
/// use std::time::Duration;
///
/// let app = Supervisor::new("app");
/// app.start()?;
/// let warm_up = Wait::new(|| {
///     ["users", "orders"].map(|table| {
///         Job::new(move |ctx: &Context| {
///             ctx.log(format!("loading {table}"));
///             Ok(())
///         })
///     })
/// });
/// let id = app.add_spec(Spec::new("warm-up", warm_up).restart(Restart::OnFailure))?;
/// assert!(matches!(app.wait_service(id, Duration::from_secs(30))?, End::Done));
/// # assert!(app.stop().is_empty());
/// # Ok::<(), backstay::Error>(())
/// ```
///
/// For an operation that can have no thread, the service's own does it: the event log says so, and what
/// comes after has to wait.
#[must_use = "a service does nothing before it is added"]
pub struct Wait {
    ops: Box<Ops>,
}

/// Hands the operations over, one after the other, until it is told that this is enough.
type Ops = dyn Fn(&mut dyn FnMut(Job) -> Next) + Send + Sync;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    More,
    Enough,
}

impl Wait {
    /// The operations of one incarnation: closures `|ctx: &Context| -> ServiceResult`, or [`Job`]s.
    pub fn new<I>(ops: impl Fn() -> I + Send + Sync + 'static) -> Wait
    where
        I: IntoIterator,
        I::Item: Into<Job>,
    {
        Wait {
            ops: Box::new(move |take| {
                for op in ops() {
                    if take(op.into()) == Next::Enough {
                        return;
                    }
                }
            }),
        }
    }
}

impl Service for Wait {
    fn run(&self, ctx: &Context) -> ServiceResult {
        let crew = match ctx.supervise(crew::builder()) {
            // The stop came first.
            Err(_) if ctx.is_stopping() => return Ok(()),
            made => made?,
        };
        let mut round = Round {
            ctx,
            crew,
            shared: Arc::default(),
            begun: 0,
            errors: Errors::new(),
        };
        // If the iterator panics, what it gave before is waited for all the same.
        let given = caught(|| {
            (self.ops)(&mut |op| round.begin(op));
            Ok(())
        });
        round.errors.push_result(given);
        round.finish();
        round.errors.into_result()
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").finish_non_exhaustive()
    }
}

/// The operations of one incarnation.
struct Round<'a> {
    ctx: &'a Context,
    crew: Supervisor,
    shared: Arc<Shared>,
    begun: usize,
    errors: Errors,
}

/// What the service's thread and those of the operations have in common.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By number; out once it was begun.
    waiting: BTreeMap<usize, Job>,
    running: usize,
    /// Of operations whose thread could not be had.
    without_thread: Vec<usize>,
    /// Not looked at yet. Not more than there are threads: the next operation begins after a look.
    errors: Vec<BoxError>,
}

impl Shared {
    /// Wakes the service's thread, which looks at the state before it sleeps.
    fn notify(&self) {
        drop(self.state.lock());
        self.changed.notify_one();
    }
}

impl Round<'_> {
    fn begin(&mut self, op: Job) -> Next {
        self.begun += 1;
        let number = self.begun;
        self.shared.state.lock().waiting.insert(number, op);
        if let Err(refused) = self.give_thread(number) {
            self.do_it_here(number, &refused);
        }
        self.attend();
        if self.ctx.is_stopping() {
            Next::Enough
        } else {
            Next::More
        }
    }

    fn give_thread(&self, number: usize) -> Result<(), Error> {
        let operation = Operation {
            number,
            shared: self.shared.clone(),
        };
        let spec = Spec::new(number.to_string(), move |ctx: &Context| {
            operation.run(ctx);
            Ok(())
        });
        self.crew.add_spec(spec.restart(Restart::Never))?;
        Ok(())
    }

    /// An operation without a thread. One that was begun after all stays as it is.
    fn do_it_here(&mut self, number: usize, why: &dyn fmt::Display) {
        let Some(op) = self.shared.state.lock().waiting.remove(&number) else {
            return;
        };
        let text = format!("operation {number} runs on the service's own thread: {why}");
        self.ctx.log(text);
        if let Err(error) = unless_stopping(self.ctx, caught(|| op.run(self.ctx))) {
            keep(self.ctx, &mut self.errors, error);
        }
    }

    /// Waits for all that were begun.
    fn finish(&mut self) {
        let shared = self.shared.clone();
        let _wake = self.ctx.on_stop(move || shared.notify());
        loop {
            self.attend();
            let mut state = self.shared.state.lock();
            if !state.without_thread.is_empty() || !state.errors.is_empty() {
                continue;
            }
            if state.waiting.is_empty() && state.running == 0 {
                return;
            }
            if self.ctx.is_stopping() {
                break;
            }
            self.shared.changed.wait(&mut state);
        }
        self.finish_at_a_stop();
    }

    /// What runs below ends by itself, or is left behind and named. What was not begun there was taken
    /// all the same, so it is done here.
    fn finish_at_a_stop(&mut self) {
        drop(self.crew.wait());
        self.attend();
        let rest: Vec<usize> = self.shared.state.lock().waiting.keys().copied().collect();
        for number in rest {
            self.do_it_here(number, &"the stop came first");
        }
    }

    /// Takes over what the operations have left: errors, and what is to be done here.
    fn attend(&mut self) {
        let (without_thread, errors) = {
            let mut state = self.shared.state.lock();
            (
                std::mem::take(&mut state.without_thread),
                std::mem::take(&mut state.errors),
            )
        };
        for error in errors {
            keep(self.ctx, &mut self.errors, error);
        }
        for number in without_thread {
            self.do_it_here(number, &"no thread could be started");
        }
    }
}

/// One operation's place on its thread.
struct Operation {
    number: usize,
    shared: Arc<Shared>,
}

impl Operation {
    fn run(&self, ctx: &Context) {
        let op = {
            let mut state = self.shared.state.lock();
            let Some(op) = state.waiting.remove(&self.number) else {
                return;
            };
            state.running += 1;
            op
        };
        let answer = unless_stopping(ctx, caught(|| op.run(ctx)));
        let mut state = self.shared.state.lock();
        state.running -= 1;
        state.errors.extend(answer.err());
        drop(state);
        self.shared.changed.notify_one();
    }
}

/// Its thread is gone, or there was none.
impl Drop for Operation {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        if state.waiting.contains_key(&self.number) {
            state.without_thread.push(self.number);
            drop(state);
            self.shared.changed.notify_one();
        }
    }
}
