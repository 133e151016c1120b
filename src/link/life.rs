//! The stop state of one incarnation: who asked, who waits, and who must return before it is over.
//!
//! Protocol. Every line is one critical section of `state`, and no user code runs within it.
//!
//! * `enter` and `ask` are one atomic claim: asked first, and `run` is never entered and no hook
//!   is called; entered first, and every hook is called.
//! * `ask` takes place at most once; later calls can only shorten the deadline.
//! * Hooks are counted when they are handed out and counted back when they have returned, also if
//!   they panicked or no thread could be had for them. `finish` waits for that count, so the next
//!   incarnation cannot start before a late hook has returned.
//! * From `finish` on everything that the incarnation's contexts do is inert.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::sleepers::{self, Sleepers, Watched};
use crate::error::{Never, Stopping};
use crate::event::StopCause;

/// Somebody who wants to know when a stop is asked for or the incarnation is over. Must not block
/// and must not run user code.
pub(crate) trait Wake: Send + Sync {
    fn wake(&self);
}

/// A closure of `Context::on_stop`.
pub(crate) type Hook = Box<dyn FnOnce() + Send>;

/// A request to stop.
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) cause: StopCause,
    /// When the supervisor will give up waiting; `None` is never.
    pub(crate) deadline: Option<Instant>,
    /// The supervisor's reference to the service's values, if they are not needed any more: drop
    /// them on the way out.
    pub(crate) discard: Option<Arc<dyn Any + Send + Sync>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Not in `run` yet.
    Assigned,
    InRun,
    /// `run` has returned; hooks may still be out.
    Returned,
    Over,
}

/// What a request to stop has to be followed by.
#[derive(Debug, Default)]
pub(crate) struct Handout {
    /// `Service::interrupt` is to be called.
    pub(crate) interrupt: bool,
    /// The `on_stop` closures that are to be called, by key.
    pub(crate) hooks: Vec<u64>,
}

/// What an incarnation that is over leaves to be dropped.
pub(crate) struct Leftover {
    /// The values, if a stop said that they go.
    pub(crate) discard: Option<Arc<dyn Any + Send + Sync>>,
    /// The closures that nobody has called.
    pub(crate) hooks: Vec<(u64, Hook)>,
}

pub(crate) struct Life {
    state: Mutex<LifeState>,
    /// Mirrors "asked or over" for readers without the lock.
    stopping: AtomicBool,
    signal: OnceLock<Receiver<Never>>,
    #[cfg(unix)]
    fd: OnceLock<std::os::fd::OwnedFd>,
}

struct LifeState {
    stage: Stage,
    stop: Option<Stop>,
    hooks: Vec<(u64, Hook)>,
    hooks_made: u64,
    /// Handed out and not returned yet.
    hooks_out: usize,
    /// Those of them for which there is no thread yet.
    hooks_waiting: usize,
    /// It was said that a hook comes too late.
    said_late: bool,
    said_ready: bool,
    /// Threads of the incarnation's own.
    sleepers: Sleepers,
    wakers: Vec<Weak<dyn Wake>>,
    signal: Option<Sender<Never>>,
    #[cfg(unix)]
    fd: Option<std::os::unix::net::UnixStream>,
}

impl Watched for LifeState {
    fn sleepers(&mut self) -> &mut Sleepers {
        &mut self.sleepers
    }
}

impl Life {
    pub(crate) fn new() -> Life {
        Life {
            state: Mutex::new(LifeState {
                stage: Stage::Assigned,
                stop: None,
                hooks: Vec::new(),
                hooks_made: 0,
                hooks_out: 0,
                hooks_waiting: 0,
                said_late: false,
                said_ready: false,
                sleepers: Sleepers::default(),
                wakers: Vec::new(),
                signal: None,
                #[cfg(unix)]
                fd: None,
            }),
            stopping: AtomicBool::new(false),
            signal: OnceLock::new(),
            #[cfg(unix)]
            fd: OnceLock::new(),
        }
    }

    /// Claims `run`. False: a stop was first, don't enter.
    pub(crate) fn enter(&self) -> bool {
        let mut state = self.state.lock();
        if state.stop.is_some() {
            state.stage = Stage::Returned;
            return false;
        }
        state.stage = Stage::InRun;
        true
    }

    /// Asks for a stop, or hastens one. `has_interrupt`: the service has a stop hook.
    ///
    /// # Errors
    /// It is over already and nothing will come of it; the request comes back.
    pub(crate) fn ask(&self, stop: Stop, has_interrupt: bool) -> Result<Handout, Stop> {
        let mut state = self.state.lock();
        if state.stage == Stage::Over {
            return Err(stop);
        }
        if let Some(asked) = &mut state.stop {
            asked.discard = asked.discard.take().or(stop.discard);
            asked.deadline = match (asked.deadline, stop.deadline) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            self.notify(state);
            return Ok(Handout::default());
        }
        state.stop = Some(stop);
        let mut handout = Handout::default();
        if state.stage == Stage::InRun {
            handout.interrupt = has_interrupt;
            handout.hooks = state.hooks.iter().map(|(key, _)| *key).collect();
            state.hooks_out += handout.hooks.len() + usize::from(has_interrupt);
        }
        self.notify(state);
        Ok(handout)
    }

    /// Tells everybody that a stop was asked for or the incarnation is over.
    fn notify(&self, mut state: parking_lot::MutexGuard<'_, LifeState>) {
        self.stopping.store(true, Ordering::Release);
        let wakers = std::mem::take(&mut state.wakers);
        state.wakers = wakers
            .iter()
            .filter(|w| w.strong_count() > 0)
            .cloned()
            .collect();
        let signal = state.signal.take();
        #[cfg(unix)]
        let fd = state.fd.take();
        sleepers::wake(state);
        // Disconnects the channel; closes the writing end, which makes the other end readable.
        drop(signal);
        #[cfg(unix)]
        drop(fd);
        for waker in wakers {
            if let Some(waker) = waker.upgrade() {
                waker.wake();
            }
        }
    }

    /// `run` has returned, and what runs below the incarnation is being waited for: no hook is called
    /// any more.
    pub(crate) fn leave(&self) {
        self.state.lock().stage = Stage::Returned;
    }

    /// `run` has returned, or was never entered. Waits until every hook has returned, too; then
    /// the incarnation is over. Answers the values to discard, if a stop said so, and the closures
    /// that nobody will call, for the caller to drop.
    pub(crate) fn finish(&self) -> Leftover {
        let mut state = self.state.lock();
        if state.hooks_out > 0 {
            state.stage = Stage::Returned;
            while state.hooks_out > 0 {
                sleepers::sleep(&mut state, None);
            }
        }
        state.stage = Stage::Over;
        let discard = state.stop.as_mut().and_then(|stop| stop.discard.take());
        let hooks = std::mem::take(&mut state.hooks);
        let quiet = self.stopping.load(Ordering::Relaxed)
            && state.wakers.is_empty()
            && state.signal.is_none();
        if quiet {
            sleepers::wake(state);
        } else {
            self.notify(state);
        }
        Leftover { discard, hooks }
    }

    /// Takes a closure that was handed out, if it wasn't withdrawn in the meantime.
    pub(crate) fn take_hook(&self, key: u64) -> Option<Hook> {
        let mut state = self.state.lock();
        let place = state.hooks.iter().position(|(k, _)| *k == key)?;
        Some(state.hooks.swap_remove(place).1)
    }

    /// No thread is free for a hook that was handed out.
    pub(crate) fn hook_waits(&self) {
        self.state.lock().hooks_waiting += 1;
    }

    /// There is one. True, once: later than the stop allows.
    pub(crate) fn hook_waits_no_longer(&self) -> bool {
        let mut state = self.state.lock();
        state.hooks_waiting -= 1;
        let deadline = state.stop.as_ref().and_then(|stop| stop.deadline);
        deadline.is_some_and(|at| at <= super::clock::now())
            && !std::mem::replace(&mut state.said_late, true)
    }

    /// The deadline is there. True, once: a hook still waits for a thread.
    pub(crate) fn has_late_hook(&self) -> bool {
        let mut state = self.state.lock();
        state.hooks_waiting > 0 && !std::mem::replace(&mut state.said_late, true)
    }

    /// A hook that was handed out has returned, or will never be called.
    pub(crate) fn hook_returned(&self) {
        let mut state = self.state.lock();
        state.hooks_out -= 1;
        sleepers::wake(state);
    }

    /// Registers a closure for the stop. `Ok(run_now)`; `Err`: it is over, here is the closure.
    pub(crate) fn add_hook(&self, hook: Hook) -> Result<(u64, bool), Hook> {
        let mut state = self.state.lock();
        match state.stage {
            Stage::Returned | Stage::Over => return Err(hook),
            Stage::Assigned | Stage::InRun => {}
        }
        let key = state.hooks_made;
        state.hooks_made += 1;
        state.hooks.push((key, hook));
        let run_now = state.stop.is_some();
        if run_now {
            state.hooks_out += 1;
        }
        Ok((key, run_now))
    }

    /// The first time only, and only while it lives.
    pub(crate) fn say_ready(&self) -> bool {
        let mut state = self.state.lock();
        let first = !state.said_ready && state.stage != Stage::Over;
        state.said_ready = true;
        first
    }

    pub(crate) fn has_said_ready(&self) -> bool {
        self.state.lock().said_ready
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_stopping() && self.state.lock().stage == Stage::Over
    }

    /// Asked to stop, or over.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn stop_cause(&self) -> Option<StopCause> {
        self.state
            .lock()
            .stop
            .as_ref()
            .map(|stop| stop.cause.clone())
    }

    /// When the supervisor will give up waiting, and whether the values go with this stop. `None`:
    /// nobody asked.
    pub(crate) fn stop_terms(&self) -> Option<(Option<Instant>, bool)> {
        let state = self.state.lock();
        state
            .stop
            .as_ref()
            .map(|stop| (stop.deadline, stop.discard.is_some()))
    }

    pub(crate) fn wait(&self) {
        let mut state = self.state.lock();
        while !self.is_stopping() {
            sleepers::sleep(&mut state, None);
        }
    }

    pub(crate) fn sleep(&self, d: Duration) -> Result<(), Stopping> {
        let Some(until) = super::clock::now().checked_add(d) else {
            self.wait();
            return Err(Stopping);
        };
        let mut state = self.state.lock();
        loop {
            if self.is_stopping() {
                return Err(Stopping);
            }
            if sleepers::sleep(&mut state, Some(until)) {
                return if self.is_stopping() {
                    Err(Stopping)
                } else {
                    Ok(())
                };
            }
        }
    }

    /// Calls `waker` at a stop; at once if there was one.
    pub(crate) fn on_stop_wake(&self, waker: Weak<dyn Wake>) {
        let mut state = self.state.lock();
        if state.wakers.len() == state.wakers.capacity() {
            // Grows with those that wait at the same time, not with those that ever did.
            state.wakers.retain(|w| w.strong_count() > 0);
        }
        let now = self.is_stopping().then(|| waker.upgrade());
        state.wakers.push(waker);
        drop(state);
        if let Some(Some(waker)) = now {
            waker.wake();
        }
    }

    pub(crate) fn signal(&self) -> &Receiver<Never> {
        self.signal.get_or_init(|| {
            let (sender, receiver) = bounded(0);
            let mut state = self.state.lock();
            if !self.is_stopping() {
                state.signal = Some(sender);
            }
            receiver
        })
    }

    #[cfg(unix)]
    pub(crate) fn fd(&self) -> std::io::Result<std::os::fd::BorrowedFd<'_>> {
        use std::os::fd::{AsFd, OwnedFd};
        if let Some(fd) = self.fd.get() {
            return Ok(fd.as_fd());
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        if self.fd.set(OwnedFd::from(theirs)).is_ok() {
            let mut state = self.state.lock();
            if !self.is_stopping() {
                state.fd = Some(ours);
            }
        }
        match self.fd.get() {
            Some(fd) => Ok(fd.as_fd()),
            None => Err(std::io::Error::other("the descriptor is gone")),
        }
    }
}

/// The life of a `Context::scope`: over when the closure returns, stopped when what it is in is.
pub(crate) struct ScopeLife {
    pub(crate) life: Life,
    pub(crate) parent: Arc<dyn HasLife>,
    /// Keys of the closures that were registered through it, at the incarnation's life.
    pub(crate) hooks: Mutex<Vec<u64>>,
}

/// Somebody with a life: an incarnation, or a scope in it.
pub(crate) trait HasLife: Send + Sync {
    fn life(&self) -> &Life;
}

impl HasLife for ScopeLife {
    fn life(&self) -> &Life {
        &self.life
    }
}

impl Wake for ScopeLife {
    fn wake(&self) {
        match self.parent.life().stop_cause() {
            Some(cause) => drop(self.life.ask(
                Stop {
                    cause,
                    deadline: None,
                    discard: None,
                },
                false,
            )),
            // Over without having been asked.
            None => drop(self.life.finish()),
        }
    }
}
