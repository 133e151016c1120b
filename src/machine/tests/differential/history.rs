//! What happens to a supervisor: generated, written as Erlang terms, and cut down.

use std::fmt;

use crate::machine::policy::{AutoShutdown, Random, Restart};
use crate::machine::strategy::Strategy;

pub(super) type Name = &'static str;

/// Enough for five children and some more that are added later.
const NAMES: [Name; 7] = ["a", "b", "c", "d", "e", "f", "g"];
const CHILDREN_MAX: usize = 5;
pub(super) const OPERATIONS_MIN: usize = 5;
pub(super) const OPERATIONS_MAX: usize = 25;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Spec {
    pub(super) name: Name,
    pub(super) restart: Restart,
    pub(super) significant: bool,
    /// Answers a stop with an error.
    pub(super) rude: bool,
}

/// Why a child ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reason {
    Normal,
    /// Two more reasons that OTP takes as a good end.
    Shutdown,
    ShutdownWith,
    Boom,
    Kill,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// These end, in this order, before the supervisor has heard of the first.
    Exits(Vec<(Name, Reason)>),
    Terminate(Name),
    Restart(Name),
    Delete(Name),
    /// Terminate and delete.
    Remove(Name),
    /// Terminate and restart.
    Bounce(Name),
    Start(Spec),
    /// Of the supervisor.
    Stop,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct History {
    pub(super) strategy: Strategy,
    /// Restarts that are allowed within an hour.
    pub(super) intensity: Option<u32>,
    pub(super) auto_shutdown: AutoShutdown,
    pub(super) children: Vec<Spec>,
    pub(super) operations: Vec<Operation>,
    /// The machine hears of ends at the same time one after the other, without what the first led
    /// to in between.
    pub(super) at_once: bool,
}

/// Draws from a deterministic generator.
#[derive(Debug)]
pub(super) struct Draw(Random);

impl Draw {
    pub(super) fn new(seed: u64) -> Draw {
        Draw(Random::new(seed))
    }

    fn below(&mut self, n: usize) -> usize {
        (self.0.next() * n as f64) as usize
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these, each as often as its weight says.
    fn weighted<T: Copy>(&mut self, choices: &[(usize, T)]) -> T {
        let mut left = self.below(choices.iter().map(|c| c.0).sum());
        for &(weight, choice) in choices {
            if left < weight {
                return choice;
            }
            left -= weight;
        }
        unreachable!("the draw is below the sum of all weights")
    }

    pub(super) fn history(&mut self) -> History {
        let strategy = [
            Strategy::OneForOne,
            Strategy::OneForAll,
            Strategy::RestForOne,
        ][self.below(3)];
        let auto_shutdown = self.weighted(&[
            (50, AutoShutdown::Never),
            (20, AutoShutdown::AnySignificant),
            (30, AutoShutdown::AllSignificant),
        ]);
        let few = self.below(8) as u32;
        let intensity = self.chance(60).then_some(few);
        let count = 1 + self.below(CHILDREN_MAX);
        let mut children: Vec<Spec> = NAMES[..count].iter().map(|n| self.spec(n)).collect();
        for child in &mut children {
            // A supervisor that starts with a bad spec doesn't start.
            child.significant &=
                auto_shutdown != AutoShutdown::Never && child.restart != Restart::Always;
        }
        let length = OPERATIONS_MIN + self.below(OPERATIONS_MAX - OPERATIONS_MIN);
        let mut operations: Vec<Operation> = (1..length)
            .map(|_| self.operation(count, strategy))
            .collect();
        operations.push(Operation::Stop);
        History {
            strategy,
            intensity,
            auto_shutdown,
            children,
            operations,
            at_once: self.chance(50),
        }
    }

    fn spec(&mut self, name: Name) -> Spec {
        Spec {
            name,
            restart: self.weighted(&[
                (40, Restart::Always),
                (35, Restart::OnFailure),
                (25, Restart::Never),
            ]),
            significant: self.chance(35),
            rude: self.chance(20),
        }
    }

    fn operation(&mut self, children: usize, strategy: Strategy) -> Operation {
        // Mostly one of the first children; now and then one that came later, or nobody.
        let name = if self.chance(85) {
            NAMES[self.below(children)]
        } else {
            NAMES[self.below(NAMES.len())]
        };
        match self.below(100) {
            0..48 => self.exits(name, children),
            48..60 => Operation::Terminate(name),
            60..74 => Operation::Restart(name),
            74..80 => Operation::Delete(name),
            80..85 => Operation::Remove(name),
            // Our restart of a set by hand has no counterpart in OTP.
            85..90 if strategy == Strategy::OneForOne => Operation::Bounce(name),
            _ => {
                let name = NAMES[self.below(NAMES.len())];
                Operation::Start(self.spec(name))
            }
        }
    }

    fn exits(&mut self, first: Name, children: usize) -> Operation {
        let mut exits = vec![(first, self.reason())];
        for _ in 0..self.weighted(&[(55, 0), (25, 1), (20, 2)]) {
            let name = NAMES[self.below(children)];
            if exits.iter().all(|e| e.0 != name) {
                exits.push((name, self.reason()));
            }
        }
        Operation::Exits(exits)
    }

    fn reason(&mut self) -> Reason {
        self.weighted(&[
            (50, Reason::Boom),
            (15, Reason::Kill),
            (25, Reason::Normal),
            (5, Reason::Shutdown),
            (5, Reason::ShutdownWith),
        ])
    }
}

impl History {
    /// Without what comes after the operation of this answer; the first answer is the start.
    pub(super) fn until(&self, answer: usize) -> History {
        let mut shorter = self.clone();
        shorter.operations.truncate(answer);
        shorter
    }

    /// Everything that is smaller by one piece.
    pub(super) fn smaller(&self) -> Vec<History> {
        let mut all = Vec::new();
        for place in 0..self.operations.len() {
            let mut cut = self.clone();
            cut.operations.remove(place);
            all.push(cut);
            if let Operation::Exits(exits) = &self.operations[place] {
                for exit in (0..exits.len()).filter(|_| exits.len() > 1) {
                    let mut cut = self.clone();
                    if let Operation::Exits(exits) = &mut cut.operations[place] {
                        exits.remove(exit);
                    }
                    all.push(cut);
                }
            }
        }
        for place in 0..self.children.len() {
            let mut cut = self.clone();
            cut.children.remove(place);
            all.push(cut);
        }
        all
    }
}

fn restart_type(restart: Restart) -> &'static str {
    match restart {
        Restart::Always => "permanent",
        Restart::OnFailure => "transient",
        Restart::Never => "temporary",
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let restart = restart_type(self.restart);
        write!(
            f,
            "{{{},{restart},{},{}}}",
            self.name, self.significant, self.rude
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Normal => "normal",
            Reason::Shutdown => "shutdown",
            Reason::ShutdownWith => "{shutdown,done}",
            Reason::Boom => "boom",
            Reason::Kill => "kill",
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::Exits(exits) => {
                let exits: Vec<String> =
                    exits.iter().map(|(n, r)| format!("{{{n},{r}}}")).collect();
                write!(f, "{{exits,[{}]}}", exits.join(","))
            }
            Operation::Terminate(name) => write!(f, "{{terminate,{name}}}"),
            Operation::Restart(name) => write!(f, "{{restart,{name}}}"),
            Operation::Delete(name) => write!(f, "{{delete,{name}}}"),
            Operation::Remove(name) => write!(f, "{{remove,{name}}}"),
            Operation::Bounce(name) => write!(f, "{{bounce,{name}}}"),
            Operation::Start(spec) => write!(f, "{{start,{spec}}}"),
            Operation::Stop => f.write_str("stop"),
        }
    }
}

/// As an Erlang term without its number and braces.
impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let strategy = match self.strategy {
            Strategy::OneForOne => "one_for_one",
            Strategy::OneForAll => "one_for_all",
            Strategy::RestForOne => "rest_for_one",
        };
        let intensity = self.intensity.map_or("none".into(), |i| i.to_string());
        let auto_shutdown = match self.auto_shutdown {
            AutoShutdown::Never => "never",
            AutoShutdown::AnySignificant => "any_significant",
            AutoShutdown::AllSignificant => "all_significant",
        };
        let listed = |all: Vec<String>| all.join(",");
        let children = listed(self.children.iter().map(Spec::to_string).collect());
        let operations = listed(self.operations.iter().map(Operation::to_string).collect());
        write!(
            f,
            "{strategy},{intensity},{auto_shutdown},[{children}],[{operations}]"
        )
    }
}
