//! What a supervisor publishes: its services' cells in order, and what is waited for. Written by
//! the supervisor, read by everybody, and never locked while something is formatted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::id::ChildId;
use crate::link::cell::ServiceCell;
use crate::link::clock;
use crate::link::life::Wake;
use crate::report::{End, State};
use crate::supervisor::Supervisor;

/// How many services that were over before they were ready are remembered.
pub const EARLY_ENDS_MAX: usize = 16;

/// How many ends of removed services are remembered, for who waits for them late.
pub const REMOVED_ENDS_MAX: usize = 256;

/// How many services are looked at in one go.
const AT_A_TIME: usize = 64;

pub(crate) struct Board {
    data: Mutex<BoardData>,
    /// How many services are [entering](crate::link::cell::CellData::entering): missing, beside those
    /// that the machine knows of. Raised before it is published that nobody is missing any more.
    entering: AtomicUsize,
    /// Counts what `wait_ready` looks at; changes of anything below count, too.
    pulse: Mutex<Pulse>,
    pulsed: Condvar,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct Pulse {
    count: u64,
    /// How many told of a service that was over before it was ready.
    pub(crate) early_ends: u64,
}

struct BoardData {
    state: State,
    since: Instant,
    entries: BTreeMap<ChildId, Entry>,
    /// Those of them that are supervisors, or that run one: in this incarnation.
    nested: BTreeMap<ChildId, Option<u64>>,
    names: HashMap<Arc<str>, ChildId>,
    providers: HashMap<&'static str, ChildId>,
    /// How many services are expected to be up and aren't.
    missing: usize,
    early_ends: Vec<(Arc<str>, Arc<str>)>,
    removed_ends: VecDeque<Removed>,
}

/// What is remembered of a service that is gone.
struct Removed {
    id: ChildId,
    name: Arc<str>,
    end: End,
}

/// A service on the board.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) cell: Arc<ServiceCell>,
    /// The supervisor, if it is one.
    pub(crate) nested: Option<Supervisor>,
}

impl BoardData {
    fn removed(&self, id: ChildId) -> Option<&Removed> {
        self.removed_ends.iter().rev().find(|r| r.id == id)
    }
}

impl Board {
    pub(crate) fn new() -> Board {
        Board {
            data: Mutex::new(BoardData {
                state: State::Waiting,
                since: clock::now(),
                entries: BTreeMap::new(),
                nested: BTreeMap::new(),
                names: HashMap::new(),
                providers: HashMap::new(),
                missing: 0,
                early_ends: Vec::new(),
                removed_ends: VecDeque::new(),
            }),
            entering: AtomicUsize::new(0),
            pulse: Mutex::default(),
            pulsed: Condvar::new(),
        }
    }

    pub(crate) fn add(&self, entries: impl Iterator<Item = Entry>) {
        let mut data = self.data.lock();
        for entry in entries {
            let id = entry.cell.id.child;
            data.names.insert(entry.cell.name.clone(), id);
            for key in entry.cell.provides() {
                data.providers.insert(key.name, id);
            }
            if entry.nested.is_some() {
                data.nested.insert(id, None);
            }
            data.entries.insert(id, entry);
        }
    }

    /// Forgets a service. Its cell says that it is gone only after this.
    /// Answers the end that it has forgotten to remember this one, and the supervisor that it was;
    /// both for the caller to drop, since they may hold the user's values.
    pub(crate) fn remove(&self, id: ChildId, end: End) -> (Option<End>, Option<Supervisor>) {
        let mut data = self.data.lock();
        let Some(entry) = data.entries.remove(&id) else {
            return (None, None);
        };
        data.names.remove(&entry.cell.name);
        data.nested.remove(&id);
        for key in entry.cell.provides() {
            data.providers.remove(key.name);
        }
        let oldest = if data.removed_ends.len() >= REMOVED_ENDS_MAX {
            data.removed_ends.pop_front()
        } else {
            None
        };
        data.removed_ends.push_back(Removed {
            id,
            name: entry.cell.name.clone(),
            end,
        });
        drop(data);
        (oldest.map(|removed| removed.end), entry.nested)
    }

    /// Shows the supervisor that an incarnation of a service runs below itself. The one before, or this
    /// one if it comes too late, is for the caller to drop: it may be the last reference to a tree with
    /// values of the user's.
    pub(crate) fn show_below(
        &self,
        id: ChildId,
        number: u64,
        supervisor: Supervisor,
    ) -> Option<Supervisor> {
        let mut guard = self.data.lock();
        let data = &mut *guard;
        let shown = data.nested.get(&id).copied();
        let entry = match data.entries.get_mut(&id) {
            Some(entry) if shown.is_none_or(|s| s.is_some_and(|s| s <= number)) => entry,
            // Gone; a supervisor itself; or a later incarnation shows one.
            Some(_) | None => return Some(supervisor),
        };
        data.nested.insert(id, Some(number));
        entry.nested.replace(supervisor)
    }

    /// Shows it no longer, if it is still shown. For the caller to drop, likewise.
    pub(crate) fn hide_below(&self, id: ChildId, number: u64) -> Option<Supervisor> {
        let mut guard = self.data.lock();
        let data = &mut *guard;
        if data.nested.get(&id) != Some(&Some(number)) {
            return None;
        }
        data.nested.remove(&id);
        data.entries.get_mut(&id)?.nested.take()
    }

    pub(crate) fn id(&self, name: &str) -> Option<ChildId> {
        self.data.lock().names.get(name).copied()
    }

    pub(crate) fn entry(&self, id: ChildId) -> Option<Entry> {
        self.data.lock().entries.get(&id).cloned()
    }

    /// Who provides a key.
    pub(crate) fn provider(&self, key: &str) -> Option<Entry> {
        let data = self.data.lock();
        let id = data.providers.get(key)?;
        data.entries.get(id).cloned()
    }

    pub(crate) fn removed_end(&self, id: ChildId) -> Option<End> {
        let data = self.data.lock();
        data.removed(id).map(|removed| removed.end.clone())
    }

    pub(crate) fn removed_name(&self, id: ChildId) -> Option<Arc<str>> {
        let data = self.data.lock();
        data.removed(id).map(|removed| removed.name.clone())
    }

    /// Calls `look` with each of its services, in order of adding; not under the lock, and with a few
    /// at a time, so that a cell is looked at while it is at hand.
    pub(crate) fn each(&self, mut look: impl FnMut(&Entry)) {
        let mut first = Some(ChildId(0));
        let mut few = Vec::with_capacity(AT_A_TIME);
        while let Some(from) = first {
            let data = self.data.lock();
            let some = data.entries.range(from..).take(AT_A_TIME);
            // Counting references waits for one cell after the other to come from memory. Merely read
            // before, they come all together.
            black_box(some.fold(0, |read, (_, e)| read ^ e.cell.touch()));
            let mut entries = data.entries.range(from..);
            few.extend(entries.by_ref().take(AT_A_TIME).map(|(_, e)| e.clone()));
            first = entries.next().map(|(id, _)| *id);
            drop(data);
            few.iter().for_each(&mut look);
            few.clear();
        }
    }

    /// How many services there are.
    pub(crate) fn len(&self) -> usize {
        self.data.lock().entries.len()
    }

    /// The supervisors directly below it, each with the service that it is or that runs it.
    fn nested_in(data: &BoardData) -> Vec<Entry> {
        let nested = data.nested.iter();
        nested
            .filter_map(|(id, _)| data.entries.get(id).cloned())
            .collect()
    }

    pub(crate) fn state(&self) -> State {
        self.data.lock().state
    }

    /// Publishes what the supervisor as a whole is doing. True: somebody may be waiting for it.
    pub(crate) fn set_state(&self, state: State, missing: usize) -> bool {
        let mut data = self.data.lock();
        let news = data.state != state || (data.missing == 0) != (missing == 0);
        if data.state != state {
            data.since = clock::now();
        }
        data.state = state;
        data.missing = missing;
        news
    }

    /// A service's cell says that it is entering, or no longer. True: nobody is any more, so that
    /// somebody may be waiting for it.
    pub(crate) fn count_entering(&self, was: bool, is: bool) -> bool {
        match (was, is) {
            (false, true) => {
                self.entering.fetch_add(1, Ordering::Relaxed);
                false
            }
            (true, false) => self.entering.fetch_sub(1, Ordering::AcqRel) == 1,
            (false, false) | (true, true) => false,
        }
    }

    /// A service is over and was never ready. The first [`EARLY_ENDS_MAX`] are remembered.
    pub(crate) fn add_early_end(&self, path: Arc<str>, why: Arc<str>) {
        let mut data = self.data.lock();
        if data.early_ends.len() < EARLY_ENDS_MAX {
            data.early_ends.push((path, why));
        }
    }

    /// A new run: what ended early in the one before counts no longer.
    pub(crate) fn forget_early_ends(&self) {
        self.data.lock().early_ends.clear();
    }

    /// What the supervisor as a whole is doing, and since when.
    pub(crate) fn state_since(&self) -> (State, Instant) {
        let data = self.data.lock();
        (data.state, data.since)
    }

    /// What `wait_ready` has to know of this supervisor itself.
    pub(crate) fn readiness(&self) -> Readiness {
        let data = self.data.lock();
        Readiness {
            state: data.state,
            missing: data.missing + self.entering.load(Ordering::Acquire),
            early_ends: data.early_ends.clone(),
            nested: Board::nested_in(&data),
        }
    }

    /// The same for a short look.
    pub(crate) fn outlook(&self) -> Outlook {
        let data = self.data.lock();
        let missing = data.missing + self.entering.load(Ordering::Acquire);
        match data.state {
            State::Running | State::Paused if missing > 0 => Outlook::Missing,
            State::Running | State::Paused => Outlook::Complete(Board::nested_in(&data)),
            State::Waiting
            | State::Starting
            | State::Ready
            | State::Backoff
            | State::Stopping
            | State::Stopped
            | State::Done
            | State::GivenUp
            | State::Abandoned => Outlook::Other,
        }
    }

    pub(crate) fn pulse(&self) {
        self.pulse.lock().count += 1;
        self.pulsed.notify_all();
    }

    /// A service here or below was over before it was ready.
    pub(crate) fn pulse_early_end(&self) {
        self.pulse.lock().early_ends += 1;
        self.pulse();
    }

    pub(crate) fn last_pulse(&self) -> Pulse {
        *self.pulse.lock()
    }

    /// Waits for the next pulse after `seen`, a stop of the waiting service, or the deadline. False:
    /// the deadline is there.
    pub(crate) fn wait_pulse(
        &self,
        seen: Pulse,
        deadline: Option<Instant>,
        give_up: impl Fn() -> bool,
    ) -> bool {
        let mut pulse = self.pulse.lock();
        while pulse.count == seen.count && !give_up() {
            match deadline {
                None => self.pulsed.wait(&mut pulse),
                Some(at) => {
                    if self.pulsed.wait_until(&mut pulse, at).timed_out() {
                        return pulse.count != seen.count;
                    }
                }
            }
        }
        true
    }
}

/// What a short look at a supervisor tells.
pub(crate) enum Outlook {
    /// It runs, and a service of its own is missing.
    Missing,
    /// It runs, and none is; these are the supervisors below.
    Complete(Vec<Entry>),
    /// It doesn't run yet, or no longer.
    Other,
}

pub(crate) struct Readiness {
    pub(crate) state: State,
    pub(crate) missing: usize,
    pub(crate) early_ends: Vec<(Arc<str>, Arc<str>)>,
    pub(crate) nested: Vec<Entry>,
}

impl Wake for Board {
    fn wake(&self) {
        self.pulse();
    }
}
