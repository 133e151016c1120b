//! What one service's threads do and what was said about them, followed from outside: from the
//! inputs that were given and the commands that came back. Every rule about an order of things is
//! checked here.

use std::collections::BTreeMap;

use super::super::told::word;
use crate::failure::FailureKind;
use crate::id::ChildId;
use crate::machine::Machine;
use crate::machine::message::{Command, End, Input, Note};
use crate::machine::shutdown::Mode;

/// What has been said about an incarnation that runs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Story {
    Started,
    /// It was not ready in time and is to be asked to stop.
    FailedToStart,
    Asked,
    Abandoned,
    /// One of done, failed, stopped, ended late.
    Over,
}

/// An incarnation whose end hasn't come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Live {
    pub(super) incarnation: u64,
    pub(super) story: Story,
    pub(super) said_ready: bool,
    /// It was told to drop its values on the way out.
    pub(super) discards: bool,
    /// A supervisor that has ended and left threads behind; `Cleared` is to come.
    pub(super) left: bool,
    /// What runs below it has failed: its end is judged, although it is asked to stop.
    pub(super) judged: bool,
    /// The whole supervisor was started again beside it, which only its parent can allow.
    pub(super) superseded: bool,
    /// It may have failed and started again by itself.
    pub(super) licensed: bool,
}

impl Live {
    /// Its service may start again beside it, if it allows an overlap.
    fn is_given_up(&self) -> bool {
        self.left || self.story == Story::Abandoned
    }

    fn is_over_or_given_up(&self) -> bool {
        self.story == Story::Over || self.is_given_up()
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Monitor {
    pub(super) live: Vec<Live>,
    pub(super) started: u64,
    /// `Discard` was said and `Discarded` has not come; and whether that takes too long.
    pub(super) dropping: bool,
    pub(super) dropping_abandoned: bool,
    pub(super) dropped: bool,
    /// Stopped by hand, and not started by hand since.
    pub(super) down: bool,
    pub(super) leaving: bool,
    /// Started by hand, so that a pause doesn't hold it.
    pub(super) summoned: bool,
}

/// All services of one machine, and the supervisor itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Monitors {
    pub(super) services: BTreeMap<ChildId, Monitor>,
    pub(super) paused: bool,
    pub(super) stopping: bool,
    pub(super) over: bool,
}

impl Monitors {
    /// Before the machine sees an input.
    pub(super) fn given(&mut self, input: &Input, machine: &Machine) {
        let running = machine.mode == Mode::Running;
        if !matches!(input, Input::Renewed { .. }) {
            // Of who was asked it is heard at once.
            let live = self.services.values_mut().flat_map(|m| &mut m.live);
            live.filter(|l| l.story != Story::Started)
                .for_each(|l| l.licensed = false);
        }
        match *input {
            Input::RemovalRequested(id) => {
                self.with(id, |m| (m.leaving, m.summoned) = (true, false))
            }
            Input::StopRequested(id) => self.with(id, |m| (m.down, m.summoned) = (true, false)),
            Input::StartRequested(id) if running => {
                self.with(id, |m| (m.down, m.summoned) = (false, true));
            }
            // Between two runs: with the next one.
            Input::StartRequested(id) | Input::RestartRequested(id)
                if machine.mode == Mode::Ended =>
            {
                self.with(id, |m| m.down = false);
            }
            // Everybody who restarts with it is summoned, too, unless told to stay down.
            Input::RestartRequested(id) if running => {
                self.with(id, |m| (m.down, m.summoned) = (false, true));
                for other in machine.affected(id) {
                    self.with(other.id, |m| m.summoned |= !m.down && !m.leaving);
                }
            }
            Input::Started => {
                (self.stopping, self.over) = (false, false);
                let live = self.services.values_mut().flat_map(|m| &mut m.live);
                live.for_each(|l| l.superseded = true);
            }
            Input::ShutdownRequested { .. } if running => self.begin_stop(),
            Input::Discarded(id) => self.with(id, |m| (m.dropping, m.dropped) = (false, true)),
            Input::Ended {
                id,
                end: End {
                    discarded: true, ..
                },
                ..
            } => self.with(id, |m| m.dropped = true),
            Input::BelowFailed { id, incarnation } => self.with(id, |m| {
                let live = m.find(incarnation);
                live.into_iter().for_each(|live| live.judged = true);
            }),
            Input::Renewed {
                id, incarnation, ..
            } => {
                let last = !running;
                self.with(id, |m| m.renewed(incarnation, last));
            }
            Input::Ended { .. }
            | Input::Added(_)
            | Input::StartRequested(_)
            | Input::RestartRequested(_)
            | Input::SaidReady { .. }
            | Input::Provided { .. }
            | Input::Cleared { .. }
            | Input::Supervising { .. }
            | Input::ShutdownRequested { .. }
            | Input::Ticked => {}
        }
    }

    fn with(&mut self, id: ChildId, change: impl FnOnce(&mut Monitor)) {
        if let Some(monitor) = self.services.get_mut(&id) {
            change(monitor);
        }
    }

    /// A stop ends a pause without a word.
    pub(super) fn begin_stop(&mut self) {
        (self.stopping, self.paused) = (true, false);
    }

    /// What the machine said, in its order.
    pub(super) fn said(&mut self, input: &Input, command: &Command) {
        match command {
            Command::Announce {
                id,
                incarnation,
                note,
            } => {
                let service = self.services.entry(*id).or_default();
                service.told(*incarnation, note, input);
            }
            Command::Start { id, incarnation } => {
                assert!(!self.stopping, "start of {id:?} while the supervisor stops");
                let service = &self.services[id];
                assert!(
                    !self.paused || service.summoned,
                    "start of {id:?} in a pause"
                );
                service.may_start(*incarnation);
                self.with(*id, |m| m.summoned = false);
            }
            Command::Stop {
                id,
                incarnation,
                discard,
                ..
            } => {
                let service = self.services.get_mut(id).expect("a service");
                let live = service.find(*incarnation).expect("who is asked runs");
                assert_eq!(live.story, Story::Asked, "announced before it is asked");
                live.discards = *discard;
            }
            Command::Abandon { id, .. } => self.with(*id, |m| {
                let abandoned = m.live.iter().any(|l| l.story == Story::Abandoned);
                assert!(
                    abandoned || m.dropping_abandoned,
                    "abandoned without a word"
                );
            }),
            Command::Discard { id } => self.with(*id, |m| {
                assert!(!m.dropping && !m.dropped, "the values are dropped twice");
                assert!(
                    m.live.iter().all(Live::is_over_or_given_up),
                    "values dropped under a running service"
                );
                m.dropping = true;
            }),
            Command::Forget { id } => {
                let service = self.services.remove(id).expect("a service");
                assert!(service.dropped, "forgotten before its values are gone");
                assert!(
                    service.live.iter().all(|l| l.story == Story::Over),
                    "forgotten while a thread of it exists"
                );
            }
            Command::AnnouncePause(_) => {
                assert!(!self.paused && !self.stopping, "paused twice, or in a stop");
                self.paused = true;
            }
            Command::AnnounceResume => {
                assert!(std::mem::take(&mut self.paused), "resumed without a pause")
            }
            Command::Blame { .. } => {
                assert!(!self.stopping, "the supervisor ends for two reasons");
                self.begin_stop();
            }
            Command::Finish => {
                assert!(self.stopping && !self.over, "over twice, or without a stop");
                self.over = true;
            }
            Command::Hasten { .. } => assert!(self.stopping, "hastened without a stop"),
            Command::Candidate { .. } => {
                assert!(self.stopping, "a second reason to end, and no first")
            }
            Command::Release { .. }
            | Command::EndedEarly { .. }
            | Command::Mourn { .. }
            | Command::Abort { .. } => {}
        }
    }

    /// After the machine has said everything about an input.
    pub(super) fn done(&mut self, input: &Input) {
        match *input {
            Input::Ended {
                id,
                incarnation,
                end: End { stragglers, .. },
            } => self.with(id, |m| {
                let live = m.find(incarnation).expect("it ran");
                assert_eq!(live.story, Story::Over, "an end that was not told");
                live.left = stragglers;
                m.live.retain(|l| l.left || l.story != Story::Over);
            }),
            Input::Cleared { id, incarnation } => {
                self.with(id, |m| m.live.retain(|l| l.incarnation != incarnation));
            }
            Input::Added(_)
            | Input::Started
            | Input::RemovalRequested(_)
            | Input::StopRequested(_)
            | Input::StartRequested(_)
            | Input::RestartRequested(_)
            | Input::SaidReady { .. }
            | Input::Provided { .. }
            | Input::Supervising { .. }
            | Input::Renewed { .. }
            | Input::BelowFailed { .. }
            | Input::Discarded(_)
            | Input::ShutdownRequested { .. }
            | Input::Ticked => {}
        }
        for (id, service) in &self.services {
            let untold = service
                .live
                .iter()
                .find(|l| l.story == Story::Over && !l.left);
            assert_eq!(untold, None, "{id:?} was said to be over before it was");
        }
    }
}

impl Monitor {
    pub(super) fn find(&mut self, incarnation: u64) -> Option<&mut Live> {
        self.live.iter_mut().find(|l| l.incarnation == incarnation)
    }

    /// The same thread has gone on with another incarnation. `last`: it can't again, which is also so
    /// once it was asked to stop.
    fn renewed(&mut self, incarnation: u64, last: bool) {
        let live = self.live.iter_mut().find(|l| l.licensed);
        let live = live.expect("under a licence");
        assert_eq!(live.incarnation, self.started, "nobody started beside it");
        live.incarnation = incarnation;
        live.said_ready = false;
        live.licensed = !last && live.story == Story::Started;
        self.started = incarnation;
    }

    pub(super) fn has_nobody_running(&self) -> bool {
        self.live.iter().all(Live::is_given_up)
    }

    fn may_start(&self, incarnation: u64) {
        assert_eq!(incarnation, self.started, "started is announced, then done");
        assert!(!self.down, "start of a service that was stopped by hand");
        assert!(
            !self.leaving && !self.dropping && !self.dropped,
            "start of a service that is removed"
        );
        let mut others = self.live.iter().filter(|l| l.incarnation != incarnation);
        assert!(
            others.all(Live::is_over_or_given_up),
            "two at once: {:?}",
            self.live
        );
    }

    /// One sentence about one incarnation. Each has one story: started, perhaps ready, perhaps
    /// asked to stop, and one end.
    fn told(&mut self, incarnation: u64, note: &Note, input: &Input) {
        match note {
            Note::Added | Note::Removed => return,
            Note::Started => return self.begins(incarnation),
            Note::Abandoned { .. } if self.dropping => return self.dropping_abandoned = true,
            Note::EndedLate if matches!(input, Input::Discarded(_)) => {
                assert!(
                    std::mem::take(&mut self.dropping_abandoned),
                    "a late drop that was in time"
                );
                return;
            }
            // Said of the service, not of an incarnation.
            Note::GivenUp | Note::Waiting => {
                let mut live = self.live.iter();
                return assert!(live.all(Live::is_over_or_given_up), "at rest while it runs");
            }
            Note::Stopped if matches!(input, Input::StopRequested(_)) => {
                let mut live = self.live.iter();
                return assert!(live.all(Live::is_given_up), "stopped by hand while it runs");
            }
            Note::Ready
            | Note::Done
            | Note::Failed { .. }
            | Note::Stopping { .. }
            | Note::Stopped
            | Note::Abandoned { .. }
            | Note::EndedLate => {}
        }
        let live = self
            .find(incarnation)
            .expect("something is said of an incarnation that runs");
        live.story = match (live.story, note) {
            (Story::Started, Note::Ready) if !std::mem::replace(&mut live.said_ready, true) => {
                Story::Started
            }
            (
                Story::Started,
                Note::Failed {
                    kind: FailureKind::ReadyTimeout,
                    ..
                },
            ) => Story::FailedToStart,
            (
                Story::Started | Story::FailedToStart,
                Note::Failed { .. } | Note::Done | Note::Stopped,
            ) => Story::Over,
            (Story::Started | Story::FailedToStart, Note::Stopping { .. }) => Story::Asked,
            (Story::Asked, Note::Stopped) => Story::Over,
            (Story::Asked, Note::Failed { .. } | Note::Done) if live.judged => Story::Over,
            (Story::Asked, Note::Abandoned { .. }) => Story::Abandoned,
            (Story::Abandoned, Note::EndedLate) => Story::Over,
            (before, _) => panic!("{} of an incarnation that was {before:?}", word(note)),
        };
    }

    fn begins(&mut self, incarnation: u64) {
        assert_eq!(incarnation, self.started + 1, "incarnations without a gap");
        assert!(
            self.live.iter().all(Live::is_over_or_given_up),
            "started before the last one failed"
        );
        self.started = incarnation;
        self.live.push(Live {
            incarnation,
            story: Story::Started,
            said_ready: false,
            discards: false,
            left: false,
            judged: false,
            superseded: false,
            licensed: false,
        });
    }
}
