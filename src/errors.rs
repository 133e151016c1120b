//! Several failures as one error.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt::{self, Write as _};

use crate::error::{BoxError, SOURCE_DEPTH_MAX, ServiceResult};
use crate::exit::Exit;
use crate::failure::{Failure, FailureKind};

/// How many errors an [`Errors`] keeps unless it is told otherwise.
pub const ERRORS_KEPT: usize = 100;

/// How many errors are looked at in search of an [`Exit`], where chains of
/// [`source()`](StdError::source) branch because an [`Errors`] is among them.
pub const SOURCES_MAX: usize = 65_536;

/// Several failures as one error: in order, and bounded. What does not fit is dropped and counted.
///
/// Returned from [`Service::run`](crate::Service::run) it is what its members are, together: an
/// [`Exit`] in any of them counts as if it had been answered alone (the outermost wins, of equals the
/// first), and a panic from [`Failure::catch`] among them makes the end a panic.
///
/// ```
/// use backstay::Errors;
///
/// fn close(name: &str) -> backstay::ServiceResult {
///     match name {
///         "cache" => Ok(()),
///         other => Err(format!("{other} did not close").into()),
///     }
/// }
///
/// let mut errors = Errors::new();
/// for name in ["database", "cache", "journal"] {
///     errors.push_result(close(name));
/// }
/// assert_eq!(errors.len(), 2);
/// let error = errors.into_result().unwrap_err();
/// assert_eq!(error.to_string(), "database did not close; journal did not close");
/// ```
///
/// As there can be only one [`source()`](StdError::source), that leads to the first member and what
/// caused it; [`iter`](Errors::iter) leads to all.
pub struct Errors {
    members: Members,
}

/// The content, as an error of its own: it stays visible when a wrapper's `source()` skips the
/// `Errors` and answers that one's own `source()`, as transparent wrappers do.
struct Members {
    kept: VecDeque<BoxError>,
    keep: Keep,
    dropped: u64,
    /// The first that was found in what was dropped.
    lost_exit: Option<Exit>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keep {
    First(usize),
    Last(usize),
}

impl Errors {
    /// None yet; keeps the first [`ERRORS_KEPT`].
    #[must_use]
    pub fn new() -> Errors {
        Errors::keeping(ERRORS_KEPT)
    }

    /// None yet; keeps the `first` that are pushed. Zero keeps none and only counts.
    #[must_use]
    pub fn keeping(first: usize) -> Errors {
        Errors::with(Keep::First(first))
    }

    /// None yet; keeps the `last` that are pushed: one more drops the oldest. Zero keeps none and only
    /// counts.
    ///
    /// ```
    /// let mut errors = backstay::Errors::keeping_last(2);
    /// for text in ["one", "two", "three"] {
    ///     errors.push(text);
    /// }
    /// assert_eq!(errors.to_string(), "two; three; 1 more not kept");
    /// ```
    #[must_use]
    pub fn keeping_last(last: usize) -> Errors {
        Errors::with(Keep::Last(last))
    }

    fn with(keep: Keep) -> Errors {
        Errors {
            members: Members {
                kept: VecDeque::new(),
                keep,
                dropped: 0,
                lost_exit: None,
            },
        }
    }

    /// Adds an error. Of an `Errors` its members are added, and what it had dropped counts as dropped
    /// here; so no member is ever an `Errors` itself.
    ///
    /// What does not fit is dropped here and now. An [`Exit`] in it is remembered all the same: a
    /// bound on what is told must not change what is done.
    pub fn push(&mut self, e: impl Into<BoxError>) {
        match e.into().downcast::<Errors>() {
            Ok(errors) => self.append(*errors),
            Err(error) => self.push_one(error),
        }
    }

    fn append(&mut self, errors: Errors) {
        let Members {
            kept,
            dropped,
            lost_exit,
            ..
        } = errors.members;
        self.members.dropped = self.members.dropped.saturating_add(dropped);
        self.members.lost_exit = self.members.lost_exit.or(lost_exit);
        for error in kept {
            self.push_one(error);
        }
    }

    fn push_one(&mut self, error: BoxError) {
        let Members { kept, keep, .. } = &mut self.members;
        let too_much = match *keep {
            Keep::First(most) if kept.len() >= most => Some(error),
            Keep::Last(0) => Some(error),
            Keep::First(_) => {
                kept.push_back(error);
                None
            }
            Keep::Last(most) => {
                kept.push_back(error);
                (kept.len() > most).then(|| kept.pop_front()).flatten()
            }
        };
        if let Some(error) = too_much {
            self.members.dropped = self.members.dropped.saturating_add(1);
            if self.members.lost_exit.is_none() {
                self.members.lost_exit = Exit::find(&*error);
            }
            // Everything is in order again: its `Drop` may panic.
            drop(error);
        }
    }

    /// Adds the error of a result; `Ok` adds nothing.
    pub fn push_result(&mut self, r: ServiceResult) {
        if let Err(error) = r {
            self.push(error);
        }
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.kept.len()
    }

    /// Whether there was none at all, kept or dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many were dropped for want of room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.members.dropped
    }

    /// Counts `n` errors that were dropped before they came here.
    pub fn add_dropped(&mut self, n: u64) {
        self.members.dropped = self.members.dropped.saturating_add(n);
    }

    /// The members, in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = &(dyn StdError + Send + Sync + 'static)> {
        self.members.kept.iter().map(|e| &**e)
    }

    /// What a service answers: `Ok` if there was none, the error itself if there was one, and
    /// otherwise all of them as one.
    ///
    /// ```
    /// use backstay::Errors;
    ///
    /// let mut errors = Errors::new();
    /// errors.push(std::io::Error::from(std::io::ErrorKind::TimedOut));
    /// let error = errors.into_result().unwrap_err();
    /// assert!(error.is::<std::io::Error>());
    ///
    /// assert!(Errors::new().into_result().is_ok());
    /// ```
    ///
    /// # Errors
    /// If there was one or more.
    pub fn into_result(mut self) -> ServiceResult {
        if self.is_empty() {
            return Ok(());
        }
        if self.members.kept.len() == 1 && self.members.dropped == 0 {
            if let Some(only) = self.members.kept.pop_front() {
                return Err(only);
            }
        }
        Err(Box::new(self))
    }

    /// The text for a failure of the service at `path`, which need not be told again of its own panics.
    pub(crate) fn text_for(&self, path: &str) -> String {
        let own = |error: &(dyn StdError + 'static)| match error.downcast_ref::<Failure>() {
            Some(failure) if failure.path() == path && failure.kind() == FailureKind::Panic => {
                Some(match failure.location() {
                    Some(location) => format!("{} (panicked at {location})", failure.message()),
                    None => format!("{} (panicked)", failure.message()),
                })
            }
            Some(_) | None => None,
        };
        let mut text = String::new();
        for error in self.iter() {
            if !text.is_empty() {
                text.push_str("; ");
            }
            // Writing to a String does not fail; a `Display` that answers an error has no more to say.
            let _ = match own(error) {
                Some(own) => write!(text, "{own}"),
                None => write!(text, "{error}"),
            };
        }
        let _ = self.members.tell_dropped(&mut text);
        text
    }

    /// The `Exit` that went with what was dropped, if `error` is an `Errors`.
    pub(crate) fn lost_exit(error: &(dyn StdError + 'static)) -> Option<Exit> {
        Members::of(error)?.lost_exit
    }

    /// Whether `error` is several.
    pub(crate) fn is_several(error: &(dyn StdError + 'static)) -> bool {
        Members::of(error).is_some()
    }
}

impl Members {
    /// What is in an `Errors`, or in what is left of one behind a transparent wrapper.
    fn of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Members> {
        match error.downcast_ref::<Errors>() {
            Some(errors) => Some(&errors.members),
            None => error.downcast_ref::<Members>(),
        }
    }

    fn is_empty(&self) -> bool {
        self.kept.is_empty() && self.dropped == 0
    }

    fn tell_dropped(&self, to: &mut impl fmt::Write) -> fmt::Result {
        match (self.dropped, self.kept.is_empty()) {
            (0, _) => Ok(()),
            (n, true) => write!(to, "{n} errors, none of them kept"),
            (n, false) => write!(to, "; {n} more not kept"),
        }
    }
}

/// Looks at an error and everything that is reached from it, the outermost first and the members of an
/// [`Errors`] in order. Runs the user's `source()`.
///
/// Bounded by [`SOURCE_DEPTH_MAX`] and [`SOURCES_MAX`]: a chain may be a circle.
pub(crate) fn search<'a, T>(
    error: &'a (dyn StdError + 'static),
    mut look: impl FnMut(&'a (dyn StdError + 'static)) -> Option<T>,
) -> Option<T> {
    // Empty, and so without an allocation, as long as the chain is a simple one.
    let mut waiting: VecDeque<(&'a (dyn StdError + 'static), usize)> = VecDeque::new();
    let mut next = Some((error, 1));
    for _ in 0..SOURCES_MAX {
        let (error, depth) = next.take().or_else(|| waiting.pop_front())?;
        if let Some(found) = look(error) {
            return Some(found);
        }
        if depth == SOURCE_DEPTH_MAX {
            continue;
        }
        if let Some(members) = Members::of(error) {
            let kept = members.kept.iter().map(|e| (&**e as _, depth + 1));
            waiting.extend(kept);
        } else if let Some(source) = error.source() {
            if waiting.is_empty() {
                next = Some((source, depth + 1));
            } else {
                waiting.push_back((source, depth + 1));
            }
        }
    }
    None
}

impl Default for Errors {
    fn default() -> Errors {
        Errors::new()
    }
}

/// The members, in order.
impl IntoIterator for Errors {
    type Item = BoxError;
    type IntoIter = std::collections::vec_deque::IntoIter<BoxError>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.kept.into_iter()
    }
}

impl fmt::Display for Errors {
    /// The members' texts in one line; with `{:#}` each on a line of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no error");
        }
        let between = if f.alternate() { "\n" } else { "; " };
        for (i, error) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(between)?;
            }
            write!(f, "{error}")?;
        }
        self.members.tell_dropped(f)
    }
}

impl fmt::Debug for Errors {
    /// Each on a line of its own, and below it what caused it: that is what `main` shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.members, f)
    }
}

impl StdError for Errors {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        (!self.is_empty()).then_some(&self.members)
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kept.len() {
            0 => self.tell_dropped(f),
            n => write!(f, "the first of {n} errors"),
        }
    }
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} errors", self.kept.len())?;
        for (i, error) in self.kept.iter().enumerate() {
            write!(f, "\n  {}: {error}", i + 1)?;
            let mut cause = error.source();
            for _ in 1..SOURCE_DEPTH_MAX {
                let Some(error) = cause else { break };
                write!(f, "\n     caused by: {error}")?;
                cause = error.source();
            }
        }
        self.tell_dropped(f)
    }
}

impl StdError for Members {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.kept.front().map(|e| &**e as _)
    }
}
