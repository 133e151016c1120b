//! Keeps long-running, blocking code alive: supervision trees over operating-system threads.
//!
//! Each [`Service`] runs on a thread of its own, inside `catch_unwind`. A [`Supervisor`] restarts
//! it when it fails or panics, within limits, and stops it in time. There is no async runtime; a
//! service blocks in `accept`, `read` or `recv` as it likes. What happens comes out as data:
//! events, a report of the tree, and at the end who did not stop.
//!
//! ```
//! use backstay::{Context, EventKind, Supervisor};
//!
//! let app = Supervisor::builder("app").quiet_panics().build()?;
//! let mut events = app.subscribe(64);
//! app.add("worker", |ctx: &Context| {
//!     if ctx.incarnation() == 1 {
//!         panic!("bad luck");
//!     }
//!     ctx.wait_stop();
//!     Ok(())
//! })?;
//! app.start()?;
//!
//! // It panicked, somebody was told, and it was started again.
//! let failure = events.find_map(|event| match event.kind() {
//!     EventKind::Failed { failure, .. } => Some(failure.clone()),
//!     _ => None,
//! });
//! assert_eq!(failure.unwrap().message(), "bad luck");
//! assert!(events.any(|event| event.word() == "started" && event.incarnation() == 2));
//! assert_eq!(app.report().find("app.worker").unwrap().panics(), 1);
//!
//! assert!(app.stop().is_empty()); // everybody stopped in time
//! # Ok::<(), backstay::Error>(())
//! ```
//!
//! # Contents
//!
//! | about | items |
//! |---|---|
//! | [services](#services) | [`Service`], [`service_fn`], [`Context`], [`Spec`], [`Exit`] |
//! | [stopping](#stopping) | [`Context`], [`OnStop`], [`Stopping`], [`StopCause`], [`StopReport`], [`StopOrder`] |
//! | [failures and limits](#failures-and-limits) | [`Failure`], [`Errors`], [`Restart`], [`Limit`], [`Exceeded`], [`Backoff`], [`PanicPolicy`] |
//! | [restarting together](#restarting-together) | [`Strategy`], [`Spec::group`] |
//! | [services that need each other](#services-that-need-each-other) | [`Key`], [`Spec::needs`], [`Context::provide`], [`Missing`], [`KeyReport`] |
//! | [trees](#trees) | [`Supervisor`], [`SupervisorBuilder`], [`AutoShutdown`], [`ServiceId`] |
//! | [observing](#observing) | [`Event`], [`Events`], [`Report`], [`ServiceReport`], [`State`], [`End`] |
//! | [guarantees and their limits](#guarantees-and-their-limits) | [`Unstopped`], [`MAX_SERVICES`] |
//! | [the panic hook](#the-panic-hook) | [`SupervisorBuilder::quiet_panics`], [`Trace`] |
//! | [ready services](services) | module [`services`] |
//! | [features](#features) | `backtrace`, `net`, `process`, `signals`, `serde` |
//! | errors of the API | [`Error`], [`ErrorKind`], [`NotReady`] |
//!
//! # Services
//!
//! A service is a type with [`run`](Service::run), or a closure `|ctx: &Context| -> ServiceResult`.
//! `run` blocks until it is done or asked to stop. Each time it is entered is one *incarnation* of
//! the service, with a number; two never run at the same time, unless a [`Spec`] allows it. `run`
//! takes `&self`: what is in the value survives a restart, what `run` makes does not.
//!
//! What its end means depends on [`Restart`]:
//!
//! | `run` | [`Always`](Restart::Always) (the default) | [`OnFailure`](Restart::OnFailure) | [`Never`](Restart::Never) |
//! |---|---|---|---|
//! | answers `Ok(())` | a failure: "returned unexpectedly" | done | done and removed |
//! | answers an error, or panics | restarted | restarted | removed |
//! | answers an [`Exit`] | what it says | what it says | what it says, but [`Bounce`](Exit::Bounce): removed |
//! | after it was asked to stop | stopped, whatever it answers | the same | the same |
//!
//! A supervisor that is running takes further services, and gives them back:
//!
//! ```
//! use backstay::{service_fn, End, Restart, Spec, Supervisor};
//! use std::time::Duration;
//!
//! let app = Supervisor::new("app");
//! app.start()?;
//! let id = app.add_spec(
//!     Spec::new("migration", service_fn(|_ctx| Ok(()))).restart(Restart::OnFailure),
//! )?;
//! let end = app.wait_service(id, Duration::from_secs(5))?;
//! assert!(matches!(end, End::Done));
//! app.remove_and_wait(id, Duration::from_secs(5))?;
//! assert_eq!(app.id("migration"), None);
//! # assert!(app.stop().is_empty());
//! # Ok::<(), backstay::Error>(())
//! ```
//!
//! # Stopping
//!
//! A thread cannot be interrupted from outside, so a service has to notice that it shall stop.
//! There is a way for each kind of blocking:
//!
//! | the service | how it notices |
//! |---|---|
//! | computes in steps | asks [`Context::is_stopping`] between them, one atomic load |
//! | has its work done by others | [`Context::wait_stop`] |
//! | waits between rounds | [`Context::sleep`], with `?` |
//! | waits for channels | [`Context::stop_signal`] in crossbeam's `select!` |
//! | waits for descriptors | [`Context::stop_fd`] in `poll(2)` (unix) |
//! | blocks in I/O on something `run` has made | [`Context::on_stop`], to shut that down |
//! | blocks in I/O on something the value holds | [`Service::interrupt`] |
//! | makes a call that nothing can end | [`Context::detach`], and a time limit |
//!
//! A supervisor stops its services in reverse order of adding and waits for each, at most its stop
//! timeout ([`DEFAULT_STOP_TIMEOUT`]); [`StopOrder::Parallel`] asks all at once. A service that has
//! not ended by then is *abandoned*: its thread goes on, the supervisor does not. The
//! [`StopReport`] names it, and [`StopReport::exit_code`] is what `main` may answer. A service that
//! was asked to stop has stopped cleanly whatever it answers, so `?` on a [`Stopping`] is the usual
//! way out. [`Context::stop_cause`] says whether the stop is for a restart or for good.
//!
//! ```
//! use backstay::{Context, Spec, Supervisor};
//! use std::time::Duration;
//!
//! let app = Supervisor::new("app");
//! let (release, hung) = backstay::crossbeam_channel::bounded::<()>(0);
//! app.add_spec(
//!     Spec::new("deaf", move |ctx: &Context| {
//!         ctx.ready();
//!         let _ = hung.recv(); // knows nothing of stops
//!         Ok(())
//!     })
//!     .ready_timeout(Duration::from_secs(5))
//!     .stop_timeout(Duration::from_millis(20)),
//! )?;
//! app.start()?;
//! app.wait_ready(Duration::from_secs(5))?;
//!
//! let report = app.stop();
//! assert_eq!(report.unstopped()[0].path(), "app.deaf");
//! assert_eq!(report.exit_code(), backstay::EXIT_CODE_ABANDONED);
//! # drop(release);
//! # Ok::<(), backstay::Error>(())
//! ```
//!
//! # Failures and limits
//!
//! An error, a panic and an unasked `Ok` under [`Restart::Always`] are failures; each is a
//! [`Failure`] with path, incarnation, message, and for a panic its location and backtrace. A
//! failed service starts again after its [`Backoff`]: at once unless set.
//!
//! Each failure also counts against the [`Limit`] of the supervisor, or against the service's own
//! if its [`Spec`] has one. Unless set it is suture's: a count that grows by one with each failure
//! and halves every 30 s; above 5 the supervisor starts nothing for 15 to 22.5 s, then counts from
//! zero. Running services run on meanwhile. [`Limit::window`] is Erlang's intensity and period,
//! [`Limit::budget`] counts errors and panics apart, and [`Limit::then`] chooses what follows:
//! [`Exceeded::Pause`], [`Exceeded::StopService`], or [`Exceeded::Fail`], which stops all and fails
//! to the supervisor above.
//!
//! ```
//! use backstay::{service_fn, ErrorKind, Limit, Supervisor};
//! use std::time::Duration;
//!
//! let app = Supervisor::builder("app")
//!     .limit(Limit::window(2, Duration::from_secs(10)))
//!     .build()?;
//! app.add("broken", service_fn(|_ctx| Err("no such device".into())))?;
//! let error = app.serve().unwrap_err(); // this thread is the supervisor's
//! assert_eq!(error.kind(), ErrorKind::Failed);
//! assert_eq!(error.failure().unwrap().incarnation(), 3);
//! # Ok::<(), backstay::Error>(())
//! ```
//!
//! # Restarting together
//!
//! A [`Strategy`] says who else restarts when a service fails: nobody, everybody, or those added
//! after it, as in Erlang. [`Spec::group`] does so for the services of one name. Who restarts along
//! is asked to stop in reverse order; when all have ended, they start in order. It is one failure
//! and counts once.
//!
//! ```
//! use backstay::{Context, Strategy, Supervisor};
//!
//! let app = Supervisor::builder("app").strategy(Strategy::RestForOne).build()?;
//! let mut events = app.subscribe(64);
//! for name in ["database", "cache", "web"] {
//!     app.add(name, |ctx: &Context| {
//!         if ctx.name() == "cache" && ctx.incarnation() == 1 {
//!             return Err("out of memory".into());
//!         }
//!         ctx.wait_stop();
//!         Ok(())
//!     })?;
//! }
//! app.start()?;
//!
//! // The cache fails; what was added after it restarts along, what was added before does not.
//! assert!(events.any(|event| event.path() == "app.web" && event.incarnation() == 2));
//! assert_eq!(app.report().find("app.database").unwrap().incarnation(), 1);
//! # assert!(app.stop().is_empty());
//! # Ok::<(), backstay::Error>(())
//! ```
//!
//! # Services that need each other
//!
//! A [`Key`] is the name and the type of a value that one service [provides](Spec::provides) and
//! others [need](Spec::needs) or [want](Spec::wants), as in juju's dependency engine. A wrong type
//! does not compile. From the keys follows the order of starting and stopping, in whatever order
//! services are added, and who restarts with whom:
//!
//! | the value | who needs it | who wants it |
//! |---|---|---|
//! | is not there yet | waits; the report says for what, and who is to blame | runs without it |
//! | comes | starts | starts anew with it |
//! | is provided again | starts anew | starts anew |
//! | goes, because its provider ends | is stopped, and waits until it is back | starts anew without it |
//!
//! Who depends on a value, also over others in between, is stopped before its provider is asked to,
//! and starts anew once, on however many paths it depends on it. That is no failure and no matter of
//! the [`Limit`]. [`Context::get`] hands out what was there at the start of the incarnation; with `?`
//! it parks the service until an input changes. [`Supervisor::get`] waits for a value from outside.
//!
//! ```
//! use backstay::{Context, Key, Spec, Supervisor};
//! use std::time::Duration;
//!
//! const POOL: Key<Vec<&str>> = Key::new("pool");
//!
//! let app = Supervisor::new("app");
//! let mut events = app.subscribe(64);
//! app.add_all([
//!     Spec::new("web", |ctx: &Context| {
//!         let pool = ctx.get(&POOL)?; // it is there, since the service needs it
//!         ctx.set_status(format!("with {} connections", pool.len()));
//!         ctx.wait_stop();
//!         Ok(())
//!     })
//!     .needs(&POOL),
//!     Spec::new("database", |ctx: &Context| {
//!         ctx.provide(&POOL, vec!["first", "second"])?;
//!         ctx.wait_stop();
//!         Ok(())
//!     })
//!     .provides(&POOL),
//!     Spec::new("clock", |ctx: &Context| Ok(ctx.sleep(Duration::MAX)?)),
//! ])?;
//! app.start()?;
//! app.wait_ready(Duration::from_secs(5))?;
//!
//! // What needs the database restarts with it, and nobody else does.
//! app.restart_service(app.id("database").unwrap())?;
//! assert!(events.any(|event| event.path() == "app.web" && event.incarnation() == 2));
//! assert_eq!(app.report().find("app.clock").unwrap().incarnation(), 1);
//! # assert!(app.stop().is_empty());
//! # Ok::<(), backstay::Error>(())
//! ```
//!
//! A key has one provider, and is known in one supervisor; what is below that hands values down
//! itself. Circles are refused when services are added, with the names along them.
//! [`add_all`](Supervisor::add_all) also refuses what nobody provides; after
//! [`add_spec`](Supervisor::add_spec) it waits. [`Report::to_dot`] and [`Report::to_mermaid`] draw the
//! graph. With [`bounce_delay`](SupervisorBuilder::bounce_delay) changes that follow each other cause
//! one restart. [`Spec::fatal_if`] and [`Spec::map_failure`] judge failures, as juju's filters do.
//!
//! # Trees
//!
//! A supervisor is a service, so it can be added to another one. Its failures are contained: when
//! its limit is exceeded with [`Exceeded::Fail`], all its services stop and the supervisor above
//! restarts it as any service that failed, with the same services below it. Paths are the names
//! from the root down. [`Exit::TerminateTree`] goes all the way up, unless a builder says
//! [`dont_propagate_termination`](SupervisorBuilder::dont_propagate_termination).
//! [`Context::supervise`] makes a branch that lasts as long as one incarnation of a service.
//!
//! ```
//! use backstay::{Context, Limit, Supervisor};
//! use std::time::Duration;
//!
//! let ingest = Supervisor::builder("ingest")
//!     .limit(Limit::window(3, Duration::from_secs(60)))
//!     .build()?;
//! ingest.add("tcp", |ctx: &Context| {
//!     assert_eq!(ctx.path(), "app.ingest.tcp");
//!     ctx.wait_stop();
//!     Ok(())
//! })?;
//!
//! let app = Supervisor::new("app");
//! app.add("ingest", ingest)?;
//! app.start()?;
//! app.wait_ready(Duration::from_secs(5))?;
//! assert!(app.report().find("app.ingest.tcp").is_some());
//! assert!(app.stop().is_empty());
//! # Ok::<(), backstay::Error>(())
//! ```
//!
//! # Observing
//!
//! * [`Supervisor::report`] is the tree now: states, since when, counts, last failures, status
//!   texts. It reads what was published and asks no supervisor, so it answers while everything
//!   hangs. Its `Display` draws the tree, [`to_dot`](Report::to_dot) the graph.
//! * [`Supervisor::subscribe`] is a bounded queue of [`Event`]s; what does not fit is dropped and
//!   counted. [`SupervisorBuilder::on_event`] calls an observer for each, on a thread of the tree
//!   for that purpose: it may be slow, and may call everything. What it falls behind with by more
//!   than [`DISPATCH_QUEUE_MAX`] events is dropped; [`Supervisor::dropped_events`] says how many.
//! * Every event is a record of the `log` crate, too: the target is the path; failed, paused,
//!   abandoned and hook panicked are warnings, given up is an error, the rest info or debug. Besides,
//!   the root says at info why the tree begins to end: `stopping: signal 15 (SIGTERM)`. Records are
//!   written on a thread of their own, which waits for no observer. A logger that is itself too
//!   slow misses events; a warning, in their place, says how many.
//! * [`Context::set_status`] and [`Context::log`] are a service's own words in them.
//!
//! Observers and subscribers see their supervisor and everything below it. A `failed` of
//! incarnation n comes before the `started` of n + 1.
//!
//! # Guarantees and their limits
//!
//! What holds, whatever services, hooks and observers do short of the list further down:
//!
//! * Every end is noticed: an error, a panic, a return; a panic in a `Drop`, a `Display` or a hook of
//!   yours is told as [`EventKind::HookPanicked`] and goes no further. Where no tree runs that could be
//!   told, as for a service that was refused, it is a warning in the log.
//! * The next incarnation starts when the one before has ended, with its `run` and all its stop
//!   hooks. One that was abandoned is not started again before its thread has ended;
//!   [`Spec::allow_overlap`] is the exception.
//! * A stop request wins: a service that was asked to stop is not started once more, be it in a
//!   delay, in a pause, or just starting.
//! * [`Supervisor::stop`] ends in time, and says who did not.
//! * User code runs on service threads, stop threads and the threads for observers and the log,
//!   never on a supervisor thread: none can block supervision. (The exception is a line in the log when
//!   there is no thread for the log.)
//! * An idle tree wakes up no thread.
//! * Before the kernel runs out of memory maps for threads, [`Supervisor::add`] answers
//!   [`ErrorKind::Full`]. At any other limit the start fails, and is tried again:
//!   [`FailureKind::Spawn`].
//!
//! What no library of threads can do:
//!
//! * *Kill a thread.* One that does not end is abandoned, reported and fenced off; its memory,
//!   locks and descriptors stay its own until it ends. When `main` returns, it goes with the
//!   process.
//! * *Survive a crash of the process.* A stack overflow, [`abort`](std::process::abort),
//!   [`exit`](std::process::exit), a failed allocation, a panic while unwinding or in the
//!   destructor of a thread-local, and a fault in foreign code end all services at once. The cure is
//!   a process above: an init system, or a supervisor of processes.
//! * *Undo a panic.* What it left half done is seen by the next incarnation: a poisoned `Mutex`, a
//!   queue with half an item. Make state in `run`, or repair it there.
//! * *Supervise without unwinding.* In a build with `panic = "abort"` [`Supervisor::start`] answers
//!   an error.
//!
//! # The panic hook
//!
//! At the first start of a supervisor in a process a panic hook is installed, once. On threads that
//! run a service, a hook or an observer it stores message, location and, with the feature
//! `backtrace`, the return addresses; then, and on all other threads at once, it calls the hook
//! that was there before. So panics go on being printed, and a crash reporter goes on seeing them.
//! [`SupervisorBuilder::quiet_panics`] leaves that call out for the services of one supervisor and
//! all below. The hook is never removed. Who sets another hook later and does not chain to this one
//! loses [`Failure::location`] and [`Failure::backtrace`], nothing else.
//!
//! Names for a [`Trace`] are looked up when it is formatted, which costs about 100 ms for the first
//! one in a process; nothing formats one unasked.
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `backtrace` | yes | panics carry the addresses of their stack; without it [`Failure::backtrace`] is `None` |
//! | `net` | yes | `services::Listener`: accepts connections |
//! | `process` | yes | `services::Command`: a child process as a service (unix) |
//! | `signals` | yes | `Supervisor::run`: until SIGINT or SIGTERM, with functions for other signals (unix) |
//! | `serde` | no | `Serialize` for reports, events, failures and ends |
//!
//! The oldest compiler that builds it is Rust 1.85. A newer one is asked for only in a minor
//! version.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod builder;
mod context;
mod driver;
mod error;
mod errors;
mod event;
mod exit;
mod failure;
mod id;
mod key;
mod link;
mod machine;
mod report;
mod service;
pub mod services;
#[cfg(all(unix, feature = "signals"))]
mod signals;
mod spec;
mod supervisor;
mod text;
mod trade;

pub use crossbeam_channel;

pub use builder::{MAX_SERVICES, SupervisorBuilder};
pub use context::{Context, OnStop};
pub use driver::board::{EARLY_ENDS_MAX, REMOVED_ENDS_MAX};
pub use driver::finish::{RANK_TIME_MAX, RANKED_MAX};
pub use driver::limits::{MAPS_PER_THREAD, MAPS_RESERVE};
pub use driver::request::COMMANDS_MAX;
pub use driver::stop::STOP_THREADS_MAX;
pub use error::{
    BoxError, Error, ErrorKind, Never, NotReady, SOURCE_DEPTH_MAX, ServiceResult, Stopping,
};
pub use errors::{ERRORS_KEPT, Errors, SOURCES_MAX};
pub use event::{Event, EventKind, Next, StopCause};
pub use exit::{Because, Exit};
pub use failure::{Failure, FailureKind, TRACE_FRAMES_MAX, Trace};
pub use id::{NAME_BYTES_MAX, ServiceId};
pub use key::{Key, KeyReport, KeyRole, Missing};
pub use link::hub::{EVENT_FLUSH_MAX, Events};
pub use link::lane::DISPATCH_QUEUE_MAX;
pub use machine::SUPERVISE_GRACE;
pub use machine::policy::{
    AutoShutdown, Backoff, DEFAULT_FACTOR, DEFAULT_HALF_LIFE, DEFAULT_JITTER, DEFAULT_PAUSE,
    DEFAULT_PAUSE_JITTER, DEFAULT_RESET_AFTER, DEFAULT_STOP_TIMEOUT, DEFAULT_THRESHOLD, Exceeded,
    Limit, PanicPolicy, Restart, StopOrder,
};
pub use machine::strategy::Strategy;
pub use report::{
    EXIT_CODE_ABANDONED, EXIT_CODE_STOPPED, End, Report, ServiceReport, State, StopReport,
    Unstopped,
};
pub use service::{Service, service_fn};
pub use spec::{STACK_SIZE_MIN, Spec};
pub use supervisor::Supervisor;

// The example of the README uses `Supervisor::run`.
#[cfg(all(doctest, unix, feature = "signals"))]
#[doc = include_str!("../README.md")]
struct Readme;
