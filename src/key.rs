//! Typed names for what services provide to each other.

use std::any::{Any, TypeId};
use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::error::Error;
use crate::exit::Exit;
use crate::id::NAME_BYTES_MAX;

/// The name of a value of type `T` that one service provides and others need or want.
///
/// Declared once, as a constant, and used by both sides, so that a wrong type does not compile. Two
/// keys of one name and different types are refused when a service is added. A key is known in
/// one supervisor; what is below that hands values down itself.
///
/// ```
/// use backstay::{Context, Key, Spec, Supervisor};
/// use std::time::Duration;
///
/// const LIMIT: Key<u32> = Key::new("limit");
///
/// let app = Supervisor::new("app");
/// app.add_all([
///     Spec::new("config", |ctx: &Context| {
///         ctx.provide(&LIMIT, 8)?;
///         ctx.wait_stop();
///         Ok(())
///     })
///     .provides(&LIMIT),
///     Spec::new("worker", |ctx: &Context| {
///         let limit = ctx.get(&LIMIT)?; // started when it is there
///         ctx.set_status(format!("at most {limit}"));
///         ctx.wait_stop();
///         Ok(())
///     })
///     .needs(&LIMIT),
/// ])?;
/// app.start()?;
/// assert_eq!(*app.get(&LIMIT, Duration::from_secs(5))?, 8); // from outside
/// # assert!(app.stop().is_empty());
/// # Ok::<(), backstay::Error>(())
/// ```
///
/// A value of another type is no value of this key, and what comes back is of the key's type:
///
/// ```compile_fail,E0277
/// # use backstay::{Context, Key};
/// const LIMIT: Key<u32> = Key::new("limit");
///
/// fn set_up(ctx: &Context) -> Result<(), backstay::Error> {
///     ctx.provide(&LIMIT, "eight") // `Arc<u32>` is not made from `&str`
/// }
/// ```
///
/// ```compile_fail,E0308
/// # use backstay::{Context, Key, Missing};
/// # use std::sync::Arc;
/// const LIMIT: Key<u32> = Key::new("limit");
///
/// fn limit(ctx: &Context) -> Result<Arc<String>, Missing> {
///     ctx.get(&LIMIT) // it is an `Arc<u32>`
/// }
/// ```
pub struct Key<T: ?Sized> {
    name: &'static str,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> Key<T> {
    /// A key of that name: 1 to 64 bytes without white space and control characters. A bad
    /// one shows when a service that names it is added.
    #[must_use]
    pub const fn new(name: &'static str) -> Key<T> {
        Key {
            name,
            of: PhantomData,
        }
    }

    /// The name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T: ?Sized + 'static> Key<T> {
    pub(crate) fn declared(&self) -> KeyDecl {
        KeyDecl {
            name: self.name,
            of: TypeId::of::<T>(),
            type_name: std::any::type_name::<T>(),
        }
    }
}

impl<T: ?Sized> Clone for Key<T> {
    fn clone(&self) -> Key<T> {
        *self
    }
}

impl<T: ?Sized> Copy for Key<T> {}

impl<T: ?Sized> fmt::Display for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl<T: ?Sized> fmt::Debug for Key<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key<{}>({:?})", std::any::type_name::<T>(), self.name)
    }
}

/// A key without its type parameter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct KeyDecl {
    pub(crate) name: &'static str,
    pub(crate) of: TypeId,
    pub(crate) type_name: &'static str,
}

impl KeyDecl {
    /// `field` is how the spec calls what it declares.
    pub(crate) fn check(&self, field: &str) -> Result<(), Error> {
        let name = self.name;
        let why = if name.is_empty() {
            "is empty"
        } else if name.len() > NAME_BYTES_MAX {
            "is longer than 64 bytes"
        } else if name.chars().any(|c| c.is_whitespace() || c.is_control()) {
            "has white space or a control character"
        } else {
            return Ok(());
        };
        Err(Error::invalid(
            field,
            format!("bad key {name:?}: the name {why}"),
        ))
    }
}

/// What a service declares; empty lists where nothing is.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Links {
    pub(crate) provides: Vec<KeyDecl>,
    pub(crate) needs: Vec<KeyDecl>,
    /// None of them is needed as well.
    pub(crate) wants: Vec<KeyDecl>,
}

impl Links {
    /// What it takes, needed or wanted.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &KeyDecl> {
        self.needs.iter().chain(&self.wants)
    }

    /// Each key once, and none twice over: needed and wanted is needed.
    pub(crate) fn tidied(mut self) -> Links {
        let Links {
            provides,
            needs,
            wants,
        } = &mut self;
        for keys in [&mut *provides, &mut *needs, &mut *wants] {
            let mut seen = Vec::with_capacity(keys.len());
            keys.retain(|key| {
                let new = !seen.contains(key);
                seen.push(*key);
                new
            });
        }
        wants.retain(|key| !needs.contains(key));
        self
    }
}

/// A value on its way from its provider to others: an `Arc<T>` behind a type that all have.
pub(crate) type Value = Arc<dyn Any + Send + Sync>;

pub(crate) fn wrap<T: ?Sized + Send + Sync + 'static>(value: Arc<T>) -> Value {
    Arc::new(value)
}

/// `None`: of another type.
pub(crate) fn unwrap<T: ?Sized + Send + Sync + 'static>(value: &Value) -> Option<Arc<T>> {
    value.downcast_ref::<Arc<T>>().cloned()
}

/// The answer of [`Context::get`](crate::Context::get) where there is no value.
///
/// Returned from `run` with `?` it is an [`Exit::Missing`]: the service waits until one of its
/// inputs changes, which is no failure.
#[derive(Clone, Debug)]
pub struct Missing {
    key: &'static str,
    why: Arc<str>,
}

impl Missing {
    pub(crate) fn new(key: &'static str, why: impl Into<Arc<str>>) -> Missing {
        Missing {
            key,
            why: why.into(),
        }
    }

    /// The name of the key.
    #[must_use]
    pub fn key(&self) -> &'static str {
        self.key
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no value of the key {:?}: {}", self.key, self.why)
    }
}

impl StdError for Missing {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(Exit::Missing.marker())
    }
}

/// A key that a service declares.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct KeyReport {
    pub(crate) name: Arc<str>,
    pub(crate) role: KeyRole,
    pub(crate) provider: Option<Arc<str>>,
    pub(crate) is_there: bool,
}

/// What a service has to do with a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum KeyRole {
    /// [`Spec::provides`](crate::Spec::provides)
    Provides,
    /// [`Spec::needs`](crate::Spec::needs)
    Needs,
    /// [`Spec::wants`](crate::Spec::wants)
    Wants,
}

impl KeyReport {
    /// The name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the service provides, needs or wants it.
    #[must_use]
    pub fn role(&self) -> KeyRole {
        self.role
    }

    /// The path of the service that provides it. `None`: there is no such service.
    #[must_use]
    pub fn provider(&self) -> Option<&str> {
        self.provider.as_deref()
    }

    /// Whether there is a value now.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.is_there
    }
}
