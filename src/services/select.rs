//! Where the toolkit waits for several channels at once.

use std::time::Instant;

use crossbeam_channel::{Receiver, Select, SelectTimeoutError};

use crate::Never;

/// What came first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum First<T> {
    /// This interrupt, by its place.
    Interrupt(usize),
    Item(T),
    /// Nothing will come from the channel any more.
    Closed,
    Timeout,
}

/// Waits for an item or the end of the channel, until one of `interrupts` disconnects or the time is
/// there. Of several at once an interrupt wins.
pub(super) fn first<T>(
    interrupts: &[&Receiver<Never>],
    items: &Receiver<T>,
    until: Option<Instant>,
) -> First<T> {
    let mut select = Select::new_biased();
    for interrupt in interrupts {
        select.recv(interrupt);
    }
    select.recv(items);
    let operation = match until {
        None => select.select(),
        Some(at) => match select.select_deadline(at) {
            Ok(operation) => operation,
            Err(SelectTimeoutError) => return First::Timeout,
        },
    };
    let place = operation.index();
    match interrupts.get(place) {
        // Nothing is ever sent over it: its end is the interrupt.
        Some(interrupt) => match operation.recv(interrupt) {
            Ok(never) => match never {},
            Err(_) => First::Interrupt(place),
        },
        None => match operation.recv(items) {
            Ok(item) => First::Item(item),
            Err(_) => First::Closed,
        },
    }
}
