//! What a service sees of its supervisor.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::Mutex;

use crate::error::{BoxError, Never, Stopping};
use crate::event::{EventKind, StopCause};
use crate::link::cell::ServiceCell;
use crate::link::fact::{Fact, HookKind, HookThreads, HookTicket, Straggler};
use crate::link::hub::Emitter;
use crate::link::licence::Licence;
use crate::link::life::{HasLife, Life, ScopeLife, Wake};
use crate::supervisor::Supervisor;
use crate::trade::Trade;

/// One start of a service, from then until its `run` and all its stop hooks have returned.
///
/// A clone may go to helper threads. It stays bound to this incarnation: once that has ended,
/// [`is_stopping`](Context::is_stopping) is true, every wait ends, and nothing said through it
/// reaches the next incarnation.
#[derive(Clone)]
pub struct Context {
    pub(crate) incarnation: Arc<Incarnation>,
    scope: Option<Arc<ScopeLife>>,
}

/// What all contexts of one incarnation share.
pub(crate) struct Incarnation {
    pub(crate) home: Arc<Home>,
    pub(crate) number: u64,
    pub(crate) life: Life,
    pub(crate) below: Mutex<Below>,
    /// Of a service that declares keys.
    pub(crate) trade: Option<Box<Trade>>,
    /// To start again by itself.
    pub(crate) licence: Option<Arc<Licence>>,
    /// Once it was abandoned: whether its end is known.
    pub(crate) told: OnceLock<Arc<AtomicBool>>,
}

/// What supervisors that run in an incarnation leave to its thread. Few run one.
#[derive(Default)]
pub(crate) struct Below {
    /// `run` has returned: too late for `supervise`.
    pub(crate) closed: bool,
    nested: Option<Box<Nested>>,
}

impl Below {
    pub(crate) fn nested(&self) -> Option<&Nested> {
        self.nested.as_deref()
    }

    pub(crate) fn nested_mut(&mut self) -> &mut Nested {
        self.nested.get_or_insert_default()
    }

    pub(crate) fn take(&mut self) -> Nested {
        self.nested
            .take()
            .map_or_else(Nested::default, |nested| *nested)
    }

    /// Whether that is the supervisor which runs in it.
    pub(crate) fn holds(&self, supervisor: &Supervisor) -> bool {
        let held = self.nested().and_then(|n| n.supervisor.as_ref());
        held.is_some_and(|held| Arc::ptr_eq(held.core(), supervisor.core()))
    }

    /// That supervisor is over, and there may be another one.
    pub(crate) fn let_go(&mut self, of: &Supervisor) {
        if self.holds(of) {
            let nested = self.nested_mut();
            nested.supervisor = None;
            nested.done = None;
            nested.scope = Weak::new();
        }
    }
}

#[derive(Default)]
pub(crate) struct Nested {
    /// Who did not stop in time.
    pub(crate) stragglers: Vec<Straggler>,
    /// The driver's; released when the end was told.
    pub(crate) fence: Option<Arc<dyn Any + Send + Sync>>,
    /// The supervisor of [`Context::supervise`].
    pub(crate) supervisor: Option<Supervisor>,
    /// Disconnects when that one has ended.
    pub(crate) done: Option<Receiver<Never>>,
    /// How that one failed.
    pub(crate) failed: Option<BoxError>,
    /// Whose scope that one belongs to; dangling: the incarnation's own.
    pub(crate) scope: Weak<ScopeLife>,
}

impl Incarnation {
    /// It is known that it has ended: to its supervisor, or to those who listen if that is over.
    pub(crate) fn set_told(&self) {
        if let Some(told) = self.told.get() {
            told.store(true, Ordering::Release);
        }
    }
}

impl HasLife for Incarnation {
    fn life(&self) -> &Life {
        &self.life
    }
}

/// What all incarnations of a service share while its supervisor runs.
pub(crate) struct Home {
    pub(crate) cell: Arc<ServiceCell>,
    pub(crate) path: Arc<str>,
    pub(crate) thread_name: Arc<str>,
    /// Neither of them keeps its tree alive.
    pub(crate) supervisor: Supervisor,
    pub(crate) root: Supervisor,
    pub(crate) facts: Sender<Fact>,
    pub(crate) emitter: Emitter,
    /// Panics are not shown by the hook before ours.
    pub(crate) quiet: bool,
    /// The driver's fence of the supervisor. Weak: a context that a helper keeps holds nobody up.
    pub(crate) fence: Option<Weak<dyn Any + Send + Sync>>,
    /// The driver's, for a supervisor that runs as this service.
    pub(crate) tree: Arc<dyn Any + Send + Sync>,
    /// Of the tree.
    pub(crate) hook_threads: Arc<dyn HookThreads>,
}

impl Home {
    pub(crate) fn emit(&self, incarnation: u64, kind: EventKind) {
        self.emitter.emit(&self.path, incarnation, kind);
    }

    /// A panic of a hook, a `Drop` or a `Display` of the user's.
    pub(crate) fn emit_hook_panic(&self, incarnation: u64, what: &str, message: &str) {
        let message = Arc::from(format!("{what}: {message}"));
        self.emit(incarnation, EventKind::HookPanicked { message });
    }
}

impl Context {
    pub(crate) fn new(incarnation: Arc<Incarnation>) -> Context {
        Context {
            incarnation,
            scope: None,
        }
    }

    pub(crate) fn home(&self) -> &Home {
        &self.incarnation.home
    }

    pub(crate) fn life(&self) -> &Life {
        match &self.scope {
            Some(scope) => &scope.life,
            None => &self.incarnation.life,
        }
    }

    /// The name the service was added under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.home().cell.name
    }

    /// The names from the root down to the service, joined with dots: `app.ingest.tcp`. Also the
    /// log target to use.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.home().path
    }

    /// The number of this start; 1 at the first.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation.number
    }

    /// Whether the service shall stop, or this incarnation has ended already. One atomic load.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.life().is_stopping()
    }

    /// Whether this incarnation has ended: its `run` and its stop hooks have returned.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.life().is_over()
    }

    /// Blocks until the service shall stop, or this incarnation has ended.
    pub fn wait_stop(&self) {
        self.life().wait();
    }

    /// Sleeps for `d`, or until the service shall stop.
    ///
    /// # Errors
    /// [`Stopping`] if it shall; with `?` that makes a clean end. Also for a `d` of zero.
    pub fn sleep(&self, d: Duration) -> Result<(), Stopping> {
        self.life().sleep(d)
    }

    /// A channel that disconnects when the service shall stop, for `select!`. Nothing is ever sent
    /// over it.
    ///
    /// ```
    /// use backstay::crossbeam_channel::{select, unbounded};
    /// # use backstay::{Context, Supervisor};
    ///
    /// # let app = Supervisor::new("app");
    /// let (_jobs, queue) = unbounded::<u32>();
    /// app.add("worker", move |ctx: &Context| loop {
    ///     select! {
    ///         recv(queue) -> job => println!("{}", job?),
    ///         recv(ctx.stop_signal()) -> _ => return Ok(()),
    ///     }
    /// })?;
    /// # app.start()?;
    /// # assert!(app.stop().is_empty());
    /// # Ok::<(), backstay::Error>(())
    /// ```
    #[must_use]
    pub fn stop_signal(&self) -> &Receiver<Never> {
        self.life().signal()
    }

    /// A descriptor that becomes readable (at its end) when the service shall stop, for `poll(2)`.
    /// It belongs to the incarnation; don't read from it.
    ///
    /// # Errors
    /// When no descriptors are left.
    #[cfg(unix)]
    pub fn stop_fd(&self) -> std::io::Result<std::os::fd::BorrowedFd<'_>> {
        self.life().fd()
    }

    /// Has `f` called when the service shall stop, to unblock I/O of this incarnation: on a thread
    /// of its own, once. Registered after the request it is called at once, also on a thread of
    /// its own. Dropping the guard withdraws `f`, unless it is being called already: an `f` whose guard
    /// goes right after the request may never be called.
    ///
    /// The next incarnation starts only when `f` has returned. When the incarnation is over, `f` is
    /// dropped uncalled.
    ///
    /// ```
    /// # use backstay::{Context, Supervisor};
    /// use std::io::Read;
    /// use std::net::{Shutdown, TcpStream};
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let address = listener.local_addr()?;
    /// # let app = Supervisor::new("app");
    /// app.add("reader", move |ctx: &Context| {
    ///     let mut socket = TcpStream::connect(address)?;
    ///     let other = socket.try_clone()?;
    ///     let _unblock = ctx.on_stop(move || other.shutdown(Shutdown::Both));
    ///     socket.read(&mut [0; 64])?;
    ///     Ok(())
    /// })?;
    /// # app.start()?;
    /// # assert!(app.stop().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use = "dropping the guard withdraws the closure"]
    pub fn on_stop<R>(&self, f: impl FnOnce() -> R + Send + 'static) -> OnStop {
        let inert = OnStop {
            at: Weak::new(),
            scope: Weak::new(),
            key: 0,
        };
        if self.scope.as_ref().is_some_and(|s| s.life.is_over()) {
            return inert;
        }
        let hook = Box::new(move || drop(f()));
        let Ok((key, run_now)) = self.incarnation.life.add_hook(hook) else {
            return inert;
        };
        if let Some(scope) = &self.scope {
            scope.hooks.lock().push(key);
            if scope.life.is_over() {
                // The scope has ended meanwhile, and has not seen this one.
                drop(self.incarnation.life.take_hook(key));
            }
        }
        if run_now {
            // Not through the supervisor: between two runs it hears nothing before this hook has returned.
            self.home().hook_threads.clone().push_late(HookTicket {
                incarnation: self.incarnation.clone(),
                what: HookKind::OnStop(key),
                waits: false,
            });
        }
        OnStop {
            at: Arc::downgrade(&self.incarnation),
            scope: self.scope.as_ref().map_or_else(Weak::new, Arc::downgrade),
            key,
        }
    }

    /// Says that the set-up is finished. Once is enough; more often changes nothing.
    pub fn ready(&self) {
        if self.life().is_over() || !self.incarnation.life.say_ready() {
            return;
        }
        drop(self.home().facts.send(Fact::Ready {
            child: self.home().cell.id.child,
            incarnation: self.incarnation.number,
        }));
    }

    /// The scope that this context belongs to, if it is not the incarnation's own.
    pub(crate) fn scope_life(&self) -> Option<&Arc<ScopeLife>> {
        self.scope.as_ref()
    }

    /// Calls `f` with a context that counts as ended when `f` returns: for helpers that shall not
    /// outlive a part of the work. A stop of the incarnation reaches it, too. A supervisor from
    /// [`supervise`](Context::supervise) in it is stopped and waited for, and then there may be another one.
    pub fn scope<R>(&self, f: impl FnOnce(&Context) -> R) -> R {
        let parent: Arc<dyn HasLife> = match &self.scope {
            Some(scope) => scope.clone(),
            None => self.incarnation.clone(),
        };
        let scope = Arc::new(ScopeLife {
            life: Life::new(),
            parent,
            hooks: Mutex::new(Vec::new()),
        });
        scope.life.enter();
        let waker: Arc<dyn Wake> = scope.clone();
        scope.parent.life().on_stop_wake(Arc::downgrade(&waker));
        let over = EndOfScope {
            scope: scope.clone(),
            incarnation: self.incarnation.clone(),
        };
        let answer = f(&Context {
            incarnation: self.incarnation.clone(),
            scope: Some(scope),
        });
        drop(over);
        answer
    }

    /// Why the service shall stop: for a restart, or for good. `None` if nobody asked.
    #[must_use]
    pub fn stop_cause(&self) -> Option<StopCause> {
        self.life().stop_cause()
    }

    /// A text about itself, shown in the report until the next one. Writes a cell and wakes nobody.
    pub fn set_status(&self, text: impl Into<String>) {
        if !self.life().is_over() {
            let home = self.home();
            home.cell
                .set_status(self.incarnation.number, Arc::from(text.into()));
        }
    }

    /// Tells the observers something: an event, and a log line with path and incarnation.
    pub fn log(&self, text: impl Into<String>) {
        if !self.life().is_over() {
            let text = Arc::from(text.into());
            self.home()
                .emit(self.incarnation.number, EventKind::Log { text });
        }
    }

    /// The supervisor of this service. The handle doesn't keep the tree alive.
    #[must_use]
    pub fn supervisor(&self) -> &Supervisor {
        &self.home().supervisor
    }

    /// The supervisor at the root of the tree. The handle doesn't keep the tree alive.
    #[must_use]
    pub fn root(&self) -> &Supervisor {
        &self.home().root
    }

    /// Asks the whole tree to stop, as a signal would. Does not wait.
    pub fn shutdown(&self) {
        self.root().request_stop();
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("path", &self.path())
            .field("incarnation", &self.incarnation())
            .field("stopping", &self.is_stopping())
            .finish()
    }
}

/// Ends a scope also when the closure panics.
struct EndOfScope {
    scope: Arc<ScopeLife>,
    incarnation: Arc<Incarnation>,
}

impl Drop for EndOfScope {
    fn drop(&mut self) {
        drop(self.scope.life.finish());
        let keys = std::mem::take(&mut *self.scope.hooks.lock());
        for key in keys {
            drop(self.incarnation.life.take_hook(key));
        }
        self.end_below();
    }
}

impl EndOfScope {
    /// Ends the supervisor that was begun in the scope, if there is one.
    fn end_below(&self) {
        let below = self.incarnation.below.lock();
        let Some(nested) = below.nested() else {
            return;
        };
        if !Arc::downgrade(&self.scope).ptr_eq(&nested.scope) {
            return;
        }
        let (Some(supervisor), Some(done)) = (nested.supervisor.clone(), nested.done.clone())
        else {
            return;
        };
        drop(below);
        supervisor.request_stop();
        // Nothing is ever sent: its end is.
        let _ = done.recv();
        let home = &self.incarnation.home;
        let parent = home.supervisor.core();
        let mut below = self.incarnation.below.lock();
        // Only its own: a helper's scope may end when the next incarnation shows another.
        let number = self.incarnation.number;
        let shown = parent.board.hide_below(home.cell.id.child, number);
        below.let_go(&supervisor);
        drop(below);
        parent.pulse();
        drop((supervisor, shown));
    }
}

/// Withdraws a closure of [`Context::on_stop`] when it is dropped.
#[must_use = "dropping the guard withdraws the closure"]
pub struct OnStop {
    at: Weak<Incarnation>,
    /// The scope that would withdraw it, too.
    scope: Weak<ScopeLife>,
    key: u64,
}

impl Drop for OnStop {
    fn drop(&mut self) {
        if let Some(scope) = self.scope.upgrade() {
            scope.hooks.lock().retain(|key| *key != self.key);
        }
        if let Some(incarnation) = self.at.upgrade() {
            // The closure is dropped here, after the lock.
            drop(incarnation.life.take_hook(self.key));
        }
    }
}

impl fmt::Debug for OnStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnStop").finish_non_exhaustive()
    }
}
