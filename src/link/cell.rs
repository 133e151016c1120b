//! What is published of one service: written by its supervisor, read by everybody.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::clock::Clock;
use super::life::Wake;
use super::shelf::Shelf;
use super::spin;
use crate::failure::{Failure, FailureKind};
use crate::id::ServiceId;
use crate::key::{KeyDecl, Links};
use crate::machine::message::{View, WaitsFor};
use crate::report::{End, Place, State};

pub(crate) struct ServiceCell {
    pub(crate) id: ServiceId,
    pub(crate) name: Arc<str>,
    /// Once it was started: its supervisor's path can't change any more.
    place: OnceLock<Arc<Place>>,
    /// Of a service that declares keys.
    pub(crate) trade: Option<Box<Trade>>,
    data: Mutex<CellData>,
    changed: Condvar,
    /// Counts the updates, for a look without the lock.
    updates: AtomicUsize,
}

/// What a service gives and takes by key, as far as others see it.
pub(crate) struct Trade {
    pub(crate) links: Arc<Links>,
    /// Of the last incarnation, unless that was abandoned.
    shelf: Mutex<Option<Arc<Shelf>>>,
}

impl Trade {
    pub(crate) fn set_shelf(&self, shelf: Arc<Shelf>) {
        let old = self.shelf.lock().replace(shelf);
        drop(old);
    }

    /// Nobody shall see it any more. Never the last reference to a value: the incarnation has the shelf,
    /// too, until it has emptied it.
    pub(crate) fn drop_shelf(&self) {
        let old = self.shelf.lock().take();
        drop(old);
    }

    pub(crate) fn shelf(&self) -> Option<Arc<Shelf>> {
        self.shelf.lock().clone()
    }
}

/// An entry, consistent in itself.
#[derive(Clone, Debug)]
pub(crate) struct CellData {
    pub(crate) state: State,
    pub(crate) incarnation: u64,
    pub(crate) since: Instant,
    pub(crate) next_start: Option<Instant>,
    pub(crate) starts: u32,
    pub(crate) failures: u32,
    pub(crate) panics: u32,
    pub(crate) stop_timeouts: u32,
    pub(crate) missing: bool,
    /// A thread is being started for the current incarnation and hasn't entered `run` yet. Counted by
    /// the supervisor's board; whoever clears it counts it back.
    pub(crate) entering: bool,
    pub(crate) last_failure: Option<Failure>,
    pub(crate) status: Option<Arc<str>>,
    pub(crate) waiting_for: Option<WaitsFor>,
    /// Removed: ended, and its values dropped; with the failure that it ended by.
    pub(crate) gone: Option<Option<Failure>>,
    /// Its supervisor has ended for good.
    pub(crate) orphaned: bool,
}

impl ServiceCell {
    pub(crate) fn new(
        id: ServiceId,
        name: Arc<str>,
        links: Option<Arc<Links>>,
        now: Instant,
    ) -> ServiceCell {
        ServiceCell {
            id,
            name,
            place: OnceLock::new(),
            trade: links.map(|links| {
                Box::new(Trade {
                    links,
                    shelf: Mutex::default(),
                })
            }),
            data: Mutex::new(CellData {
                state: State::Waiting,
                incarnation: 0,
                since: now,
                next_start: None,
                starts: 0,
                failures: 0,
                panics: 0,
                stop_timeouts: 0,
                missing: true,
                entering: false,
                last_failure: None,
                status: None,
                waiting_for: None,
                gone: None,
                orphaned: false,
            }),
            changed: Condvar::new(),
            updates: AtomicUsize::new(0),
        }
    }

    pub(crate) fn provides(&self) -> &[KeyDecl] {
        self.trade.as_ref().map_or(&[], |t| &t.links.provides)
    }

    /// Changes the entry and wakes who waits for it.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut CellData) -> R) -> R {
        let mut data = self.data.lock();
        let answer = change(&mut data);
        self.updates.fetch_add(1, Ordering::Release);
        drop(data);
        self.changed.notify_all();
        answer
    }

    /// Without waking anybody: nobody waits for a status.
    pub(crate) fn set_status(&self, incarnation: u64, status: Arc<str>) {
        let mut data = self.data.lock();
        let old = if data.incarnation == incarnation {
            data.status.replace(status)
        } else {
            None
        };
        drop(data);
        drop(old);
    }

    /// Its place below that path.
    pub(crate) fn place_below(&self, above: &str) -> Arc<Place> {
        let place = || {
            let path: Arc<str> = Arc::from([above, ".", &self.name].concat());
            Arc::new(Place {
                name: self.name.clone(),
                thread_name: Arc::from(thread_name(&path)),
                path,
            })
        };
        self.place.get().cloned().unwrap_or_else(place)
    }

    /// Its path, once it was settled.
    pub(crate) fn path(&self) -> Option<&Arc<str>> {
        self.place.get().map(|place| &place.path)
    }

    /// The same, for good.
    pub(crate) fn settle(&self, above: &str) -> Arc<Place> {
        self.place.get_or_init(|| self.place_below(above)).clone()
    }

    pub(crate) fn read(&self) -> CellData {
        self.data.lock().clone()
    }

    /// Reads a little of everything that a look at it needs; what comes back means nothing.
    pub(crate) fn touch(&self) -> usize {
        let place = self.place.get().map_or(0, |place| place.path.len());
        self.updates.load(Ordering::Relaxed) ^ place ^ self.name.len()
    }

    pub(crate) fn look<R>(&self, look: impl FnOnce(&CellData) -> R) -> R {
        look(&self.data.lock())
    }

    /// Waits until `look` finds what it looks for, or `give_up` says so, or the deadline is there.
    pub(crate) fn wait<R>(
        &self,
        deadline: Option<Instant>,
        give_up: impl Fn() -> bool,
        look: impl Fn(&CellData) -> Option<R>,
    ) -> Waited<R> {
        let mut worth_a_look = !Clock::is_over(deadline);
        let mut data = self.data.lock();
        loop {
            if let Some(found) = look(&data) {
                return Waited::Found(found);
            }
            if give_up() {
                return Waited::GaveUp;
            }
            if worth_a_look {
                // A removal is over sooner than a sleeper could be woken, if the service is prompt.
                let seen = self.updates.load(Ordering::Acquire);
                drop(data);
                spin::look(|| self.updates.load(Ordering::Acquire) != seen);
                data = self.data.lock();
                // A service that changes all the time is always worth a look, but not beyond the deadline.
                worth_a_look =
                    self.updates.load(Ordering::Acquire) != seen && !Clock::is_over(deadline);
                continue;
            }
            let timed_out = match deadline {
                None => {
                    self.changed.wait(&mut data);
                    false
                }
                Some(at) => self.changed.wait_until(&mut data, at).timed_out(),
            };
            if timed_out {
                return look(&data).map_or(Waited::TimedOut, Waited::Found);
            }
        }
    }
}

/// How a wait came to its end.
#[derive(Debug)]
pub(crate) enum Waited<R> {
    Found(R),
    /// The caller is itself being stopped.
    GaveUp,
    TimedOut,
}

impl Wake for ServiceCell {
    fn wake(&self) {
        // Taking the lock once puts this after the check of whoever is about to wait.
        drop(self.data.lock());
        self.changed.notify_all();
    }
}

impl CellData {
    /// What the supervisor has decided. An incarnation that `needs_thread` is up when that thread says
    /// so.
    pub(crate) fn set_state(&mut self, view: &View, needs_thread: bool) {
        let started = self.incarnation != view.incarnation;
        if started {
            self.status = None;
        }
        let enters = if started { needs_thread } else { self.entering };
        self.entering = enters && view.state == State::Running;
        self.state = if self.entering {
            State::Starting
        } else {
            view.state
        };
        self.missing = view.missing || self.entering;
        self.incarnation = view.incarnation;
    }

    /// It has started again by itself, and the supervisor hasn't heard of that yet. So it runs: at the
    /// latest before it is to stop the supervisor hears of it.
    pub(crate) fn is_ahead_of(&self, view: &View) -> bool {
        self.incarnation > view.incarnation
    }

    /// It has failed and started again by itself. The failure before that is for the caller to drop.
    pub(crate) fn renew(
        &mut self,
        incarnation: u64,
        now: Instant,
        failure: &Failure,
    ) -> Option<Failure> {
        self.incarnation = incarnation;
        self.starts = self.starts.saturating_add(1);
        self.failures = self.failures.saturating_add(1);
        if failure.kind() == FailureKind::Panic {
            self.panics = self.panics.saturating_add(1);
        }
        self.status = None;
        self.state = State::Running;
        self.since = now;
        self.last_failure.replace(failure.clone())
    }

    /// How the service has ended, if it is at rest.
    pub(crate) fn end(&self) -> Option<End> {
        if let Some(failure) = &self.gone {
            return Some(End::Removed {
                failure: failure.clone(),
            });
        }
        match (self.state, &self.last_failure) {
            (State::Done, _) => Some(End::Done),
            (State::Stopped, _) => Some(End::Stopped),
            (State::GivenUp, Some(failure)) => Some(End::GivenUp {
                failure: failure.clone(),
            }),
            (State::GivenUp, None) => Some(End::Stopped),
            (
                State::Waiting
                | State::Starting
                | State::Running
                | State::Ready
                | State::Backoff
                | State::Paused
                | State::Stopping
                | State::Abandoned,
                _,
            ) => None,
        }
    }
}

/// The last 15 bytes of a path: what the kernel keeps of a thread's name, and its telling end.
pub(crate) fn thread_name(path: &str) -> &str {
    const KERNEL_BYTES_MAX: usize = 15;
    let mut from = path.len().saturating_sub(KERNEL_BYTES_MAX);
    while !path.is_char_boundary(from) {
        from += 1;
    }
    &path[from..]
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::id::{ChildId, SupervisorId};
    use crate::link::clock;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn wait_ends_in_time_while_there_is_an_update_in_every_look() {
        let id = ServiceId {
            supervisor: SupervisorId::fresh(),
            child: ChildId(0),
        };
        let begun = clock::now();
        let cell = ServiceCell::new(id, Arc::from("a"), None, begun);
        let over = AtomicBool::new(false);
        let took = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && begun.elapsed() < PATIENCE {
                    // What a look looks at.
                    cell.updates.fetch_add(1, Ordering::Release);
                }
            });
            let begun = clock::now();
            let deadline = Clock::deadline(Duration::from_millis(5));
            let waited = cell.wait(deadline, || false, CellData::end);
            assert!(matches!(waited, Waited::TimedOut));
            over.store(true, Ordering::Relaxed);
            clock::now().saturating_duration_since(begun)
        });
        assert!(took < PATIENCE / 10, "{took:?}");
    }
}
