//! What the end of one incarnation means: a pure function of how it ended, what its service is to do
//! then, and whether it was asked.

use super::message::Outcome;
use super::policy::Restart;
use crate::exit::Exit;
use crate::failure::FailureKind;

/// Whether a service was asked to stop before it ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Asked {
    No,
    ForRestart,
    Final,
}

/// What the end of one incarnation means for its service. One table for all the systems: OTP's
/// restart types, suture's sentinel errors, juju's errors and monogon's states are its rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Directive {
    /// What was planned when it was asked to stop.
    AsAsked,
    /// A failure: count it and start again.
    Restart(FailureKind),
    /// It stays, done.
    Done { told: bool },
    /// It leaves; with or without a failure to report.
    Leave(Option<FailureKind>),
    /// Start again after the first delay, uncounted.
    Bounce,
    /// Wait for an input to change.
    Park,
    /// Remove it.
    Uninstall,
    /// Take the tree down.
    Terminate,
}

pub(crate) fn classify(outcome: Outcome, restart: Restart, asked: Asked) -> Directive {
    match asked {
        // In a final stop everything is only reported.
        Asked::Final => return Directive::AsAsked,
        // An explicit answer is honoured; an error or a panic is no second failure.
        Asked::ForRestart => match outcome {
            Outcome::Ok
            | Outcome::Error
            | Outcome::Panic
            | Outcome::NoThread
            | Outcome::NoInput
            | Outcome::Exit(Exit::Bounce) => {
                return Directive::AsAsked;
            }
            // It may have been stopped to be dropped.
            Outcome::Exit(Exit::Missing) if restart == Restart::Never => {
                return Directive::AsAsked;
            }
            Outcome::Exit(
                Exit::DoNotRestart | Exit::TerminateTree | Exit::Uninstall | Exit::Missing,
            ) => {}
        },
        Asked::No => {}
    }
    match (outcome, restart) {
        (
            Outcome::Exit(Exit::TerminateTree),
            Restart::Always | Restart::OnFailure | Restart::Never,
        ) => Directive::Terminate,
        (Outcome::Exit(Exit::Uninstall), Restart::Always | Restart::OnFailure | Restart::Never) => {
            Directive::Uninstall
        }
        // Nothing was done yet, so also what runs once waits for what it needs.
        (
            Outcome::Exit(Exit::Missing) | Outcome::NoInput,
            Restart::Always | Restart::OnFailure | Restart::Never,
        ) => Directive::Park,
        (Outcome::Exit(Exit::Bounce), Restart::Always | Restart::OnFailure) => Directive::Bounce,
        (Outcome::Exit(Exit::DoNotRestart), Restart::Always | Restart::OnFailure) => {
            Directive::Done { told: true }
        }
        (Outcome::Exit(Exit::DoNotRestart | Exit::Bounce), Restart::Never) => {
            Directive::Leave(None)
        }
        (Outcome::Ok, Restart::Always) => Directive::Restart(FailureKind::Returned),
        (Outcome::Ok, Restart::OnFailure) => Directive::Done { told: false },
        (Outcome::Ok, Restart::Never) => Directive::Leave(None),
        (Outcome::Error, Restart::Always | Restart::OnFailure) => {
            Directive::Restart(FailureKind::Error)
        }
        (Outcome::Error, Restart::Never) => Directive::Leave(Some(FailureKind::Error)),
        (Outcome::Panic, Restart::Always | Restart::OnFailure) => {
            Directive::Restart(FailureKind::Panic)
        }
        (Outcome::Panic, Restart::Never) => Directive::Leave(Some(FailureKind::Panic)),
        (Outcome::NoThread, Restart::Always | Restart::OnFailure) => {
            Directive::Restart(FailureKind::Spawn)
        }
        (Outcome::NoThread, Restart::Never) => Directive::Leave(Some(FailureKind::Spawn)),
    }
}
