//! The one place where a supervisor waits.

use std::time::Instant;

use crossbeam_channel::{Receiver, at, never, select};

use super::request::Ticket;
use crate::link::clock;
use crate::link::fact::Fact;
use crate::link::spin::Spin;

/// What a supervisor hears.
pub(crate) enum Heard {
    Fact(Fact),
    Command(Ticket),
    /// The deadline is there.
    Time,
}

/// What comes while the end of a run waits for something else.
pub(crate) enum Other<T> {
    Answer(T),
    Fact(Fact),
    Command(Ticket),
}

pub(crate) struct Inbox {
    facts: Receiver<Fact>,
    commands: Receiver<Ticket>,
    /// A command that was taken, and how many facts were there then: those go first.
    held: Option<Ticket>,
    facts_first: usize,
    /// The deadline is there, and those facts go first that were there when that was noticed.
    time_waits: bool,
    spin: Spin,
}

impl Inbox {
    pub(crate) fn new(facts: Receiver<Fact>, commands: Receiver<Ticket>) -> Inbox {
        Inbox {
            facts,
            commands,
            held: None,
            facts_first: 0,
            time_waits: false,
            spin: Spin::default(),
        }
    }

    /// The next thing to deal with; blocks until there is one.
    ///
    /// A fact is heard before a command that was sent after it, and before time that passes after it: who
    /// has ended when the deadline is noticed has ended in time, however late that is. Yet a stream of
    /// facts cannot keep commands or time waiting, since only those facts go first that were there when
    /// the command was taken, or the time noticed. Time goes before commands.
    pub(crate) fn next(&mut self, deadline: Option<Instant>) -> Heard {
        loop {
            if self.facts_first > 0 {
                self.facts_first -= 1;
                if let Ok(fact) = self.facts.try_recv() {
                    return Heard::Fact(fact);
                }
                self.facts_first = 0;
            }
            if deadline.is_none_or(|at| at > clock::now()) {
                self.time_waits = false;
            } else if self.time_waits {
                self.time_waits = false;
                return Heard::Time;
            } else {
                self.time_waits = true;
                self.facts_first = self.facts.len();
                continue;
            }
            if let Some(ticket) = self.held.take() {
                return Heard::Command(ticket);
            }
            self.held = self.commands.try_recv().ok();
            self.facts_first = self.facts.len();
            if self.held.is_some() || self.facts_first > 0 {
                continue;
            }
            if let Some(heard) = self.sleep(deadline) {
                return heard;
            }
        }
    }

    /// Until something comes; a command is held then.
    fn sleep(&mut self, deadline: Option<Instant>) -> Option<Heard> {
        let (facts, commands) = (&self.facts, &self.commands);
        let heard = self.spin.wait(
            || !facts.is_empty() || !commands.is_empty(),
            || {
                // After a look it is most likely there, and no business of a `select!`.
                if let Ok(fact) = facts.try_recv() {
                    return Some(Heard::Fact(fact));
                }
                let time = deadline.map_or_else(never, at);
                select! {
                    recv(facts) -> fact => fact.ok().map(Heard::Fact),
                    recv(commands) -> ticket => ticket.ok().map(Heard::Command),
                    recv(time) -> _ => Some(Heard::Time),
                }
            },
        );
        match heard {
            Some(Heard::Command(ticket)) => {
                self.held = Some(ticket);
                self.facts_first = self.facts.len();
                None
            }
            // After the facts that came first.
            Some(Heard::Time) => None,
            Some(heard) => Some(heard),
            None => Some(self.lost()),
        }
    }

    /// The other ends live as long as the supervisor does; a channel that is gone all the same must
    /// not be asked again, it would answer at once for ever.
    fn lost(&self) -> Heard {
        debug_assert!(false, "a supervisor's own channel is closed");
        Heard::Time
    }

    /// Waits for something else, at the end of a run, or for what comes between. `None`: not in time.
    pub(crate) fn wait_for<T>(
        &mut self,
        other: &Receiver<T>,
        deadline: Option<Instant>,
    ) -> Option<Other<T>> {
        if let Some(ticket) = self.held.take() {
            return Some(Other::Command(ticket));
        }
        let time = deadline.map_or_else(never, at);
        select! {
            recv(other) -> answer => answer.ok().map(Other::Answer),
            recv(self.facts) -> fact => fact.ok().map(Other::Fact),
            recv(self.commands) -> ticket => ticket.ok().map(Other::Command),
            recv(time) -> _ => None,
        }
    }

    /// Everything that has come and wasn't dealt with.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Fact> + '_ {
        self.facts.try_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;
    use std::time::Duration;

    #[test]
    fn time_passes_after_what_has_come_before_it_and_no_later() {
        let (facts, receiver) = unbounded();
        let (_commands, commands) = unbounded();
        let mut inbox = Inbox::new(receiver, commands);
        let due = Some(Instant::now());
        for round in 0..3 {
            (0..round).for_each(|_| facts.send(Fact::Wake).unwrap());
            for _ in 0..round {
                assert!(matches!(inbox.next(due), Heard::Fact(Fact::Wake)));
                // These come too late.
                facts.send(Fact::Wake).unwrap();
            }
            assert!(matches!(inbox.next(due), Heard::Time));
            assert_eq!(inbox.drain().count(), round);
        }
        let soon = Instant::now() + Duration::from_millis(1);
        assert!(matches!(inbox.next(Some(soon)), Heard::Time));
        assert!(soon <= clock::now());
    }
}
