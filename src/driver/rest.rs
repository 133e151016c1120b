//! What a supervisor hears between its runs.
//!
//! A supervisor that is a service may have to leave threads behind, and is at rest then, for long if it was
//! stopped by hand. What they tell is dealt with by who tells it. That holds the fence, so the supervisor runs again
//! only when it is published and told, unless it may overlap them.

use std::sync::Arc;

use crossbeam_channel::Sender;

use super::core::Core;
use super::engine::{Engine, Leftover, Remains};
use super::mark::{self, Mark};
use crate::context::{Home, Incarnation};
use crate::event::EventKind;
use crate::id::ChildId;
use crate::link::fact::{Ended, Fact, Unheard};
use crate::link::hub::Emitter;
use crate::link::licence::Licence;
use crate::machine::message::{Command, End, Input, Note};

/// Tells a supervisor something about one of its services that it must hear even between its runs. Not on
/// a supervisor's thread.
pub(super) fn tell(home: &Home, fact: Fact) {
    // Lost, it tells what there is to tell.
    drop(home.facts.send(fact));
    home.supervisor.core().hear_at_rest();
}

/// What is left of what was heard; to be put away without a lock.
pub(crate) struct Heard {
    leftover: Leftover,
    /// What only the facts may still have held.
    incarnations: Vec<Arc<Incarnation>>,
    licences: Vec<Arc<Licence>>,
    emitter: Emitter,
}

/// An event that is to be told without a lock.
pub(super) struct Untold {
    path: Arc<str>,
    incarnation: u64,
    kind: EventKind,
}

impl Engine {
    /// Deals with what was told while nobody ran. `None`: there was nothing.
    pub(crate) fn hear(&mut self, core: &Core) -> Option<Heard> {
        let told = self.facts.1.len();
        if told == 0 {
            return None;
        }
        let mut heard = Heard {
            leftover: Leftover::of_facts(),
            incarnations: Vec::new(),
            licences: Vec::new(),
            // Of the last run; there was one.
            emitter: self.emitter.clone()?,
        };
        // Not more: who tells something meanwhile waits for the desk.
        for _ in 0..told {
            match self.facts.1.try_recv() {
                Ok(Fact::Ended(ended)) => self.hear_end(core, ended, &mut heard),
                Ok(Fact::Cleared { child, incarnation }) => {
                    let cleared = Input::Cleared {
                        id: child,
                        incarnation,
                    };
                    self.step_at_rest(core, cleared, &mut heard.leftover);
                }
                Ok(Fact::Discarded { child }) => {
                    self.step_at_rest(core, Input::Discarded(child), &mut heard.leftover);
                }
                // Of somebody who was left behind: not what is waited for.
                Ok(
                    Fact::Ready { .. }
                    | Fact::Provided { .. }
                    | Fact::Supervising { .. }
                    | Fact::BelowFailed { .. }
                    | Fact::Wake,
                )
                | Err(_) => {}
            }
        }
        Some(heard)
    }

    fn hear_end(&mut self, core: &Core, ended: Ended, heard: &mut Heard) {
        heard
            .incarnations
            .extend(ended.unheard.and_then(Unheard::take));
        heard.licences.extend(ended.licence);
        match (self.slots.get_mut(&ended.child), ended.failure) {
            (Some(slot), Some(failure)) => slot.set_failure(failure),
            (None, failure) => heard.leftover.keep(Remains {
                failures: failure.into_iter().collect(),
                ..Remains::default()
            }),
            (Some(_), None) => {}
        }
        let input = Input::Ended {
            id: ended.child,
            incarnation: ended.incarnation,
            end: End {
                outcome: ended.outcome,
                fatal: ended.fatal,
                discarded: ended.discarded,
                stragglers: !ended.stragglers.is_empty(),
            },
        };
        self.step_at_rest(core, input, &mut heard.leftover);
    }

    /// What is to be told to the observers.
    pub(super) fn untold(&self, out: &[Command]) -> Vec<Untold> {
        let mut untold = Vec::new();
        for command in out {
            let Command::Announce {
                id,
                incarnation,
                note,
            } = command
            else {
                continue;
            };
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            let last_failure = || slot.last_failure.clone();
            let kind = match *note {
                Note::EndedLate => Some(EventKind::EndedLate),
                Note::Removed => Some(EventKind::Removed),
                Note::Done => Some(EventKind::Done),
                Note::GivenUp => last_failure().map(|failure| EventKind::GivenUp { failure }),
                Note::Failed {
                    count, limit, next, ..
                } => last_failure().map(|failure| EventKind::Failed {
                    failure,
                    count,
                    limit,
                    next,
                }),
                // Of one that runs, or shall.
                Note::Added
                | Note::Started
                | Note::Ready
                | Note::Stopping { .. }
                | Note::Stopped
                | Note::Abandoned { .. }
                | Note::Waiting => None,
            };
            if let (Some(kind), Some(path)) = (kind, slot.cell.path()) {
                untold.push(Untold {
                    path: path.clone(),
                    incarnation: *incarnation,
                    kind,
                });
            }
        }
        untold
    }
}

impl Heard {
    /// Tells it, and drops the rest here. True: there is more to hear since.
    pub(super) fn put_away(self, core: &Arc<Core>) -> bool {
        let Heard {
            mut leftover,
            incarnations,
            licences,
            emitter,
        } = self;
        incarnations.iter().for_each(|i| i.set_told());
        for event in leftover.take_untold() {
            emitter.emit(&event.path, event.incarnation, event.kind);
        }
        let of = Arc::new(mark::Supervisor {
            core: core.clone(),
            path: Arc::from(core.path()),
            emitter,
            quiet: core.settings.quiet_panics,
        });
        let _marked = mark::enter(Mark::of_supervisor(of.clone()));
        drop((incarnations, licences));
        let discards = leftover.take_discards();
        drop(leftover);
        let more = !discards.is_empty();
        for (child, remains, facts) in discards {
            remains.discard(&of.path, of.quiet);
            // It is gone when its values are.
            drop(facts.send(Fact::Discarded { child }));
        }
        more
    }
}

/// A service whose values are to be dropped, and where to say that they are.
pub(super) type Discard = (ChildId, Remains, Sender<Fact>);
