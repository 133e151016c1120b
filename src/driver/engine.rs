//! The machine together with what the driver has for each service.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::board::{Board, Entry};
use super::body::Body;
use super::core::Core;
use super::discard::discard;
use super::request::{Answer, Ask, NewService};
use super::rest::{Discard, Untold};
use super::thread::Seat;
use crate::context::{Home, Incarnation};
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;
use crate::id::{ChildId, ChildMap, ServiceId};
use crate::key::Value;
use crate::link::cell::ServiceCell;
use crate::link::clock;
use crate::link::fact::Fact;
use crate::link::hub::Emitter;
use crate::link::licence::Licence;
use crate::link::life::{Handout, Stop};
use crate::machine::Machine;
use crate::machine::message::{Command, Input};
use crate::report::End;
use crate::supervisor::Supervisor;

pub(crate) struct Engine {
    pub(crate) machine: Machine,
    pub(crate) slots: ChildMap<Slot>,
    /// One channel over all runs: an abandoned thread of an earlier one tells its end to the next.
    pub(crate) facts: (Sender<Fact>, Receiver<Fact>),
    /// Of the last run.
    pub(crate) emitter: Option<Emitter>,
}

/// A service as the driver has it.
pub(crate) struct Slot {
    pub(crate) cell: Arc<ServiceCell>,
    /// `None`: handed over to be dropped.
    pub(crate) body: Option<Arc<Body>>,
    /// While the supervisor runs.
    pub(crate) home: Option<Arc<Home>>,
    /// Its thread, if it has one that isn't abandoned.
    pub(crate) seat: Option<Seat>,
    /// The current one, until it has ended or was abandoned.
    pub(crate) incarnation: Option<Arc<Incarnation>>,
    pub(crate) last_failure: Option<Failure>,
    /// The failure after which it leaves.
    pub(crate) ended_by: Option<Failure>,
    /// Failures that only this still holds; dropped by the service's thread.
    pub(crate) trash: Vec<Failure>,
    pub(crate) is_supervisor: bool,
    /// The incarnation that runs, or ran, a supervisor below itself, which is on the board.
    pub(crate) supervises: Option<u64>,
    /// The thread of its current incarnation is new and has to say that it has entered `run`.
    pub(crate) tells_entry: bool,
}

impl Slot {
    fn new(cell: Arc<ServiceCell>, body: Body) -> Slot {
        Slot {
            cell,
            is_supervisor: body.supervisor().is_some(),
            body: Some(Arc::new(body)),
            home: None,
            seat: None,
            incarnation: None,
            last_failure: None,
            ended_by: None,
            trash: Vec::new(),
            supervises: None,
            tells_entry: false,
        }
    }

    /// Whether an end is that of its incarnation, or of one that has followed that under its licence.
    pub(crate) fn is_current(&self, number: u64, licence: Option<&Arc<Licence>>) -> bool {
        self.incarnation.as_ref().is_some_and(|own| {
            let same = own.licence.as_ref().zip(licence);
            own.number == number || same.is_some_and(|(a, b)| Arc::ptr_eq(a, b))
        })
    }

    /// Under which its incarnation may start again by itself.
    pub(crate) fn licence(&self) -> Option<Arc<Licence>> {
        self.incarnation.as_ref()?.licence.clone()
    }

    /// From now on nobody follows on its incarnation by itself. The one that runs, and its number; the
    /// supervisor may know of an earlier one only.
    pub(crate) fn end_licence(&self) -> Option<(Arc<Incarnation>, u64)> {
        let own = self.incarnation.as_ref()?;
        let (holder, number) = match &own.licence {
            Some(licence) => licence.revoke(),
            None => (None, 0),
        };
        // Where that is gone, anybody that is over does as well.
        Some((
            holder.unwrap_or_else(|| own.clone()),
            number.max(own.number),
        ))
    }

    /// Asks it to stop. Who was asked, and what is to be done for that.
    ///
    /// # Errors
    /// It has ended, which is on the way; the request comes back.
    pub(crate) fn ask(
        &self,
        stop: Stop,
        has_interrupt: bool,
    ) -> Result<(Arc<Incarnation>, Handout), Stop> {
        let Some((last, _)) = self.end_licence() else {
            return Err(stop);
        };
        let handout = last.life.ask(stop, has_interrupt)?;
        Ok((last, handout))
    }

    /// Whether a start now takes a new thread: it has none, that of an incarnation which is being
    /// abandoned, or one that is not to be kept.
    pub(crate) fn needs_thread(&self) -> bool {
        let fresh = self.body.as_ref().is_some_and(|body| body.fresh_thread);
        fresh || self.seat.is_none() || self.incarnation.is_some()
    }

    /// Whatever its thread may still say: nobody waits for it to enter `run`.
    pub(crate) fn leave_entry(&self, board: &Board) {
        let was = self.cell.update(|data| std::mem::take(&mut data.entering));
        board.count_entering(was, false);
    }

    pub(crate) fn set_failure(&mut self, failure: Failure) {
        // Without an error in it there is nothing of the user's in a failure.
        let old = self.last_failure.replace(failure);
        self.trash.extend(old.filter(|f| f.error().is_some()));
    }
}

impl Engine {
    pub(crate) fn new(machine: Machine) -> Engine {
        Engine {
            machine,
            slots: ChildMap::default(),
            facts: unbounded(),
            emitter: None,
        }
    }

    /// Checks a request against what is there. `Err` changes nothing.
    pub(crate) fn check(&self, ask: &Ask) -> Result<Option<Vec<ServiceId>>, Error> {
        match ask {
            Ask::Add { services, complete } => {
                self.machine
                    .admit(services.iter().map(|s| &s.policy), *complete)?;
                Ok(None)
            }
            // What it asks for is so.
            Ask::Remove(id) if !self.machine.knows(*id) => Ok(Some(Vec::new())),
            Ask::Remove(_) => Ok(None),
            Ask::Stop(id) | Ask::Start(id) | Ask::Restart(id) => {
                if self.machine.knows(*id) && !self.machine.is_leaving(*id) {
                    Ok(None)
                } else {
                    Err(Error::new(
                        ErrorKind::UnknownService,
                        "there is no such service any more",
                    ))
                }
            }
        }
    }

    /// Takes a checked request; the input for the machine, and the answer.
    pub(crate) fn accept(&mut self, core: &Core, ask: Ask) -> (Input, Vec<ServiceId>) {
        match ask {
            Ask::Add { services, .. } => self.accept_services(core, services),
            Ask::Remove(id) => (Input::RemovalRequested(id), Vec::new()),
            Ask::Stop(id) => (Input::StopRequested(id), Vec::new()),
            Ask::Start(id) => (Input::StartRequested(id), Vec::new()),
            Ask::Restart(id) => (Input::RestartRequested(id), Vec::new()),
        }
    }

    fn accept_services(
        &mut self,
        core: &Core,
        services: Vec<NewService>,
    ) -> (Input, Vec<ServiceId>) {
        let now = clock::now();
        let ChildId(mut next) = self.machine.next_id();
        let mut ids = Vec::with_capacity(services.len());
        let mut entries = Vec::with_capacity(services.len());
        // Collected in place: for many services this is the largest block of memory there is, and a
        // second one would leave a hole behind that nothing fits.
        let policies = services
            .into_iter()
            .map(|NewService { policy, mut body }| {
                body.admitted = true;
                let id = ServiceId {
                    supervisor: core.id,
                    child: ChildId(next),
                };
                next += 1;
                let links = policy.links.clone();
                let cell = Arc::new(ServiceCell::new(id, policy.name.clone(), links, now));
                entries.push(Entry {
                    cell: cell.clone(),
                    nested: body.supervisor(),
                });
                self.slots.insert(id.child, Slot::new(cell, body));
                ids.push(id);
                policy
            })
            .collect();
        core.board.add(entries.into_iter());
        (Input::Added(policies), ids)
    }

    /// Does a request in place, while no supervisor thread is responsible. What comes back besides
    /// the answer is for the caller to drop, after the desk's lock.
    pub(crate) fn idle_request(&mut self, core: &Core, ask: Ask) -> (Answer, Leftover) {
        match self.check(&ask) {
            Err(e) => return (Err(e), Leftover::refused(ask)),
            Ok(Some(done)) => return (Ok(done), Leftover::default()),
            Ok(None) => {}
        }
        let (input, ids) = self.accept(core, ask);
        let mut leftover = Leftover::default();
        self.step_at_rest(core, input, &mut leftover);
        (Ok(ids), leftover)
    }

    /// Steps the machine, publishes and carries out.
    pub(super) fn step_at_rest(&mut self, core: &Core, input: Input, leftover: &mut Leftover) {
        let mut out = Vec::new();
        // Time stands still for a machine that doesn't run.
        let now = self.machine.now();
        self.machine.step(now, input, &mut out);
        self.publish_idle();
        if leftover.of_facts {
            let mut untold = self.untold(&out);
            leftover.untold.append(&mut untold);
        }
        for command in out {
            match command {
                Command::Discard { id } => {
                    let remains = self.slots.get_mut(&id).map(|slot| Remains {
                        bodies: slot.body.take().into_iter().collect(),
                        failures: std::mem::take(&mut slot.trash),
                        ..Remains::default()
                    });
                    let remains = remains.unwrap_or_default();
                    if leftover.of_facts {
                        // Whoever waits for it isn't who drops it.
                        let facts = self.facts.0.clone();
                        leftover.discards.push((id, remains, facts));
                    } else {
                        leftover.keep(remains);
                        self.step_at_rest(core, Input::Discarded(id), leftover);
                    }
                }
                Command::Forget { id } => {
                    let remains = self.forget(&core.board, id);
                    leftover.keep(remains);
                }
                // Nobody runs. What is announced of a service begins with its supervisor's start, and what a
                // caller asks for at rest is answered.
                Command::Announce { .. }
                | Command::AnnouncePause(_)
                | Command::AnnounceResume
                | Command::Release { .. }
                | Command::EndedEarly { .. }
                | Command::Start { .. }
                | Command::Stop { .. }
                | Command::Hasten { .. }
                | Command::Abandon { .. }
                | Command::Blame { .. }
                | Command::Mourn { .. }
                | Command::Candidate { .. }
                | Command::Abort { .. }
                | Command::Finish => {}
            }
        }
    }

    /// Takes a service off the board, then tells who waits for that.
    /// The failure that the board has forgotten for it is for the caller to drop.
    pub(crate) fn forget(&mut self, board: &Board, id: ChildId) -> Remains {
        let mut remains = Remains::default();
        let Some(mut slot) = self.slots.remove(&id) else {
            return remains;
        };
        let failure = slot.ended_by.clone();
        let (evicted, supervisor) = board.remove(
            id,
            End::Removed {
                failure: failure.clone(),
            },
        );
        if let Some(End::Removed { failure }) = evicted {
            remains.failures.extend(failure);
        }
        let was_entering = slot.cell.update(|data| {
            data.gone = Some(failure);
            std::mem::take(&mut data.entering)
        });
        board.count_entering(was_entering, false);
        remains.supervisors.extend(supervisor);
        remains.failures.append(&mut slot.trash);
        remains.failures.extend(slot.last_failure.take());
        remains.failures.extend(slot.ended_by.take());
        remains.bodies.extend(slot.body.take());
        remains
    }

    fn publish_idle(&mut self) {
        let changed: Vec<ChildId> = self.machine.take_changed().collect();
        for id in changed {
            if let (Some(slot), Some(view)) = (self.slots.get(&id), self.machine.view(id)) {
                let last_failure = &slot.last_failure;
                slot.cell.update(|data| {
                    if data.state != view.state {
                        data.since = clock::now();
                    }
                    data.state = view.state;
                    data.starts = view.starts;
                    data.failures = view.failures;
                    data.panics = view.panics;
                    // Never the last reference: the slot, or its trash, has the old one.
                    data.last_failure.clone_from(last_failure);
                });
            }
        }
    }

    /// All values of a supervisor that is taken out of use.
    pub(crate) fn into_bodies(mut self, board: &Board) -> Vec<Body> {
        let mut bodies = Vec::new();
        for (_, mut slot) in self.slots.drain() {
            slot.cell.update(|data| {
                data.state = crate::report::State::Stopped;
                data.orphaned = true;
            });
            bodies.extend(slot.body.take().and_then(Arc::into_inner));
        }
        board.set_state(crate::report::State::Stopped, 0);
        bodies
    }
}

/// What is left of services that are gone. It holds the user's values, so where it is dropped
/// matters: on a stop thread, or on the thread of a caller, never on the supervisor's.
#[derive(Default)]
pub(crate) struct Remains {
    pub(crate) bodies: Vec<Arc<Body>>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) supervisors: Vec<Supervisor>,
    pub(crate) values: Vec<Value>,
}

impl Remains {
    pub(crate) fn append(&mut self, mut other: Remains) {
        self.bodies.append(&mut other.bodies);
        self.failures.append(&mut other.failures);
        self.supervisors.append(&mut other.supervisors);
        self.values.append(&mut other.values);
    }

    pub(crate) fn len(&self) -> usize {
        self.bodies.len() + self.failures.len() + self.supervisors.len() + self.values.len()
    }

    /// Drops everything here, where the values without a name belong to `path`.
    pub(crate) fn discard(self, path: &Arc<str>, quiet: bool) {
        drop((self.bodies, self.failures, self.supervisors));
        self.values
            .into_iter()
            .for_each(|value| discard(path, quiet, value));
    }
}

/// User values that are left behind where no supervisor runs.
#[derive(Default)]
pub(crate) struct Leftover {
    _refused: Option<Ask>,
    remains: Vec<Remains>,
    /// Of what was told, and not of what a caller has asked for.
    of_facts: bool,
    untold: Vec<Untold>,
    /// To be dropped before they count as gone.
    discards: Vec<Discard>,
}

impl Leftover {
    fn refused(ask: Ask) -> Leftover {
        Leftover {
            _refused: Some(ask),
            ..Leftover::default()
        }
    }

    pub(super) fn of_facts() -> Leftover {
        Leftover {
            of_facts: true,
            ..Leftover::default()
        }
    }

    pub(super) fn keep(&mut self, remains: Remains) {
        self.remains.push(remains);
    }

    pub(super) fn take_untold(&mut self) -> Vec<Untold> {
        std::mem::take(&mut self.untold)
    }

    pub(super) fn take_discards(&mut self) -> Vec<Discard> {
        std::mem::take(&mut self.discards)
    }
}
