//! A supervisor that a service runs below itself: on a thread of its own, for one incarnation.
//!
//! The incarnation has ended when `run` has returned and everything below it has ended: the
//! service's thread waits for both before it tells. If the supervisor fails, the service is asked
//! to stop, and that failure is its end, whatever it answers.

use std::sync::Arc;

use crossbeam_channel::bounded;

use super::core::Core;
use super::limits;
use super::run::Run;
use super::start::{Claimed, answer_of, new_line, thread_name};
use crate::context::{Context, Incarnation};
use crate::error::{Error, ErrorKind};
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
    let mut below = incarnation.below.lock();
    if below.closed || context.life().is_stopping() || incarnation.life.is_stopping() {
        return Err(Error::new(
            ErrorKind::Stopping,
            format!(
                "{}: the incarnation has ended or is asked to stop",
                home.path
            ),
        ));
    }
    if below.supervisor.is_some() {
        return Err(Error::invalid(
            "supervise",
            format!("{} runs a supervisor already", home.path),
        ));
    }
    limits::take_room()?;
    let parent = home.supervisor.core();
    core.adopt(parent, &home.cell.name)?;
    let (line, inbox) = new_line(home.emitter.post.clone());
    let engine = core.begin_nested(line.clone())?;
    let claimed = Claimed {
        engine,
        line,
        inbox,
    };
    let run = Run::below(core.clone(), claimed, context);
    let thread_incarnation = incarnation.clone();
    let spawned = std::thread::Builder::new()
        .name(thread_name(&home.path))
        .spawn(move || {
            let incarnation = thread_incarnation;
            let core = run.core.clone();
            if let Err(error) = answer_of(&core, run.run()) {
                incarnation.below.lock().failed = Some(error);
                drop(incarnation.home.facts.send(Fact::BelowFailed {
                    child: incarnation.home.cell.id.child,
                    incarnation: incarnation.number,
                }));
            }
            drop(ended);
        });
    if let Err(e) = spawned {
        return Err(Error::new(
            ErrorKind::Spawn,
            format!("{}: could not start the supervisor thread: {e}", home.path),
        ));
    }
    let supervisor = Supervisor::of(core.clone());
    below.supervisor = Some(supervisor.clone());
    below.done = Some(done);
    drop(below);
    let child = home.cell.id.child;
    parent.board.set_nested(child, Some(supervisor));
    drop(home.facts.send(Fact::Supervising {
        child,
        incarnation: incarnation.number,
    }));
    Ok(())
}

/// For the service's thread, when `run` has returned: ends what runs below.
pub(crate) fn end_below(incarnation: &Incarnation) {
    let mut below = incarnation.below.lock();
    below.closed = true;
    let (Some(supervisor), Some(done)) = (below.supervisor.clone(), below.done.clone()) else {
        return;
    };
    drop(below);
    incarnation.life.leave();
    let cause = incarnation.life.stop_cause().unwrap_or(StopCause::Ordered);
    supervisor.core().ask_stop(cause, None);
    // Nothing is ever sent: its end is.
    let _ = done.recv();
}
