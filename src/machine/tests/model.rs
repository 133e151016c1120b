//! Long random histories against a naive model: who should be up, from the whole list of failures
//! and nothing that is kept along the way. About half a second.

use std::time::Duration;

use proptest::prelude::*;

use super::harness::{World, config, millis, policy, secs};
use crate::exit::Exit;
use crate::machine::message::{Config, Outcome, Policy};
use crate::machine::policy::{Backoff, Exceeded, Limit};
use crate::report::State;

const NAMES: [&str; 3] = ["a", "b", "c"];
const PAUSE: Duration = secs(5);
const THRESHOLD: f64 = 2.0;
const HALF_LIFE: Duration = secs(10);
const WINDOW: (usize, Duration) = (2, secs(5));
const BUDGET: (usize, usize) = (3, 1);
const FIRST: Duration = secs(1);
const LONGEST: Duration = secs(5);
const RESET_AFTER: Duration = secs(7);

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Decay,
    Window,
    Budget,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Ends(usize, Outcome),
    Stop(usize),
    Start(usize),
    Restart(usize),
    Wait(Duration),
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Doing {
    Up { since: Duration },
    Delayed { until: Duration },
    Held { not_before: Duration },
    Down,
}

#[derive(Debug)]
struct Model {
    kind: Kind,
    now: Duration,
    paused_until: Option<Duration>,
    /// All failures since the count was last zero; whether they were panics.
    failures: Vec<(Duration, bool)>,
    services: [(Doing, u64, i32); 3],
}

impl Model {
    fn new(kind: Kind) -> Model {
        let up = Doing::Up {
            since: Duration::ZERO,
        };
        Model {
            kind,
            now: Duration::ZERO,
            paused_until: None,
            failures: Vec::new(),
            services: [(up, 1, 0); 3],
        }
    }

    fn start(&mut self, who: usize) {
        self.services[who].0 = Doing::Up { since: self.now };
        self.services[who].1 += 1;
    }

    fn start_at(&mut self, who: usize, not_before: Duration) {
        if self.paused_until.is_some() {
            self.services[who].0 = Doing::Held { not_before };
        } else if not_before > self.now {
            self.services[who].0 = Doing::Delayed { until: not_before };
        } else {
            self.start(who);
        }
    }

    /// The count from the whole history, and whether that is too many.
    fn count(&self) -> (f64, bool) {
        let last_was_panic = self.failures.last().is_some_and(|f| f.1);
        match self.kind {
            Kind::Decay => {
                let ages = self.failures.iter().map(|f| (self.now - f.0).as_secs_f64());
                let count: f64 = ages
                    .map(|age| 0.5f64.powf(age / HALF_LIFE.as_secs_f64()))
                    .sum();
                (count, count > THRESHOLD)
            }
            Kind::Window => {
                let young = self
                    .failures
                    .iter()
                    .filter(|f| self.now - f.0 <= WINDOW.1)
                    .count();
                (young.min(WINDOW.0 + 1) as f64, young > WINDOW.0)
            }
            Kind::Budget => {
                let same = self
                    .failures
                    .iter()
                    .filter(|f| f.1 == last_was_panic)
                    .count();
                let max = if last_was_panic { BUDGET.1 } else { BUDGET.0 };
                (same as f64, same > max)
            }
        }
    }

    /// The count after it, if it failed.
    fn ends(&mut self, who: usize, outcome: Outcome) -> Option<f64> {
        let Doing::Up { since } = self.services[who].0 else {
            return None;
        };
        if outcome == Outcome::Exit(Exit::DoNotRestart) {
            self.services[who] = (Doing::Down, self.services[who].1, 0);
            return None;
        }
        if outcome == Outcome::Exit(Exit::Bounce) {
            self.start_at(who, self.now + FIRST);
            return None;
        }
        if self.now - since >= RESET_AFTER {
            self.services[who].2 = 0;
            if self.kind == Kind::Budget {
                self.failures.clear();
            }
        }
        self.failures.push((self.now, outcome == Outcome::Panic));
        let (count, too_many) = self.count();
        let not_before =
            self.now + (FIRST * 2u32.pow(self.services[who].2.min(9) as u32)).min(LONGEST);
        self.services[who].2 += 1;
        match self.kind {
            Kind::Decay => {
                if too_many && self.paused_until.is_none() {
                    self.paused_until = Some(self.now + PAUSE);
                }
                self.start_at(who, not_before);
            }
            Kind::Window | Kind::Budget if too_many => self.services[who].0 = Doing::Down,
            Kind::Window | Kind::Budget => self.start_at(who, not_before),
        }
        Some(count)
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.next().filter(|at| *at <= end) {
            self.now = next;
            if self.paused_until == Some(next) {
                self.paused_until = None;
                self.failures.clear();
                for who in 0..3 {
                    if let Doing::Held { not_before } = self.services[who].0 {
                        self.start_at(who, not_before);
                    }
                }
            }
            for who in 0..3 {
                if self.services[who].0 == (Doing::Delayed { until: next }) {
                    self.start_at(who, next);
                }
            }
        }
        self.now = end;
    }

    fn next(&self) -> Option<Duration> {
        let delays = self.services.iter().filter_map(|s| match s.0 {
            Doing::Delayed { until } => Some(until),
            Doing::Up { .. } | Doing::Held { .. } | Doing::Down => None,
        });
        delays.chain(self.paused_until).min()
    }

    fn apply(&mut self, op: Op) -> Option<f64> {
        match op {
            Op::Ends(who, outcome) => return self.ends(who, outcome),
            Op::Stop(who) => self.services[who].0 = Doing::Down,
            Op::Start(who) => {
                if !matches!(self.services[who].0, Doing::Up { .. }) {
                    self.start(who);
                }
            }
            Op::Restart(who) => self.start(who),
            Op::Wait(time) => self.wait(time),
        }
        None
    }
}

fn apply(w: &mut World, op: Op) -> Option<f64> {
    let before = w.failures().len();
    match op {
        Op::Ends(who, outcome) if w.view(NAMES[who]).state == State::Running => {
            w.ends(NAMES[who], outcome)
        }
        Op::Ends(..) => {}
        Op::Stop(who) => w.stop_service(NAMES[who]),
        Op::Start(who) => w.start_service(NAMES[who]),
        Op::Restart(who) => w.restart_service(NAMES[who]),
        Op::Wait(time) => w.at(w.now() + time),
    }
    let failed = w.failures().split_off(before);
    assert!(failed.len() <= 1);
    failed.last().map(|f| f.count)
}

fn world(kind: Kind) -> World {
    let limit = match kind {
        Kind::Decay => Limit::decay(THRESHOLD, HALF_LIFE).then(Exceeded::Pause {
            time: PAUSE,
            jitter: 0.0,
        }),
        Kind::Window => Limit::window(WINDOW.0 as u32, WINDOW.1).then(Exceeded::StopService),
        Kind::Budget => Limit::budget(BUDGET.0 as u32, BUDGET.1 as u32).then(Exceeded::StopService),
    };
    let backoff = Backoff::exponential(FIRST, LONGEST)
        .jitter(0.0)
        .reset_after(RESET_AFTER);
    let services = NAMES.map(|name| {
        (
            name,
            Policy {
                backoff,
                ..policy()
            },
        )
    });
    World::running(Config { limit, ..config() }, &services)
}

fn check(w: &World, model: &Model) {
    for (name, (doing, incarnation, _)) in NAMES.into_iter().zip(model.services) {
        let view = w.view(name);
        assert_eq!(view.incarnation, incarnation, "{name}");
        match doing {
            Doing::Up { .. } => assert_eq!(view.state, State::Running),
            Doing::Delayed { until } => {
                assert_eq!(view.state, State::Backoff);
                assert_eq!(view.next_start.map(|at| at.since_start()), Some(until));
            }
            Doing::Held { .. } => assert_eq!(view.state, State::Paused),
            Doing::Down => {
                assert!(
                    matches!(view.state, State::Stopped | State::Done | State::GivenUp),
                    "{view:?}"
                );
            }
        }
    }
    assert_eq!(w.machine.is_paused(), model.paused_until.is_some());
    assert_eq!(w.deadline(), model.next());
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        5 => Just(Outcome::Error),
        3 => Just(Outcome::Panic),
        1 => Just(Outcome::Ok),
        1 => Just(Outcome::NoThread),
        1 => Just(Outcome::Exit(Exit::Bounce)),
        1 => Just(Outcome::Exit(Exit::DoNotRestart)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3usize, outcome()).prop_map(|(who, outcome)| Op::Ends(who, outcome)),
        8 => (0..24u64).prop_map(|quarters| Op::Wait(millis(250 * quarters))),
        1 => (0..3usize).prop_map(Op::Stop),
        3 => (0..3usize).prop_map(Op::Start),
        1 => (0..3usize).prop_map(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_machine_does_what_the_model_does(
        kind in prop_oneof![Just(Kind::Decay), Just(Kind::Window), Just(Kind::Budget)],
        ops in prop::collection::vec(op(), 1..150),
    ) {
        let (mut w, mut model) = (world(kind), Model::new(kind));
        for op in ops {
            let (said, counted) = (apply(&mut w, op), model.apply(op));
            match (said, counted) {
                (Some(said), Some(counted)) => prop_assert!((said - counted).abs() < 1e-9, "{said} for {counted}"),
                (said, counted) => prop_assert_eq!(said, counted),
            }
            check(&w, &model);
        }
    }
}
