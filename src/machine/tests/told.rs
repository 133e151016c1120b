//! Questions about what a machine said in a [`World`].

use std::time::Duration;

use super::harness::World;
use crate::event::Next;
use crate::failure::FailureKind;
use crate::machine::message::{Cause, Command, Note, Verdict};

/// A failed event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failed {
    pub(super) at: Duration,
    pub(super) name: &'static str,
    pub(super) incarnation: u64,
    pub(super) kind: FailureKind,
    pub(super) count: f64,
    pub(super) limit: f64,
    pub(super) next: Next,
}

pub(super) fn word(note: &Note) -> &'static str {
    match note {
        Note::Added => "added",
        Note::Started => "started",
        Note::Ready => "ready",
        Note::Done => "done",
        Note::Removed => "removed",
        Note::Failed { .. } => "failed",
        Note::Stopping { .. } => "stopping",
        Note::Stopped => "stopped",
        Note::GivenUp => "given up",
        Note::Abandoned { .. } => "abandoned",
        Note::EndedLate => "ended late",
        Note::Waiting => "waiting",
    }
}

impl World {
    /// The events with one of these words, in order: when, who, which.
    pub(super) fn told(&self, words: &[&str]) -> Vec<(Duration, &'static str, &'static str)> {
        let events = self.log().iter().filter_map(|(at, command)| match command {
            Command::Announce { id, note, .. } => Some((*at, self.name(*id), word(note))),
            Command::AnnouncePause(_) => Some((*at, "", "paused")),
            Command::AnnounceResume => Some((*at, "", "resumed")),
            Command::Start { .. }
            | Command::Stop { .. }
            | Command::Hasten { .. }
            | Command::Abandon { .. }
            | Command::Release { .. }
            | Command::Discard { .. }
            | Command::Forget { .. }
            | Command::EndedEarly { .. }
            | Command::Blame { .. }
            | Command::Mourn { .. }
            | Command::Candidate { .. }
            | Command::Abort { .. }
            | Command::Finish => None,
        });
        events.filter(|(_, _, word)| words.contains(word)).collect()
    }

    /// When and to whom this was said.
    pub(super) fn when(&self, word: &str) -> Vec<(Duration, &'static str)> {
        self.told(&[word])
            .into_iter()
            .map(|(at, name, _)| (at, name))
            .collect()
    }

    /// To whom this was said, in order.
    pub(super) fn who(&self, word: &str) -> Vec<&'static str> {
        self.told(&[word])
            .into_iter()
            .map(|(_, name, _)| name)
            .collect()
    }

    /// When this was said of one service; of the supervisor: `""`.
    pub(super) fn times(&self, name: &str, word: &str) -> Vec<Duration> {
        let told = self.told(&[word]).into_iter();
        told.filter(|told| told.1 == name)
            .map(|told| told.0)
            .collect()
    }

    pub(super) fn failures(&self) -> Vec<Failed> {
        let log = self.log().iter();
        log.filter_map(|(at, command)| match command {
            &Command::Announce {
                id,
                incarnation,
                note:
                    Note::Failed {
                        kind,
                        count,
                        limit,
                        next,
                    },
            } => Some(Failed {
                at: *at,
                name: self.name(id),
                incarnation,
                kind,
                count,
                limit,
                next,
            }),
            _ => None,
        })
        .collect()
    }

    pub(super) fn last_failure(&self) -> Failed {
        self.failures().pop().expect("a failed event")
    }

    /// Whom the machine had started, and when.
    pub(super) fn starts(&self) -> Vec<(Duration, &'static str)> {
        let log = self.log().iter();
        log.filter_map(|(at, command)| match command {
            Command::Start { id, .. } => Some((*at, self.name(*id))),
            _ => None,
        })
        .collect()
    }

    /// Whom the machine asked to stop: when, why, and by when.
    pub(super) fn asks(&self) -> Vec<(Duration, &'static str, Cause, Duration)> {
        let log = self.log().iter();
        log.filter_map(|(at, command)| match command {
            Command::Stop {
                id,
                cause,
                deadline,
                ..
            } => Some((*at, self.name(*id), *cause, deadline.since_start())),
            _ => None,
        })
        .collect()
    }

    /// Who was asked to stop, in order.
    pub(super) fn asked(&self) -> Vec<(Duration, &'static str)> {
        self.asks()
            .into_iter()
            .map(|(at, name, _, _)| (at, name))
            .collect()
    }

    /// When the supervisor was over, if it is.
    pub(super) fn over(&self) -> Option<Duration> {
        let mut finishes = self.log().iter().filter(|(_, c)| *c == Command::Finish);
        let over = finishes.next().map(|(at, _)| *at);
        assert_eq!(finishes.next(), None, "over twice");
        over
    }

    /// Who is to blame for the end of the supervisor.
    pub(super) fn blamed(&self) -> Vec<(&'static str, Verdict)> {
        let log = self.log().iter();
        log.filter_map(|(_, command)| match command {
            Command::Blame { id, verdict } => Some((self.name(*id), *verdict)),
            _ => None,
        })
        .collect()
    }

    /// Whose threads were given back, and when.
    pub(super) fn released(&self) -> Vec<(Duration, &'static str)> {
        let log = self.log().iter();
        log.filter_map(|(at, command)| match command {
            Command::Release { id } => Some((*at, self.name(*id))),
            _ => None,
        })
        .collect()
    }

    /// Who was over for good and never ready.
    pub(super) fn ended_early(&self) -> Vec<&'static str> {
        let log = self.log().iter();
        log.filter_map(|(_, command)| match command {
            Command::EndedEarly { id } => Some(self.name(*id)),
            _ => None,
        })
        .collect()
    }
}
