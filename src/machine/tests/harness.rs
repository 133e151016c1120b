//! A world around one machine: virtual time, services that take as long to stop as they are told
//! to, and a log of everything the machine said.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::exit::Exit;
use crate::id::ChildId;
use crate::machine::message::{Command, Config, End, Input, Outcome, Policy, View};
use crate::machine::policy::{
    AutoShutdown, Backoff, DEFAULT_STOP_TIMEOUT, Exceeded, Limit, PanicPolicy, Restart, StopOrder,
};
use crate::machine::strategy::Strategy;
use crate::machine::{Machine, Moment};

pub(super) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(super) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) const HOUR: Duration = secs(3600);

/// The defaults of a supervisor, without a limit.
pub(super) fn config() -> Config {
    Config {
        strategy: Strategy::OneForOne,
        limit: Limit::none(),
        stop_order: StopOrder::Reverse,
        stop_timeout: None,
        auto_shutdown: AutoShutdown::Never,
        services_max: usize::MAX,
        bounce_delay: Duration::ZERO,
        seed: 1,
    }
}

/// A pause of exactly that long.
pub(super) fn pause(time: Duration) -> Exceeded {
    Exceeded::Pause { time, jitter: 0.0 }
}

/// The first failure is too many: 15 s.
pub(super) fn pausing() -> Config {
    Config {
        limit: Limit::window(0, HOUR).then(pause(secs(15))),
        ..config()
    }
}

/// The defaults of a service.
pub(super) fn policy() -> Policy {
    Policy {
        name: "".into(),
        restart: Restart::Always,
        backoff: Backoff::none(),
        panic_backoff: None,
        limit: None,
        stop_timeout: Some(DEFAULT_STOP_TIMEOUT),
        ready_timeout: None,
        group: None,
        significant: false,
        panic_policy: PanicPolicy::Restart,
        overlap_max: 0,
        links: None,
    }
}

/// An end without anything special.
pub(super) fn end(outcome: Outcome) -> End {
    End {
        outcome,
        fatal: false,
        discarded: false,
        stragglers: false,
    }
}

/// How a service behaves once it was asked to stop.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stops {
    After(Duration, Outcome),
    /// It never ends, unless the test says so.
    Hangs,
}

/// An incarnation that runs, asked to stop or not, or abandoned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Live {
    id: ChildId,
    incarnation: u64,
    discards: bool,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) machine: Machine,
    now: Duration,
    names: Vec<&'static str>,
    log: Vec<(Duration, Command)>,
    /// What is to come, in order.
    agenda: BTreeMap<(Duration, usize), Input>,
    planned: usize,
    stops: HashMap<&'static str, Stops>,
    /// Whether the values of removed services are dropped at once.
    pub(super) drops_at_once: bool,
    live: Vec<Live>,
    /// Who provides all it declares at its start.
    pub(super) provides_at_start: bool,
}

impl World {
    /// Not started yet.
    pub(super) fn new(config: Config) -> World {
        World {
            machine: Machine::new(config),
            now: Duration::ZERO,
            names: Vec::new(),
            log: Vec::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            stops: HashMap::new(),
            drops_at_once: true,
            live: Vec::new(),
            provides_at_start: false,
        }
    }

    /// Started, with these services.
    pub(super) fn running(config: Config, services: &[(&'static str, Policy)]) -> World {
        let mut world = World::new(config);
        for (name, policy) in services {
            world.add(name, policy.clone());
        }
        world.input(Input::Started);
        world
    }

    /// Adds a service, if the machine admits it.
    pub(super) fn add(&mut self, name: &'static str, policy: Policy) -> ChildId {
        let id = self.machine.next_id();
        self.add_all(&[(name, policy)]);
        id
    }

    /// Adds services in one step.
    pub(super) fn add_all(&mut self, services: &[(&'static str, Policy)]) {
        let named = services.iter().map(|(name, policy)| Policy {
            name: (*name).into(),
            ..policy.clone()
        });
        let policies: Vec<Policy> = named.collect();
        self.machine
            .admit(policies.iter(), false)
            .expect("the services are admitted");
        self.names.extend(services.iter().map(|(name, _)| name));
        self.input(Input::Added(policies));
    }

    /// The last service of this name.
    pub(super) fn id(&self, name: &str) -> ChildId {
        let place = self
            .names
            .iter()
            .rposition(|n| *n == name)
            .expect("a known name");
        ChildId(place as u64)
    }

    pub(super) fn name(&self, id: ChildId) -> &'static str {
        self.names[id.0 as usize]
    }

    /// How a service takes a request to stop, from now on. Unless said: it ends at once, with `Ok`.
    pub(super) fn stops(&mut self, name: &'static str, how: Stops) {
        self.stops.insert(name, how);
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// Lets time pass up to and including `until`.
    pub(super) fn at(&mut self, until: Duration) {
        while let Some(next) = self.next_moment().filter(|&at| at <= until) {
            self.now = self.now.max(next);
            match self.agenda.first_entry().filter(|e| e.key().0 <= next) {
                Some(entry) => {
                    let input = entry.remove();
                    self.input(input);
                }
                None => self.input(Input::Ticked),
            }
        }
        self.now = self.now.max(until);
    }

    /// Lets time pass until nothing is to come any more.
    pub(super) fn run_out(&mut self) {
        while let Some(next) = self.next_moment() {
            self.at(next);
        }
    }

    pub(super) fn next_moment(&self) -> Option<Duration> {
        let due = self.machine.deadline().map(Moment::since_start);
        let planned = self.agenda.keys().next().map(|key| key.0);
        due.into_iter().chain(planned).min()
    }

    /// Gives the machine an input now, and carries out what it says.
    pub(super) fn input(&mut self, input: Input) {
        if let Input::Ended {
            id,
            incarnation,
            end: End {
                stragglers: false, ..
            },
        }
        | Input::Cleared { id, incarnation } = input
        {
            self.live
                .retain(|l| (l.id, l.incarnation) != (id, incarnation));
        }
        let mut out = Vec::new();
        self.machine.step(Moment::at(self.now), input, &mut out);
        for command in out {
            self.carry_out(&command);
            self.log.push((self.now, command));
        }
    }

    fn carry_out(&mut self, command: &Command) {
        match *command {
            Command::Start { id, incarnation } => {
                self.live.push(Live {
                    id,
                    incarnation,
                    discards: false,
                });
                if self.provides_at_start {
                    let sources = self.machine.sources_of(id);
                    let links = sources.map(|(links, _)| links.clone());
                    let provides = links.unwrap_or_default().provides;
                    let keys = provides.iter().map(|key| key.name).collect();
                    let provided = Input::Provided {
                        id,
                        incarnation,
                        keys,
                    };
                    self.plan(self.now, provided);
                }
            }
            Command::Stop {
                id,
                incarnation,
                discard,
                ..
            } => {
                let live = self
                    .live
                    .iter_mut()
                    .find(|l| (l.id, l.incarnation) == (id, incarnation));
                live.expect("only who runs is asked to stop").discards = discard;
                let how = self.stops.get(self.name(id)).copied();
                match how.unwrap_or(Stops::After(Duration::ZERO, Outcome::Ok)) {
                    Stops::After(time, outcome) => {
                        let end = self.end_of(id, incarnation, outcome, false);
                        self.plan(self.now.saturating_add(time), end);
                    }
                    Stops::Hangs => {}
                }
            }
            Command::Discard { id } if self.drops_at_once => {
                self.plan(self.now, Input::Discarded(id))
            }
            Command::Discard { .. }
            | Command::Hasten { .. }
            | Command::Abandon { .. }
            | Command::Release { .. }
            | Command::Forget { .. }
            | Command::Announce { .. }
            | Command::AnnouncePause(_)
            | Command::AnnounceResume
            | Command::EndedEarly { .. }
            | Command::Blame { .. }
            | Command::Mourn { .. }
            | Command::Candidate { .. }
            | Command::Abort { .. }
            | Command::Finish => {}
        }
    }

    fn plan(&mut self, at: Duration, input: Input) {
        self.agenda.insert((at, self.planned), input);
        self.planned += 1;
    }

    fn end_of(&self, id: ChildId, incarnation: u64, outcome: Outcome, stragglers: bool) -> Input {
        let live = self
            .live
            .iter()
            .find(|l| (l.id, l.incarnation) == (id, incarnation));
        let discarded = live.is_some_and(|l| l.discards) && !stragglers;
        Input::Ended {
            id,
            incarnation,
            end: End {
                outcome,
                fatal: false,
                discarded,
                stragglers,
            },
        }
    }

    /// The oldest incarnation that still runs.
    fn oldest(&self, name: &str) -> (ChildId, u64) {
        let id = self.id(name);
        let live = self.live.iter().find(|l| l.id == id).expect("it runs");
        (id, live.incarnation)
    }

    /// The oldest incarnation that still runs ends now, and what follows at once follows.
    pub(super) fn ends(&mut self, name: &str, outcome: Outcome) {
        let (id, incarnation) = self.oldest(name);
        let end = self.end_of(id, incarnation, outcome, false);
        self.act(end);
    }

    /// The same, but threads of the supervisor below it still run: they are over with [`World::clears`].
    pub(super) fn leaves_threads(&mut self, name: &str, outcome: Outcome) {
        let (id, incarnation) = self.oldest(name);
        let end = self.end_of(id, incarnation, outcome, true);
        self.act(end);
    }

    pub(super) fn clears(&mut self, name: &str) {
        let (id, incarnation) = self.oldest(name);
        self.act(Input::Cleared { id, incarnation });
    }

    /// It ends just so, whatever was said to it.
    pub(super) fn ends_as(&mut self, name: &str, end: End) {
        let (id, incarnation) = self.oldest(name);
        self.act(Input::Ended {
            id,
            incarnation,
            end,
        });
    }

    /// It runs a supervisor below itself.
    pub(super) fn supervises(&mut self, name: &str) {
        let id = self.id(name);
        let incarnation = self.view(name).incarnation;
        self.act(Input::Supervising { id, incarnation });
    }

    /// What runs below it has failed.
    pub(super) fn fails_below(&mut self, name: &str) {
        self.supervises(name);
        let id = self.id(name);
        let incarnation = self.view(name).incarnation;
        self.act(Input::BelowFailed { id, incarnation });
    }

    /// It has failed and started again by itself `times` times up to now, once by a panic; the last time
    /// at `since`.
    pub(super) fn renews(&mut self, name: &str, times: u32, since: Duration) {
        let (id, incarnation) = self.oldest(name);
        let last = incarnation + u64::from(times);
        let live = self.live.iter_mut();
        live.filter(|l| (l.id, l.incarnation) == (id, incarnation))
            .for_each(|l| l.incarnation = last);
        self.act(Input::Renewed {
            id,
            incarnation: last,
            since: Moment::at(since),
            failures: times,
            panics: 1,
        });
    }

    pub(super) fn fails(&mut self, name: &str) {
        self.ends(name, Outcome::Error);
    }

    pub(super) fn exits(&mut self, name: &str, exit: Exit) {
        self.ends(name, Outcome::Exit(exit));
    }

    pub(super) fn says_ready(&mut self, name: &str) {
        let id = self.id(name);
        let incarnation = self.view(name).incarnation;
        self.act(Input::SaidReady { id, incarnation });
    }

    pub(super) fn provides(&mut self, name: &str, key: &'static str) {
        let id = self.id(name);
        let incarnation = self.view(name).incarnation;
        self.act(Input::Provided {
            id,
            incarnation,
            keys: vec![key],
        });
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.act(Input::RemovalRequested(self.id(name)));
    }

    pub(super) fn stop_service(&mut self, name: &str) {
        self.act(Input::StopRequested(self.id(name)));
    }

    pub(super) fn start_service(&mut self, name: &str) {
        self.act(Input::StartRequested(self.id(name)));
    }

    pub(super) fn restart_service(&mut self, name: &str) {
        self.act(Input::RestartRequested(self.id(name)));
    }

    /// The whole supervisor is told to stop, without a deadline of its parent.
    pub(super) fn shutdown(&mut self) {
        self.act(Input::ShutdownRequested {
            deadline: Moment::NEVER,
        });
    }

    /// An input, and all that follows at this moment.
    pub(super) fn act(&mut self, input: Input) {
        self.input(input);
        self.at(self.now);
    }

    pub(super) fn view(&self, name: &str) -> View {
        self.machine
            .view(self.id(name))
            .expect("a service that is there")
    }

    pub(super) fn is_there(&self, name: &str) -> bool {
        self.machine.knows(self.id(name))
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        self.machine.deadline().map(Moment::since_start)
    }

    /// Everything the machine said, with its time.
    pub(super) fn log(&self) -> &[(Duration, Command)] {
        &self.log
    }

    /// Forgets what was said so far.
    pub(super) fn clear_log(&mut self) {
        self.log.clear();
    }
}
