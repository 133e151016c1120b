//! A supervisor that a service runs below itself: on a thread of its own, for one incarnation.
//!
//! The incarnation has ended when `run` has returned and everything below it has ended: the
//! service's thread waits for both before it tells. If the supervisor fails, the service is asked
//! to stop, and that failure is its end, whatever it answers.

use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::core::Core;
use super::discard::{discard, supervising};
use super::limits;
use super::run::Run;
use super::start::answer_of;
use crate::context::{Context, Incarnation};
use crate::error::{Error, ErrorKind, Never};
use crate::event::StopCause;
use crate::link::fact::Fact;
use crate::supervisor::Supervisor;

/// Starts a new supervisor below the incarnation of `context`.
///
/// # Errors
/// It runs one already, is over or shall stop, or there is no thread.
pub(crate) fn start_below(core: &Arc<Core>, context: &Context) -> Result<(), Error> {
    let incarnation = &context.incarnation;
    let home = &incarnation.home;
    let (ended, done) = bounded(0);
    let supervisor = Supervisor::of(core.clone());
    claim(context, &supervisor, done)?;
    let (child, number) = (home.cell.id.child, incarnation.number);
    if let Err(e) = spawn_below(core, context, ended) {
        incarnation.below.lock().let_go(&supervisor);
        return Err(e);
    }
    let board = &home.supervisor.core().board;
    let below = incarnation.below.lock();
    // A helper thread calls this, and `run` or the scope has returned since: it would be shown under the
    // next incarnation.
    let shown = if !below.closed && below.holds(&supervisor) {
        let before = board.show_below(child, number, supervisor);
        // Before the lock goes, and so before the end of the incarnation is told.
        drop(home.facts.send(Fact::Supervising {
            child,
            incarnation: number,
        }));
        before
    } else {
        Some(supervisor)
    };
    drop(below);
    drop(shown);
    Ok(())
}

/// One at a time for each incarnation, and only while that runs. From here on its thread waits for
/// `done`.
fn claim(context: &Context, supervisor: &Supervisor, done: Receiver<Never>) -> Result<(), Error> {
    let incarnation = &context.incarnation;
    let path = &incarnation.home.path;
    let mut below = incarnation.below.lock();
    if below.closed || context.life().is_stopping() || incarnation.life.is_stopping() {
        return Err(Error::new(
            ErrorKind::Stopping,
            format!("{path}: the incarnation has ended or is asked to stop"),
        ));
    }
    let nested = below.nested_mut();
    if nested.supervisor.is_some() {
        return Err(Error::invalid(
            "supervise",
            format!("{path} runs a supervisor already"),
        ));
    }
    nested.supervisor = Some(supervisor.clone());
    nested.done = Some(done);
    nested.scope = context.scope_life().map_or_else(Weak::new, Arc::downgrade);
    Ok(())
}

/// Dropping `ended` says that nothing runs below any more.
fn spawn_below(core: &Arc<Core>, context: &Context, ended: Sender<Never>) -> Result<(), Error> {
    let home = &context.incarnation.home;
    limits::take_room()?;
    core.adopt(home.supervisor.core(), &home.cell.name)?;
    let claimed = core.begin_nested(home.emitter.post.clone())?;
    // A helper thread calls this, and `run` or the scope returned in between: it was asked too early.
    if context.incarnation.below.lock().closed || context.life().is_over() {
        core.ask_stop(StopCause::Ordered, None);
    }
    let run = Run::below(core.clone(), claimed, context);
    let (core, incarnation) = (core.clone(), context.incarnation.clone());
    std::thread::Builder::new()
        .name(home.thread_name.to_string())
        .spawn(move || {
            let _supervising = supervising();
            // Not references of the closure's, which would outlive that.
            let (core, incarnation, ended) = (core, incarnation, ended);
            if let Err(error) = answer_of(&core, run.run()) {
                let before = incarnation.below.lock().nested_mut().failed.replace(error);
                // Not under the lock: its `Drop` may ask for this incarnation.
                discard(&incarnation.home.path, incarnation.home.quiet, before);
                drop(incarnation.home.facts.send(Fact::BelowFailed {
                    child: incarnation.home.cell.id.child,
                    incarnation: incarnation.number,
                }));
            }
            drop(ended);
        })
        .map_err(|e| {
            Error::new(
                ErrorKind::Spawn,
                format!("{}: could not start the supervisor thread: {e}", home.path),
            )
        })?;
    Ok(())
}

/// For the service's thread, when `run` has returned: ends what runs below.
pub(crate) fn end_below(incarnation: &Incarnation) {
    let mut below = incarnation.below.lock();
    below.closed = true;
    let nested = below.nested();
    let Some((supervisor, done)) = nested.and_then(|n| n.supervisor.clone().zip(n.done.clone()))
    else {
        return;
    };
    drop(below);
    incarnation.life.leave();
    let cause = incarnation.life.stop_cause().unwrap_or(StopCause::Ordered);
    supervisor.core().ask_stop(cause, None);
    // Nothing is ever sent: its end is.
    let _ = done.recv();
}
