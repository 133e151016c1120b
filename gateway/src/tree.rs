//! The tree: which services there are, what they need of each other, and how much of each is too much.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstay::crossbeam_channel::{Receiver, Sender, bounded};
use backstay::services::{Queue, WorkerPool};
use backstay::{
    Backoff, Context, Error, Event, EventKind, Limit, Service, ServiceResult, Spec, Supervisor,
};

use crate::config::{self, Config, DATA, INTAKE, RETENTION, UPLOAD};
use crate::demo::{self, faults, faults::Faults, pty::Pty};
use crate::intake::{self, SERIAL, TCP, UDP};
use crate::line::{FATES, Fate};
use crate::store::{self, STORE};
use crate::trouble::Trouble;
use crate::upkeep;
use crate::upload::{self, Batch, PEER};

const SIGHUP: i32 = 1;
const SIGUSR1: i32 = 10;

/// How many threads parse.
const PARSERS: usize = 2;

/// How many chunks of lines wait for them.
const PARSE_QUEUE: usize = 1_000;

/// How long a service may take to stop: more than the longest wait in any of them.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the parsers and the writer may, when they hang.
const SHORT_STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// How many threads of theirs that hang may be left behind.
const HUNG_MAX: usize = 2;

/// What services share, and what outlives the restart of any of them.
pub struct Gateway {
    pub file: PathBuf,
    pub config: Mutex<Config>,
    pub reload: (Sender<()>, Receiver<()>),
    pub parsers: WorkerPool,
    pub writes: (Sender<store::Write>, Receiver<store::Write>),
    pub committed: AtomicUsize,
    /// From the reader to the sender, without room: what was not taken is not lost.
    pub handover: (Sender<Batch>, Receiver<Batch>),
    pub fates: [AtomicUsize; FATES.len()],
    pub faults: Faults,
}

impl Gateway {
    /// So many lines came to this end.
    pub fn count(&self, fate: Fate, lines: usize) {
        self.fates[fate as usize].fetch_add(lines, Ordering::Relaxed);
    }

    /// How many lines came to what end, since the process began.
    pub fn summary(&self) -> String {
        let counts = self.fates.iter().zip(FATES);
        let texts = counts.map(|(n, fate)| format!("{} {fate}", n.load(Ordering::Relaxed)));
        texts.collect::<Vec<_>>().join(", ")
    }
}

/// How everybody has it.
pub type Shared = Arc<Gateway>;

/// The whole gateway, within the demonstration if it has the line of that; nothing runs yet.
///
/// # Errors
/// None that depends on the configuration.
pub fn build(file: PathBuf, config: Config, line: Option<&Pty>) -> Result<Supervisor, Error> {
    let reload = bounded(1);
    let reading = reload.0.clone();
    let Config { data, limits, .. } = config.clone();
    let (failures, minute) = (limits.failures_per_minute.get(), Duration::from_secs(60));
    let app = Supervisor::builder("gateway")
        // A crash loop of the whole is for the init system to see.
        .limit(Limit::window(failures, minute))
        .backoff(backoff(Duration::from_secs(5)))
        .service_stop_timeout(STOP_TIMEOUT)
        .on_signal(SIGHUP, move |_| {
            // Full: a reading is about to be done already.
            let _full = reading.try_send(());
        })
        .on_signal(SIGUSR1, |app| println!("{}\n", app.report()))
        .on_event(tell)
        .build()?;
    if line.is_some() {
        demo::add_first(&app, &data.folder)?;
    }

    let parsers = WorkerPool::builder(PARSERS)
        .queue(Queue::new(PARSE_QUEUE)?)
        .continue_on_error()
        .build()?;
    let gateway = Arc::new(Gateway {
        file,
        config: Mutex::new(config),
        reload,
        parsers: parsers.clone(),
        writes: bounded(store::QUEUE_MAX),
        committed: AtomicUsize::new(0),
        handover: bounded(0),
        fates: Default::default(),
        faults: Faults::default(),
    });
    if let Some(socket) = limits.fault_socket {
        app.add("faults", faults::service(&socket, gateway.clone()))?;
    }
    let service = |name: &str, run| Spec::new(name, of(&gateway, run));
    // They start in this order, each when what it needs is there, and stop in the reverse: devices are
    // let go before the writer ends.
    app.add_all([
        service("config", config::keep)
            .provides(&DATA)
            .provides(&INTAKE)
            .provides(&UPLOAD)
            .provides(&RETENTION),
        service("writer", store::writer)
            .needs(&DATA)
            .provides(&STORE)
            .fatal_if(Trouble::is_fatal)
            .stop_timeout(SHORT_STOP_TIMEOUT)
            .allow_overlap(HUNG_MAX),
        service("retention", upkeep::retention)
            .needs(&RETENTION)
            .needs(&STORE),
        // The peer may be away for days: no number of failures is too many.
        service("upload-read", upload::reader)
            .needs(&UPLOAD)
            .needs(&STORE)
            .group("upload")
            .limit(Limit::none()),
        service("upload-send", upload::sender)
            .needs(&UPLOAD)
            .wants(&PEER)
            .group("upload")
            .limit(Limit::none())
            .backoff(backoff(Duration::from_secs(30))),
        Spec::new("parsers", parsers)
            .stop_timeout(SHORT_STOP_TIMEOUT)
            .allow_overlap(HUNG_MAX),
        service("tcp", intake::tcp)
            .needs(&INTAKE)
            .provides(&TCP)
            .fatal_if(Trouble::is_fatal),
        service("udp", intake::udp)
            .needs(&INTAKE)
            .provides(&UDP)
            .fatal_if(Trouble::is_fatal),
        service("serial", intake::serial)
            .needs(&INTAKE)
            .provides(&SERIAL)
            .fatal_if(Trouble::is_fatal),
        service("watchdog", upkeep::watchdog),
        Spec::new("announce", upkeep::announce)
            .needs(&TCP)
            .needs(&UDP)
            .needs(&SERIAL)
            .needs(&STORE),
    ])?;
    if let Some(line) = line {
        demo::add_last(&app, line)?;
    }
    Ok(app)
}

/// A function of what is shared, as a service.
fn of(gateway: &Shared, run: fn(&Shared, &Context) -> ServiceResult) -> impl Service {
    let gateway = gateway.clone();
    move |ctx: &Context| run(&gateway, ctx)
}

/// Short at first, and short again after a while without a failure.
fn backoff(longest: Duration) -> Backoff {
    Backoff::exponential(Duration::from_millis(50), longest).reset_after(Duration::from_secs(10))
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
