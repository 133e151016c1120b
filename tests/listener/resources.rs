//! What listeners hold, use up, and give back. In processes of their own.

use std::io::Write;
use std::net::TcpStream;

use backstay::EventKind;
use backstay::services::Listener;

use crate::common::process::{in_own_process, leaves_nothing, threads};
use crate::common::watch::entry;
use crate::common::{Gate, Recorder, Tally, ms, pass, secs, unlimited, wait_for};
use crate::{assert_echo, connect, echo, start};

#[test]
fn rounds_leave_nothing() {
    leaves_nothing("resources::rounds_leave_nothing", 50, || {
        let app = unlimited("app");
        let listener = Listener::tcp("127.0.0.1:0", |stream, ctx| {
            if stream.peer_addr()?.port() % 3 == 0 {
                return Err("not you".into());
            }
            echo(stream, ctx)
        });
        let address = start(&app, &listener.linger(ms(0)));
        let clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
        for client in &clients[..10] {
            // It may be one that is refused.
            let _ = (&mut &*client).write_all(b"x");
        }
        drop(app.stop());
        drop(clients);
    });
}

/// After a crowd, only some threads are kept for the next one.
#[test]
fn most_threads_of_a_crowd_leave() {
    in_own_process("resources::most_threads_of_a_crowd_leave", || {
        let (gate, begun) = (Gate::new(), Tally::new());
        let (hold, begin) = (gate.clone(), begun.clone());
        let listener = Listener::tcp("127.0.0.1:0", move |_stream, _ctx| {
            begin.add();
            hold.wait();
            Ok(())
        });
        let app = unlimited("app");
        let address = start(&app, &listener);
        let before = threads();
        let clients: Vec<_> = (0..200).map(|_| connect(address)).collect();
        begun.reach(200);
        assert_eq!(threads(), before + 200);
        gate.open();
        drop(clients);
        wait_for("most have left", || threads() <= before + 32);
        wait_for("and are forgotten", || {
            entry(&app, "app.web").services().len() <= 32
        });
        // And those that have stayed serve.
        for _ in 0..100 {
            drop(connect(address));
        }
        begun.reach(300);
        assert!(app.stop().is_empty());
    });
}

/// Context switches of this process, of all its threads.
fn switches() -> u64 {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok())
        .flat_map(|status| {
            let counts: Vec<u64> = status
                .lines()
                .filter_map(|l| l.split_once("ctxt_switches:"))
                .map(|(_, n)| n.trim().parse().unwrap())
                .collect();
            counts
        })
        .sum()
}

#[test]
fn an_idle_listener_wakes_nobody_up() {
    in_own_process("resources::an_idle_listener_wakes_nobody_up", || {
        let app = unlimited("app");
        let address = start(&app, &Listener::tcp("127.0.0.1:0", echo));
        // Open ones that say nothing, and threads without a connection.
        let mut clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
        for client in &mut clients {
            assert_echo(client, "x");
        }
        clients.truncate(5);
        let mut before = switches();
        wait_for("they are quiet", || {
            pass(ms(100));
            let now = switches();
            std::mem::replace(&mut before, now) + 2 >= now
        });
        let before = switches();
        pass(ms(1500));
        let woken = switches() - before;
        // This thread's own sleep, and its reading of the files.
        assert!(woken <= 3, "{woken} context switches");
        assert!(app.stop().is_empty());
    });
}

#[cfg(unix)]
fn limit_descriptors(n: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(n);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// CPU time of this process. Opened while there are descriptors.
#[cfg(unix)]
struct CpuTime(std::fs::File);

#[cfg(unix)]
impl CpuTime {
    fn new() -> CpuTime {
        CpuTime(std::fs::File::open("/proc/self/stat").unwrap())
    }

    /// In milliseconds, up to now.
    fn get(&self) -> u64 {
        let mut stat = [0; 1024];
        let n = std::os::unix::fs::FileExt::read_at(&self.0, &mut stat, 0).unwrap();
        let stat = String::from_utf8_lossy(&stat[..n]).into_owned();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        // In ticks of 10 ms: user and system.
        (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
    }
}

#[cfg(unix)]
#[test]
fn out_of_descriptors_it_waits_tells_once_and_goes_on() {
    in_own_process(
        "resources::out_of_descriptors_it_waits_tells_once_and_goes_on",
        || {
            let app = unlimited("app");
            let mut events = Recorder::of(&app);
            let address = start(&app, &Listener::tcp("127.0.0.1:0", echo));
            let mut good = connect(address);
            assert_echo(&mut good, "before");
            let cpu = CpuTime::new();
            // The client's end takes the last descriptor but one: accepted, it can't be duplicated; then the
            // very last: it can't be accepted.
            // Kept: what they gave back would be had again.
            let mut clients = Vec::new();
            for spare in [1, 0] {
                let mut client = connect_with_spare(address, spare);
                let before = cpu.get();
                pass(ms(1000));
                let used = cpu.get() - before;
                assert!(used <= 100, "{used} ms of CPU time");
                assert_echo(&mut good, "meanwhile");
                limit_descriptors(1000);
                assert_echo(&mut client, "after");
                clients.push(client);
            }
            let logged: Vec<String> = events
                .all()
                .iter()
                .filter(|e| matches!(e.kind(), EventKind::Log { .. }))
                .map(ToString::to_string)
                .collect();
            let [line] = &logged[..] else {
                panic!("{logged:?}")
            };
            assert!(line.contains("Too many open files"), "{line}");
            assert_eq!(entry(&app, "app.web").incarnation(), 1);

            // A stop is heard meanwhile.
            let _client = connect_with_spare(address, 0);
            let (report, took) = crate::common::timed(|| app.stop());
            assert!(report.is_empty() && took < secs(5), "{report} {took:?}");
        },
    );
}

/// A connection, and afterwards that many descriptors are free.
#[cfg(unix)]
fn connect_with_spare(address: std::net::SocketAddr, spare: u64) -> TcpStream {
    // The lowest free one is the next.
    let next = std::fs::File::open("/dev/null").unwrap();
    let lowest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&next)).unwrap();
    drop(next);
    limit_descriptors(lowest + 1 + spare);
    connect(address)
}
