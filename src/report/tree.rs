//! A report as a tree of lines, for people.

use std::fmt;
use std::time::Duration;

use super::{Report, ServiceReport};
use crate::key::{KeyReport, KeyRole};
use crate::text::OneLine;

/// How many keys of a kind a line names.
const KEYS_SHOWN_MAX: usize = 3;

impl fmt::Display for Report {
    /// A line a service: tree, path, state, since when, and what is worth knowing. Line breaks in a message or
    /// a status are `; `.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}) for {}",
            self.path,
            self.state,
            short(self.in_state)
        )?;
        branches(f, &self.services, "")
    }
}

impl fmt::Display for ServiceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.line(f)?;
        branches(f, &self.services, "")
    }
}

impl ServiceReport {
    fn line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}) for {}",
            self.place.path,
            self.state,
            short(self.in_state)
        )?;
        if let Some(next) = self.next_start {
            write!(f, ", next start in {}", short(next))?;
        }
        if let Some(reason) = &self.waiting_for {
            write!(f, ", waiting for {reason}")?;
        }
        if self.incarnation > 1 {
            write!(f, ", incarnation {}", self.incarnation)?;
        }
        if self.failures > 0 {
            write!(f, ", {}", counted(self.failures, "failure"))?;
        }
        if self.panics > 0 {
            write!(f, " ({})", counted(self.panics, "panic"))?;
        }
        if self.stop_timeouts > 0 {
            write!(f, ", {}", counted(self.stop_timeouts, "stop timeout"))?;
        }
        self.keys_in_line(f)?;
        if let Some(failure) = &self.last_failure {
            write!(f, ", last: {}", OneLine(failure.message()))?;
            if let Some(location) = failure.unsaid_location() {
                write!(f, " at {location}")?;
            }
        }
        if let Some(status) = &self.status {
            write!(f, " - {}", OneLine(status))?;
        }
        Ok(())
    }

    /// What it gives and takes. What it waits for was said already.
    fn keys_in_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.waiting_for.is_none() {
            named(f, "needs", self.keys_as(KeyRole::Needs))?;
            let (there, missing): (Vec<_>, Vec<_>) =
                self.keys_as(KeyRole::Wants).partition(|key| key.is_there);
            named(f, "wants", there.into_iter())?;
            named(f, "without", missing.into_iter())?;
        }
        named(f, "provides", self.keys_as(KeyRole::Provides))
    }

    fn keys_as(&self, role: KeyRole) -> impl Iterator<Item = &KeyReport> {
        self.keys.iter().filter(move |key| key.role == role)
    }
}

/// ", needs config, db, log and 2 more"; nothing if there are none.
fn named<'a>(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    keys: impl Iterator<Item = &'a KeyReport>,
) -> fmt::Result {
    let names: Vec<&str> = keys.map(KeyReport::name).collect();
    let (shown, more) = names.split_at(names.len().min(KEYS_SHOWN_MAX));
    if shown.is_empty() {
        return Ok(());
    }
    write!(f, ", {what} {}", shown.join(", "))?;
    match more.len() {
        0 => Ok(()),
        n => write!(f, " and {n} more"),
    }
}

/// Draws the services below a line that was written already, each after a line break.
fn branches(f: &mut fmt::Formatter<'_>, services: &[ServiceReport], indent: &str) -> fmt::Result {
    for (i, service) in services.iter().enumerate() {
        let last = i + 1 == services.len();
        write!(f, "\n{indent}{}", if last { "└─ " } else { "├─ " })?;
        service.line(f)?;
        branches(
            f,
            &service.services,
            &format!("{indent}{}", if last { "   " } else { "│  " }),
        )?;
    }
    Ok(())
}

/// "1 failure", "2 failures".
fn counted(n: u32, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A duration as a person says it: "350ms", "12s", "3m 20s", "2h 5m", "4d 3h".
pub(super) fn short(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => format!("{}ms", d.as_millis()),
        1..60 => format!("{s}s"),
        60..3_600 => format!("{}m {}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d {}h", s / 86_400, s % 86_400 / 3_600),
    }
}
