//! What services provide for each other, as a service sees it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::key::{self, Key, KeyDecl, Missing, Value};
use crate::link::fact::Fact;
use crate::link::shelf::{Put, Shelf};

/// What an incarnation gives and takes by key.
pub(crate) struct Trade {
    pub(crate) shelf: Arc<Shelf>,
    /// The values that were there at its start; `None` before that and once it has ended.
    pub(crate) inputs: Mutex<Option<Inputs>>,
}

/// What a service takes, each with the value that there was.
pub(crate) type Inputs = Vec<(KeyDecl, Option<Value>)>;

impl Trade {
    /// The incarnation is over: everything, to be dropped where that may block and panic.
    pub(crate) fn close(&self) -> Vec<Value> {
        let mut values = self.shelf.close();
        let inputs = self.inputs.lock().take();
        values.extend(inputs.into_iter().flatten().filter_map(|(_, value)| value));
        values
    }

    fn input(&self, key: KeyDecl) -> Result<Value, Absent> {
        let inputs = self.inputs.lock();
        let inputs = inputs.as_ref().ok_or(Absent::Ended)?;
        match inputs.iter().find(|(declared, _)| *declared == key) {
            Some((_, Some(value))) => Ok(value.clone()),
            Some((_, None)) => Err(Absent::NotThere),
            None => Err(Absent::Undeclared),
        }
    }
}

/// Why there is no value.
enum Absent {
    Ended,
    NotThere,
    Undeclared,
}

impl Context {
    /// Gives a value to the services that need or want it. It is there until this incarnation ends.
    /// Given again it is a change: they are started anew with the new one.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: the service's spec doesn't declare the key
    /// ([`Spec::provides`](crate::Spec::provides)), or with another type. [`ErrorKind::Stopping`]: this
    /// incarnation has ended. The value is dropped here then.
    pub fn provide<T: ?Sized + Send + Sync + 'static>(
        &self,
        key: &Key<T>,
        value: impl Into<Arc<T>>,
    ) -> Result<(), Error> {
        let value = key::wrap(value.into());
        let declared = key.declared();
        let put = match &self.incarnation.trade {
            Some(_) if self.life().is_over() => Put::Closed(value),
            Some(trade) => trade.shelf.put(declared, value),
            None => Put::Undeclared(value),
        };
        let refused = |value, why: String| {
            drop(value);
            Err(Error::invalid("provides", why))
        };
        match put {
            Put::Tell(replaced) => {
                drop(self.home().facts.send(Fact::Provided {
                    child: self.home().cell.id.child,
                    incarnation: self.incarnation.number,
                }));
                drop(replaced);
                Ok(())
            }
            Put::Told(replaced) => {
                drop(replaced);
                Ok(())
            }
            Put::Undeclared(value) => refused(
                value,
                format!(
                    "the key {:?} is not declared by {}",
                    declared.name,
                    self.path()
                ),
            ),
            Put::OtherType(value, other) => refused(
                value,
                format!(
                    "the key {:?} is declared by {} with the type {other}, not {}",
                    declared.name,
                    self.path(),
                    declared.type_name
                ),
            ),
            Put::Closed(value) => {
                drop(value);
                Err(Error::new(
                    ErrorKind::Stopping,
                    format!("{}: the incarnation has ended", self.path()),
                ))
            }
        }
    }

    /// The value of a key that the service needs or wants, as it was when this incarnation started:
    /// when it is replaced or goes, the service is stopped, and the next incarnation sees that.
    ///
    /// # Errors
    /// There was none, this incarnation has ended, or the service's spec doesn't declare the key. With `?` the
    /// service waits until one of its inputs changes: see [`Missing`].
    pub fn get<T: ?Sized + Send + Sync + 'static>(&self, key: &Key<T>) -> Result<Arc<T>, Missing> {
        let undeclared = || format!("it is not declared by {}", self.path());
        let Some(trade) = &self.incarnation.trade else {
            return Err(Missing::new(key.name(), undeclared()));
        };
        if self.life().is_over() {
            return Err(Missing::new(key.name(), "the incarnation has ended"));
        }
        match trade.input(key.declared()) {
            // Of that type, since it was admitted under that declaration.
            Ok(value) => {
                key::unwrap(&value).ok_or_else(|| Missing::new(key.name(), "it is of another type"))
            }
            Err(Absent::Ended) => Err(Missing::new(key.name(), "the incarnation has ended")),
            Err(Absent::NotThere) => Err(Missing::new(
                key.name(),
                "it was not there when this incarnation started",
            )),
            Err(Absent::Undeclared) => Err(Missing::new(key.name(), undeclared())),
        }
    }
}
