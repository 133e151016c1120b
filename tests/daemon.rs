//! The example `daemon` as its users see it: a process with clients and signals.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common_process;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common_process::{DEADLINE, Process};

const PANICS: usize = 100;
const CLIENTS: usize = 4;

/// How long each service of the daemon may take, unless it is told otherwise.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A signal that forces, or a stop without stragglers, takes no longer.
const SOON: Duration = Duration::from_secs(2);

#[test]
fn panics_disturb_nobody_and_sigterm_ends_it() {
    let (mut process, address) = daemon(&[]);
    panic_while_others_are_served(&mut process, address);
    let asked = Instant::now();
    process.signal("TERM");
    let ended = process.end();
    assert!(asked.elapsed() < SOON, "{ended}");
    ended.assert_code(0);
    // On stdout; the log line has the path as its target.
    let failures = |line: &&String| line.starts_with("app.flaky [");
    assert_eq!(ended.lines.iter().filter(failures).count(), PANICS);
    ended.assert_said("app.flaky] [100] failed (panic): a client sent \"panic\" at ");
    ended.assert_said("everything stopped in time");
    // They stop in the reverse order.
    let stopped = |name: &str| ended.position(&format!("app.{name}] [1] stopped"));
    assert!(stopped("acceptor") < stopped("connections"), "{ended}");
    assert!(stopped("connections") < stopped("ticker"), "{ended}");
    assert!(stopped("ticker") < stopped("status"), "{ended}");
    // A sleep that the stop cut short is nothing to speak of.
    assert_eq!(ended.count("it answered"), 0, "{ended}");
}

#[test]
fn straggler_is_named_and_changes_the_exit_code() {
    let (mut process, address) = daemon(&["--stubborn"]);
    panic_while_others_are_served(&mut process, address);
    let asked = Instant::now();
    process.signal("TERM");
    let ended = process.end();
    let took = asked.elapsed();
    ended.assert_code(3);
    assert!(
        (STOP_TIMEOUT..STOP_TIMEOUT + SOON).contains(&took),
        "{took:?}, {ended}"
    );
    ended.assert_said("app.stubborn] [1] abandoned");
    ended.assert_said("did not stop in time:");
    let straggler = "  app.stubborn (incarnation 1, thread app.stubborn, waited ";
    let waited = ended.lines[ended.position(straggler)].trim_start_matches(straggler);
    // In whole seconds: "2s)".
    let waited: u64 = waited.trim_end_matches("s)").parse().expect(waited);
    let in_time = STOP_TIMEOUT.as_secs()..=took.as_secs();
    assert!(in_time.contains(&waited), "{took:?}, {ended}");
    assert_eq!(ended.count("(incarnation "), 1, "{ended}");
}

#[test]
fn second_signal_forces_the_way_out() {
    let (mut process, _address) = daemon(&["--stubborn", "--stop-timeout", "3600"]);
    process.signal("TERM");
    // By now the first one has arrived.
    process.wait_line("app.status] [1] stopped");
    let forced = Instant::now();
    process.signal("TERM");
    let ended = process.end();
    assert!(forced.elapsed() < SOON, "{ended}");
    ended.assert_code(1);
    let error = &ended.lines[ended.position("Error: ")];
    assert!(error.contains("a second signal"), "{ended}");
    assert!(error.contains("app.stubborn"), "{ended}");
}

#[test]
fn sigusr1_prints_the_tree() {
    let (mut process, address) = daemon(&[]);
    let mut client = Client::new(address);
    assert_eq!(client.ask("hello"), "echo hello");
    process.signal("USR1");
    process.wait_line("app (running)");
    process.wait_line("├─ app.ticker (running)");
    process.wait_line("│  └─ app.connections.client-1 (running)");
    process.wait_line("└─ app.acceptor (ready)");
    // It still works.
    process.signal("USR1");
    process.wait_line("app (running)");
    process.signal("TERM");
    process.end().assert_code(0);
}

#[test]
fn sigint_ends_it_too() {
    let (process, address) = daemon(&[]);
    // A client that says nothing doesn't hold it up.
    let mut client = Client::new(address);
    assert_eq!(client.ask("hello"), "echo hello");
    process.signal("INT");
    let ended = process.end();
    ended.assert_code(0);
    ended.assert_said("app.connections.client-1] [1] stopped");
    ended.assert_said("everything stopped in time");
}

#[test]
fn time_given_ends_it_too() {
    let (process, _address) = daemon(&["--for", "0.1"]);
    let ended = process.end();
    ended.assert_code(0);
    ended.assert_said("everything stopped in time");
}

#[test]
fn line_that_is_too_long_ends_its_client_alone() {
    let (mut process, address) = daemon(&[]);
    let mut other = Client::new(address);
    assert_eq!(other.ask("before"), "echo before");
    Client::new(address).send(&"x".repeat(5_000));
    process.wait_line("app.connections.client-2 [1] failed (error): a line of more than");
    assert_eq!(other.ask("after"), "echo after");
    process.signal("TERM");
    process.end().assert_code(0);
}

/// `daemon | head -1`: it works on, and ends well.
#[test]
fn closed_stdout_is_no_reason_to_stop_working() {
    let mut process = Process::start_until(&mut command(&[]), 1);
    let address = listens_on(&mut process);
    let mut client = Client::new(address);
    assert_eq!(client.ask("panic"), "ok");
    // The failure has been logged, and next the tree is printed, as at the signal.
    process.wait_line("app.flaky] [1] failed (panic)");
    process.signal("USR1");
    assert_eq!(client.ask("hello"), "echo hello");
    process.signal("TERM");
    let ended = process.end();
    ended.assert_code(0);
    ended.assert_said("app.status] [1] stopped");
    assert_eq!(ended.count("hook panicked"), 0, "{ended}");
}

/// A running daemon, after it has printed its tree: everything is up then.
fn daemon(args: &[&str]) -> (Process, SocketAddr) {
    let mut process = Process::start(&mut command(args));
    let address = listens_on(&mut process);
    process.wait_line("app (running)");
    process.wait_line("app.flaky (running)");
    (process, address)
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(executable());
    command
        .args(args)
        .env_remove("RUST_LOG")
        .env_remove("RUST_BACKTRACE");
    command
}

fn listens_on(process: &mut Process) -> SocketAddr {
    let line = process.wait_line("listening on ");
    line.trim_start_matches("listening on ").parse().unwrap()
}

/// The example as its source is now, in the profile and with the features of this test. Where `cargo
/// test` has just built everything, cargo finds nothing to do; `cargo test --test daemon` alone leaves
/// the example as it was.
fn executable() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        // <target directory>/[<triple>/]<profile>/deps/daemon-<hash>
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        let name = match profile.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["build", "--quiet", "--example", "daemon", "--profile", name])
            .args(["--no-default-features", "--features", &features()])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let mut target = profile.parent().unwrap();
        if !target.join(".rustc_info.json").exists() {
            // One level below: the test was built with --target.
            cargo.arg("--target").arg(target.file_name().unwrap());
            target = target.parent().unwrap();
        }
        let built = cargo.arg("--target-dir").arg(target).output().unwrap();
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{cargo:?}:\n{errors}");
        profile.join("examples").join("daemon")
    });
    built.clone()
}

/// Those of this test, so that nothing is built twice.
fn features() -> String {
    let all = [
        ("backtrace", cfg!(feature = "backtrace")),
        ("net", cfg!(feature = "net")),
        ("process", cfg!(feature = "process")),
        ("serde", cfg!(feature = "serde")),
        ("signals", cfg!(feature = "signals")),
    ];
    let on = all
        .iter()
        .filter(|(_, is_on)| *is_on)
        .map(|(name, _)| *name);
    on.collect::<Vec<_>>().join(",")
}

struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: SocketAddr) -> Client {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        Client(BufReader::new(socket))
    }

    fn send(&mut self, line: &str) {
        let line = format!("{line}\n");
        self.0.get_mut().write_all(line.as_bytes()).unwrap();
    }

    fn ask(&mut self, line: &str) -> String {
        self.send(line);
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }
}

/// One client makes the flaky worker panic, again and again, while others want each of their
/// lines answered.
fn panic_while_others_are_served(process: &mut Process, address: SocketAddr) {
    let over = AtomicBool::new(false);
    let serve = |client: usize| {
        let mut served = 0_usize;
        let mut connection = Client::new(address);
        while !over.load(Ordering::Relaxed) {
            let line = format!("line {served} of {client}");
            assert_eq!(connection.ask(&line), format!("echo {line}"));
            served += 1;
        }
        served
    };
    thread::scope(|scope| {
        let serve = &serve;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| scope.spawn(move || serve(n)))
            .collect();
        let set_over = SetOnDrop(&over);
        let mut client = Client::new(address);
        for _ in 0..PANICS {
            assert_eq!(client.ask("panic"), "ok");
        }
        process.wait_line("100 failures (100 panics), last: a client sent \"panic\"");
        drop(set_over);
        for client in clients {
            assert!(client.join().unwrap() > 0);
        }
    });
}

/// Also when the test fails: otherwise the clients would go on for ever.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
