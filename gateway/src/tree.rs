//! The tree: which services there are, what they need of each other, and how much of each is too much.
//!
//! They start in this order, each when what it needs is there, and stop in the reverse: devices are let
//! go before the writer ends.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstay::crossbeam_channel::bounded;
use backstay::services::{Cleanup, Command, Queue, WorkerPool};
use backstay::{Backoff, Context, Error, Event, EventKind, Limit, ServiceResult, Spec, Supervisor};

use crate::config::{self, Config, DATA, INTAKE, RETENTION, UPLOAD};
use crate::faults::{self, Faults};
use crate::intake::{self, Counters, Desk, SERIAL, TCP, UDP};
use crate::store::{self, STORE};
use crate::trouble::Trouble;
use crate::upload::{self, PEER};
use crate::{demo::peer, upkeep};

const SIGHUP: i32 = 1;
const SIGUSR1: i32 = 10;

/// How many threads parse.
const PARSERS: usize = 2;

/// How many chunks of lines wait for them.
const PARSE_QUEUE: usize = 1_000;

/// How long a service may take to stop: more than the longest wait in any of them.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the parsers and the writer may take to stop when they hang.
const SHORT_STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// How many threads of theirs that hang may be left behind.
const HUNG_MAX: usize = 2;

/// The whole gateway; nothing runs yet. Without a file it is the demonstration.
///
/// # Errors
/// None that depends on the configuration.
pub fn build(file: Option<PathBuf>, config: Config) -> Result<Supervisor, Error> {
    let (reload, reloads) = bounded(1);
    let restarts = config.limits.failures_per_minute.get();
    let app = Supervisor::builder("gateway")
        // A crash loop of the whole is for the init system to see.
        .limit(Limit::window(restarts, Duration::from_secs(60)))
        .backoff(backoff(Duration::from_secs(5)))
        .service_stop_timeout(STOP_TIMEOUT)
        // Full: one more reading is waiting to be done already.
        .on_signal(SIGHUP, move |_| {
            let _pending = reload.try_send(());
        })
        .on_signal(SIGUSR1, upkeep::print_tree)
        .on_event(tell)
        .build()?;

    let faults = Arc::new(Faults::default());
    let (writes, writer) = store::writer(faults.clone());
    let parsers = WorkerPool::builder(PARSERS)
        .queue(Queue::new(PARSE_QUEUE)?)
        .continue_on_error()
        .build()?;
    let desk = Arc::new(Desk {
        parsers: parsers.clone(),
        writes: writes.clone(),
        counters: Counters::default(),
        faults: faults.clone(),
    });
    let handover = bounded(0);

    let is_demo = file.is_none();
    if is_demo {
        app.add("cleanup", remove_at_the_end(config.data.folder.clone())?)?;
    }
    if let Some(socket) = &config.limits.fault_socket {
        app.add("faults", faults::service(socket, faults.clone()))?;
    }
    let mut specs = vec![
        Spec::new("config", config::service(file, config, reloads))
            .provides(&DATA)
            .provides(&INTAKE)
            .provides(&UPLOAD)
            .provides(&RETENTION),
        Spec::new("writer", writer)
            .needs(&DATA)
            .provides(&STORE)
            .fatal_if(Trouble::is_fatal)
            .stop_timeout(SHORT_STOP_TIMEOUT)
            .allow_overlap(HUNG_MAX),
        Spec::new(
            "retention",
            upkeep::retention(writes.clone(), faults.clone()),
        )
        .needs(&RETENTION)
        .needs(&STORE),
        // The peer may be away for days: no number of failures is too many.
        Spec::new(
            "upload-read",
            upload::reader(handover.clone(), faults.clone()),
        )
        .needs(&UPLOAD)
        .needs(&STORE)
        .group("upload")
        .limit(Limit::none()),
        Spec::new("upload-send", upload::sender(handover, writes, faults))
            .needs(&UPLOAD)
            .wants(&PEER)
            .group("upload")
            .limit(Limit::none())
            .backoff(backoff(Duration::from_secs(30))),
        Spec::new("parsers", parsers)
            .stop_timeout(SHORT_STOP_TIMEOUT)
            .allow_overlap(HUNG_MAX),
        Spec::new("tcp", intake::tcp(desk.clone()))
            .needs(&INTAKE)
            .provides(&TCP)
            .fatal_if(Trouble::is_fatal),
        Spec::new("udp", intake::udp(desk.clone()))
            .needs(&INTAKE)
            .provides(&UDP)
            .fatal_if(Trouble::is_fatal),
        Spec::new("serial", intake::serial(desk.clone()))
            .needs(&INTAKE)
            .provides(&SERIAL)
            .fatal_if(Trouble::is_fatal),
        Spec::new("watchdog", upkeep::watchdog(desk)),
        Spec::new("announce", upkeep::announce)
            .needs(&TCP)
            .needs(&UDP)
            .needs(&STORE)
            .needs(&SERIAL),
    ];
    if is_demo {
        specs.push(Spec::new("peer", peer::service("127.0.0.1:0")).provides(&PEER));
        specs.push(
            Spec::new("devices", devices)
                .needs(&TCP)
                .needs(&UDP)
                .needs(&SERIAL),
        );
        specs.push(Spec::new("screen", upkeep::screen()));
    }
    app.add_all(specs)?;
    Ok(app)
}

/// Short at first, and short again after a while without a failure.
fn backoff(longest: Duration) -> Backoff {
    Backoff::exponential(Duration::from_millis(50), longest).reset_after(Duration::from_secs(10))
}

/// Another process of this program, full of devices.
fn devices(ctx: &Context) -> ServiceResult {
    let addresses = [
        ctx.get(&TCP)?.to_string(),
        ctx.get(&UDP)?.to_string(),
        ctx.get(&SERIAL)?.display().to_string(),
    ];
    let command = Command::new(std::env::current_exe()?)
        .arg("simulate")
        .args(addresses)
        .keep_stdio();
    backstay::Service::run(&command, ctx)
}

/// Added first, so it acts last.
fn remove_at_the_end(folder: PathBuf) -> Result<Cleanup, Error> {
    let cleanup = Cleanup::new();
    cleanup.push(move || Ok(std::fs::remove_dir_all(&folder)?))?;
    Ok(cleanup)
}

/// What the operator shall read, on standard error.
fn tell(event: &Event) {
    match event.kind() {
        // `main` says it, in one line.
        EventKind::Failed { failure, .. } if Trouble::is_fatal(failure) => {}
        EventKind::Failed { .. }
        | EventKind::Paused { .. }
        | EventKind::GivenUp { .. }
        | EventKind::Abandoned { .. }
        | EventKind::EndedLate
        | EventKind::HookPanicked { .. }
        | EventKind::Log { .. } => eprintln!("{event}"),
        _ => {}
    }
}
