//! Who provides, needs and wants what: edges between services by key.
//!
//! A value has a version; none is there at version zero. Each service remembers with which versions
//! its last incarnation was started. So whether it has to start anew is a comparison: it is *stale* if
//! an input has another version now. Whoever runs with a value (its version isn't zero) *uses* it,
//! and is stopped before the provider is.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::Machine;
use super::child::{Child, Phase, Readiness, Rest};
use super::message::{Command, Note};
use super::shutdown::Mode;
use super::time::Moment;
use crate::id::ChildId;
use crate::key::{KeyDecl, Links};

/// Which value of a key it is; zero is none. Never used twice in one machine.
pub(crate) type Version = u64;

/// A service's place in the order of starting; the order of stopping is the reverse. The order of
/// adding, but a service that needs or wants something comes after who provides it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Rank {
    pub(crate) place: u64,
    pub(crate) id: ChildId,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) keys: HashMap<&'static str, Node>,
    versions_made: Version,
    /// Keys whose dependents are to be looked after when this step's input has been dealt with.
    pub(super) moved: Vec<&'static str>,
    /// The same when the pause is over, since a pause begins no stop for a restart.
    pub(super) deferred: BTreeSet<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    decl: KeyDecl,
    provider: Option<ChildId>,
    pub(super) version: Version,
    /// Who needs or wants it.
    dependents: BTreeSet<ChildId>,
}

impl Graph {
    /// What a key was declared as, and who has something to do with it.
    pub(super) fn declared(&self, key: &str) -> Option<(KeyDecl, ChildId)> {
        let node = self.keys.get(key)?;
        let by = node.provider.or_else(|| node.dependents.first().copied())?;
        Some((node.decl, by))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn insert(&mut self, id: ChildId, links: &Links) {
        for key in &links.provides {
            self.node(*key).provider = Some(id);
        }
        for key in links.inputs() {
            self.node(*key).dependents.insert(id);
        }
    }

    fn node(&mut self, decl: KeyDecl) -> &mut Node {
        self.keys.entry(decl.name).or_insert_with(|| Node {
            decl,
            provider: None,
            version: 0,
            dependents: BTreeSet::new(),
        })
    }

    pub(super) fn remove(&mut self, id: ChildId, links: &Links) {
        for key in links.provides.iter().chain(links.inputs()) {
            let Some(node) = self.keys.get_mut(key.name) else {
                continue;
            };
            if node.provider == Some(id) {
                node.provider = None;
            }
            node.dependents.remove(&id);
            if node.provider.is_none() && node.dependents.is_empty() {
                self.keys.remove(key.name);
            }
        }
    }

    /// Whether somebody needs or wants it.
    pub(super) fn is_taken(&self, key: &str) -> bool {
        let node = self.keys.get(key);
        node.is_some_and(|node| !node.dependents.is_empty())
    }

    pub(super) fn provider(&self, key: &str) -> Option<ChildId> {
        self.keys.get(key)?.provider
    }

    pub(super) fn version(&self, key: &str) -> Version {
        self.keys.get(key).map_or(0, |node| node.version)
    }

    /// The supervisor stops, or begins anew: nothing is left to be looked after.
    pub(super) fn settle(&mut self) {
        self.moved.clear();
        self.deferred.clear();
    }
}

impl Child {
    pub(super) fn links(&self) -> Option<&Links> {
        self.policy.links.as_deref()
    }

    fn provides(&self) -> &[KeyDecl] {
        self.links().map_or(&[], |links| &links.provides)
    }

    pub(super) fn inputs(&self) -> impl Iterator<Item = &KeyDecl> {
        self.links().into_iter().flat_map(Links::inputs)
    }

    /// Whether the last incarnation was started with a value of that key.
    fn uses(&self, key: &str) -> bool {
        let mut inputs = self.inputs().zip(&self.seen);
        inputs.any(|(input, version)| input.name == key && *version != 0)
    }
}

impl Machine {
    /// The value of a key, if somebody may be started with it now.
    fn available(&self, key: &str) -> Version {
        let Some(node) = self.graph.keys.get(key) else {
            return 0;
        };
        let provider = node.provider.and_then(|id| self.children.get(&id));
        // In a wave it is about to be stopped.
        let stays =
            provider.is_some_and(|p| matches!(p.phase, Phase::Running(_)) && p.wave.is_none());
        if stays { node.version } else { 0 }
    }

    /// What a service declares that was started last, and who provides each of its inputs, if it was
    /// started with a value.
    pub(crate) fn sources_of(&self, id: ChildId) -> Option<(&Links, Vec<Option<ChildId>>)> {
        let child = self.children.get(&id)?;
        let sources = child.inputs().zip(&child.seen).map(|(key, version)| {
            let provider = self.graph.provider(key.name);
            provider.filter(|_| *version != 0)
        });
        Some((child.links()?, sources.collect()))
    }

    /// Whether everything it needs is there.
    pub(super) fn is_supplied(&self, id: ChildId) -> bool {
        let links = self.children.get(&id).and_then(|c| c.links());
        links.is_none_or(|links| links.needs.iter().all(|key| self.available(key.name) != 0))
    }

    /// Whether an input has changed since its last start.
    pub(super) fn is_stale(&self, id: ChildId) -> bool {
        let Some(child) = self.children.get(&id) else {
            return false;
        };
        let mut inputs = child.inputs().zip(&child.seen);
        inputs.any(|(key, seen)| self.available(key.name) != *seen)
    }

    /// Who uses what a service provides, and by which key.
    pub(super) fn users_of(&self, id: ChildId) -> impl Iterator<Item = (ChildId, &'static str)> {
        let provides = self.children.get(&id).map_or(&[][..], |c| c.provides());
        provides.iter().flat_map(move |key| {
            let node = self.graph.keys.get(key.name);
            let dependents = node.into_iter().flat_map(|node| &node.dependents);
            dependents.filter_map(move |&user| {
                let uses = self.children.get(&user)?.uses(key.name);
                uses.then_some((user, key.name))
            })
        })
    }

    /// Whether an incarnation of somebody uses what a service provides.
    pub(super) fn is_in_use(&self, id: ChildId) -> bool {
        self.users_of(id).any(|(user, _)| {
            let user = self.children.get(&user);
            user.is_some_and(|user| user.phase.is_running())
        })
    }

    /// Who provides what a service takes.
    pub(super) fn providers_of(&self, id: ChildId) -> impl Iterator<Item = ChildId> {
        let child = self.children.get(&id);
        let inputs = child.into_iter().flat_map(|c| c.inputs());
        inputs.filter_map(|key| self.graph.provider(key.name))
    }

    /// Before a start. False: it has to wait for what it needs.
    pub(super) fn take_inputs(&mut self, id: ChildId, out: &mut Vec<Command>) -> bool {
        let Some(child) = self.children.get(&id) else {
            return false;
        };
        if child.links().is_none() {
            return true;
        }
        if !self.is_supplied(id) {
            self.block(id, out);
            return false;
        }
        let seen = child.inputs().map(|key| self.available(key.name)).collect();
        if let Some(child) = self.children.get_mut(&id) {
            child.seen = seen;
        }
        true
    }

    fn block(&mut self, id: ChildId, out: &mut Vec<Command>) {
        let phase = self.children.get(&id).map(|c| c.phase);
        if phase == Some(Phase::Blocked) {
            return;
        }
        self.put(id, Phase::Blocked);
        self.announce(id, Note::Waiting, out);
        self.release_for_long(id, out);
    }

    /// It needs no thread until somebody does something about what it waits for.
    fn release_for_long(&self, id: ChildId, out: &mut Vec<Command>) {
        if !self.is_supply_coming(id) {
            out.push(Command::Release { id });
        }
    }

    /// Whether all that is missing has a provider that is not at rest.
    fn is_supply_coming(&self, id: ChildId) -> bool {
        let needs = self.children.get(&id).and_then(|c| c.links());
        let mut needs = needs.into_iter().flat_map(|links| &links.needs);
        needs.all(|key| {
            let provider = self.graph.provider(key.name);
            let provider = provider.and_then(|id| self.children.get(&id));
            provider.is_some_and(|p| !matches!(p.phase, Phase::Resting(_)))
        })
    }

    pub(super) fn provided(
        &mut self,
        id: ChildId,
        incarnation: u64,
        keys: &[&'static str],
        out: &mut Vec<Command>,
    ) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        if child.incarnation != incarnation {
            return;
        }
        match child.phase {
            Phase::Running(_) => {}
            // Nobody starts with it any more.
            Phase::Doomed { .. }
            | Phase::Stopping { .. }
            | Phase::Abandoned { .. }
            | Phase::Waiting { .. }
            | Phase::Blocked
            | Phase::Backoff { .. }
            | Phase::Queued { .. }
            | Phase::Held
            | Phase::Resting(_)
            | Phase::Discarding { .. } => return,
        }
        for key in keys {
            let Some(node) = self.graph.keys.get_mut(key) else {
                continue;
            };
            if node.provider == Some(id) {
                self.graph.versions_made += 1;
                node.version = self.graph.versions_made;
                self.graph.moved.push(key);
            }
        }
        let complete = child
            .provides()
            .iter()
            .all(|key| self.graph.version(key.name) != 0);
        let awaited = matches!(child.phase, Phase::Running(Readiness::Awaited { .. }));
        if complete && awaited {
            self.said_ready(id, incarnation, out);
        }
    }

    /// An incarnation has ended or was abandoned: its values are gone, and it uses none any more.
    pub(super) fn let_go(&mut self, id: ChildId) {
        self.withdraw(id);
        self.free_in_shutdown(id);
    }

    /// Who waits for what it provides may wait for long.
    pub(super) fn came_to_rest(&mut self, id: ChildId) {
        if self.mode == Mode::Running {
            let provides = self.children.get(&id).map_or(&[][..], |c| c.provides());
            self.graph.moved.extend(provides.iter().map(|key| key.name));
        }
    }

    fn withdraw(&mut self, id: ChildId) {
        let running = self.mode == Mode::Running;
        let Some(child) = self.children.get(&id) else {
            return;
        };
        for key in child.provides() {
            if let Some(node) = self.graph.keys.get_mut(key.name) {
                if std::mem::take(&mut node.version) != 0 && running {
                    self.graph.moved.push(key.name);
                }
            }
        }
    }

    /// Looks after everybody whose inputs have changed.
    pub(super) fn advance_inputs(&mut self, out: &mut Vec<Command>) {
        while let Some(key) = self.graph.moved.pop() {
            match self.mode {
                Mode::Running if self.paused_until.is_some() => {
                    self.graph.deferred.insert(key);
                }
                Mode::Running => self.input_changed(key, out),
                Mode::Idle | Mode::Stopping(_) | Mode::Ended => {}
            }
        }
    }

    pub(super) fn end_deferral(&mut self) {
        let deferred = std::mem::take(&mut self.graph.deferred);
        self.graph.moved.extend(deferred);
    }

    /// Starts who has waited for this key, and starts anew who runs with another value of it. Also called
    /// where nothing has changed but that its provider is at rest.
    fn input_changed(&mut self, key: &'static str, out: &mut Vec<Command>) {
        let Some(node) = self.graph.keys.get(key) else {
            return;
        };
        let provider = node.provider;
        let dependents: Vec<ChildId> = node.dependents.iter().copied().collect();
        let mut stale = Vec::new();
        for id in dependents {
            let Some(child) = self.children.get(&id) else {
                continue;
            };
            match child.phase {
                Phase::Blocked if self.is_supplied(id) => {
                    self.start_when_allowed(id, Moment::START, out);
                }
                Phase::Blocked => self.release_for_long(id, out),
                Phase::Waiting { parked: true } if self.is_stale(id) => {
                    self.start_when_allowed(id, Moment::START, out);
                }
                Phase::Running(_) | Phase::Resting(Rest::Done { told: false })
                    if child.wave.is_none() && self.is_stale(id) =>
                {
                    stale.push(id);
                }
                // Not to be started, or it will be by and by, with what is there then.
                Phase::Waiting { .. }
                | Phase::Backoff { .. }
                | Phase::Queued { .. }
                | Phase::Held
                | Phase::Resting(_)
                | Phase::Running(_)
                | Phase::Doomed { .. }
                | Phase::Stopping { .. }
                | Phase::Abandoned { .. }
                | Phase::Discarding { .. } => {}
            }
        }
        // Without a provider nobody uses it.
        if let (Some(provider), false) = (provider, stale.is_empty()) {
            self.restart_users(key, provider, &stale);
        }
    }

    /// Gives new services their places, each after those it takes something from, and moves older
    /// ones behind that do so from the new ones.
    pub(super) fn place(&mut self, new: Vec<ChildId>) {
        if self.graph.is_empty() {
            new.into_iter().for_each(|id| self.move_to_end(id));
            return;
        }
        let first = new.first().copied();
        for id in self.in_order(new.clone()) {
            self.move_to_end(id);
        }
        let mut behind: HashSet<ChildId> = HashSet::new();
        let mut next: Vec<ChildId> = new
            .iter()
            .flat_map(|id| self.takers_of(*id))
            .filter(|taker| Some(*taker) < first)
            .collect();
        while let Some(id) = next.pop() {
            if behind.insert(id) {
                next.extend(self.takers_of(id));
            }
        }
        let mut behind: Vec<Rank> = behind
            .iter()
            .filter_map(|id| Some(self.children.get(id)?.rank))
            .collect();
        behind.sort_unstable();
        for id in self.in_order(behind.into_iter().map(|rank| rank.id).collect()) {
            self.move_to_end(id);
        }
    }

    /// Who needs or wants what a service provides, there or not.
    fn takers_of(&self, id: ChildId) -> impl Iterator<Item = ChildId> {
        let provides = self.children.get(&id).map_or(&[][..], |c| c.provides());
        let nodes = provides.iter().filter_map(|k| self.graph.keys.get(k.name));
        nodes.flat_map(|node| node.dependents.iter().copied())
    }

    /// The same services, each after those of them that it takes something from.
    fn in_order(&self, services: Vec<ChildId>) -> Vec<ChildId> {
        let mut left: HashSet<ChildId> = services.iter().copied().collect();
        let mut order = Vec::with_capacity(services.len());
        for service in services {
            let mut path = vec![service];
            while let Some(&id) = path.last() {
                let before = self.providers_of(id).find(|p| *p != id && left.contains(p));
                match before {
                    Some(provider) => path.push(provider),
                    None => {
                        if left.remove(&id) {
                            order.push(id);
                        }
                        path.pop();
                    }
                }
            }
        }
        order
    }

    fn move_to_end(&mut self, id: ChildId) {
        let Some(child) = self.children.get_mut(&id) else {
            return;
        };
        let old = child.rank;
        let new = Rank {
            place: self.places_made,
            id,
        };
        self.places_made += 1;
        child.rank = new;
        self.order.remove(&old);
        self.order.insert(new);
        if self.held.remove(&old) {
            self.held.insert(new);
        }
        if let Some(wave) = child.wave.and_then(|wave| self.waves.get_mut(&wave)) {
            wave.move_member(old, new);
        }
    }
}
