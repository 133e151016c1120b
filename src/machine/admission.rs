//! Whether services may be added, as far as their keys go: one type and one provider for each, and
//! no circle.

use std::collections::{HashMap, HashSet};

use super::Machine;
use super::message::Policy;
use crate::error::{Error, ErrorKind};
use crate::id::ChildId;
use crate::key::{KeyDecl, Links};

/// Whether services may be added, as far as their keys go.
pub(super) struct Admission<'a> {
    machine: &'a Machine,
    policies: Vec<&'a Policy>,
    /// What the new ones declare: the declaration, who made it, and which one provides it.
    keys: HashMap<&'static str, (KeyDecl, &'a str, Option<usize>)>,
}

/// A service in the search for a circle.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Vertex {
    New(usize),
    Old(ChildId),
}

impl<'a> Admission<'a> {
    /// `complete`: what is needed must have a provider.
    ///
    /// # Errors
    /// Names the field, the service and the key.
    pub(super) fn check(
        machine: &'a Machine,
        policies: Vec<&'a Policy>,
        complete: bool,
    ) -> Result<(), Error> {
        if policies.iter().all(|p| p.links.is_none()) {
            return Ok(());
        }
        let mut admission = Admission {
            machine,
            policies,
            keys: HashMap::new(),
        };
        admission.declare_all()?;
        if complete {
            admission.check_providers()?;
        }
        admission.check_circles()
    }

    fn declare_all(&mut self) -> Result<(), Error> {
        for (index, policy) in self.policies.clone().into_iter().enumerate() {
            let Some(links) = &policy.links else { continue };
            for (field, keys) in [
                ("provides", &links.provides),
                ("needs", &links.needs),
                ("wants", &links.wants),
            ] {
                for key in keys {
                    self.declare(field, key, policy)?;
                    if field == "provides" {
                        self.provide(key, index, policy)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One name has one type.
    fn declare(&mut self, field: &str, key: &KeyDecl, policy: &'a Policy) -> Result<(), Error> {
        let old = self.machine.graph.declared(key.name);
        let old = old.map(|(decl, by)| (decl, self.name(Vertex::Old(by))));
        let new = self.keys.get(key.name).map(|(decl, by, _)| (*decl, *by));
        if let Some((other, by)) = old.or(new) {
            if other.of != key.of {
                return Err(Error::invalid(
                    field,
                    format!(
                        "the key {:?} has the type {} in {:?} and {} in {by:?}",
                        key.name, key.type_name, policy.name, other.type_name
                    ),
                ));
            }
        }
        self.keys
            .entry(key.name)
            .or_insert((*key, &*policy.name, None));
        Ok(())
    }

    /// One key has one provider.
    fn provide(&mut self, key: &KeyDecl, index: usize, policy: &Policy) -> Result<(), Error> {
        let old = self.machine.graph.provider(key.name);
        let old = old.and_then(|id| self.machine.children.get(&id));
        let entry = self.keys.get_mut(key.name);
        let new = entry.as_ref().and_then(|(_, _, provider)| *provider);
        let other = match (old, new) {
            (Some(old), _) => &old.policy.name,
            (None, Some(new)) => match self.policies.get(new) {
                Some(new) => &new.name,
                None => return Ok(()),
            },
            (None, None) => {
                if let Some((_, _, provider)) = entry {
                    *provider = Some(index);
                }
                return Ok(());
            }
        };
        Err(Error::invalid(
            "provides",
            format!(
                "the key {:?} of {:?} is provided by {other:?} already",
                key.name, policy.name
            ),
        ))
    }

    fn provider(&self, key: &str) -> Option<Vertex> {
        match self.keys.get(key) {
            Some((_, _, Some(index))) => Some(Vertex::New(*index)),
            Some((_, _, None)) | None => self.machine.graph.provider(key).map(Vertex::Old),
        }
    }

    fn check_providers(&self) -> Result<(), Error> {
        for policy in &self.policies {
            let needs = policy.links.iter().flat_map(|links| &links.needs);
            for key in needs {
                if self.provider(key.name).is_none() {
                    return Err(Error::new(
                        ErrorKind::MissingProvider,
                        format!(
                            "needs: nobody provides the key {:?} that {:?} needs",
                            key.name, policy.name
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_circles(&self) -> Result<(), Error> {
        // A circle leads through older services only if they take something new.
        let mut provided = self.keys.iter().filter(|(_, (_, _, by))| by.is_some());
        let through_old = provided.any(|(key, _)| self.machine.graph.is_taken(key));
        let mut done: HashSet<Vertex> = HashSet::new();
        for index in 0..self.policies.len() {
            if done.contains(&Vertex::New(index)) {
                continue;
            }
            // Each with what it takes from others, as far as that was not followed yet.
            let mut path = vec![(Vertex::New(index), self.sources(Vertex::New(index)))];
            let mut on_path = HashSet::from([Vertex::New(index)]);
            while let Some((vertex, sources)) = path.last_mut() {
                let Some(source) = sources.pop() else {
                    done.insert(*vertex);
                    on_path.remove(vertex);
                    path.pop();
                    continue;
                };
                if on_path.contains(&source) {
                    return Err(self.circle(path.iter().map(|(v, _)| *v), source));
                }
                let leads_on = through_old || matches!(source, Vertex::New(_));
                if leads_on && !done.contains(&source) {
                    let further = self.sources(source);
                    on_path.insert(source);
                    path.push((source, further));
                }
            }
        }
        Ok(())
    }

    /// Who provides what a service takes.
    fn sources(&self, vertex: Vertex) -> Vec<Vertex> {
        let policy = match vertex {
            Vertex::New(index) => self.policies.get(index).copied(),
            Vertex::Old(id) => self.machine.children.get(&id).map(|c| &c.policy),
        };
        let links = policy.and_then(|p| p.links.as_deref());
        let inputs = links.into_iter().flat_map(Links::inputs);
        inputs.filter_map(|key| self.provider(key.name)).collect()
    }

    fn name(&self, vertex: Vertex) -> &'a str {
        let machine = self.machine;
        match vertex {
            Vertex::New(index) => self.policies.get(index).map_or("", |p| &*p.name),
            Vertex::Old(id) => machine.children.get(&id).map_or("", |c| &*c.policy.name),
        }
    }

    fn circle(&self, path: impl Iterator<Item = Vertex>, closed_at: Vertex) -> Error {
        let circle = path.skip_while(|v| *v != closed_at);
        let names: Vec<&str> = circle.chain([closed_at]).map(|v| self.name(v)).collect();
        Error::new(
            ErrorKind::Cycle,
            format!(
                "needs: services would need each other in a circle: {}",
                names.join(" -> ")
            ),
        )
    }
}
