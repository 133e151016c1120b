//! A history on the machine, and what OTP must have said by then if the only differences are those
//! that are wanted. Where they differ on purpose, a [`Rule`] says so: it checks that the machine did
//! its part, and then brings the machine to where OTP is, so that the history can go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::harness::{HOUR, config, policy};
use super::history::{History, Name, Operation, Reason, Spec};
use crate::id::ChildId;
use crate::machine::child::{Phase, Rest};
use crate::machine::message::{Command, Config, End, Input, Outcome, Policy, Verdict};
use crate::machine::policy::{AutoShutdown, Exceeded, Limit, Restart};
use crate::machine::shutdown::Mode;
use crate::machine::strategy::Strategy;
use crate::machine::{Machine, Moment};

/// Where we differ from OTP, and why. The rows are those of section 4 of the design.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rule {
    /// "a set restart": it leaves out hand-stopped services. OTP starts every child of the set.
    HandStoppedStayDown,
    /// "`stop_service` keeps the spec", whatever its restart type. OTP forgets a temporary child with
    /// its process; the same is `remove` here.
    StoppedNeverIsKept,
    /// "`start_service`: running: nothing", and asked in any state it is no error. OTP answers
    /// `running`.
    StartOfARunningIsNoError,
    /// "`remove`" stops first. OTP's delete_child wants a child that is down.
    RemoveStopsFirst,
    /// "result of `wait`": `Err` for a failed significant service. OTP ends with `shutdown` in both
    /// cases.
    SignificantFailureIsAFailure,
    /// "a set restart": stopping begins at the death. A failure during a set restart, of a service
    /// that isn't in it, widens the set or ends the supervisor at once; OTP finishes the first
    /// restart before it looks at anything else.
    NewsDuringASetRestart,
}

impl Rule {
    pub(super) const ALL: [Rule; 6] = [
        Rule::HandStoppedStayDown,
        Rule::StoppedNeverIsKept,
        Rule::StartOfARunningIsNoError,
        Rule::RemoveStopsFirst,
        Rule::SignificantFailureIsAFailure,
        Rule::NewsDuringASetRestart,
    ];
}

/// What there is to say of the start or of one operation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// As OTP must have said it.
    pub(super) line: String,
    /// Rules that were needed for that.
    pub(super) rules: BTreeSet<Rule>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entry {
    Started(ChildId),
    Stopped(ChildId),
}

struct Ours {
    machine: Machine,
    /// By id.
    specs: Vec<Spec>,
    at_once: bool,
    journal: Vec<Entry>,
    /// What the machine has yet to hear.
    inbox: VecDeque<Input>,
    /// Who has ended by itself while the machine hasn't heard of it.
    dead: BTreeMap<ChildId, Input>,
    /// Who restarted others with itself in a set restart that may be under way, and since which entry.
    origins: Vec<ChildId>,
    origins_since: usize,
    verdict: Option<Verdict>,
    over: bool,
    rules: BTreeSet<Rule>,
}

const NOW: Moment = Moment::START;

/// All answers to a history: to the start, and to each operation while the supervisor is there.
pub(super) fn answers(history: &History) -> Vec<Answer> {
    let config = Config {
        strategy: history.strategy,
        limit: match history.intensity {
            Some(restarts) => Limit::window(restarts, HOUR).then(Exceeded::Fail),
            None => Limit::none(),
        },
        auto_shutdown: history.auto_shutdown,
        ..config()
    };
    let mut ours = Ours {
        machine: Machine::new(config),
        specs: Vec::new(),
        at_once: history.at_once,
        journal: Vec::new(),
        inbox: VecDeque::new(),
        dead: BTreeMap::new(),
        origins: Vec::new(),
        origins_since: 0,
        verdict: None,
        over: false,
        rules: BTreeSet::new(),
    };
    for &spec in &history.children {
        assert!(ours.add(spec), "{spec} is admitted");
    }
    ours.feed(Input::Started);
    let mut answers = vec![ours.answer("ok")];
    for operation in &history.operations {
        if ours.over {
            break;
        }
        let said = ours.perform(operation);
        answers.push(ours.answer(&said));
    }
    answers
}

impl Ours {
    fn id(&self, name: Name) -> Option<ChildId> {
        let place = self.specs.iter().rposition(|s| s.name == name)?;
        let id = ChildId(place as u64);
        self.machine.knows(id).then_some(id)
    }

    fn spec(&self, id: ChildId) -> Spec {
        self.specs[id.0 as usize]
    }

    fn phase(&self, id: ChildId) -> Option<Phase> {
        self.machine.children.get(&id).map(|c| c.phase)
    }

    fn runs(&self, id: ChildId) -> bool {
        matches!(self.phase(id), Some(Phase::Running(_)))
    }

    fn is_hand_stopped(&self, id: ChildId) -> bool {
        self.phase(id) == Some(Phase::Resting(Rest::Stopped { by_hand: true }))
    }

    fn add(&mut self, spec: Spec) -> bool {
        let policies = vec![Policy {
            name: spec.name.into(),
            restart: spec.restart,
            significant: spec.significant,
            ..policy()
        }];
        if self.machine.admit(policies.iter(), false).is_err() {
            return false;
        }
        self.specs.push(spec);
        self.feed(Input::Added(policies));
        true
    }

    /// An input, and all that follows.
    fn feed(&mut self, input: Input) {
        self.inbox.push_back(input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(input) = self.inbox.pop_front() {
            self.watch(&input);
            let mut out = Vec::new();
            self.machine.step(NOW, input, &mut out);
            for command in out {
                self.carry_out(command);
            }
            self.bring_back_hand_stopped();
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Start { id, .. } => self.journal.push(Entry::Started(id)),
            Command::Stop {
                id,
                incarnation,
                discard,
                ..
            } => match self.dead.remove(&id) {
                // It has ended by itself and can't be asked any more.
                Some(end) => self.inbox.push_back(end),
                None if self.is_in_inbox(id) => {}
                None => {
                    self.journal.push(Entry::Stopped(id));
                    let outcome = match self.spec(id).rude {
                        true => Outcome::Error,
                        false => Outcome::Ok,
                    };
                    self.inbox
                        .push_back(ended(id, incarnation, outcome, discard));
                }
            },
            Command::Discard { id } => self.inbox.push_back(Input::Discarded(id)),
            Command::Blame { verdict, .. } => self.verdict = Some(verdict),
            Command::Finish => self.over = true,
            Command::Hasten { .. }
            | Command::Abandon { .. }
            | Command::Release { .. }
            | Command::Forget { .. }
            | Command::Announce { .. }
            | Command::AnnouncePause(_)
            | Command::AnnounceResume
            | Command::EndedEarly { .. }
            | Command::Mourn { .. }
            | Command::Candidate { .. }
            | Command::Abort { .. } => {}
        }
    }

    fn is_in_inbox(&self, who: ChildId) -> bool {
        let is_end = |input: &Input| matches!(input, Input::Ended { id, .. } if *id == who);
        self.inbox.iter().any(is_end)
    }

    /// Notes an end that OTP would answer with a restart of several, and one that comes while there
    /// is such a restart.
    fn watch(&mut self, input: &Input) {
        let &Input::Ended { id, end, .. } = input else {
            return;
        };
        if !self.runs(id) || self.machine.mode != Mode::Running {
            return;
        }
        let in_wave = self
            .machine
            .children
            .get(&id)
            .is_some_and(|c| c.wave.is_some());
        if in_wave {
            return;
        }
        let spec = self.spec(id);
        let restarts = match spec.restart {
            Restart::Always => true,
            Restart::OnFailure => end.outcome != Outcome::Ok,
            Restart::Never => false,
        };
        if !self.machine.waves.is_empty() && (restarts || spec.significant) {
            self.rules.insert(Rule::NewsDuringASetRestart);
        }
        if restarts {
            if self.origins.is_empty() {
                self.origins_since = self.journal.len();
            }
            self.origins.push(id);
        }
    }

    /// [`Rule::HandStoppedStayDown`]: when a set restart is over, OTP has also started the children
    /// of the set that were down; in their places, as the set is started in order.
    fn bring_back_hand_stopped(&mut self) {
        if !self.machine.waves.is_empty() || self.origins.is_empty() {
            return;
        }
        let origins = std::mem::take(&mut self.origins);
        if self.machine.mode != Mode::Running || self.machine.config.strategy == Strategy::OneForOne
        {
            return;
        }
        let sets = origins.iter().flat_map(|&o| self.machine.affected(o));
        let sets = sets.map(|affected| affected.id);
        let left_out: BTreeSet<ChildId> = sets.filter(|&id| self.is_hand_stopped(id)).collect();
        for &id in &left_out {
            self.rules.insert(Rule::HandStoppedStayDown);
            self.inbox.push_front(Input::StartRequested(id));
            if let Some(input) = self.inbox.pop_front() {
                let mut out = Vec::new();
                self.machine.step(NOW, input, &mut out);
                out.into_iter().for_each(|c| self.carry_out(c));
            }
        }
        if left_out.is_empty() {
            return;
        }
        let new = &mut self.journal[self.origins_since..];
        let starts = last_starts(new);
        let first = new.len() - starts;
        new[first..].sort_by_key(|entry| match entry {
            Entry::Started(id) | Entry::Stopped(id) => *id,
        });
    }

    fn perform(&mut self, operation: &Operation) -> String {
        match operation {
            Operation::Exits(exits) => return self.exits(exits),
            Operation::Terminate(name) => self.on(name, Ours::terminate),
            Operation::Restart(name) => self.on(name, Ours::restart),
            Operation::Delete(name) => self.on(name, Ours::delete),
            Operation::Remove(name) => self.on(name, Ours::remove),
            Operation::Bounce(name) => self.on(name, Ours::bounce),
            Operation::Start(spec) => self.start(*spec),
            Operation::Stop => {
                self.feed(Input::ShutdownRequested {
                    deadline: Moment::NEVER,
                });
                "ok"
            }
        }
        .into()
    }

    fn on(&mut self, name: Name, act: fn(&mut Ours, ChildId) -> &'static str) -> &'static str {
        match self.id(name) {
            Some(id) => act(self, id),
            None => "not_found",
        }
    }

    fn exits(&mut self, exits: &[(Name, Reason)]) -> String {
        let mut said = Vec::new();
        let mut ends = Vec::new();
        for &(name, reason) in exits {
            let running = self.id(name).filter(|&id| self.runs(id));
            said.push(if running.is_some() { "ended" } else { "down" });
            if let Some(id) = running {
                let outcome = match reason {
                    Reason::Normal | Reason::Shutdown | Reason::ShutdownWith => Outcome::Ok,
                    Reason::Boom => Outcome::Error,
                    Reason::Kill => Outcome::Panic,
                };
                let incarnation = self.machine.children[&id].incarnation;
                ends.push((id, ended(id, incarnation, outcome, false)));
            }
        }
        if self.at_once {
            self.inbox.extend(ends.into_iter().map(|e| e.1));
            self.drain();
        } else {
            let order: Vec<ChildId> = ends.iter().map(|e| e.0).collect();
            self.dead.extend(ends);
            for id in order {
                if let Some(end) = self.dead.remove(&id) {
                    self.feed(end);
                }
            }
        }
        format!("[{}]", said.join(","))
    }

    fn terminate(&mut self, id: ChildId) -> &'static str {
        self.feed(Input::StopRequested(id));
        assert!(self.is_hand_stopped(id), "stopped by hand");
        if self.spec(id).restart == Restart::Never {
            self.rules.insert(Rule::StoppedNeverIsKept);
            self.feed(Input::RemovalRequested(id));
        }
        "ok"
    }

    fn restart(&mut self, id: ChildId) -> &'static str {
        let ran = self.runs(id);
        let before = self.journal.len();
        self.feed(Input::StartRequested(id));
        if !ran {
            return "ok";
        }
        self.rules.insert(Rule::StartOfARunningIsNoError);
        assert_eq!(self.journal.len(), before, "it runs, so nothing happens");
        "running"
    }

    fn delete(&mut self, id: ChildId) -> &'static str {
        if self.runs(id) {
            self.rules.insert(Rule::RemoveStopsFirst);
            return "running";
        }
        self.remove(id)
    }

    fn remove(&mut self, id: ChildId) -> &'static str {
        self.feed(Input::RemovalRequested(id));
        assert!(!self.machine.knows(id), "removed");
        "ok"
    }

    fn bounce(&mut self, id: ChildId) -> &'static str {
        if self.spec(id).restart == Restart::Never {
            // OTP could not start it again.
            return "temporary";
        }
        self.feed(Input::RestartRequested(id));
        "ok"
    }

    fn start(&mut self, spec: Spec) -> &'static str {
        let known = self.id(spec.name);
        let never = self.machine.config.auto_shutdown == AutoShutdown::Never;
        let bad = spec.significant && (never || spec.restart == Restart::Always);
        let added = self.add(spec);
        assert_eq!(added, known.is_none() && !bad, "{spec}");
        match known {
            _ if bad => "bad_combination",
            Some(id) if self.runs(id) => "already_started",
            Some(_) => "already_present",
            None => "ok",
        }
    }

    /// The line that OTP must have said, and the rules for it.
    fn answer(&mut self, said: &str) -> Answer {
        assert!(self.inbox.is_empty() && self.dead.is_empty());
        let entries: Vec<String> = self
            .journal
            .drain(..)
            .map(|entry| match entry {
                Entry::Started(id) => format!("+{}", self.specs[id.0 as usize].name),
                Entry::Stopped(id) => format!("-{}", self.specs[id.0 as usize].name),
            })
            .collect();
        let (states, verdict) = if self.over {
            let verdict = match self.verdict {
                Some(Verdict::LimitExceeded) => "limit",
                Some(Verdict::SignificantFailed) => {
                    self.rules.insert(Rule::SignificantFailureIsAFailure);
                    "shutdown"
                }
                None | Some(Verdict::AutoShutdown) => "shutdown",
                Some(verdict) => panic!("nothing leads to {verdict:?}"),
            };
            (String::new(), verdict)
        } else {
            (self.states(), "up")
        };
        Answer {
            line: format!("{said} | {} | {states} | {verdict}", entries.join(" ")),
            rules: std::mem::take(&mut self.rules),
        }
    }

    fn states(&self) -> String {
        let mut known: Vec<(Name, ChildId)> = self
            .machine
            .children
            .keys()
            .map(|&id| (self.spec(id).name, id))
            .collect();
        known.sort_unstable();
        let states: Vec<String> = known
            .into_iter()
            .map(|(name, id)| format!("{name}:{}", if self.runs(id) { "up" } else { "down" }))
            .collect();
        states.join(" ")
    }
}

fn ended(id: ChildId, incarnation: u64, outcome: Outcome, discarded: bool) -> Input {
    Input::Ended {
        id,
        incarnation,
        end: End {
            outcome,
            fatal: false,
            discarded,
            stragglers: false,
        },
    }
}

/// How many starts there are after the last stop.
fn last_starts(entries: &[Entry]) -> usize {
    let is_start = |entry: &&Entry| matches!(entry, Entry::Started(_));
    entries.iter().rev().take_while(is_start).count()
}
