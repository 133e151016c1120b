//! What is in a queue, who waits for it, and what each change means for them: the arithmetic.
//!
//! Every function is one step under the queue's lock. What it leaves to be done without the lock it
//! answers as an [`After`]: nobody is woken under the lock, and no item of the user's is dropped under
//! it.
//!
//! The rules that the steps keep:
//!
//! * Whoever stands in line would find no room if it pushed now. So whoever finds room finds no line, and
//!   the line moves on in the order of coming. When pushes are refused for another reason, the line is
//!   turned away.
//! * Each item that is put in wakes a sleeping popper, if there is one. A popper that was woken is no
//!   longer on the list, so the next item wakes another one.
//! * Who is on the list of poppers or drainers has not been told yet.

use std::collections::VecDeque;
use std::thread::Thread;

use super::PushError;

/// How much room an empty queue keeps, in items: a burst's memory is given back.
const SPARE_MAX: usize = 1024;

/// Why an item is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    Full,
    NoCredit,
    Draining,
    Closed,
}

impl Refusal {
    pub(super) fn of<T>(self, item: T) -> PushError<T> {
        match self {
            Refusal::Full => PushError::Full(item),
            Refusal::NoCredit => PushError::NoCredit(item),
            Refusal::Draining => PushError::Draining(item),
            Refusal::Closed => PushError::Closed(item),
        }
    }
}

/// A thread that waits for room, and its item: whoever makes room puts it in.
struct InLine<T> {
    ticket: u64,
    item: T,
    thread: Thread,
}

/// How somebody in line fares.
pub(super) enum Turn<T> {
    /// The item is in.
    Taken,
    /// Nobody will put it in: it comes back.
    Refused(PushError<T>),
    NotYet,
}

pub(super) struct State<T> {
    items: VecDeque<T>,
    soft: usize,
    hard: usize,
    /// At most `hard - soft`.
    credit: usize,
    line: VecDeque<InLine<T>>,
    tickets_given: u64,
    /// Who stood in line when pushes began to be refused: each takes its item back itself.
    turned_away: Vec<(u64, PushError<T>)>,
    /// Asleep until there is an item.
    poppers: VecDeque<Thread>,
    /// Asleep until it is empty. While there are any, pushes are refused.
    drainers: Vec<Thread>,
    /// Its owner is stopping: pushes are refused until that is over.
    paused: bool,
    closed: bool,
}

/// What is to be done without the lock. Small, because most often it is nothing.
#[must_use]
pub(super) struct After<T> {
    wake: Option<Thread>,
    more: Option<Box<More<T>>>,
}

/// What seldom has to be done, too.
struct More<T> {
    wake: Vec<Thread>,
    /// Only its memory is left.
    _spare: VecDeque<T>,
}

impl<T> After<T> {
    #[inline]
    fn nothing() -> After<T> {
        After {
            wake: None,
            more: None,
        }
    }

    #[inline]
    fn wake(&mut self, thread: Thread) {
        match self.wake {
            None => self.wake = Some(thread),
            Some(_) => self.more().wake.push(thread),
        }
    }

    fn more(&mut self) -> &mut More<T> {
        self.more.get_or_insert_with(|| {
            Box::new(More {
                wake: Vec::new(),
                _spare: VecDeque::new(),
            })
        })
    }

    #[inline]
    pub(super) fn act(self) {
        let After { wake, more } = self;
        if let Some(thread) = wake {
            thread.unpark();
        }
        if let Some(more) = more {
            more.wake.iter().for_each(Thread::unpark);
        }
    }
}

impl<T> FromIterator<Thread> for After<T> {
    fn from_iter<I: IntoIterator<Item = Thread>>(threads: I) -> After<T> {
        let mut after = After::nothing();
        threads.into_iter().for_each(|thread| after.wake(thread));
        after
    }
}

impl<T> State<T> {
    /// `1 <= soft <= hard`, `credit <= hard - soft`. Allocates nothing.
    pub(super) fn new(soft: usize, hard: usize, credit: usize) -> State<T> {
        State {
            items: VecDeque::new(),
            soft,
            hard,
            credit,
            line: VecDeque::new(),
            tickets_given: 0,
            turned_away: Vec::new(),
            poppers: VecDeque::new(),
            drainers: Vec::new(),
            paused: false,
            closed: false,
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(super) fn in_line(&self) -> usize {
        self.line.len()
    }

    /// Whether an item could be put in, and whether that costs a credit.
    #[inline]
    fn price(&self) -> Result<usize, Refusal> {
        let len = self.items.len();
        if self.closed {
            Err(Refusal::Closed)
        } else if self.paused || !self.drainers.is_empty() {
            Err(Refusal::Draining)
        } else if len < self.soft {
            Ok(0)
        } else if len >= self.hard {
            Err(Refusal::Full)
        } else if self.credit == 0 {
            Err(Refusal::NoCredit)
        } else {
            Ok(1)
        }
    }

    #[inline]
    fn put(&mut self, item: T, after: &mut After<T>) {
        self.items.push_back(item);
        if let Some(popper) = self.poppers.pop_front() {
            after.wake(popper);
        }
    }

    #[inline]
    pub(super) fn push(&mut self, item: T) -> Result<After<T>, PushError<T>> {
        match self.price() {
            Ok(price) => {
                self.credit -= price;
                let mut after = After::nothing();
                self.put(item, &mut after);
                Ok(after)
            }
            Err(refusal) => Err(refusal.of(item)),
        }
    }

    /// The same; if there is no room the oldest item makes some and comes back. That is an exchange: it
    /// costs no credit and earns none.
    pub(super) fn push_evicting(&mut self, item: T) -> Result<(Option<T>, After<T>), PushError<T>> {
        let mut after = After::nothing();
        let evicted = match self.price() {
            Ok(price) => {
                self.credit -= price;
                None
            }
            Err(Refusal::Full | Refusal::NoCredit) => self.items.pop_front(),
            Err(refusal) => return Err(refusal.of(item)),
        };
        self.put(item, &mut after);
        Ok((evicted, after))
    }

    #[inline]
    pub(super) fn pop(&mut self) -> Option<(T, After<T>)> {
        let item = self.items.pop_front()?;
        if self.items.len() < self.soft {
            self.credit = (self.credit + 1).min(self.hard - self.soft);
        }
        let mut after = After::nothing();
        if self.items.is_empty() {
            self.is_empty_now(&mut after);
        }
        if !self.line.is_empty() {
            self.move_line(&mut after);
        }
        Some((item, after))
    }

    /// Takes everything out; the credit is that of so many pops.
    pub(super) fn take_all(&mut self) -> (VecDeque<T>, After<T>) {
        let mut after = After::nothing();
        let items = std::mem::take(&mut self.items);
        let earned = items.len().min(self.soft);
        self.credit = self
            .credit
            .saturating_add(earned)
            .min(self.hard - self.soft);
        self.is_empty_now(&mut after);
        self.move_line(&mut after);
        (items, after)
    }

    fn is_empty_now(&mut self, after: &mut After<T>) {
        for drainer in self.drainers.drain(..) {
            after.wake(drainer);
        }
        if self.items.capacity() > SPARE_MAX {
            after.more()._spare = std::mem::take(&mut self.items);
        }
    }

    /// Puts in what stands in line, as far as there is room.
    fn move_line(&mut self, after: &mut After<T>) {
        while !self.line.is_empty() {
            let Ok(price) = self.price() else { return };
            let Some(first) = self.line.pop_front() else {
                return;
            };
            self.credit -= price;
            self.put(first.item, after);
            after.wake(first.thread);
        }
    }

    /// Joins the line.
    pub(super) fn stand_in_line(&mut self, item: T, thread: Thread) -> u64 {
        self.tickets_given += 1;
        let ticket = self.tickets_given;
        self.line.push_back(InLine {
            ticket,
            item,
            thread,
        });
        ticket
    }

    pub(super) fn turn_of(&mut self, ticket: u64) -> Turn<T> {
        if self.place_of(ticket).is_some() {
            return Turn::NotYet;
        }
        match self.turned_away.iter().position(|(t, _)| *t == ticket) {
            Some(place) => Turn::Refused(self.turned_away.swap_remove(place).1),
            None => Turn::Taken,
        }
    }

    /// Leaves the line with its item; `None`: that is in already.
    pub(super) fn leave_line(&mut self, ticket: u64) -> Option<T> {
        let place = self.place_of(ticket)?;
        self.line.remove(place).map(|left| left.item)
    }

    /// The line is in the order of the tickets, and none of them is given twice.
    fn place_of(&self, ticket: u64) -> Option<usize> {
        self.line.binary_search_by_key(&ticket, |l| l.ticket).ok()
    }

    pub(super) fn sleep_as_popper(&mut self, thread: Thread) {
        self.poppers.push_back(thread);
    }

    /// Not asleep any more, whoever woke it.
    pub(super) fn wake_as_popper(&mut self, thread: &Thread) {
        self.poppers.retain(|t| t.id() != thread.id());
    }

    /// A popper that was woken, maybe for an item, leaves without one: the next shall have it.
    pub(super) fn pass_on(&mut self) -> After<T> {
        let next = match self.items.is_empty() {
            true => None,
            false => self.poppers.pop_front(),
        };
        next.into_iter().collect()
    }

    pub(super) fn wake_all_poppers(&mut self) -> After<T> {
        self.poppers.drain(..).collect()
    }

    /// False: it is empty, and there is nothing to wait for.
    pub(super) fn sleep_as_drainer(&mut self, thread: Thread) -> (bool, After<T>) {
        if self.items.is_empty() {
            return (false, After::nothing());
        }
        self.drainers.push(thread);
        (true, self.turn_away(Refusal::Draining))
    }

    /// Whether it has been emptied since.
    pub(super) fn is_drained_for(&self, thread: &Thread) -> bool {
        self.drainers.iter().all(|t| t.id() != thread.id())
    }

    /// Gives up waiting; pushes are taken again.
    pub(super) fn give_up_draining(&mut self, thread: &Thread) {
        self.drainers.retain(|t| t.id() != thread.id());
    }

    /// Refuses pushes, until [`State::resume`].
    pub(super) fn pause(&mut self) -> After<T> {
        self.paused = true;
        self.turn_away(Refusal::Draining)
    }

    pub(super) fn resume(&mut self) {
        self.paused = false;
    }

    pub(super) fn close(&mut self) -> After<T> {
        self.closed = true;
        let mut after = self.turn_away(Refusal::Closed);
        for popper in self.poppers.drain(..) {
            after.wake(popper);
        }
        after
    }

    /// Ends the line. It stays refused to those, even if pushes are taken again before they look.
    fn turn_away(&mut self, refusal: Refusal) -> After<T> {
        let mut after = After::nothing();
        for left in self.line.drain(..) {
            self.turned_away.push((left.ticket, refusal.of(left.item)));
            after.wake(left.thread);
        }
        after
    }
}
