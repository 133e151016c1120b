//! Random graphs of fifty services with random failures, bounces, changes, removals and additions:
//! nobody runs without what it needs, it all comes to rest, and everybody whose needs can be met runs then.
//!
//! The bound on starts, where services only need each other: each change starts the service that it is
//! about, and everybody who takes something from it at any distance, once at the most. So there are
//! never more starts than services were added plus the sum, over all changes, of one plus the number of
//! such services.

use std::collections::{BTreeSet, HashSet};
use std::sync::OnceLock;

use proptest::prelude::*;

use super::exhaustive::keys::hold;
use super::graph::linked;
use super::harness::{Stops, World, config, millis, policy};
use crate::exit::Exit;
use crate::machine::message::{Command, Config, Input, Outcome, Policy};
use crate::machine::policy::StopOrder;
use crate::report::State;

const SERVICES: usize = 50;
/// More commands than this, without a further change, are a graph that doesn't come to rest.
const COMMANDS_MAX: usize = 20_000;

fn names() -> &'static [(&'static str, &'static str)] {
    static NAMES: OnceLock<Vec<(&'static str, &'static str)>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let leak = |text: String| &*Box::leak(text.into_boxed_str());
        (0..SERVICES)
            .map(|n| (leak(format!("s{n}")), leak(format!("k{n}"))))
            .collect()
    })
}

/// What each service takes: from which of those with a lower number, needed or only wanted.
#[derive(Clone, Debug)]
struct Shape {
    takes: Vec<Vec<(usize, bool)>>,
    /// In which order they are added.
    order: Vec<usize>,
    stops: Vec<u64>,
    parallel: bool,
}

#[derive(Clone, Copy, Debug)]
enum Change {
    Fails,
    Bounces,
    ProvidesAgain,
    Restart,
    StopAndStart,
    RemoveAndAdd,
    Passes(u64),
}

fn shape(wants: bool) -> impl Strategy<Value = Shape> {
    let inputs = prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..4);
    let takes = prop::collection::vec(inputs, SERVICES);
    let order = Just((0..SERVICES).collect::<Vec<_>>()).prop_shuffle();
    let stops = prop::collection::vec(0_u64..3_000, SERVICES);
    (takes, order, stops, any::<bool>()).prop_map(move |(takes, order, stops, parallel)| {
        let below = |n: usize, inputs: Vec<(prop::sample::Index, bool)>| {
            if n == 0 {
                return Vec::new();
            }
            let taken = inputs
                .iter()
                .map(|(i, needs)| (i.index(n), *needs || !wants));
            taken.collect()
        };
        Shape {
            takes: takes
                .into_iter()
                .enumerate()
                .map(|(n, i)| below(n, i))
                .collect(),
            order,
            stops,
            parallel,
        }
    })
}

fn changes() -> impl Strategy<Value = Vec<(usize, Change)>> {
    let change = prop_oneof![
        Just(Change::Fails),
        Just(Change::Bounces),
        Just(Change::ProvidesAgain),
        Just(Change::Restart),
        Just(Change::StopAndStart),
        Just(Change::RemoveAndAdd),
        (0_u64..4_000).prop_map(Change::Passes),
    ];
    prop::collection::vec((0..SERVICES, change), 1..40)
}

impl Shape {
    fn policy(&self, n: usize) -> Policy {
        let keys = names();
        let with = |needed| -> Vec<&'static str> {
            let taken = self.takes[n].iter().filter(|(_, needs)| *needs == needed);
            let unique: BTreeSet<usize> = taken.map(|(other, _)| *other).collect();
            unique.into_iter().map(|other| keys[other].1).collect()
        };
        let needs = with(true);
        let mut wants = with(false);
        wants.retain(|key| !needs.contains(key));
        linked(policy(), &[keys[n].1], &needs, &wants)
    }

    /// Everybody who takes something from a service, at any distance.
    fn takers(&self, n: usize) -> HashSet<usize> {
        let mut takers = HashSet::new();
        let mut next = vec![n];
        while let Some(provider) = next.pop() {
            for (taker, inputs) in self.takes.iter().enumerate() {
                if inputs.iter().any(|(i, _)| *i == provider) && takers.insert(taker) {
                    next.push(taker);
                }
            }
        }
        takers
    }
}

struct Story<'a> {
    shape: &'a Shape,
    world: World,
    bound: usize,
}

impl Story<'_> {
    fn new(shape: &Shape) -> Story<'_> {
        let order = if shape.parallel {
            StopOrder::Parallel
        } else {
            StopOrder::Reverse
        };
        let mut world = World::new(Config {
            stop_order: order,
            ..config()
        });
        world.provides_at_start = true;
        for (n, time) in shape.stops.iter().enumerate() {
            world.stops(names()[n].0, Stops::After(millis(*time), Outcome::Ok));
        }
        world.act(Input::Started);
        let mut story = Story {
            shape,
            world,
            bound: 0,
        };
        for &n in &shape.order {
            story.add(n);
        }
        story
    }

    fn add(&mut self, n: usize) {
        self.world.add(names()[n].0, self.shape.policy(n));
        self.world.at(self.world.now());
        self.counts(n);
    }

    /// A change of this service.
    fn counts(&mut self, n: usize) {
        self.bound += 1 + self.shape.takers(n).len();
    }

    fn change(&mut self, n: usize, change: Change) {
        let name = names()[n].0;
        let runs = matches!(self.world.view(name).state, State::Running | State::Ready);
        match change {
            Change::Passes(time) => self.world.at(self.world.now() + millis(time)),
            Change::Fails if runs => self.world.fails(name),
            Change::Bounces if runs => self.world.exits(name, Exit::Bounce),
            Change::ProvidesAgain if runs => self.world.provides(name, names()[n].1),
            Change::Fails | Change::Bounces | Change::ProvidesAgain => return,
            Change::Restart => self.world.restart_service(name),
            Change::StopAndStart => {
                self.world.stop_service(name);
                self.world.at(self.world.now() + millis(500));
                self.world.start_service(name);
                self.counts(n);
            }
            Change::RemoveAndAdd => {
                self.world.remove(name);
                self.settle();
                self.add(n);
                self.counts(n);
            }
        }
        if !matches!(change, Change::Passes(_)) {
            self.counts(n);
        }
        hold(&self.world.machine);
    }

    /// Until nothing happens any more.
    fn settle(&mut self) {
        let before = self.world.log().len();
        while let Some(at) = self.world.next_moment() {
            self.world.at(at);
            hold(&self.world.machine);
            let said = self.world.log().len() - before;
            assert!(said < COMMANDS_MAX, "it doesn't come to rest");
        }
    }

    fn starts(&self) -> usize {
        let log = self.world.log().iter();
        log.filter(|(_, c)| matches!(c, Command::Start { .. }))
            .count()
    }
}

/// Answers how many starts there were, and how many the changes require at the most.
fn tell(shape: &Shape, changes: &[(usize, Change)]) -> (usize, usize) {
    let mut story = Story::new(shape);
    story.settle();
    for &(n, change) in changes {
        story.change(n, change);
    }
    story.settle();
    for n in 0..SERVICES {
        let state = story.world.view(names()[n].0).state;
        assert_eq!(state, State::Ready, "{} of {shape:?}", names()[n].0);
    }
    story.world.shutdown();
    story.settle();
    assert!(story.world.over().is_some());
    (story.starts(), story.bound)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn services_that_need_each_other_start_no_more_than_changes_require(
        shape in shape(false),
        changes in changes(),
    ) {
        let (starts, bound) = tell(&shape, &changes);
        prop_assert!(starts <= bound, "{starts} starts, and no more than {bound} are required");
    }

    #[test]
    fn services_that_want_each_other_come_to_rest(shape in shape(true), changes in changes()) {
        tell(&shape, &changes);
    }
}
