//! Items that are done by several threads, and handed on in the order in which they came.
//!
//! Results wait in a lane until those before them are handed on. The worker that has brought the first
//! one of the lane hands on, one after the other, whatever is ready; others that come meanwhile leave
//! theirs and go. So there is one at a time, without a thread of its own.
//!
//! An item that failed is judged when its turn comes, not when it fails: what the items before it led
//! to has happened by then, and nothing of those after it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use super::source::MakeJob;
use super::window::Permit;
use crate::services::job::Job;
use crate::services::outcome::caught;
use crate::services::pool::{Shift, Then};
use crate::{BoxError, Context, Failure, ServiceResult};

type Outcome<R> = Result<R, BoxError>;

struct Lane<R> {
    state: Mutex<State<R>>,
}

struct State<R> {
    /// The number of the first one.
    first: usize,
    /// What has come of those from the first one on, with the room they take up. At most the window.
    outcomes: VecDeque<Option<(Outcome<R>, Permit)>>,
    /// Somebody hands on.
    busy: bool,
    /// Nothing is handed on any more.
    over: bool,
}

pub(super) fn jobs<T, R>(
    shift: &Arc<Shift>,
    map: Arc<impl Fn(&Context, T) -> Outcome<R> + Send + Sync + 'static>,
    each: Arc<impl Fn(&Context, R) -> ServiceResult + Send + Sync + 'static>,
) -> Box<MakeJob<T>>
where
    T: Send + 'static,
    R: Send + 'static,
{
    let lane = Arc::new(Lane {
        state: Mutex::new(State {
            first: 0,
            outcomes: VecDeque::new(),
            busy: false,
            over: false,
        }),
    });
    let shift = shift.clone();
    let mut next = 0_usize;
    Box::new(move |item, room| {
        let number = next;
        next = next.wrapping_add(1);
        let (lane, shift, map, each) = (lane.clone(), shift.clone(), map.clone(), each.clone());
        Job::new(move |ctx: &Context| {
            let outcome = match Failure::catch(|| map(ctx, item)) {
                Ok(outcome) => outcome,
                Err(panic) => Err(panic.into()),
            };
            if let Some(late) = lane.put(number, outcome, room) {
                shift.bury(late);
            }
            lane.hand_on(&shift, &*each);
            Ok(())
        })
    })
}

impl<R> Lane<R> {
    /// It comes back if nothing is handed on any more.
    fn put(
        &self,
        number: usize,
        outcome: Outcome<R>,
        room: Permit,
    ) -> Option<(Outcome<R>, Permit)> {
        let mut state = self.state.lock();
        if state.over {
            return Some((outcome, room));
        }
        let place = number.wrapping_sub(state.first);
        while state.outcomes.len() <= place {
            state.outcomes.push_back(None);
        }
        if let Some(free) = state.outcomes.get_mut(place) {
            *free = Some((outcome, room));
        }
        None
    }

    /// Hands on what is ready, unless somebody else does.
    fn hand_on(&self, shift: &Shift, each: &impl Fn(&Context, R) -> ServiceResult) {
        if std::mem::replace(&mut self.state.lock().busy, true) {
            return;
        }
        while let Some((outcome, room)) = self.next() {
            let answer = match outcome {
                Ok(result) => caught(|| each(&shift.ctx, result)),
                Err(error) => Err(error),
            };
            let then = match answer {
                Ok(()) => Then::GoOn,
                Err(error) => shift.fail(error),
            };
            drop(room);
            if then != Then::GoOn {
                shift.halt();
                shift.bury(self.end());
                return;
            }
        }
    }

    /// The first one. `None`: it is not there yet; whoever brings it hands it on.
    fn next(&self) -> Option<(Outcome<R>, Permit)> {
        let mut state = self.state.lock();
        match state.outcomes.front_mut().and_then(Option::take) {
            Some(first) => {
                state.outcomes.pop_front();
                state.first = state.first.wrapping_add(1);
                Some(first)
            }
            None => {
                state.busy = false;
                None
            }
        }
    }

    /// What will not be handed on.
    fn end(&self) -> VecDeque<Option<(Outcome<R>, Permit)>> {
        let mut state = self.state.lock();
        state.over = true;
        std::mem::take(&mut state.outcomes)
    }
}
