//! Panics: the hook, and every `catch_unwind` of the library.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, Location, PanicHookInfo, catch_unwind};
use std::sync::Once;

use crate::error::{BoxError, Error, ErrorKind};
use crate::failure::Trace;

thread_local! {
    /// What the hook is to do on this thread.
    static WATCH: Cell<Watch> = const { Cell::new(Watch::Off) };
    /// Where on the stack a service's `run` begins, as an address; 0 outside of one.
    static RUN: Cell<usize> = const { Cell::new(0) };
    /// What the hook has seen last.
    static SEEN: RefCell<Option<Record>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Watch {
    /// Not ours: leave it to the hook before.
    Off,
    /// Record, then the hook before.
    Record,
    /// Record only.
    Quiet,
}

struct Record {
    /// `None` for a payload that is no text.
    message: Option<String>,
    location: Option<String>,
    trace: Option<Trace>,
}

/// A panic that was caught.
pub(crate) struct Caught {
    pub(crate) message: String,
    pub(crate) location: Option<String>,
    pub(crate) trace: Option<Trace>,
}

/// Installs the hook, once for the process; it chains to the one before it. Whoever installs
/// another one later without chaining loses locations and traces, nothing else.
///
/// # Errors
/// On a panicking thread, where the hook must not be touched, and where panics abort.
pub(crate) fn install() -> Result<(), Error> {
    static ONCE: Once = Once::new();
    if cfg!(panic = "abort") {
        return Err(Error::new(
            ErrorKind::Invalid,
            "panic = \"abort\": panics cannot be supervised; build with panic = \"unwind\"",
        ));
    }
    if std::thread::panicking() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "a supervisor cannot be started on a thread that is panicking",
        ));
    }
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match watched(info) {
            Watch::Off | Watch::Record => before(info),
            Watch::Quiet => {}
        }));
    });
    Ok(())
}

/// Nothing but storing: no lock, no log line, nothing that could panic in turn.
fn watched(info: &PanicHookInfo<'_>) -> Watch {
    // An error: the thread is on its way out and its thread-locals are gone.
    let watch = WATCH.try_with(Cell::get).unwrap_or(Watch::Off);
    if watch != Watch::Off {
        let record = Record {
            message: text_of(info.payload()).map(str::to_owned),
            location: info.location().map(place),
            trace: capture(),
        };
        let _ = SEEN.try_with(|seen| seen.try_borrow_mut().map(|mut seen| *seen = Some(record)));
    }
    watch
}

/// What its `Display` writes, without the machinery of formatting, which takes as long as the rest of
/// the hook without the trace.
fn place(location: &Location<'_>) -> String {
    const NUMBER_BYTES_MAX: usize = 11;
    let file = location.file();
    let mut place = String::with_capacity(file.len() + 2 * NUMBER_BYTES_MAX);
    place.push_str(file);
    for number in [location.line(), location.column()] {
        place.push(':');
        push_decimal(&mut place, number);
    }
    place
}

fn push_decimal(text: &mut String, number: u32) {
    if number >= 10 {
        push_decimal(text, number / 10);
    }
    text.extend(char::from_digit(number % 10, 10));
}

fn text_of(payload: &(dyn Any + Send)) -> Option<&str> {
    match payload.downcast_ref::<&'static str>() {
        Some(text) => Some(text),
        None => payload.downcast_ref::<String>().map(String::as_str),
    }
}

/// Addresses only; they become names when somebody formats them. Of a service's thread only what is
/// inside of `run`: the rest is the same for all, and a third of the frames.
#[cfg(feature = "backtrace")]
fn capture() -> Option<Trace> {
    use crate::failure::TRACE_FRAMES_MAX;
    let run = RUN.try_with(Cell::get).unwrap_or(0);
    let mut addresses = [0; TRACE_FRAMES_MAX];
    let mut n = 0;
    let mut is_inside = false;
    backtrace::trace(|frame| {
        // Stacks grow downwards. Where they don't, or the platform doesn't tell, all frames are taken.
        let was_inside = std::mem::replace(&mut is_inside, (frame.sp() as usize) < run);
        if was_inside && !is_inside {
            return false;
        }
        addresses[n] = frame.ip() as usize;
        n += 1;
        n < TRACE_FRAMES_MAX
    });
    Some(Trace::new(&addresses[..n]))
}

#[cfg(not(feature = "backtrace"))]
fn capture() -> Option<Trace> {
    None
}

/// Runs a service's `run`, where the trace of a panic ends. Never part of another function, whose callers
/// would be in that trace.
#[inline(never)]
pub(crate) fn catch_run<R>(quiet: bool, f: impl FnOnce() -> R) -> Result<R, Caught> {
    let here = 0_u8;
    let before = RUN.replace(std::ptr::from_ref(&here) as usize);
    let result = catch(quiet, f);
    RUN.set(before);
    result
}

/// Runs `f`. A panic is recorded and comes back; `quiet` keeps it from the hook before ours.
pub(crate) fn catch<R>(quiet: bool, f: impl FnOnce() -> R) -> Result<R, Caught> {
    let watch = if quiet { Watch::Quiet } else { Watch::Record };
    let before = WATCH.with(|w| w.replace(watch));
    // Called by a `Drop` on the way out of a panic, it is that one's. Else a record may be left from a
    // panic that the service caught itself.
    let outer = take_record().filter(|_| std::thread::panicking());
    let result = catch_unwind(AssertUnwindSafe(f));
    WATCH.with(|w| w.set(before));
    let result = result.map_err(|payload| {
        let record = take_record();
        let caught = describe(&*payload, record);
        drop_payload(payload);
        caught
    });
    if outer.is_some() {
        SEEN.set(outer);
    }
    result
}

/// `None` also on a thread that is going away and has no thread-locals any more.
fn take_record() -> Option<Record> {
    SEEN.try_with(RefCell::take).ok().flatten()
}

/// The record is only believed if it is about this very panic: `resume_unwind` skips the hook.
fn describe(payload: &(dyn Any + Send), record: Option<Record>) -> Caught {
    let text = text_of(payload);
    let record = record.filter(|r| r.message.as_deref() == text);
    let (message, location, trace) = match record {
        Some(r) => (r.message, r.location, r.trace),
        None => (text.map(str::to_owned), None, None),
    };
    Caught {
        message: message.unwrap_or_else(|| describe_other(payload)),
        location,
        trace,
    }
}

fn describe_other(payload: &(dyn Any + Send)) -> String {
    if let Some(error) = payload.downcast_ref::<BoxError>() {
        // The user's Display.
        match catch_unwind(AssertUnwindSafe(|| error.to_string())) {
            Ok(text) => return text,
            Err(second) => drop_payload(second),
        }
    }
    "a panic whose payload is no text".to_owned()
}

/// A payload's `Drop` may panic, and that panic's payload too: the second one is leaked.
fn drop_payload(payload: Box<dyn Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(second);
    }
}

/// Calls a user's code whose panic goes no further than its message.
pub(crate) fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    guarded_as(is_quiet(), f)
}

/// Whether this happens inside of something that is quiet.
pub(crate) fn is_quiet() -> bool {
    WATCH.try_with(Cell::get).unwrap_or(Watch::Off) == Watch::Quiet
}

/// The same, of a service whose panics are quiet or not.
pub(crate) fn guarded_as<R>(quiet: bool, f: impl FnOnce() -> R) -> Result<R, String> {
    // On a thread that is going away there is nothing to record with.
    if WATCH.try_with(|_| ()).is_err() {
        return catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
            let text = text_of(&*payload).unwrap_or_default().to_owned();
            drop_payload(payload);
            text
        });
    }
    catch(quiet, f).map_err(|caught| match caught.location {
        Some(location) => format!("{} at {location}", caught.message),
        None => caught.message,
    })
}
