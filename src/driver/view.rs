//! Looking at a tree from outside: its report, and whether it is ready. Reads boards and cells only.

use std::sync::Arc;
use std::time::Instant;

use super::board::Entry;
use super::core::Core;
use super::start::thread_name;
use crate::key::{KeyDecl, KeyReport, KeyRole, Value};
use crate::link::cell::{CellData, ServiceCell};
use crate::machine::message::WaitsFor;
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
        .map(|entry| report_entry(core, entry, path, now))
        .collect();
    (state, services)
}

fn report_entry(core: &Arc<Core>, entry: &Entry, above: &str, now: Instant) -> ServiceReport {
    let data = entry.cell.read();
    let waiting_for = data
        .waiting_for
        .map(|_| reason(core, above, &entry.cell, &data));
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
        waiting_for,
        keys: keys_of(core, above, &entry.cell),
        thread_name: Arc::from(thread_name(&path)),
        services,
        path,
    }
}

/// What a service waits for, in words.
pub(crate) fn reason(
    core: &Arc<Core>,
    above: &str,
    cell: &ServiceCell,
    data: &CellData,
) -> Arc<str> {
    let text = match data.waiting_for {
        Some(WaitsFor::Supervisor) => "its supervisor to start services",
        Some(WaitsFor::EndOfPause) => "the end of the pause",
        Some(WaitsFor::Others) => "the others that restart with it",
        Some(WaitsFor::Change) => return missing_input(core, above, cell, true),
        Some(WaitsFor::Inputs) | None => return missing_input(core, above, cell, false),
    };
    Arc::from(text)
}

/// The first input that is missing, and who is to blame for that.
fn missing_input(core: &Arc<Core>, above: &str, cell: &ServiceCell, wanted: bool) -> Arc<str> {
    let Some(trade) = &cell.trade else {
        return Arc::from("an input");
    };
    let needs = trade.links.needs.iter();
    let wants = trade.links.wants.iter().filter(|_| wanted);
    for key in needs.chain(wants) {
        let Some(provider) = core.board.provider(key.name) else {
            return Arc::from(format!("key {:?}: no provider", key.name));
        };
        let shelf = provider.cell.trade.as_ref().and_then(|t| t.shelf());
        if shelf.is_some_and(|shelf| shelf.has(key.name)) {
            continue;
        }
        let state = provider.cell.read().state;
        let name = &provider.cell.name;
        return Arc::from(match state {
            State::Starting | State::Running | State::Ready => {
                format!("key {:?}: {above}.{name} has not provided it yet", key.name)
            }
            State::Waiting
            | State::Backoff
            | State::Paused
            | State::Stopping
            | State::Stopped
            | State::Done
            | State::GivenUp
            | State::Abandoned => format!("key {:?}: {above}.{name} is {state}", key.name),
        });
    }
    match trade.links.inputs().next() {
        Some(key) => Arc::from(format!("a change of an input, as key {:?}", key.name)),
        None => Arc::from("an input"),
    }
}

/// What a service declares, and what there is of it.
fn keys_of(core: &Arc<Core>, above: &str, cell: &ServiceCell) -> Vec<KeyReport> {
    let Some(trade) = &cell.trade else {
        return Vec::new();
    };
    let report = |key: &KeyDecl, role| {
        let provider = core.board.provider(key.name);
        let shelf = provider
            .as_ref()
            .and_then(|p| p.cell.trade.as_ref()?.shelf());
        KeyReport {
            name: Arc::from(key.name),
            role,
            provider: provider.map(|p| Arc::from(format!("{above}.{}", p.cell.name))),
            is_there: shelf.is_some_and(|shelf| shelf.has(key.name)),
        }
    };
    let links = &trade.links;
    let provides = links.provides.iter().map(|k| report(k, KeyRole::Provides));
    let needs = links.needs.iter().map(|k| report(k, KeyRole::Needs));
    let wants = links.wants.iter().map(|k| report(k, KeyRole::Wants));
    provides.chain(needs).chain(wants).collect()
}

/// What there is of a value, for somebody outside.
pub(crate) enum Lookup {
    There(Value),
    NotYet,
    /// Nobody will provide it, unless told to.
    Never,
    /// Declared with another type, of this name.
    OtherType(&'static str),
}

pub(crate) fn look_up(core: &Arc<Core>, key: KeyDecl, had_provider: &mut bool) -> Lookup {
    let Some(provider) = core.board.provider(key.name) else {
        // One may be added yet; but if there was one, it was removed.
        return if *had_provider {
            Lookup::Never
        } else {
            Lookup::NotYet
        };
    };
    *had_provider = true;
    let declared = provider.cell.provides().iter().find(|d| d.name == key.name);
    if let Some(other) = declared.filter(|d| d.of != key.of) {
        return Lookup::OtherType(other.type_name);
    }
    let shelf = provider.cell.trade.as_ref().and_then(|t| t.shelf());
    if let Some(value) = shelf.and_then(|shelf| shelf.get(key.name)) {
        return Lookup::There(value);
    }
    match provider.cell.read().end() {
        Some(_) => Lookup::Never,
        None => Lookup::NotYet,
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
                    (Some(_), _) => {
                        let reason = reason(core, path, &entry.cell, &data);
                        format!("{}: {reason}", data.state)
                    }
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
