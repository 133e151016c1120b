//! A small daemon: a TCP line service that survives its own bugs.
//!
//! ```text
//! cargo run --example daemon -- --port 7000
//! echo hello | nc -N localhost 7000         # answers "echo hello"
//! echo panic | nc -N localhost 7000         # a worker panics; nobody else notices
//! kill -USR1 $(pidof daemon)                # prints the tree
//! kill $(pidof daemon)                      # or ctrl-c: stops everything in order
//! ```
//!
//! The tree, in the order in which it starts; it stops in the reverse, so that whoever hands work
//! on is gone before the one who takes it:
//!
//! ```text
//! app
//! ├─ app.status          prints the tree when everything is up
//! ├─ app.ticker          does something once a second
//! ├─ app.flaky           takes the lines "panic", and panics
//! ├─ app.connections     a supervisor of its own, with a service for each client
//! │  └─ app.connections.client-1
//! └─ app.acceptor        adds them
//! ```
//!
//! Exit codes: 0, everything stopped; 3, a thread had to be left behind; 1, the supervisor failed,
//! or a second signal forced the way out; 2, wrong usage.
//!
//! Options: `--port N` (default 0: any), `--for SECONDS` (default: for ever), `--stop-timeout SECONDS`
//! for each service (default 2), and `--stubborn`, which adds a worker that ignores its stop.

mod options;

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use backstay::crossbeam_channel::{Receiver, Sender, bounded, select};
use backstay::{
    Backoff, BoxError, Context, ErrorKind, EventKind, Limit, Restart, Service, ServiceResult, Spec,
    StopOrder, Supervisor,
};
use signal_hook::consts::SIGUSR1;

use options::{Options, USAGE};

/// How many clients are served at a time.
const CLIENTS_MAX: usize = 1_000;

/// How long those may take to set themselves up who say when they have.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client's line may be, in bytes.
const LINE_BYTES_MAX: u64 = 4_096;

/// How many lines may wait for the flaky worker.
const QUEUE_LINES_MAX: usize = 1_024;

fn main() -> Result<ExitCode, BoxError> {
    // The library logs every event, with the service's path as the target.
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}\n{USAGE}");
            return Ok(ExitCode::from(2));
        }
    };
    let app = build(&options)?;
    // Until SIGINT or SIGTERM. A second one forces the way out, with an error that names who
    // still runs.
    app.run()?;
    // The same answer again: who did not stop in time.
    let report = app.stop();
    say(&report);
    Ok(ExitCode::from(report.exit_code()))
}

/// The whole tree. Nothing runs yet.
fn build(options: &Options) -> Result<Supervisor, BoxError> {
    // A port that is taken is a mistake of the user's, not a failure to be retried.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
    let app = Supervisor::builder("app")
        .service_stop_timeout(options.stop_timeout)
        .on_event(|event| {
            // One line and a tree, with nobody's output in between.
            if let (EventKind::Failed { .. }, Some(app)) = (event.kind(), APP.get()) {
                say(format_args!("{event}\n{}", app.report()));
            }
        })
        .on_signal(SIGUSR1, |app| say(app.report()))
        .build()?;
    APP.get_or_init(|| app.clone());
    if options.stubborn {
        app.add_spec(Spec::new("stubborn", stubborn).ready_timeout(READY_TIMEOUT))?;
    }
    app.add("status", status)?;
    app.add("ticker", tick)?;

    let (lines, queue) = bounded(QUEUE_LINES_MAX);
    app.add_spec(
        Spec::new("flaky", move |ctx: &Context| take_lines(ctx, &queue))
            // A closed queue is a good end: there is nobody left to hand lines over.
            .restart(Restart::OnFailure)
            // Without a limit of its own, six panics would make the whole supervisor pause.
            .limit(Limit::none())
            .backoff(Backoff::fixed(Duration::from_millis(10))),
    )?;

    let connections = Supervisor::builder("connections")
        .max_services(CLIENTS_MAX)
        // A client that vanishes in the middle of a line is no reason to stop taking others.
        .limit(Limit::none())
        .stop_order(StopOrder::Parallel)
        .service_stop_timeout(options.stop_timeout)
        .build()?;
    app.add("connections", connections.clone())?;
    let acceptor = Acceptor {
        address: listener.local_addr()?,
        listener,
        connections,
        lines,
        last_client: AtomicU64::new(0),
    };
    app.add_spec(
        Spec::new("acceptor", acceptor)
            .ready_timeout(READY_TIMEOUT)
            // Out of descriptors, say: that takes a while to get better.
            .backoff(Backoff::exponential(
                Duration::from_millis(50),
                Duration::from_secs(5),
            )),
    )?;
    if let Some(time) = options.run_for {
        let timer = move |ctx: &Context| {
            ctx.sleep(time)?;
            ctx.shutdown(); // as a signal would
            Ok(())
        };
        app.add_spec(Spec::new("timer", timer).restart(Restart::OnFailure))?;
    }
    Ok(app)
}

/// For the observer above, which is made before the supervisor is.
static APP: OnceLock<Supervisor> = OnceLock::new();

/// Prints a line. That nobody reads it any more (`daemon | head -1`) is no reason to stop working;
/// `println!` would panic.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Takes clients in, and adds a service for each of them.
struct Acceptor {
    listener: TcpListener,
    address: SocketAddr,
    connections: Supervisor,
    lines: Sender<String>,
    /// A service outlives its runs, so the numbers go on after a restart.
    last_client: AtomicU64,
}

impl Service for Acceptor {
    fn run(&self, ctx: &Context) -> ServiceResult {
        say(format_args!("listening on {}", self.address));
        ctx.ready();
        loop {
            let (socket, peer) = self.listener.accept()?;
            if ctx.is_stopping() {
                return Ok(());
            }
            let number = self.last_client.fetch_add(1, Ordering::Relaxed) + 1;
            ctx.set_status(format!("{number} clients so far, the last was {peer}"));
            let client = Client {
                socket: Arc::new(socket),
                lines: self.lines.clone(),
            };
            // Gone from the tree when it ends, however it ends.
            let spec = Spec::new(format!("client-{number}"), client).restart(Restart::Never);
            match self.connections.add_spec(spec) {
                Ok(_id) => {}
                // The refused service was dropped, and with it the socket.
                Err(e) if e.kind() == ErrorKind::Full => {
                    ctx.log(format!("turned away {peer}: {e}"))
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Called when it shall stop, on another thread: `accept` blocks until somebody connects, so
    /// somebody does.
    fn interrupt(&self) {
        drop(TcpStream::connect(self.address));
    }
}

/// Answers one client's lines.
struct Client {
    socket: Arc<TcpStream>,
    lines: Sender<String>,
}

impl Service for Client {
    fn run(&self, ctx: &Context) -> ServiceResult {
        // The other way to end a blocking call: for what belongs to this run alone.
        let socket = self.socket.clone();
        let _unblock = ctx.on_stop(move || socket.shutdown(Shutdown::Both));
        let mut reader = BufReader::new(&*self.socket);
        let mut line = String::new();
        loop {
            line.clear();
            let n = (&mut reader).take(LINE_BYTES_MAX).read_line(&mut line)?;
            if n == 0 {
                return Ok(());
            }
            if n as u64 == LINE_BYTES_MAX && !line.ends_with('\n') {
                return Err(format!("a line of more than {LINE_BYTES_MAX} bytes").into());
            }
            let answer = self.answer(line.trim_end());
            (&*self.socket).write_all(answer.as_bytes())?;
        }
    }
}

impl Client {
    fn answer(&self, line: &str) -> String {
        if line != "panic" {
            return format!("echo {line}\n");
        }
        // Never waits for the worker: it may be down.
        match self.lines.try_send(line.to_owned()) {
            Ok(()) => "ok\n".to_owned(),
            Err(e) => format!("busy: {e}\n"),
        }
    }
}

/// A worker with a bug. The queue outlives its panics, so no line is lost.
fn take_lines(ctx: &Context, queue: &Receiver<String>) -> ServiceResult {
    select! {
        recv(queue) -> line => match line {
            Ok(line) => panic!("a client sent {line:?}"),
            Err(_closed) => Ok(()),
        },
        recv(ctx.stop_signal()) -> _ => Ok(()),
    }
}

/// A periodic worker. The sleep ends early when it shall stop.
fn tick(ctx: &Context) -> ServiceResult {
    for n in 1_u64.. {
        ctx.sleep(Duration::from_secs(1))?;
        ctx.set_status(format!("tick {n}"));
    }
    Ok(())
}

/// Prints the tree when everything is up, or says what isn't.
fn status(ctx: &Context) -> ServiceResult {
    if let Err(not_ready) = ctx.root().wait_ready(2 * READY_TIMEOUT) {
        ctx.log(not_ready.to_string());
    }
    say(ctx.root().report());
    ctx.wait_stop();
    Ok(())
}

/// What no supervisor can end: a thread that doesn't listen.
fn stubborn(ctx: &Context) -> ServiceResult {
    ctx.ready();
    loop {
        std::thread::park();
    }
}
