//! The connections of one incarnation: how many there are, who waits for a thread, and the threads.
//!
//! Protocol. Each step is one critical section of `state`; no user code runs within it.
//!
//! * A connection counts from the moment it is registered until its [`Entry`] is dropped: when its
//!   handler has returned or panicked, or when it never got a thread. So the count always comes back.
//! * A thread that waits is counted in `idle`. A connection is queued only if more threads wait than
//!   connections are queued, and otherwise gets a thread of its own: so each queued one has a thread that
//!   wakes for it.
//! * The registered handle is a duplicate of the connection, to end it with when the linger is over. It
//!   goes with the entry, so the connection closes when the handler has returned.
//! * After `close` no thread waits any more; those that serve end when they have served.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::entrance::Bell;
use super::error::ConnectionError;
use super::socket::{Peer, Stream};
use crate::{
    BoxError, Context, Error, Exit, Failure, Restart, ServiceResult, Spec, Stopping, Supervisor,
};

/// How many threads may wait for a next connection; one more that has nothing to do ends. A waiting
/// one is there in half the time that a new one takes.
const IDLE_THREADS_MAX: usize = 32;

pub(super) type Handler<S> = dyn Fn(S, &Context) -> ServiceResult + Send + Sync;

pub(super) struct Connections<S> {
    state: Mutex<State<S>>,
    /// For the threads: something is queued, or it is closed.
    queued: Condvar,
    /// For the accepting thread: there is room, or an end.
    freed: Condvar,
    max: usize,
    handler: Arc<Handler<S>>,
    bell: Bell,
}

struct State<S> {
    open: BTreeMap<u64, S>,
    queue: VecDeque<Connection<S>>,
    idle: usize,
    closed: bool,
    /// How many there have been. A thread is named by the first that it has served.
    registered: u64,
    /// A handler wants the listener to end.
    exit: Option<BoxError>,
}

/// Accepted and registered.
pub(super) struct Connection<S> {
    stream: S,
    peer: Peer,
    entry: Entry,
}

/// Takes the connection out when it is dropped.
struct Entry {
    number: u64,
    /// Where it is; `None`: it has been taken out.
    all: Option<Arc<dyn Leave>>,
}

trait Leave: Send + Sync {
    fn leave(&self, number: u64);
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(all) = self.all.take() {
            all.leave(self.number);
        }
    }
}

impl<S: Stream> Leave for Connections<S> {
    fn leave(&self, number: u64) {
        let left = self.state.lock().open.remove(&number);
        // Closes the connection, after the lock.
        drop(left);
        self.freed.notify_one();
    }
}

impl<S: Stream> Connections<S> {
    pub(super) fn new(max: usize, handler: Arc<Handler<S>>, bell: Bell) -> Arc<Connections<S>> {
        Arc::new(Connections {
            state: Mutex::new(State {
                open: BTreeMap::new(),
                queue: VecDeque::new(),
                idle: 0,
                closed: false,
                registered: 0,
                exit: None,
            }),
            queued: Condvar::new(),
            freed: Condvar::new(),
            max,
            handler,
            bell,
        })
    }

    /// Waits until one more may be accepted. False: there shall be no more.
    pub(super) fn wait_for_room(self: &Arc<Self>, ctx: &Context) -> bool {
        let over = |state: &State<S>| state.exit.is_some() || ctx.is_stopping();
        let state = self.state.lock();
        if over(&state) || state.open.len() < self.max {
            return !over(&state);
        }
        drop(state);
        let woken = self.clone();
        let _at_stop = ctx.on_stop(move || woken.wake());
        let mut state = self.state.lock();
        self.freed.wait_while(&mut state, |state| {
            state.open.len() >= self.max && !over(state)
        });
        !over(&state)
    }

    /// Under the lock, so that nobody who has just looked misses it.
    fn wake(&self) {
        let _state = self.state.lock();
        self.freed.notify_one();
    }

    /// # Errors
    /// No descriptor is left; everything comes back.
    pub(super) fn register(
        self: &Arc<Self>,
        stream: S,
        peer: Peer,
    ) -> Result<Connection<S>, (S, Peer, io::Error)> {
        let handle = match stream.duplicate() {
            Ok(handle) => handle,
            Err(e) => return Err((stream, peer, e)),
        };
        let mut state = self.state.lock();
        state.registered += 1;
        let number = state.registered;
        state.open.insert(number, handle);
        drop(state);
        let entry = Entry {
            number,
            all: Some(self.clone()),
        };
        Ok(Connection {
            stream,
            peer,
            entry,
        })
    }

    /// Gives it to a thread: one that waits, or a new one below `crew`.
    ///
    /// # Errors
    /// There is no room for a thread; the connection comes back.
    pub(super) fn dispatch(
        self: &Arc<Self>,
        crew: &Supervisor,
        connection: Connection<S>,
    ) -> Result<(), (Connection<S>, Error)> {
        let mut state = self.state.lock();
        if state.idle > state.queue.len() {
            state.queue.push_back(connection);
            drop(state);
            self.queued.notify_one();
            return Ok(());
        }
        drop(state);
        let name = connection.entry.number.to_string();
        let (all, first) = (self.clone(), Arc::new(Mutex::new(Some(connection))));
        let given = first.clone();
        // The next one is served by another thread, so there is nothing to restart.
        let spec = Spec::new(name, move |ctx: &Context| {
            let first = first.lock().take();
            all.work(ctx, first)
        });
        match crew.add_spec(spec.restart(Restart::Never)) {
            Ok(_) => Ok(()),
            // The refused service is dropped, the connection is still here.
            Err(e) => match given.lock().take() {
                Some(connection) => Err((connection, e)),
                None => Ok(()),
            },
        }
    }

    /// A thread: serves one after the other. The first failure is its end.
    fn work(&self, ctx: &Context, first: Option<Connection<S>>) -> ServiceResult {
        let mut next = first;
        while let Some(connection) = next {
            let Connection {
                stream,
                peer,
                entry,
            } = connection;
            self.serve(ctx, stream, peer)?;
            next = self.next(entry);
        }
        Ok(())
    }

    fn serve(&self, ctx: &Context, stream: S, peer: Peer) -> ServiceResult {
        let served = Failure::catch(|| {
            let answer = ctx.scope(|ctx| (self.handler)(stream, ctx));
            // The user's `source()`.
            let exit = answer.as_ref().err().and_then(|e| Exit::find(&**e));
            (answer, exit)
        });
        match served {
            Ok((Ok(()), _)) => Ok(()),
            Ok((Err(error), _)) if error.is::<Stopping>() && ctx.is_stopping() => Ok(()),
            Ok((Err(error), Some(_))) => self.exit(error),
            Ok((Err(error), None)) => Err(ConnectionError::answered(peer, error).into()),
            Err(panic) => Err(ConnectionError::panicked(peer, panic).into()),
        }
    }

    /// Lets one go and waits for the next. The thread counts as waiting before the connection closes:
    /// a client that sees that and comes again finds it.
    fn next(&self, mut done: Entry) -> Option<Connection<S>> {
        done.all = None;
        let mut state = self.state.lock();
        let left = state.open.remove(&done.number);
        let waits = state.queue.is_empty() && !state.closed && state.idle < IDLE_THREADS_MAX;
        state.idle += usize::from(waits);
        MutexGuard::unlocked(&mut state, || {
            drop(left);
            self.freed.notify_one();
        });
        if waits {
            self.queued
                .wait_while(&mut state, |s| s.queue.is_empty() && !s.closed);
            state.idle -= 1;
        }
        state.queue.pop_front()
    }

    /// Ends the listener with this answer, or with that of another handler that was first.
    fn exit(&self, error: BoxError) -> ServiceResult {
        let mut state = self.state.lock();
        if state.exit.is_some() {
            drop(state);
            return Err(error);
        }
        state.exit = Some(error);
        self.freed.notify_one();
        drop(state);
        self.bell.ring();
        Ok(())
    }

    /// A handler wants an end.
    pub(super) fn is_over(&self) -> bool {
        self.state.lock().exit.is_some()
    }

    pub(super) fn take_exit(&self) -> Option<BoxError> {
        self.state.lock().exit.take()
    }

    /// Lets the threads go, and waits until no connection is open: at most `linger`, then they are
    /// ended.
    pub(super) fn close(&self, linger: Duration) {
        let mut state = self.state.lock();
        state.closed = true;
        self.queued.notify_all();
        self.freed
            .wait_while_for(&mut state, |state| !state.open.is_empty(), linger);
        state.open.values().for_each(Stream::end);
    }
}
