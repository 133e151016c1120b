//! Looking at a tree from outside: its report, and whether it is ready. Reads boards and cells only.

use std::sync::Arc;
use std::time::Instant;

use super::board::Entry;
use super::core::Core;
use super::start::thread_name;
use crate::report::{ServiceReport, State};

/// A supervisor's state, and its services with all that is below them.
pub(crate) fn report_below(
    core: &Arc<Core>,
    path: &str,
    now: Instant,
) -> (State, Vec<ServiceReport>) {
    let (state, entries) = core.board.entries();
    let services = entries
        .iter()
        .map(|entry| report_entry(entry, path, now))
        .collect();
    (state, services)
}

fn report_entry(entry: &Entry, above: &str, now: Instant) -> ServiceReport {
    let data = entry.cell.read();
    let path: Arc<str> = Arc::from(format!("{above}.{}", entry.cell.name));
    let services = match &entry.nested {
        Some(nested) => report_below(nested.core(), &path, now).1,
        None => Vec::new(),
    };
    ServiceReport {
        name: entry.cell.name.clone(),
        state: data.state,
        incarnation: data.incarnation,
        in_state: now.saturating_duration_since(data.since),
        next_start: data.next_start.map(|at| at.saturating_duration_since(now)),
        starts: data.starts,
        failures: data.failures,
        panics: data.panics,
        stop_timeouts: data.stop_timeouts,
        last_failure: data.last_failure,
        status: data.status,
        waiting_for: data.waiting_for,
        thread_name: Arc::from(thread_name(&path)),
        services,
        path,
    }
}

/// Path and reason of each service that is missing.
pub(crate) type Missing = Vec<(Arc<str>, Arc<str>)>;

/// Whether a tree is ready.
pub(crate) enum Readiness {
    Ready,
    NotYet(Missing),
    /// These were over before they were ready: waiting longer doesn't help.
    EndedEarly(Missing),
    /// The supervisor was not started; these wait for that.
    NotStarted(Missing),
    /// The supervisor is over, or about to be.
    Stopping(Missing),
}

pub(crate) fn readiness(core: &Arc<Core>, path: &str) -> Readiness {
    let own = core.board.readiness();
    if !own.early_ends.is_empty() {
        return Readiness::EndedEarly(own.early_ends);
    }
    let mut missing = if own.missing > 0 {
        missing_in(core, path)
    } else {
        Vec::new()
    };
    match own.state {
        State::Waiting if core.is_over() => return Readiness::Stopping(missing_in(core, path)),
        State::Waiting if core.was_started() => missing = missing_in(core, path),
        State::Waiting => return Readiness::NotStarted(missing_in(core, path)),
        State::Stopping | State::Stopped | State::Done | State::GivenUp | State::Abandoned => {
            return Readiness::Stopping(missing);
        }
        State::Starting | State::Running | State::Ready | State::Backoff | State::Paused => {}
    }
    let mut ready = own.missing == 0 && own.state != State::Waiting;
    for entry in &own.nested {
        let data = entry.cell.read();
        // At rest, or among the missing already.
        if !data.state.is_alive() || data.missing {
            continue;
        }
        let Some(nested) = &entry.nested else {
            continue;
        };
        let below = format!("{path}.{}", entry.cell.name);
        match readiness(nested.core(), &below) {
            Readiness::Ready => {}
            Readiness::EndedEarly(who) => return Readiness::EndedEarly(who),
            Readiness::NotYet(who) | Readiness::NotStarted(who) | Readiness::Stopping(who) => {
                ready = false;
                if who.is_empty() {
                    missing.push((Arc::from(below), Arc::from("its supervisor is not up")));
                }
                missing.extend(who);
            }
        }
    }
    if ready {
        Readiness::Ready
    } else {
        Readiness::NotYet(missing)
    }
}

/// Who of a supervisor's own services is not up, and why.
fn missing_in(core: &Arc<Core>, path: &str) -> Vec<(Arc<str>, Arc<str>)> {
    let (_, entries) = core.board.entries();
    entries
        .iter()
        .filter_map(|entry| {
            let data = entry.cell.read();
            data.missing.then(|| {
                let why = match (&data.waiting_for, &data.last_failure) {
                    (Some(reason), _) => format!("{}: {reason}", data.state),
                    (None, Some(failure)) => format!("{}: {}", data.state, failure.message()),
                    (None, None) => data.state.to_string(),
                };
                (
                    Arc::from(format!("{path}.{}", entry.cell.name)),
                    Arc::from(why),
                )
            })
        })
        .collect()
}
