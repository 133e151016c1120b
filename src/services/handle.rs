//! `JobHandle`: what becomes of a job.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::clock;
use super::job::{Job, Ticket, Waits, Work};
use crate::{BoxError, Context, Error, ErrorKind, Failure, ServiceResult};

/// The claim to what a job answers; from [`WorkerPool::submit`](super::WorkerPool::submit).
///
/// Dropped, the job is done all the same, and what it answers is dropped.
#[must_use = "a job whose answer nobody wants is pushed, not submitted"]
pub struct JobHandle<R> {
    slot: Arc<Slot<R>>,
}

/// Where the answer goes.
struct Slot<R> {
    state: Mutex<State<R>>,
    changed: Condvar,
}

enum State<R> {
    Pending,
    /// Answered, and not to be seen yet: first the pool counts the job.
    Held(Result<R, Failure>),
    Value(R),
    Failed(Failure),
    Gone,
    /// The value was taken.
    Taken,
}

/// A job whose answer somebody wants.
struct Submitted<F, R> {
    f: F,
    claim: Arc<Claim<R>>,
}

/// Settles the slot when the last one goes.
struct Claim<R> {
    slot: Arc<Slot<R>>,
}

/// A job that calls `f`, and the handle to what that answers.
pub(super) fn with_handle<R, F>(f: F) -> (Job, JobHandle<R>)
where
    R: Send + 'static,
    F: FnOnce(&Context) -> Result<R, BoxError> + Send + 'static,
{
    let slot = Arc::new(Slot {
        state: Mutex::new(State::Pending),
        changed: Condvar::new(),
    });
    let claim = Arc::new(Claim { slot: slot.clone() });
    (Job::of(Submitted { f, claim }), JobHandle { slot })
}

impl<F, R> Work for Submitted<F, R>
where
    R: Send + 'static,
    F: FnOnce(&Context) -> Result<R, BoxError> + Send,
{
    fn run(self: Box<Self>, ctx: &Context, waits: &Waits) -> ServiceResult {
        waits.set(Some(self.claim.clone()));
        let value = (self.f)(ctx)?;
        self.claim.hold(Ok(value));
        Ok(())
    }
}

impl<R> Claim<R> {
    fn hold(&self, answer: Result<R, Failure>) {
        *self.slot.state.lock() = State::Held(answer);
    }
}

impl<R: Send> Ticket for Claim<R> {
    fn fail(&self, failure: Failure) {
        self.hold(Err(failure));
    }
}

impl<R> Drop for Claim<R> {
    fn drop(&mut self) {
        let mut state = self.slot.state.lock();
        *state = match std::mem::replace(&mut *state, State::Taken) {
            State::Held(Ok(value)) => State::Value(value),
            State::Held(Err(failure)) => State::Failed(failure),
            State::Pending => State::Gone,
            settled => settled,
        };
        drop(state);
        self.slot.changed.notify_all();
    }
}

impl<R: Send + 'static> JobHandle<R> {
    /// Waits for the job's end. The value can be taken once; a failure is answered as often as it is
    /// asked for.
    ///
    /// A job that waits for another one of the same pool keeps a worker from doing it: with too few
    /// workers they wait for each other, until the stop.
    ///
    /// ```
    /// use backstay::services::WorkerPool;
    /// use backstay::{BoxError, Context, ErrorKind, Supervisor};
    ///
    /// let pool = WorkerPool::builder(2).continue_on_error().build()?;
    /// let sum = pool.submit(|_: &Context| Ok((1..=10).sum::<u32>()))?;
    /// let port = pool.submit(|_: &Context| Ok("http".parse::<u16>()?))?;
    ///
    /// # let app = Supervisor::new("app");
    /// app.add("pool", pool.clone())?;
    /// app.start()?;
    /// assert_eq!(sum.wait()?, 55);
    /// let error = port.wait().unwrap_err();
    /// assert_eq!(error.failure().unwrap().message(), "invalid digit found in string");
    ///
    /// // Never begun: the pool was stopped.
    /// assert!(app.stop().is_empty());
    /// # let pool = WorkerPool::builder(1).build()?;
    /// let late = pool.submit(|_: &Context| Ok(1))?;
    /// drop(pool);
    /// assert_eq!(late.wait().unwrap_err().kind(), ErrorKind::Gone);
    /// # Ok::<(), backstay::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// | kind | |
    /// |---|---|
    /// | [`Failed`](ErrorKind::Failed) | the job answered an error or panicked: [`Error::failure`] |
    /// | [`Gone`](ErrorKind::Gone) | it was discarded, or dropped without having been done; or the value was taken before |
    /// | [`Stopping`](ErrorKind::Stopping) | the service that waits is asked to stop |
    pub fn wait(&self) -> Result<R, Error> {
        self.wait_until(None)
    }

    /// The same, for at most `d`; zero does not wait, [`Duration::MAX`] is for ever.
    ///
    /// # Errors
    /// As [`wait`](JobHandle::wait); [`ErrorKind::Timeout`]: it has not ended by then.
    pub fn wait_timeout(&self, d: Duration) -> Result<R, Error> {
        self.wait_until(Some(d))
    }

    fn wait_until(&self, d: Option<Duration>) -> Result<R, Error> {
        if let Some(answer) = self.look() {
            return answer;
        }
        let until = d.and_then(|d| clock::now().checked_add(d));
        let caller = Context::current();
        let _waker = caller.as_ref().map(|caller| {
            let slot = Arc::downgrade(&self.slot);
            caller.on_stop(move || wake(&slot))
        });
        let is_stopping = || caller.as_ref().is_some_and(Context::is_stopping);
        let mut state = self.slot.state.lock();
        loop {
            if let Some(answer) = state.take() {
                drop(state);
                return answer;
            }
            if is_stopping() {
                let text = "the service that waits for a job is asked to stop";
                return Err(Error::new(ErrorKind::Stopping, text));
            }
            if self.sleep(&mut state, until) && !state.is_settled() {
                let text = "the job has not ended in time";
                return Err(Error::new(ErrorKind::Timeout, text));
            }
        }
    }

    fn look(&self) -> Option<Result<R, Error>> {
        self.slot.state.lock().take()
    }

    /// True: the time is over.
    fn sleep(
        &self,
        state: &mut parking_lot::MutexGuard<'_, State<R>>,
        until: Option<Instant>,
    ) -> bool {
        match until {
            None => {
                self.slot.changed.wait(state);
                false
            }
            Some(at) => self.slot.changed.wait_until(state, at).timed_out(),
        }
    }
}

impl<R> JobHandle<R> {
    /// Whether the job has ended, or will never be done: [`wait`](JobHandle::wait) does not block.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.slot.state.lock().is_settled()
    }
}

/// Through the lock: whoever looks at its stop under it has seen it, or sleeps by now.
fn wake<R>(slot: &Weak<Slot<R>>) {
    if let Some(slot) = slot.upgrade() {
        drop(slot.state.lock());
        slot.changed.notify_all();
    }
}

impl<R> State<R> {
    fn is_settled(&self) -> bool {
        match self {
            State::Pending | State::Held(_) => false,
            State::Value(_) | State::Failed(_) | State::Gone | State::Taken => true,
        }
    }

    /// `None`: not settled yet.
    fn take(&mut self) -> Option<Result<R, Error>> {
        let gone = |text: &str| Some(Err(Error::new(ErrorKind::Gone, text)));
        match self {
            State::Pending | State::Held(_) => None,
            State::Failed(failure) => Some(Err(failure.clone().into())),
            State::Gone => gone("the job was not done: it was discarded"),
            State::Taken => gone("the value of the job was taken before"),
            State::Value(_) => match std::mem::replace(self, State::Taken) {
                State::Value(value) => Some(Ok(value)),
                _ => None,
            },
        }
    }
}

impl<R> fmt::Debug for JobHandle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
