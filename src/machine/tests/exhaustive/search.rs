//! The search itself: breadth first, every admissible input in every state.

use std::collections::HashSet;
use std::time::Duration;

use super::super::classify::OUTCOMES;
use super::invariants;
use super::key::Key;
use super::monitor::{Live, Monitors, Story};
use super::rest;
use crate::exit::Exit;
use crate::id::ChildId;
use crate::machine::message::{Command, Config, End, Input, Outcome, Policy};
use crate::machine::policy::Restart;
use crate::machine::shutdown::Mode;
use crate::machine::{Machine, Moment};

const STRANGER: ChildId = ChildId(99);
const STEP: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) machine: Machine,
    pub(super) monitors: Monitors,
    /// How it came to be: an index into [`Search::history`].
    past: usize,
}

/// An input at a moment.
pub(super) type Event = (Moment, Input);

struct Search {
    seen: HashSet<Key>,
    history: Vec<(usize, Option<Event>)>,
}

/// How much was searched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// Whether every reachable state was visited, and not only those up to the depth.
    pub(super) closed: bool,
}

/// Visits every state of this machine that is at most `depth` inputs away from its start.
pub(super) fn search(config: Config, policies: &[Policy], depth: usize) -> Extent {
    let mut search = Search {
        seen: HashSet::new(),
        history: vec![(0, None)],
    };
    let mut root = Node {
        machine: Machine::new(config),
        monitors: Monitors::default(),
        past: 0,
    };
    for input in [Input::Added(policies.to_vec()), Input::Started] {
        root.take(Moment::START, input);
    }
    search.seen.insert(Key::of(&root));
    let (mut frontier, mut steps) = (vec![root], 0);
    for _ in 0..depth {
        let mut next = Vec::new();
        for node in &frontier {
            steps += search.expand(node, &mut next);
        }
        frontier = next;
    }
    Extent {
        states: search.seen.len(),
        steps,
        closed: frontier.is_empty(),
    }
}

/// Prints how the machine got into trouble.
struct Trouble<'a>(&'a Search, usize, Option<Event>);

impl Drop for Trouble<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut events: Vec<_> = self.2.iter().collect();
            let mut at = self.1;
            while let (before, Some(event)) = &self.0.history[at] {
                events.push(event);
                at = *before;
            }
            events.iter().rev().for_each(|event| eprintln!("{event:?}"));
        }
    }
}

impl Search {
    fn expand(&mut self, node: &Node, next: &mut Vec<Node>) -> usize {
        {
            let _trouble = Trouble(self, node.past, None);
            invariants::a_stop_comes_to_an_end(node);
            rest::it_comes_to_rest(node);
        }
        let key = Key::of(node);
        for event in node.stale_events() {
            let _trouble = Trouble(self, node.past, Some(event.clone()));
            invariants::changes_nothing(node, &key, event);
        }
        let events = node.events();
        let steps = events.len();
        for (now, input) in events {
            let mut successor = node.clone();
            {
                let _trouble = Trouble(self, node.past, Some((now, input.clone())));
                successor.take(now, input.clone());
                invariants::hold(&successor);
            }
            if self.seen.insert(Key::of(&successor)) {
                successor.past = self.history.len();
                self.history.push((node.past, Some((now, input))));
                next.push(successor);
            }
        }
        steps
    }
}

impl Node {
    /// One step, watched.
    pub(super) fn take(&mut self, now: Moment, input: Input) -> Vec<Command> {
        let mut out = Vec::new();
        self.monitors.given(&input, &self.machine);
        self.machine.step(now, input.clone(), &mut out);
        for command in &out {
            self.monitors.said(&input, command);
        }
        self.monitors.done(&input);
        self.give_licences(&out);
        self.machine.changed.clear();
        out
    }

    /// As the driver does when it has carried out everything else.
    fn give_licences(&mut self, out: &[Command]) {
        for command in out {
            let Command::Start { id, incarnation } = command else {
                continue;
            };
            if self.machine.needs_no_decision(*id) {
                let service = self.monitors.services.get_mut(id);
                let live = service.and_then(|service| service.find(*incarnation));
                live.into_iter().for_each(|live| live.licensed = true);
            }
        }
    }

    /// One step that nobody has to make sense of.
    pub(super) fn take_unwatched(&mut self, now: Moment, input: Input) -> Vec<Command> {
        let mut out = Vec::new();
        self.machine.step(now, input, &mut out);
        out
    }

    /// Nothing else is due: a supervisor that was asked to stop does so at its own deadline.
    pub(super) fn a_supervisor_leaves_its_threads_behind(&mut self) {
        let asked = self.monitors.services.iter().find_map(|(id, service)| {
            let live = service.live.iter().find(|l| l.story == Story::Asked)?;
            Some((*id, live.incarnation))
        });
        let (id, incarnation) = asked.expect("somebody to wait for");
        let outcome = Outcome::Ok;
        let end = Input::Ended {
            id,
            incarnation,
            end: End {
                outcome,
                fatal: false,
                discarded: false,
                stragglers: true,
            },
        };
        self.take(self.now(), end);
    }

    fn now(&self) -> Moment {
        self.machine.now
    }

    /// Everything that can happen next.
    fn events(&self) -> Vec<Event> {
        let now = self.now();
        let mut events = Vec::new();
        for (&id, child) in &self.machine.children {
            let service = &self.monitors.services[&id];
            let mut at_once = |input| events.push((now, input));
            requests(id).into_iter().for_each(&mut at_once);
            if service.dropping {
                at_once(Input::Discarded(id));
            }
            for live in &service.live {
                ends(id, live, &child.policy)
                    .into_iter()
                    .for_each(&mut at_once);
                if live.licensed && !live.said_ready {
                    at_once(renewed(id, live.incarnation + 1));
                }
                if may_fail_below(&child.policy) && live.story == Story::Started {
                    let incarnation = live.incarnation;
                    at_once(Input::BelowFailed { id, incarnation });
                }
            }
            if let Some(live) = service.live.last() {
                let id_and = (id, live.incarnation);
                provisions(id_and, &child.policy)
                    .into_iter()
                    .for_each(&mut at_once);
            }
            if let Some(Live {
                incarnation,
                story: Story::Started,
                said_ready: false,
                ..
            }) = service.live.last()
            {
                at_once(Input::SaidReady {
                    id,
                    incarnation: *incarnation,
                });
            }
        }
        events.push((
            now,
            Input::ShutdownRequested {
                deadline: Moment::NEVER,
            },
        ));
        events.push((
            now,
            Input::ShutdownRequested {
                deadline: now.plus(STEP),
            },
        ));
        // Once beside old threads; more would go on for ever.
        let mut live = self.monitors.services.values().flat_map(|m| &m.live);
        if self.machine.mode == Mode::Ended && live.all(|l| !l.superseded) {
            events.push((now, Input::Started));
        }
        let later = now.plus(STEP);
        events.push((
            self.machine.deadline().map_or(later, |at| at.min(later)),
            Input::Ticked,
        ));
        events
    }

    /// What comes too late, twice, too early or for somebody else.
    fn stale_events(&self) -> Vec<Event> {
        let now = self.now();
        let mut inputs = vec![
            Input::Ticked,
            Input::SaidReady {
                id: STRANGER,
                incarnation: 1,
            },
        ];
        inputs.extend(requests(STRANGER));
        inputs.push(Input::Discarded(STRANGER));
        inputs.push(ended(STRANGER, 1, Outcome::Error));
        inputs.push(renewed(STRANGER, 1));
        for (&id, child) in &self.machine.children {
            let service = &self.monitors.services[&id];
            // An end is reported exactly once; a second one can't come before the threads that
            // were left behind are cleared.
            let runs = |n| service.live.iter().any(|l| l.incarnation == n);
            for incarnation in child.incarnation.saturating_sub(2)..child.incarnation + 2 {
                if incarnation <= child.incarnation {
                    inputs.push(renewed(id, incarnation));
                }
                if !runs(incarnation) {
                    inputs.extend(provisions((id, incarnation), &child.policy));
                    inputs.push(ended(id, incarnation, Outcome::Panic));
                    inputs.push(Input::SaidReady { id, incarnation });
                }
                if service.live.iter().all(|l| l.incarnation != incarnation) {
                    inputs.push(Input::Cleared { id, incarnation });
                }
            }
            if !service.dropping {
                inputs.push(Input::Discarded(id));
            }
        }
        inputs.into_iter().map(|input| (now, input)).collect()
    }
}

fn requests(id: ChildId) -> [Input; 4] {
    [
        Input::StopRequested(id),
        Input::StartRequested(id),
        Input::RestartRequested(id),
        Input::RemovalRequested(id),
    ]
}

fn ended(id: ChildId, incarnation: u64, outcome: Outcome) -> Input {
    Input::Ended {
        id,
        incarnation,
        end: End {
            outcome,
            fatal: false,
            discarded: false,
            stragglers: false,
        },
    }
}

fn renewed(id: ChildId, incarnation: u64) -> Input {
    Input::Renewed {
        id,
        incarnation,
        since: Moment::START,
        failures: 1,
        panics: 1,
    }
}

fn provisions((id, incarnation): (ChildId, u64), policy: &Policy) -> Vec<Input> {
    let links = policy.links.iter();
    let keys = links.flat_map(|links| &links.provides);
    keys.map(|key| Input::Provided {
        id,
        incarnation,
        keys: vec![key.name],
    })
    .collect()
}

/// Where others depend on it, it makes a difference in which order they are asked then.
fn may_fail_below(policy: &Policy) -> bool {
    policy.stop_timeout.is_none() && policy.links.is_some()
}

/// Every way in which an incarnation can end.
fn ends(id: ChildId, live: &Live, policy: &Policy) -> Vec<Input> {
    let incarnation = live.incarnation;
    if live.left {
        return vec![Input::Cleared { id, incarnation }];
    }
    let is_supervisor = policy.stop_timeout.is_none();
    let never = policy.restart == Restart::Never;
    let mut inputs = Vec::new();
    let fatal = Input::Ended {
        id,
        incarnation,
        end: End {
            outcome: Outcome::Error,
            fatal: true,
            discarded: false,
            stragglers: false,
        },
    };
    inputs.push(fatal);
    for outcome in OUTCOMES {
        // Where it makes a difference to `Missing`.
        if outcome == Outcome::NoInput && (policy.links.is_none() || !never) {
            continue;
        }
        let once = never && outcome != Outcome::Exit(Exit::Missing);
        let leaves = once || outcome == Outcome::Exit(Exit::Uninstall);
        let drops = leaves && outcome != Outcome::Exit(Exit::TerminateTree);
        let may_drop = outcome != Outcome::NoInput
            && (live.discards || (live.story == Story::Started && drops));
        for (discarded, stragglers) in [(false, false), (true, false), (false, true)] {
            let fits = (!discarded || may_drop) && (!stragglers || is_supervisor);
            if fits {
                inputs.push(Input::Ended {
                    id,
                    incarnation,
                    end: End {
                        outcome,
                        fatal: false,
                        discarded,
                        stragglers,
                    },
                });
            }
        }
    }
    inputs
}
