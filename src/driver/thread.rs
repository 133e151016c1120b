//! A service's thread: one order after the other, each end told exactly once.
//!
//! The thread is kept over restarts. It ends when it is told to leave, when it has dropped its
//! service's values, or when its supervisor has let go of the channel: after an abandonment the
//! late thread tells its end, finds nothing more to do and exits.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::below::end_below;
use super::body::Body;
use super::discard;
use super::fence::Fence;
use super::filter;
use super::limits;
use super::mark::{self, Mark};
use super::orders::{OrderReceiver, OrderSender, orders};
use super::panic::{self, Caught, guarded_as};
use super::renew::renew;
use super::rest::tell;
use super::stop;
use crate::context::{Context, Home, Incarnation};
use crate::error::{BoxError, Error, ErrorKind, ServiceResult, Stopping};
use crate::errors::Errors;
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind, FailureParts};
use crate::link::clock;
use crate::link::fact::{Ended, Fact, Unheard};
use crate::link::life::Leftover;
use crate::machine::message::Outcome;
use crate::report::State;

/// Something for a service's thread to do.
pub(crate) enum Order {
    Run(Job),
    /// Drop this and leave; the service is at rest.
    Leave {
        trash: Vec<Failure>,
        home: Arc<Home>,
    },
    /// Drop the service's values, say so and leave.
    Discard {
        body: Option<Arc<Body>>,
        trash: Vec<Failure>,
        home: Arc<Home>,
    },
}

/// One incarnation to run.
pub(crate) struct Job {
    pub(crate) incarnation: Arc<Incarnation>,
    pub(crate) body: Arc<Body>,
    /// Failures that nobody looks at any more. They hold the user's errors, so they are dropped
    /// here and not on the supervisor's thread.
    pub(crate) trash: Vec<Failure>,
    /// The thread is new, and the service counts as up when it has entered `run`.
    pub(crate) tells_entry: bool,
}

/// The supervisor's end of a service thread.
pub(crate) struct Seat {
    orders: OrderSender,
}

impl Seat {
    /// Starts a thread, which waits for its first order.
    ///
    /// # Errors
    /// No thread can be had for this job; names the limit, or what the system said.
    pub(crate) fn spawn(job: &Job, fence: Option<Arc<Fence>>) -> Result<Seat, Error> {
        limits::take_room()?;
        let mut builder =
            std::thread::Builder::new().name(job.incarnation.home.thread_name.to_string());
        if let Some(bytes) = job.body.stack_size {
            builder = builder.stack_size(bytes);
        }
        let (orders, receiver) = orders();
        builder.spawn(move || work(receiver, fence)).map_err(|e| {
            let text = format!("could not start the thread: {e}");
            Error::new(ErrorKind::Spawn, text)
        })?;
        Ok(Seat { orders })
    }

    /// Gives an order to a thread that has done the one before. Never blocks.
    ///
    /// # Errors
    /// The thread is gone; the order comes back.
    pub(crate) fn order(&self, order: Order) -> Result<(), Order> {
        self.orders.send(order)
    }
}

/// Holds the fence as long as the thread lives.
fn work(mut orders: OrderReceiver, _fence: Option<Arc<Fence>>) {
    while let Some(order) = orders.recv() {
        match order {
            Order::Run(job) => {
                if run(job) == Then::Leave {
                    return;
                }
            }
            Order::Leave { trash, home } => {
                let _marked = mark::enter(Mark::of_home(home));
                drop(trash);
                return;
            }
            Order::Discard { body, trash, home } => {
                stop::discard(body, trash, &home);
                return;
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    Stay,
    Leave,
}

/// Runs an incarnation, and those that follow it under its licence.
fn run(mut job: Job) -> Then {
    loop {
        match run_once(job) {
            Ok(next) => job = next,
            Err(then) => return then,
        }
    }
}

/// `Ok`: what to run next, of which the supervisor needn't be asked. `Err`: the end is told.
fn run_once(job: Job) -> Result<Job, Then> {
    let Job {
        incarnation,
        body,
        trash,
        tells_entry,
    } = job;
    let _marked = mark::enter(Mark {
        incarnation: Some(incarnation.clone()),
        ..Mark::default()
    });
    // Told exactly once, whatever happens below.
    let mut end = TellEnd::new(incarnation.clone());
    drop(trash);
    let begun = clock::now();
    let result = if incarnation.life.enter() {
        if tells_entry {
            tell_entry(&incarnation);
        }
        let context = Context::new(incarnation.clone());
        panic::catch_run(incarnation.home.quiet, || match body.service() {
            Some(service) => service.run(&context),
            None => Ok(()),
        })
    } else {
        Ok(Ok(()))
    };
    let run_time = clock::now().saturating_duration_since(begun);
    end_below(&incarnation);
    let Leftover {
        discard: to_discard,
        hooks,
    } = incarnation.life.finish();
    discard_each(&incarnation, hooks);
    end.judge(result, run_time, &body);
    end_trade(&incarnation);
    if let Some(heir) = end.pass_on() {
        return Ok(Job {
            incarnation: heir,
            body,
            trash: Vec::new(),
            tells_entry: false,
        });
    }
    let leave = to_discard.is_some();
    if leave {
        // Both references: here the values are dropped.
        drop((to_discard, body));
        end.ended.discarded = true;
    } else {
        // Never the last one: the supervisor has another.
        drop(body);
    }
    drop(end);
    Err(if leave { Then::Leave } else { Then::Stay })
}

/// It is up: `run` is entered on a thread that was started for it. Straight into the cell, since the
/// supervisor has nothing to decide about it. False: it was up already, or is asked to stop.
pub(super) fn tell_entry(incarnation: &Incarnation) -> bool {
    let home = &incarnation.home;
    let entered = home.cell.update(|data| {
        // Unless more has happened meanwhile.
        let entered = data.incarnation == incarnation.number && data.entering;
        if entered {
            data.entering = false;
            data.missing = false;
            data.state = State::Running;
        }
        entered
    });
    let core = home.supervisor.core();
    if core.board.count_entering(entered, false) {
        core.pulse();
    }
    entered
}

/// An order that the thread doesn't carry out any more, because it is on its way out.
pub(super) fn refuse(order: Order) {
    match order {
        Order::Run(job) => {
            end_trade(&job.incarnation);
            drop(TellEnd::new(job.incarnation));
        }
        Order::Leave { trash, home } => {
            let _marked = mark::enter(Mark::of_home(home));
            drop(trash);
        }
        Order::Discard { body, trash, home } => {
            let _marked = mark::enter(Mark::of_home(home));
            drop((body, trash));
        }
    }
}

/// Lets go of what the incarnation has provided and been provided with.
fn end_trade(incarnation: &Incarnation) {
    if let Some(trade) = &incarnation.trade {
        discard_each(incarnation, trade.close());
    }
}

fn discard_each<T: Send + 'static>(incarnation: &Incarnation, values: Vec<T>) {
    let home = &incarnation.home;
    for value in values {
        discard::discard(&home.path, home.quiet, value);
    }
}

/// Tells the supervisor of the end when it is dropped.
struct TellEnd {
    incarnation: Arc<Incarnation>,
    ended: Ended,
    /// Released after the end was told.
    fence: Option<Arc<dyn Any + Send + Sync>>,
    /// Another incarnation has taken over, whose end will be told.
    passed_on: bool,
}

impl TellEnd {
    /// Dropped before `judge`, it tells of a panic: a bug of ours on the service's thread.
    fn new(incarnation: Arc<Incarnation>) -> TellEnd {
        TellEnd {
            ended: Ended {
                child: incarnation.home.cell.id.child,
                incarnation: incarnation.number,
                outcome: Outcome::Panic,
                fatal: false,
                failure: None,
                run_time: Duration::ZERO,
                discarded: false,
                stragglers: Vec::new(),
                licence: incarnation.licence.clone(),
                unheard: Some(Unheard::new(incarnation.clone())),
            },
            fence: None,
            passed_on: false,
            incarnation,
        }
    }

    /// What the answer means. Runs the user's `Display` and `source()`, and what its spec says about
    /// failures.
    fn judge(&mut self, result: Result<ServiceResult, Caught>, run_time: Duration, body: &Body) {
        self.ended.run_time = run_time;
        let below = self.incarnation.below.lock().take();
        // What failed below is the end, whatever the service has answered.
        let result = match below.failed {
            None => result,
            Some(error) => {
                discard_each(&self.incarnation, vec![result]);
                Ok(Err(error))
            }
        };
        let filters = body.filters.as_deref();
        let mut mapped_from = None;
        let result = match (result, filters.and_then(|f| f.map_failure.as_ref())) {
            (Ok(Err(error)), Some(map)) if !(error.is::<Stopping>() && self.was_asked()) => {
                let (result, text) = filter::map_failure(&self.incarnation, map, error);
                mapped_from = Some(text);
                Ok(result)
            }
            (result, Some(_) | None) => result,
        };
        let (outcome, failure) = match result {
            Ok(Ok(())) => (Outcome::Ok, None),
            // A wait that the stop cut short, handed on with `?`: exactly what was asked for.
            Ok(Err(error)) if error.is::<Stopping>() && self.was_asked() => (Outcome::Ok, None),
            Ok(Err(error)) => judge_error(&self.incarnation, error, run_time, mapped_from),
            Err(caught) => (
                Outcome::Panic,
                Some(panic_failure(&self.incarnation, caught, run_time)),
            ),
        };
        if let Some(fatal_if) = filters.and_then(|f| f.fatal_if.as_ref()) {
            let unwanted = body.restarts_always && !self.was_asked();
            let judged = filter::judged(
                &self.incarnation,
                outcome,
                failure.as_ref(),
                unwanted,
                run_time,
            );
            self.ended.fatal =
                judged.is_some_and(|f| filter::is_fatal(&self.incarnation, fatal_if, &f));
        }
        self.ended.outcome = outcome;
        self.ended.failure = failure;
        self.ended.stragglers = below.stragglers;
        self.fence = below.fence;
    }

    /// The next incarnation, if this one may start it; then its end is the one to tell.
    fn pass_on(&mut self) -> Option<Arc<Incarnation>> {
        // What the supervisor was told of it, or of what ran below it, comes before its end there. And
        // whoever tells something each time can't be faster than the supervisor hears it.
        let told = self.fence.is_some() || self.incarnation.life.has_said_ready();
        let heir = if told {
            None
        } else {
            renew(&self.incarnation, &self.ended)
        };
        self.passed_on = heir.is_some();
        heir
    }

    fn was_asked(&self) -> bool {
        self.incarnation.life.stop_cause().is_some()
    }
}

impl Drop for TellEnd {
    fn drop(&mut self) {
        if self.passed_on {
            self.ended
                .unheard
                .take()
                .into_iter()
                .for_each(Unheard::heard);
            return;
        }
        let ended = std::mem::replace(
            &mut self.ended,
            Ended {
                child: self.incarnation.home.cell.id.child,
                incarnation: self.incarnation.number,
                outcome: Outcome::Ok,
                fatal: false,
                failure: None,
                run_time: Duration::ZERO,
                discarded: false,
                stragglers: Vec::new(),
                licence: None,
                unheard: None,
            },
        );
        // Lost, it tells what there is to tell.
        tell(&self.incarnation.home, Fact::Ended(ended));
        drop(self.fence.take());
    }
}

fn panic_failure(incarnation: &Incarnation, caught: Caught, run_time: Duration) -> Failure {
    let mut parts = parts(incarnation, FailureKind::Panic, caught.message, run_time);
    parts.location = caught.location.map(String::into_boxed_str);
    parts.trace = caught.trace;
    Failure::new(parts)
}

fn judge_error(
    incarnation: &Incarnation,
    error: BoxError,
    run_time: Duration,
    mapped_from: Option<String>,
) -> (Outcome, Option<Failure>) {
    let path = &incarnation.home.path;
    let seen = guarded_as(incarnation.home.quiet, || {
        let exit = Exit::find(&*error);
        let inner = Failure::find(&*error).cloned();
        let caught = Failure::caught(&*error).cloned();
        let message = match error.downcast_ref::<Errors>() {
            Some(errors) => errors.text_for(path),
            None => error.to_string(),
        };
        let lost = mapped_from.filter(|text| !filter::is_in_chain(&*error, text));
        (exit, inner, caught, message, lost)
    });
    let (exit, inner, caught, message, mapped_from) = match seen {
        Ok(seen) => seen,
        Err(panic) => {
            incarnation
                .home
                .emit_hook_panic(incarnation.number, "display", &panic);
            let message = "an error whose text panicked".to_owned();
            (None, None, None, message, None)
        }
    };
    match (exit, inner, caught) {
        // It comes from below: the tree fails with that very failure.
        (Some(Exit::TerminateTree), Some(inner), _) => {
            discard_each(incarnation, vec![error]);
            (Outcome::Exit(Exit::TerminateTree), Some(inner))
        }
        // A panic that the service caught with `Failure::catch` counts as its own.
        (None, _, Some(caught)) => {
            let panic = caught_panic(incarnation, &caught, error, message, run_time);
            (Outcome::Panic, Some(panic))
        }
        (exit, _, _) => {
            let outcome = exit.map_or(Outcome::Error, Outcome::Exit);
            let mut parts = parts(incarnation, FailureKind::Error, message, run_time);
            parts.error = Some(error);
            parts.mapped_from = mapped_from.map(String::into_boxed_str);
            (outcome, Some(Failure::new(parts)))
        }
    }
}

/// The end by a panic that was caught: alone, or one of several in `error`, whose text is `message`.
fn caught_panic(
    incarnation: &Incarnation,
    caught: &Failure,
    error: BoxError,
    message: String,
    run_time: Duration,
) -> Failure {
    let (message, error) = if error.is::<Failure>() {
        discard_each(incarnation, vec![error]);
        (caught.message().to_owned(), None)
    } else {
        (message, Some(error))
    };
    let mut parts = parts(incarnation, FailureKind::Panic, message, run_time);
    parts.error = error;
    parts.location = caught.location().map(Box::from);
    parts.trace = caught.trace();
    Failure::new(parts)
}

/// A failure of an incarnation, as far as it is known without its cause.
pub(super) fn parts(
    incarnation: &Incarnation,
    kind: FailureKind,
    message: String,
    run_time: Duration,
) -> FailureParts {
    FailureParts {
        path: incarnation.home.path.clone(),
        incarnation: incarnation.number,
        kind,
        message: message.into_boxed_str(),
        location: None,
        thread_name: Some(incarnation.home.thread_name.clone()),
        run_time,
        error: None,
        quiet: incarnation.home.quiet,
        mapped_from: None,
        trace: None,
    }
}
