//! What one incarnation provides: put there by the service, shown by its supervisor, read by others.
//!
//! * The service puts a value into `fresh` and tells the supervisor, unless it was told and has not
//!   looked yet: so at most one such fact is on its way, however often something is provided.
//! * The supervisor shows what is fresh, and only then starts anybody with it. So whoever starts
//!   sees what the supervisor has decided on, not what came after.
//! * No value is dropped under the lock, nor on the supervisor's thread. What the next one has replaced
//!   is for a stop thread to drop, but for one at a time: as long as that is at it, and where there is
//!   none, it is for the service when it provides again. So values whose `Drop` blocks hold up their own
//!   service in the end, and nobody else.
//! * The service's thread empties the shelf when its incarnation is over. It stays empty.

use parking_lot::Mutex;

use crate::key::{KeyDecl, Value};

pub(crate) struct Shelf {
    state: Mutex<State>,
}

struct State {
    places: Box<[Place]>,
    /// Was shown, and is not any more.
    replaced: Vec<Value>,
    /// A stop thread drops what was replaced, or is about to.
    clearing: bool,
    told: bool,
    closed: bool,
}

struct Place {
    key: KeyDecl,
    fresh: Option<Value>,
    shown: Option<Value>,
}

/// What became of a value that was put on a shelf.
pub(crate) enum Put {
    /// The supervisor is to be told. What it replaces is for the caller to drop.
    Tell(Vec<Value>),
    /// It was told and will look.
    Told(Vec<Value>),
    /// No such key was declared.
    Undeclared(Value),
    /// Declared with another type, of this name.
    OtherType(Value, &'static str),
    /// The incarnation is over.
    Closed(Value),
}

impl Shelf {
    pub(crate) fn new(keys: &[KeyDecl]) -> Shelf {
        Shelf {
            state: Mutex::new(State {
                places: keys
                    .iter()
                    .map(|&key| Place {
                        key,
                        fresh: None,
                        shown: None,
                    })
                    .collect(),
                replaced: Vec::new(),
                clearing: false,
                told: false,
                closed: false,
            }),
        }
    }

    pub(crate) fn put(&self, key: KeyDecl, value: Value) -> Put {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.closed {
            return Put::Closed(value);
        }
        let Some(place) = state.places.iter_mut().find(|p| p.key.name == key.name) else {
            return Put::Undeclared(value);
        };
        if place.key.of != key.of {
            let declared = place.key.type_name;
            return Put::OtherType(value, declared);
        }
        let mut replaced = std::mem::take(&mut state.replaced);
        replaced.extend(place.fresh.replace(value));
        if std::mem::replace(&mut state.told, true) {
            Put::Told(replaced)
        } else {
            Put::Tell(replaced)
        }
    }

    /// Shows what is fresh; answers of which keys, and whether a thread is to clear away what that
    /// replaces.
    pub(crate) fn show(&self) -> (Vec<&'static str>, bool) {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.told = false;
        let mut keys = Vec::new();
        for place in &mut state.places {
            if let Some(value) = place.fresh.take() {
                state.replaced.extend(place.shown.replace(value));
                keys.push(place.key.name);
            }
        }
        let clear = !state.replaced.is_empty() && !std::mem::replace(&mut state.clearing, true);
        (keys, clear)
    }

    /// For the thread that clears away: what is to be dropped next. With nothing it is done.
    pub(crate) fn replaced(&self) -> Vec<Value> {
        let mut state = self.state.lock();
        state.clearing = !state.replaced.is_empty();
        std::mem::take(&mut state.replaced)
    }

    /// There is no such thread.
    pub(crate) fn stays_uncleared(&self) {
        self.state.lock().clearing = false;
    }

    /// What is shown of a key.
    pub(crate) fn get(&self, key: &str) -> Option<Value> {
        let state = self.state.lock();
        let place = state.places.iter().find(|p| p.key.name == key)?;
        place.shown.clone()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        let state = self.state.lock();
        let place = state.places.iter().find(|p| p.key.name == key);
        place.is_some_and(|p| p.shown.is_some())
    }

    /// The incarnation is over. What there was is for the caller to drop.
    pub(crate) fn close(&self) -> Vec<Value> {
        let mut state = self.state.lock();
        let state = &mut *state;
        state.closed = true;
        let mut values = std::mem::take(&mut state.replaced);
        for place in &mut state.places {
            values.extend(place.fresh.take());
            values.extend(place.shown.take());
        }
        values
    }
}
