//! What an end means: the whole table, every outcome by every restart type by every way of being
//! asked. DESIGN section 4 is where each row comes from.

use crate::exit::Exit;
use crate::failure::FailureKind;
use crate::machine::classify::{Asked, Directive, classify};
use crate::machine::message::Outcome;
use crate::machine::policy::Restart;

pub(super) const OUTCOMES: [Outcome; 10] = [
    Outcome::Ok,
    Outcome::Error,
    Outcome::Panic,
    Outcome::NoThread,
    Outcome::NoInput,
    Outcome::Exit(Exit::DoNotRestart),
    Outcome::Exit(Exit::TerminateTree),
    Outcome::Exit(Exit::Bounce),
    Outcome::Exit(Exit::Uninstall),
    Outcome::Exit(Exit::Missing),
];

pub(super) const RESTARTS: [Restart; 3] = [Restart::Always, Restart::OnFailure, Restart::Never];

const TOLD: Directive = Directive::Done { told: true };
const DONE: Directive = Directive::Done { told: false };

const fn again(kind: FailureKind) -> Directive {
    Directive::Restart(kind)
}

const fn leave(kind: FailureKind) -> Directive {
    Directive::Leave(Some(kind))
}

/// By outcome: `Always`, `OnFailure`, `Never`.
#[rustfmt::skip]
const UNASKED: [[Directive; 3]; 10] = {
    use Directive::{Bounce, Leave, Park, Terminate, Uninstall};
    use FailureKind::{Error, Panic, Returned, Spawn};
    [
        /* Ok            */ [again(Returned), DONE,         Leave(None)],
        /* Error         */ [again(Error),    again(Error), leave(Error)],
        /* Panic         */ [again(Panic),    again(Panic), leave(Panic)],
        /* NoThread      */ [again(Spawn),    again(Spawn), leave(Spawn)],
        /* NoInput       */ [Park,            Park,         Park],
        /* DoNotRestart  */ [TOLD,            TOLD,         Leave(None)],
        /* TerminateTree */ [Terminate,       Terminate,    Terminate],
        /* Bounce        */ [Bounce,          Bounce,       Leave(None)],
        /* Uninstall     */ [Uninstall,       Uninstall,    Uninstall],
        /* Missing       */ [Park,            Park,         Park],
    ]
};

/// An explicit answer is honoured; an error or a panic is no second failure.
#[rustfmt::skip]
const ASKED_FOR_A_RESTART: [[Directive; 3]; 10] = {
    use Directive::{AsAsked, Leave, Park, Terminate, Uninstall};
    [
        /* Ok            */ [AsAsked,   AsAsked,   AsAsked],
        /* Error         */ [AsAsked,   AsAsked,   AsAsked],
        /* Panic         */ [AsAsked,   AsAsked,   AsAsked],
        /* NoThread      */ [AsAsked,   AsAsked,   AsAsked],
        /* NoInput       */ [AsAsked,   AsAsked,   AsAsked],
        /* DoNotRestart  */ [TOLD,      TOLD,      Leave(None)],
        /* TerminateTree */ [Terminate, Terminate, Terminate],
        /* Bounce        */ [AsAsked,   AsAsked,   AsAsked],
        /* Uninstall     */ [Uninstall, Uninstall, Uninstall],
        /* Missing       */ [Park,      Park,      AsAsked],
    ]
};

#[test]
fn every_outcome_by_every_restart_type_by_every_way_of_being_asked() {
    for (row, outcome) in OUTCOMES.into_iter().enumerate() {
        for (column, restart) in RESTARTS.into_iter().enumerate() {
            let answer = |asked| classify(outcome, restart, asked);
            let given = format!("{outcome:?}, {restart:?}");
            assert_eq!(answer(Asked::No), UNASKED[row][column], "{given}");
            assert_eq!(
                answer(Asked::ForRestart),
                ASKED_FOR_A_RESTART[row][column],
                "{given}"
            );
            assert_eq!(answer(Asked::Final), Directive::AsAsked, "{given}");
        }
    }
}
