//! Keeps long-running, blocking code alive: supervision trees over operating-system threads.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod context;
mod driver;
mod error;
mod event;
mod exit;
mod failure;
mod id;
mod link;
mod machine;
mod report;
mod service;
#[cfg(all(unix, feature = "signals"))]
mod signals;
mod spec;
mod supervisor;

pub use crossbeam_channel;

pub use builder::{MAX_SERVICES, SupervisorBuilder};
pub use context::{Context, OnStop};
pub use driver::board::{EARLY_ENDS_MAX, REMOVED_ENDS_MAX};
pub use driver::limits::{MAPS_PER_THREAD, MAPS_RESERVE};
pub use driver::request::COMMANDS_MAX;
pub use driver::stop::STOP_THREADS_MAX;
pub use error::{
    BoxError, Error, ErrorKind, Never, NotReady, SOURCE_DEPTH_MAX, ServiceResult, Stopping,
};
pub use event::{Event, EventKind, Next, StopCause};
pub use exit::{Because, Exit};
pub use failure::{Failure, FailureKind, TRACE_FRAMES_MAX, Trace};
pub use id::{NAME_BYTES_MAX, ServiceId};
pub use link::hub::{DISPATCH_QUEUE_MAX, EVENT_FLUSH_MAX, Events};
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
