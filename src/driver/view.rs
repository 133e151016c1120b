//! Looking at a tree from outside: its report, and whether it is ready. Reads boards and cells only.

use std::sync::Arc;
use std::time::Instant;

use super::board::{Entry, Outlook, Pulse};
use super::core::Core;
use crate::key::{KeyDecl, KeyReport, KeyRole, Value};
use crate::link::cell::{CellData, ServiceCell};
use crate::machine::message::WaitsFor;
use crate::report::{ServiceReport, State};

/// A supervisor's state, and its services with all that is below them.
pub(crate) fn report_below(core: &Arc<Core>, path: &str, now: Instant) -> Box<[ServiceReport]> {
    let mut services = Vec::with_capacity(core.board.len());
    core.board
        .each(|entry| services.push(report_entry(core, entry, path, now)));
    services.into()
}

fn report_entry(core: &Arc<Core>, entry: &Entry, above: &str, now: Instant) -> ServiceReport {
    let data = entry.cell.read();
    let waiting_for = data
        .waiting_for
        .map(|_| reason(core, above, &entry.cell, &data));
    let place = entry.cell.place_below(above);
    let services = match &entry.nested {
        Some(nested) => report_below(nested.core(), &place.path, now),
        None => Box::default(),
    };
    ServiceReport {
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
        services,
        place,
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
        let state = provider.cell.look(|data| data.state);
        let shelf = provider.cell.trade.as_ref().and_then(|t| t.shelf());
        let is_there = shelf.is_some_and(|shelf| shelf.has(key.name));
        let name = &provider.cell.name;
        return Arc::from(match state {
            State::Starting | State::Running | State::Ready if is_there => continue,
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
fn keys_of(core: &Arc<Core>, above: &str, cell: &ServiceCell) -> Box<[KeyReport]> {
    let Some(trade) = &cell.trade else {
        return Box::default();
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
    // First: what a run shows of a service is there before it shows that it runs.
    let between_runs = matches!(core.board.state(), State::Stopped | State::GivenUp);
    let declared = provider.cell.provides().iter().find(|d| d.name == key.name);
    if let Some(other) = declared.filter(|d| d.of != key.of) {
        return Lookup::OtherType(other.type_name);
    }
    let shelf = provider.cell.trade.as_ref().and_then(|t| t.shelf());
    if let Some(value) = shelf.and_then(|shelf| shelf.get(key.name)) {
        return Lookup::There(value);
    }
    let is_at_rest = provider.cell.look(|data| data.end().is_some());
    if is_at_rest && !between_runs {
        Lookup::Never
    } else {
        Lookup::NotYet
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

/// Looks at a tree again and again until it is ready. That is cheap as long as the same supervisor is
/// in the way, however large the tree is.
#[derive(Default)]
pub(crate) struct ReadyWatch {
    /// It runs, and lacked a service of its own at the last look.
    in_the_way: Option<Arc<Core>>,
    /// Those that were looked for.
    early_ends: u64,
}

impl ReadyWatch {
    /// `pulse`: the last one before this look. `None`: not ready yet, and it can still become so.
    pub(crate) fn look(&mut self, core: &Arc<Core>, pulse: Pulse) -> Option<Readiness> {
        let runs = matches!(core.board.state(), State::Running | State::Paused);
        if !runs || pulse.early_ends != self.early_ends {
            self.early_ends = pulse.early_ends;
            return Some(readiness(core, &core.path()));
        }
        if let Some(core) = self.in_the_way.take() {
            if let Outlook::Missing = core.board.outlook() {
                self.in_the_way = Some(core);
                return None;
            }
        }
        // Once more, for what may have ended early meanwhile.
        self.is_ready(core).then(|| readiness(core, &core.path()))
    }

    /// Up to the first that isn't.
    fn is_ready(&mut self, core: &Arc<Core>) -> bool {
        match core.board.outlook() {
            Outlook::Complete(nested) => nested.iter().all(|entry| {
                // At rest; or missing, since just now.
                let (alive, missing) = entry.cell.look(|d| (d.state.is_alive(), d.missing));
                let below = entry.nested.as_ref().filter(|_| alive);
                below.is_none_or(|below| !missing && self.is_ready(below.core()))
            }),
            Outlook::Missing => {
                self.in_the_way = Some(core.clone());
                false
            }
            Outlook::Other => false,
        }
    }
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
    let mut missing = Vec::new();
    core.board.each(|entry| {
        let data = entry.cell.read();
        if !data.missing {
            return;
        }
        let why = match (&data.waiting_for, &data.last_failure) {
            (Some(_), _) => {
                let reason = reason(core, path, &entry.cell, &data);
                format!("{}: {reason}", data.state)
            }
            (None, Some(failure)) => format!("{}: {}", data.state, failure.message()),
            (None, None) => data.state.to_string(),
        };
        missing.push((entry.cell.place_below(path).path.clone(), Arc::from(why)));
    });
    missing
}
