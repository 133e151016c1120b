//! Short-lived threads for the user's code that a stop or a removal calls: stop hooks, and `Drop`
//! of services that have no thread.
//!
//! At most [`STOP_THREADS_MAX`] at a time in a tree; the others wait in a queue, which is bounded
//! by the number of services and their hooks. A job that blocks is the business of the deadline of
//! the service it belongs to: a service that is abandoned leaves the thread of its job behind, too,
//! which then counts no longer, so that jobs that hang never hold up the others for ever.
//!
//! A hook that waits past the deadline of its service is told, and called all the same when there is a
//! thread: what it unblocks can still end. The stop signal itself never waits for a thread.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};

use super::body::Body;
use super::core::Core;
use super::core::RankFailures;
use super::discard;
use super::engine::Remains;
use super::fence::Fence;
use super::limits;
use super::mark::{self, Mark};
use super::panic::guarded_as;
use super::rest::tell;
use crate::context::{Home, Incarnation};
use crate::event::EventKind;
use crate::failure::Failure;
use crate::id::ServiceId;
use crate::link::fact::{Fact, HookKind, HookThreads, HookTicket};
use crate::link::shelf::Shelf;

/// How many stop threads a tree may have at a time, without those of abandoned services.
pub const STOP_THREADS_MAX: usize = 64;

/// The stack of a stop thread, in bytes: the same as a thread of Rust's standard library.
const STACK_SIZE: usize = 2 * 1024 * 1024;

pub(crate) struct StopThreads {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Who has not been left behind.
    workers: Vec<Worker>,
    workers_made: usize,
    queue: VecDeque<Job>,
}

struct Worker {
    number: usize,
    /// Of the job that it is at, if that is of one service.
    whose: Option<Whose>,
}

/// Whose job it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A hook of this incarnation.
    Incarnation(ServiceId, u64),
    /// The values of this service, which has no incarnation any more.
    Service(ServiceId),
}

/// Something to do on a stop thread.
pub(crate) enum Job {
    Hook {
        ticket: HookTicket,
        /// For the interrupt hook.
        body: Option<Arc<Body>>,
        fence: Option<Arc<Fence>>,
    },
    /// An `on_stop` closure that was registered after the request.
    LateHook {
        ticket: HookTicket,
        fence: Option<Arc<dyn Any + Send + Sync>>,
    },
    /// Hear what was told to a supervisor that doesn't run any more.
    Hear {
        core: Arc<Core>,
        fence: Option<Arc<Fence>>,
    },
    /// Drop the values of a service and say so.
    Discard {
        body: Option<Arc<Body>>,
        trash: Vec<Failure>,
        home: Arc<Home>,
        fence: Option<Arc<Fence>>,
    },
    /// Drop what an incarnation has provided and then replaced.
    Clear {
        shelf: Arc<Shelf>,
        incarnation: Arc<Incarnation>,
        fence: Option<Arc<Fence>>,
    },
    /// Choose among failures; answers which one, if the choice was made.
    Rank {
        failures: Vec<Failure>,
        rank: RankFailures,
        of: Arc<mark::Supervisor>,
        done: crossbeam_channel::Sender<Option<usize>>,
    },
    /// Drop the values of all services of a supervisor that is over.
    Bury {
        remains: Remains,
        of: Arc<mark::Supervisor>,
        done: crossbeam_channel::Sender<()>,
    },
}

impl StopThreads {
    pub(crate) fn new() -> Arc<StopThreads> {
        Arc::new(StopThreads {
            state: Mutex::new(State::default()),
        })
    }

    /// Has `job` done on a thread of its own, as soon as there is one. Never blocks.
    pub(crate) fn push(self: &Arc<StopThreads>, mut job: Job) {
        let mut state = self.state.lock();
        let is_full = state.workers.len() >= STOP_THREADS_MAX;
        if let (true, Some(ticket)) = (is_full, job.ticket()) {
            ticket.waits = true;
            ticket.incarnation.life.hook_waits();
        }
        state.queue.push_back(job);
        if !is_full {
            self.hire(state);
        }
    }

    /// A service is waited for no longer: who is busy with it doesn't count any more.
    pub(crate) fn leave_behind(self: &Arc<StopThreads>, service: ServiceId, incarnation: u64) {
        let own = [
            Some(Whose::Incarnation(service, incarnation)),
            Some(Whose::Service(service)),
        ];
        let mut state = self.state.lock();
        let before = state.workers.len();
        state.workers.retain(|worker| !own.contains(&worker.whose));
        let vacant = before - state.workers.len();
        let wanted = vacant.min(state.queue.len());
        drop(state);
        for _ in 0..wanted {
            let state = self.state.lock();
            if state.workers.len() < STOP_THREADS_MAX {
                self.hire(state);
            }
        }
    }

    fn hire(self: &Arc<StopThreads>, mut state: MutexGuard<'_, State>) {
        let number = state.workers_made;
        state.workers_made += 1;
        state.workers.push(Worker {
            number,
            whose: None,
        });
        drop(state);
        let threads = self.clone();
        let spawned = limits::take_room().is_ok()
            && std::thread::Builder::new()
                .name("backstay-stop".to_owned())
                .stack_size(STACK_SIZE)
                .spawn(move || threads.work(number))
                .is_ok();
        if !spawned {
            self.without_thread(number);
        }
    }

    fn work(&self, number: usize) {
        while let Some(job) = self.next(number) {
            job.run();
        }
    }

    /// `None`: there is nothing more to do, or it was left behind.
    fn next(&self, number: usize) -> Option<Job> {
        let mut state = self.state.lock();
        let place = state.workers.iter().position(|w| w.number == number)?;
        let next = state.queue.pop_front();
        match &next {
            Some(job) => state.workers[place].whose = job.whose(),
            None => drop(state.workers.swap_remove(place)),
        }
        next
    }

    /// No thread is to be had. If others run, they do the job; if not, only the stop signal goes
    /// out, and a value stays until its supervisor is dropped.
    fn without_thread(&self, number: usize) {
        let mut state = self.state.lock();
        state.workers.retain(|worker| worker.number != number);
        if !state.workers.is_empty() {
            return;
        }
        let jobs = std::mem::take(&mut state.queue);
        drop(state);
        for job in jobs {
            job.give_up();
        }
    }
}

impl HookThreads for StopThreads {
    fn push_late(self: Arc<Self>, ticket: HookTicket) {
        // Still there: a thread of the incarnation's waits for the hook.
        let fence = &ticket.incarnation.home.fence;
        let fence = fence.as_ref().and_then(Weak::upgrade);
        self.push(Job::LateHook { ticket, fence });
    }
}

impl Job {
    fn ticket(&mut self) -> Option<&mut HookTicket> {
        match self {
            Job::Hook { ticket, .. } | Job::LateHook { ticket, .. } => Some(ticket),
            Job::Discard { .. }
            | Job::Clear { .. }
            | Job::Bury { .. }
            | Job::Rank { .. }
            | Job::Hear { .. } => None,
        }
    }

    fn whose(&self) -> Option<Whose> {
        match self {
            Job::Hook { ticket, .. } | Job::LateHook { ticket, .. } => {
                let incarnation = &ticket.incarnation;
                let service = incarnation.home.cell.id;
                Some(Whose::Incarnation(service, incarnation.number))
            }
            Job::Clear { incarnation, .. } => {
                let service = incarnation.home.cell.id;
                Some(Whose::Incarnation(service, incarnation.number))
            }
            Job::Discard { home, .. } => Some(Whose::Service(home.cell.id)),
            Job::Bury { .. } | Job::Rank { .. } | Job::Hear { .. } => None,
        }
    }

    fn run(self) {
        match self {
            Job::Hook {
                ticket,
                body,
                fence,
            } => run_hook(ticket, body, fence),
            Job::LateHook { ticket, fence } => {
                run_hook(ticket, None, None);
                drop(fence);
            }
            Job::Hear { core, fence } => {
                core.hear_at_rest();
                drop(fence);
            }
            Job::Discard {
                body,
                trash,
                home,
                fence,
            } => {
                discard(body, trash, &home);
                drop(fence);
            }
            Job::Clear {
                shelf,
                incarnation,
                fence,
            } => {
                clear(&shelf, &incarnation);
                drop(fence);
            }
            Job::Rank {
                failures,
                rank,
                of,
                done,
            } => {
                let _marked = mark::enter(Mark::of_supervisor(of.clone()));
                let _ = done.send(highest(&failures, &rank, &of));
                drop(failures);
            }
            Job::Bury { remains, of, done } => {
                let _marked = mark::enter(Mark::of_supervisor(of.clone()));
                remains.discard(&of.path, of.quiet);
                let _ = done.send(());
            }
        }
    }

    fn give_up(self) {
        match self {
            Job::Hook { ticket, body, .. } => {
                // The service's thread has another reference, as long as there is the ticket.
                drop(body);
                give_up_hook(&ticket);
            }
            Job::LateHook { ticket, .. } => give_up_hook(&ticket),
            // Dropping them here would be user code on the supervisor's thread.
            Job::Discard { body, trash, .. } => std::mem::forget((body, trash)),
            Job::Bury { remains, .. } => std::mem::forget(remains),
            Job::Clear { shelf, .. } => shelf.stays_uncleared(),
            // The supervisor has others of them all.
            Job::Rank { .. } => {}
            // The next run hears it.
            Job::Hear { .. } => {}
        }
    }
}

/// Which failure ranks highest, of equals the first. A panic is told, and decides nothing.
fn highest(failures: &[Failure], rank: &RankFailures, of: &mark::Supervisor) -> Option<usize> {
    let mut highest = None;
    discard::call("rank_failures", &of.path, of.quiet, || {
        let ranks = failures.iter().map(|failure| rank(failure)).enumerate();
        highest = ranks.max_by_key(|&(place, rank)| (rank, Reverse(place)));
    });
    highest.map(|(place, _)| place)
}

/// A hook that is called after the deadline, or hasn't been by then.
pub(crate) fn say_late(home: &Home, incarnation: u64) {
    let text = format!("all {STOP_THREADS_MAX} stop threads are busy: the stop hook comes late");
    let text = Arc::from(text);
    home.emit(incarnation, EventKind::Log { text });
}

fn give_up_hook(ticket: &HookTicket) {
    let incarnation = &ticket.incarnation;
    let text = Arc::from("no thread for the stop hook: only the stop signal goes out");
    incarnation
        .home
        .emit(incarnation.number, EventKind::Log { text });
}

fn run_hook(ticket: HookTicket, body: Option<Arc<Body>>, fence: Option<Arc<Fence>>) {
    let incarnation = ticket.incarnation.clone();
    if ticket.waits && incarnation.life.hook_waits_no_longer() {
        say_late(&incarnation.home, incarnation.number);
    }
    let _marked = mark::enter(Mark {
        incarnation: Some(incarnation.clone()),
        ..Mark::default()
    });
    let quiet = incarnation.home.quiet;
    let (what, result) = match ticket.what {
        HookKind::Interrupt => (
            "interrupt",
            guarded_as(quiet, || {
                let service = body.as_ref().and_then(|b| b.service());
                service
                    .into_iter()
                    .for_each(crate::service::Service::interrupt);
            }),
        ),
        HookKind::OnStop(key) => (
            "on_stop",
            guarded_as(quiet, || {
                ticket.closure(key).into_iter().for_each(|hook| hook());
            }),
        ),
    };
    if let Err(message) = result {
        incarnation
            .home
            .emit_hook_panic(incarnation.number, what, &message);
    }
    // Before the ticket: once that is gone, the last reference may be another thread's to drop.
    drop(body);
    drop(ticket);
    drop(fence);
}

fn clear(shelf: &Shelf, incarnation: &Arc<Incarnation>) {
    let _marked = mark::enter(Mark {
        incarnation: Some(incarnation.clone()),
        ..Mark::default()
    });
    loop {
        let values = shelf.replaced();
        if values.is_empty() {
            return;
        }
        let home = &incarnation.home;
        for value in values {
            discard::discard(&home.path, home.quiet, value);
        }
    }
}

/// Drops a service's values here and tells its supervisor.
pub(crate) fn discard(body: Option<Arc<Body>>, trash: Vec<Failure>, home: &Arc<Home>) {
    let _marked = mark::enter(Mark::of_home(home.clone()));
    drop((body, trash));
    let child = home.cell.id.child;
    tell(home, Fact::Discarded { child });
}
