//! How a run begins: as the root of a tree, on this thread or a new one, or as a service.

use std::sync::Arc;

use crossbeam_channel::bounded;

use super::core::{Claimed, Core};
use super::discard::supervising;
use super::run::{Run, RunEnded};
use super::{dispatch, limits, panic};
use crate::context::Context;
use crate::error::{Error, ErrorKind, ServiceResult};
use crate::exit::Exit;
use crate::link::cell::thread_name;

fn claim_root(core: &Arc<Core>) -> Result<Claimed, Error> {
    panic::install()?;
    core.begin_root(dispatch::new_post())
}

/// Runs the root of a tree on this thread.
///
/// # Errors
/// It can't be started, or how it failed.
pub(crate) fn run_root(core: &Arc<Core>) -> Result<(), Error> {
    let claimed = claim_root(core)?;
    let _supervising = supervising();
    drop(Run::root(core.clone(), claimed).run());
    match core.wait_end(None) {
        Some(ended) => ended.result.clone(),
        None => Ok(()),
    }
}

/// Runs the root of a tree on a thread of its own.
///
/// # Errors
/// It can't be started.
pub(crate) fn start_root(core: &Arc<Core>) -> Result<(), Error> {
    let claimed = claim_root(core)?;
    if let Err(full) = limits::take_room() {
        drop(core.take_back(claimed.engine));
        return Err(full);
    }
    let name = thread_name(&core.name).to_owned();
    // The claim goes by a channel: if there is no thread it comes back.
    let (give, take) = bounded::<Claimed>(1);
    let thread_core = core.clone();
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        let _supervising = supervising();
        // Not a reference of the closure's, which would outlive that.
        let core = thread_core;
        if let Ok(claimed) = take.recv() {
            drop(Run::root(core, claimed).run());
        }
    });
    match spawned {
        Ok(_detached) => {
            drop(give.send(claimed));
            Ok(())
        }
        Err(e) => {
            drop(core.take_back(claimed.engine));
            Err(Error::new(
                ErrorKind::Spawn,
                format!("{}: could not start the supervisor thread: {e}", core.name),
            ))
        }
    }
}

/// Runs a supervisor as the service that `context` belongs to, on this thread.
///
/// # Errors
/// How it failed, for the supervisor above.
pub(crate) fn run_nested(core: &Arc<Core>, context: &Context) -> ServiceResult {
    if context.life().is_over() {
        return Err(Error::new(
            ErrorKind::Stopping,
            format!("{}: the incarnation has ended", context.path()),
        )
        .into());
    }
    let post = context.incarnation.home.emitter.post.clone();
    let claimed = core.begin_nested(post)?;
    let _supervising = supervising();
    let run = Run::nested(core.clone(), claimed, context);
    answer_of(core, run.run())
}

/// What the end of a run is to the supervisor above.
pub(super) fn answer_of(core: &Core, ended: RunEnded) -> ServiceResult {
    let terminated = ended.terminated;
    ended.result.map_err(|e| match terminated {
        true if core.settings.propagates_termination => Exit::TerminateTree.because(e).into(),
        // The subtree is over; parent and siblings go on.
        true => Exit::DoNotRestart.because(e).into(),
        false => e.into(),
    })
}
