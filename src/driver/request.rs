//! Calls that want an answer.
//!
//! A request stays with the thread that makes it, and a ticket for it goes over the supervisor's
//! bounded command channel. A ticket that is dropped unread, because the supervisor has ended,
//! gives the request back undelivered. So a caller always gets an answer, and what it has handed
//! in is dropped on its own thread if it is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};

use super::body::Body;
use crate::error::{Error, ErrorKind};
use crate::id::{ChildId, ServiceId};
use crate::link::spin;
use crate::machine::message::Policy;

/// How many calls of one supervisor may wait to be read; more block, which is no harm, because
/// the supervisor never waits for a caller.
pub const COMMANDS_MAX: usize = 64;

/// What is asked for.
pub(crate) enum Ask {
    /// `complete`: what they need must have a provider.
    Add {
        services: Vec<NewService>,
        complete: bool,
    },
    Remove(ChildId),
    Stop(ChildId),
    Start(ChildId),
    Restart(ChildId),
}

/// A service to be added.
pub(crate) struct NewService {
    pub(crate) policy: Policy,
    pub(crate) body: Body,
}

/// What comes back: ids for an add, nothing for the others.
pub(crate) type Answer = Result<Vec<ServiceId>, Error>;

struct Request {
    state: Mutex<RequestState>,
    answered: Condvar,
    /// Set after the state for the last time, for a look without the lock.
    over: AtomicBool,
}

enum RequestState {
    Waiting(Ask),
    /// The supervisor is at it.
    Taken,
    /// With what was refused.
    Answered(Answer, Option<Ask>),
    Undelivered(Ask),
    Fetched,
}

/// The supervisor's end of a request.
pub(crate) struct Ticket(Arc<Request>);

/// The caller's end.
pub(crate) struct Pending(Arc<Request>);

/// How a request came back.
pub(crate) enum Outcome {
    Answered(Answer),
    /// The supervisor has ended in the meantime; ask whoever is responsible now.
    Undelivered(Ask),
}

pub(crate) fn request(ask: Ask) -> (Ticket, Pending) {
    let request = Arc::new(Request {
        state: Mutex::new(RequestState::Waiting(ask)),
        answered: Condvar::new(),
        over: AtomicBool::new(false),
    });
    (Ticket(request.clone()), Pending(request))
}

impl Ticket {
    /// What is asked for; the first time only.
    pub(crate) fn take(&self) -> Option<Ask> {
        let mut state = self.0.state.lock();
        match std::mem::replace(&mut *state, RequestState::Taken) {
            RequestState::Waiting(ask) => Some(ask),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Answers, and gives back what was refused.
    pub(crate) fn answer(self, answer: Answer, refused: Option<Ask>) {
        *self.0.state.lock() = RequestState::Answered(answer, refused);
        self.0.tell();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        *state = match std::mem::replace(&mut *state, RequestState::Fetched) {
            RequestState::Waiting(ask) => RequestState::Undelivered(ask),
            RequestState::Taken => {
                let gone = Error::new(
                    ErrorKind::Gone,
                    "the supervisor broke while it dealt with the call",
                );
                RequestState::Answered(Err(gone), None)
            }
            answered => answered,
        };
        drop(state);
        self.0.tell();
    }
}

impl Request {
    fn tell(&self) {
        self.over.store(true, Ordering::Release);
        self.answered.notify_one();
    }
}

impl Pending {
    pub(crate) fn wait(self) -> Outcome {
        // A supervisor that isn't busy answers sooner than a sleeper could be woken.
        spin::look(|| self.0.over.load(Ordering::Acquire));
        let mut state = self.0.state.lock();
        loop {
            match std::mem::replace(&mut *state, RequestState::Fetched) {
                RequestState::Answered(answer, refused) => {
                    drop(state);
                    drop(refused);
                    return Outcome::Answered(answer);
                }
                RequestState::Undelivered(ask) => return Outcome::Undelivered(ask),
                other => *state = other,
            }
            self.0.answered.wait(&mut state);
        }
    }
}
