//! The tasks of a `Cleanup` at a stop: on threads that can be given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::clock;
use super::outcome::{caught, keep};
use crate::{BoxError, Context, Error, ErrorKind, Errors, Failure, ServiceResult};

/// With so many tasks of a [`Cleanup`](super::Cleanup) that were given up and still run it starts no
/// further thread.
pub const CLEANUP_GIVEN_UP_MAX: usize = 16;

pub(super) type Task = Box<dyn FnOnce() -> ServiceResult + Send>;

pub(super) struct Rules {
    /// How many tasks run at the same time; at least one.
    pub(super) threads: usize,
    /// How long one may take.
    pub(super) timeout: Duration,
    /// Threads of tasks that were given up and still run, of earlier stops, too.
    pub(super) given_up: Arc<AtomicUsize>,
}

/// Runs all of them, the last one first, and answers their errors in that order.
///
/// The service's thread, which calls this, watches: it starts threads, gives up what takes too long,
/// and does a task itself only when nobody else can.
pub(super) fn do_all(ctx: &Context, tasks: Vec<Task>, rules: Rules) -> Errors {
    let of = tasks.len();
    let batch = Arc::new(Batch {
        state: Mutex::new(State {
            left: tasks,
            running: BTreeMap::new(),
            workers: 0,
            errors: Vec::new(),
        }),
        changed: Condvar::new(),
        given_up: rules.given_up,
    });
    // One tells enough: with no room for a thread, there is none for a hundred tasks.
    let mut refusals = Errors::keeping(1);
    while !batch.is_over() {
        batch.give_up_the_late(rules.timeout, of);
        if refusals.is_empty() || batch.has_no_thread() {
            let engaged = batch.engage(ctx, rules.threads);
            refusals.push_result(engaged.map_err(BoxError::from));
        }
        if !batch.do_one_if_nobody_else_does() {
            batch.wait(rules.timeout);
        }
    }
    let mut failed = std::mem::take(&mut batch.state.lock().errors);
    failed.sort_by_key(|(position, _)| std::cmp::Reverse(*position));
    let mut errors = Errors::new();
    for (_, error) in failed {
        keep(ctx, &mut errors, error);
    }
    let mut all = Errors::keeping(usize::MAX);
    all.push(errors);
    all.push(refusals);
    all
}

/// What the service's thread and those of the tasks have in common.
struct Batch {
    state: Mutex<State>,
    /// Only the service's thread waits for it.
    changed: Condvar,
    given_up: Arc<AtomicUsize>,
}

struct State {
    /// The last one is next. So its position, counted from 1, is how many are left when it is taken.
    left: Vec<Task>,
    /// Since when, by position. Whoever takes a task out of here decides what came of it: the thread
    /// that ran it, or the one that watches.
    running: BTreeMap<usize, Instant>,
    /// Threads that will take another task.
    workers: usize,
    errors: Vec<(usize, BoxError)>,
}

impl Batch {
    fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.left.is_empty() && state.running.is_empty()
    }

    fn give_up_the_late(&self, timeout: Duration, of: usize) {
        let mut state = self.state.lock();
        let now = clock::now();
        let late = |since: &Instant| now.saturating_duration_since(*since) >= timeout;
        let positions: Vec<usize> = state
            .running
            .iter()
            .filter(|(_, since)| late(since))
            .map(|(position, _)| *position)
            .collect();
        for position in positions {
            state.running.remove(&position);
            state.workers -= 1;
            self.given_up.fetch_add(1, Ordering::Relaxed);
            let text = format!("task {position} of {of} was given up after {timeout:?}");
            let error = Error::new(ErrorKind::Timeout, text);
            state.errors.push((position, error.into()));
        }
    }

    /// Starts the threads that are wanted.
    ///
    /// # Errors
    /// There is no room for one.
    fn engage(self: &Arc<Batch>, ctx: &Context, threads: usize) -> Result<(), Error> {
        loop {
            {
                let mut state = self.state.lock();
                // The ones that run a task will take another one.
                let idle = state.workers - state.running.len();
                if state.workers >= threads || idle >= state.left.len() {
                    return Ok(());
                }
                let given_up = self.given_up.load(Ordering::Relaxed);
                if given_up >= CLEANUP_GIVEN_UP_MAX {
                    let text = format!(
                        "{given_up} tasks that were given up still run: no thread for more"
                    );
                    return Err(Error::new(ErrorKind::Full, text));
                }
                state.workers += 1;
            }
            let batch = self.clone();
            if let Err(refused) = ctx.detach(move || batch.work()) {
                self.state.lock().workers -= 1;
                return Err(refused);
            }
        }
    }

    /// One of the threads: task after task, until none is left or its own was given up.
    fn work(&self) {
        while let Some((position, task)) = self.take() {
            if !self.run(position, task) {
                self.given_up.fetch_sub(1, Ordering::Relaxed);
                return;
            }
        }
        self.state.lock().workers -= 1;
        self.changed.notify_one();
    }

    fn take(&self) -> Option<(usize, Task)> {
        let mut state = self.state.lock();
        let position = state.left.len();
        let task = state.left.pop()?;
        state.running.insert(position, clock::now());
        drop(state);
        // There is a deadline to watch.
        self.changed.notify_one();
        Some((position, task))
    }

    /// False: it was given up meanwhile.
    fn run(&self, position: usize, task: Task) -> bool {
        let answer = caught(task);
        let mut state = self.state.lock();
        if state.running.remove(&position).is_none() {
            drop(state);
            drop(Failure::catch(|| drop(answer)));
            return false;
        }
        state.errors.extend(answer.err().map(|e| (position, e)));
        drop(state);
        self.changed.notify_one();
        true
    }

    fn has_no_thread(&self) -> bool {
        self.state.lock().workers == 0
    }

    /// Without any thread the service's own does the next task; false: it need not.
    fn do_one_if_nobody_else_does(&self) -> bool {
        if !self.has_no_thread() {
            return false;
        }
        let Some((position, task)) = self.take() else {
            return false;
        };
        self.run(position, task);
        true
    }

    /// Until something has changed, or the next task is late.
    fn wait(&self, timeout: Duration) {
        let mut state = self.state.lock();
        if state.left.is_empty() && state.running.is_empty() {
            return;
        }
        let next = state.running.values().min().copied();
        match next.and_then(|since| since.checked_add(timeout)) {
            Some(deadline) => drop(self.changed.wait_until(&mut state, deadline)),
            None => self.changed.wait(&mut state),
        }
    }
}
