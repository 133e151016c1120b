//! Where values of the user's are dropped. What their `Drop` may do wrong is dealt with here:
//!
//! * A panic goes no further, whoever has the last reference: also not to the caller who drops the
//!   last handle. It is as quiet as the service's other panics.
//! * It is told: to the tree that the thread works for, and to the log where that is over or there is none.
//! * None is dropped on a supervisor's thread, where one that blocks would hold up the services. What
//!   comes to that is kept until the run is over, and then given to a thread of its own.
//!
//! [`Failure`](crate::Failure) and [`Body`](super::body::Body) do this by themselves when they are dropped, and
//! what a builder was given is [`Owned`]; so only bare values of the user's need [`discard`].

use std::cell::RefCell;
use std::sync::Arc;

use parking_lot::Mutex;

use super::limits;
use super::mark;
use super::panic::{guarded, guarded_as, is_quiet};
use crate::event::EventKind;
use crate::failure::Inner;

/// How many jobs a supervisor's thread keeps before it gives them away.
const KEPT_MAX: usize = 64;

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// What is not done on this thread, as long as it is a supervisor's.
    static KEPT: RefCell<Option<Vec<Job>>> = const { RefCell::new(None) };
}

/// This thread is a supervisor's until that is dropped. To be made before everything that may hold a
/// value, so that it goes last.
pub(super) struct Supervising {
    before: Option<Vec<Job>>,
}

pub(super) fn supervising() -> Supervising {
    Supervising {
        before: KEPT.replace(Some(Vec::new())),
    }
}

impl Drop for Supervising {
    fn drop(&mut self) {
        let before = self.before.take();
        let kept = KEPT.try_with(|kept| kept.replace(before)).ok().flatten();
        give_away(kept.unwrap_or_default());
    }
}

/// Has it done on a thread of its own. Where there is none to be had, the values stay for good.
fn give_away(jobs: Vec<Job>) {
    if jobs.is_empty() {
        return;
    }
    let given = Arc::new(Mutex::new(jobs));
    let taken = given.clone();
    let spawned = limits::take_room().is_ok()
        && std::thread::Builder::new()
            .name("backstay-stop".to_owned())
            .spawn(move || {
                let jobs = std::mem::take(&mut *taken.lock());
                jobs.into_iter().for_each(|job| job());
            })
            .is_ok();
    if !spawned {
        std::mem::forget(given);
    }
}

/// Does it here, unless this is a supervisor's thread.
pub(super) fn elsewhere(job: impl FnOnce() + Send + 'static) {
    let keeps = KEPT.try_with(|kept| kept.borrow().is_some());
    if !keeps.unwrap_or(false) {
        return job();
    }
    let full = KEPT.with(|kept| {
        let mut kept = kept.borrow_mut();
        let jobs = kept.get_or_insert_with(Vec::new);
        jobs.push(Box::new(job));
        match jobs.len() {
            KEPT_MAX.. => std::mem::take(jobs),
            _ => Vec::new(),
        }
    });
    give_away(full);
}

/// Drops a value of the user's. `path`: whose it is, as far as that is known.
pub(crate) fn discard<T: Send + 'static>(path: &Arc<str>, quiet: bool, value: T) {
    let path = path.clone();
    elsewhere(move || call("drop", &path, quiet, || drop(value)));
}

/// Calls a user's code that answers nothing. A panic is told as one of `what`.
pub(super) fn call(what: &str, path: &Arc<str>, quiet: bool, f: impl FnOnce()) {
    let owner = mark::owner();
    let quiet = quiet || is_quiet() || owner.as_ref().is_some_and(mark::Owner::is_quiet);
    let Err(message) = guarded_as(quiet, f) else {
        return;
    };
    let kind = EventKind::HookPanicked {
        message: Arc::from(format!("{what}: {message}")),
    };
    match owner {
        Some(owner) if !owner.is_over() => owner.emit(kind),
        // Nobody is left to listen.
        Some(_) | None => drop(guarded(|| log::warn!(target: path, "{kind}"))),
    }
}

/// A value of the user's that is dropped as one wherever that happens.
pub(crate) struct Owned<T: Send + 'static> {
    /// Taken only by `drop`.
    value: Option<T>,
    path: Arc<str>,
    quiet: bool,
}

impl<T: Send + 'static> Owned<T> {
    pub(crate) fn new(value: T, path: &Arc<str>, quiet: bool) -> Owned<T> {
        Owned {
            value: Some(value),
            path: path.clone(),
            quiet,
        }
    }

    /// There, as long as this is.
    pub(crate) fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

impl<T: Send + 'static> Drop for Owned<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            discard(&self.path, self.quiet, value);
        }
    }
}

impl Drop for Inner {
    /// The last reference to a failure goes, and with it the user's error.
    fn drop(&mut self) {
        if let Some(error) = self.error.take() {
            discard(&self.path, self.quiet, error);
        }
    }
}
