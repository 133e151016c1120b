//! Everything that can go wrong, for a minute, under load; and afterwards every line that was
//! acknowledged is there exactly once. `GATEWAY_CHAOS_SECONDS` makes it longer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod rig;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use backstay::{Spec, Supervisor};
use gateway::demo::devices::{Device, Link, Way};
use gateway::demo::{peer, pty::Pty};
use gateway::terminal::Terminal;
use gateway::upload::PEER;
use rig::{Process, Site, wait_for};
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// How long it runs without faults, before and after.
const UNDISTURBED: Duration = Duration::from_secs(3);

/// How long it runs as fast as it can, before and after.
const FULL_SPEED: Duration = Duration::from_secs(1);

/// How long before the next fault the throughput counts as undisturbed by the last one.
const BETWEEN: Duration = Duration::from_secs(1);

/// How much of the undisturbed throughput there has to be between faults.
const RATIO_MIN: f64 = 0.9;

/// The count is looked at so often.
const SAMPLE: Duration = Duration::from_millis(20);

/// Devices, and how many lines each sends before it waits for the answers.
const TCP_DEVICES: usize = 8;
const TCP_WINDOW: usize = 32;
const UDP_DEVICES: usize = 2;
const UDP_WINDOW: usize = 8;
const SERIAL_WINDOW: usize = 8;

/// How often each does so: 5,600 lines in a second. A machine that is busy with other things as well can do
/// that, so that what is measured is the gateway.
const PERIOD: Duration = Duration::from_millis(50);

/// The heap of a process that has seen all kinds of failure is not quite as it was.
const MEMORY_SLACK_KB: usize = 16 * 1024;
const THREADS_SLACK: usize = 2;

/// What the driver and the devices share.
#[derive(Default)]
struct Run {
    sent: AtomicUsize,
    acknowledged: AtomicUsize,
    /// No new lines: only what is not acknowledged yet.
    draining: AtomicBool,
    /// No pause between two exchanges.
    full_speed: AtomicBool,
    over: AtomicBool,
    /// The device of that number loses its connection.
    kill: [AtomicBool; TCP_DEVICES],
}

/// A connection that breaks when it is told to, in the middle of an exchange.
struct Fragile<'a> {
    link: Box<dyn Link>,
    broken: &'a AtomicBool,
}

impl Read for Fragile<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.broken.swap(false, Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.link.read(bytes)
    }
}

impl Write for Fragile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.link.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A device's life: what was acknowledged.
fn live(
    run: &Run,
    name: &str,
    window: usize,
    datagrams: bool,
    connect: impl Fn() -> io::Result<Box<dyn Link>>,
    broken: &AtomicBool,
) -> BTreeSet<i64> {
    let mut device = Device::new(name, 0);
    let mut acknowledged = BTreeSet::new();
    let mut link = None;
    let mut next = Instant::now();
    while !(run.over.load(Relaxed) || run.draining.load(Relaxed) && device.pending() == 0) {
        if !(run.draining.load(Relaxed) || run.full_speed.load(Relaxed)) {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // What was missed is not caught up on.
            next = (next + PERIOD).max(Instant::now());
        }
        if !run.draining.load(Relaxed) {
            run.sent
                .fetch_add(window - device.pending().min(window), Relaxed);
            device.measure(window);
        }
        let Some(open) = &mut link else {
            link = connect().ok().map(|link| Fragile { link, broken });
            if link.is_none() {
                thread::sleep(Duration::from_millis(20));
            }
            continue;
        };
        let before = device.pending();
        let exchanged = device.exchange(open, datagrams, |seq| {
            assert!(
                acknowledged.insert(seq),
                "{name} {seq} was acknowledged twice"
            );
            run.acknowledged.fetch_add(1, Relaxed);
        });
        match exchanged {
            Err(_) => link = None,
            // Busy.
            Ok(()) if device.pending() == before => thread::sleep(Duration::from_millis(20)),
            Ok(()) => {}
        }
    }
    acknowledged
}

/// Numbers that come out the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// What goes wrong, and how long until the next does.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Service(&'static str, &'static str),
    Device,
    Peer,
    Disk,
    Reload,
    BadReload,
}

const FAULTS: &[Fault] = &[
    Fault::Service("writer", "panic"),
    Fault::Service("writer", "error"),
    Fault::Service("writer", "hang"),
    Fault::Service("parsers", "panic"),
    Fault::Service("parsers", "error"),
    Fault::Service("parsers", "hang"),
    Fault::Service("retention", "panic"),
    Fault::Service("upload-read", "error"),
    Fault::Service("upload-send", "panic"),
    Fault::Service("upload-send", "hang"),
    Fault::Service("tcp", "panic"),
    Fault::Service("tcp", "error"),
    Fault::Service("udp", "panic"),
    Fault::Service("udp", "hang"),
    Fault::Service("serial", "error"),
    Fault::Service("config", "panic"),
    Fault::Device,
    Fault::Device,
    Fault::Peer,
    Fault::Disk,
    Fault::Reload,
    Fault::BadReload,
];

impl Fault {
    /// Until it is over and there was a second without one.
    fn time(self) -> Duration {
        Duration::from_millis(match self {
            Fault::Service("writer" | "parsers", "hang") => 7_000,
            Fault::Service(_, "hang") => 3_000,
            Fault::Disk => 4_000,
            _ => 2_000,
        })
    }
}

struct Chaos<'a> {
    site: &'a Site,
    gateway: &'a Process,
    run: &'a Run,
    peer: &'a Supervisor,
    random: Random,
}

impl Chaos<'_> {
    fn commit(&mut self, fault: Fault, n: usize) {
        match fault {
            Fault::Service("config", what) => {
                self.site.fault("config", what);
                self.gateway.signal("HUP");
            }
            Fault::Service(name, what) => self.site.fault(name, what),
            Fault::Device => {
                for _ in 0..3 {
                    self.run.kill[self.random.below(TCP_DEVICES)].store(true, Relaxed);
                }
            }
            Fault::Peer => {
                let id = self.peer.id("http").unwrap();
                self.peer.stop_service(id).unwrap();
                thread::sleep(Duration::from_millis(700));
                self.peer.start_service(id).unwrap();
            }
            Fault::Disk => {
                limit_files(self.gateway, Some(4_096));
                thread::sleep(Duration::from_secs(1));
                limit_files(self.gateway, None);
            }
            Fault::Reload => {
                let changed = format!("connections_max = {}", 65 + n);
                let text = self.site.text().replace("connections_max = 64", &changed);
                std::fs::write(self.site.config(), text).unwrap();
                self.gateway.signal("HUP");
            }
            Fault::BadReload => {
                let before = self.gateway.count("kept the configuration");
                std::fs::write(self.site.config(), "[data]\nfodler = 1\n").unwrap();
                self.gateway.signal("HUP");
                wait_for("it refuses", || {
                    self.gateway.count("kept the configuration") > before
                });
                std::fs::write(self.site.config(), self.site.text()).unwrap();
            }
        }
    }
}

/// To the gateway the disk is full: no file may have more bytes than that.
fn limit_files(gateway: &Process, max: Option<u64>) {
    let pid = Pid::from_raw(gateway.id() as i32);
    prlimit(
        pid,
        Resource::Fsize,
        Rlimit {
            current: max,
            maximum: None,
        },
    )
    .unwrap();
}

#[test]
fn chaos() {
    let seconds = std::env::var("GATEWAY_CHAOS_SECONDS").map_or(60, |s| s.parse().unwrap());
    let seed = std::env::var("GATEWAY_CHAOS_SEED")
        .map_or_else(|_| u64::from(std::process::id()), |s| s.parse().unwrap());
    println!("seed {seed}");

    let mut site = Site::new("chaos");
    let line = Pty::new().unwrap();
    site.serial = Some(line.device().to_owned());
    site.peer = Some(rig::free_port());
    let peer = Supervisor::new("peer");
    let address = format!("127.0.0.1:{}", site.peer.unwrap());
    peer.add_spec(Spec::new("http", peer::service(&address)).provides(&PEER))
        .unwrap();
    peer.start().unwrap();
    let mut gateway = site.start();
    gateway.wait_says("database");

    let run = Arc::new(Run::default());
    let mut devices = Vec::new();
    for n in 0..TCP_DEVICES {
        let (run, way) = (
            run.clone(),
            Way::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, site.tcp))),
        );
        let name = format!("tcp-{n}");
        devices.push((
            name.clone(),
            thread::spawn(move || {
                live(
                    &run,
                    &name,
                    TCP_WINDOW,
                    false,
                    || way.connect(),
                    &run.kill[n],
                )
            }),
        ));
    }
    for n in 0..UDP_DEVICES {
        let (run, way) = (
            run.clone(),
            Way::Udp(SocketAddr::from((Ipv4Addr::LOCALHOST, site.udp))),
        );
        let name = format!("udp-{n}");
        devices.push((
            name.clone(),
            thread::spawn(move || {
                live(
                    &run,
                    &name,
                    UDP_WINDOW,
                    true,
                    || way.connect(),
                    &AtomicBool::new(false),
                )
            }),
        ));
    }
    {
        let run = run.clone();
        let connect = move || Ok(Box::new(Terminal::new(line.other_end()?)?) as Box<dyn Link>);
        devices.push((
            "serial".to_owned(),
            thread::spawn(move || {
                live(
                    &run,
                    "serial",
                    SERIAL_WINDOW,
                    false,
                    connect,
                    &AtomicBool::new(false),
                )
            }),
        ));
    }

    // How many were acknowledged, over time.
    let samples = Arc::new(Mutex::new(Vec::new()));
    let sampler = {
        let (run, samples) = (run.clone(), samples.clone());
        thread::spawn(move || {
            while !run.over.load(Relaxed) {
                samples
                    .lock()
                    .unwrap()
                    .push((Instant::now(), run.acknowledged.load(Relaxed)));
                thread::sleep(SAMPLE);
            }
        })
    };
    let rate = |from: Instant, to: Instant| -> f64 {
        let samples = samples.lock().unwrap();
        let mut inside = samples.iter().filter(|(at, _)| (from..to).contains(at));
        let (first, last) = (inside.next().unwrap(), inside.next_back().unwrap());
        (last.1 - first.1) as f64 / (last.0 - first.0).as_secs_f64()
    };
    let rate_of_next = |time: Duration| {
        let from = Instant::now();
        thread::sleep(time);
        rate(from, Instant::now())
    };
    let at_full_speed = || {
        run.full_speed.store(true, Relaxed);
        let rate = rate_of_next(FULL_SPEED);
        run.full_speed.store(false, Relaxed);
        thread::sleep(Duration::from_secs(1));
        rate
    };

    // Caches fill, and every thread that there will be is there.
    let full_speed_before = at_full_speed();
    let undisturbed_before = rate_of_next(UNDISTURBED);
    let before = (gateway.status("VmRSS"), gateway.status("Threads"));

    let chaos_begun = Instant::now();
    let mut chaos = Chaos {
        site: &site,
        gateway: &gateway,
        run: &run,
        peer: &peer,
        random: Random(seed),
    };
    let mut faults = 0;
    let mut between = Vec::new();
    let mut order: Vec<Fault> = Vec::new();
    while chaos_begun.elapsed() < Duration::from_secs(seconds) {
        if order.is_empty() {
            order = FAULTS.to_vec();
        }
        let fault = order.swap_remove(chaos.random.below(order.len()));
        let at = Instant::now();
        chaos.commit(fault, faults);
        thread::sleep((at + fault.time()).saturating_duration_since(Instant::now()));
        faults += 1;
        let now = Instant::now();
        let rate = rate(now - BETWEEN, now);
        let second = at.duration_since(chaos_begun).as_secs_f64();
        println!("{second:5.1} s {fault:?}: {rate:.0} lines/s afterwards");
        between.push(rate);
    }
    let chaos_ended = Instant::now();
    thread::sleep(Duration::from_secs(1));
    let undisturbed_after = rate_of_next(UNDISTURBED);
    let full_speed_after = at_full_speed();
    // A thread that hung ends late.
    let until = Instant::now() + Duration::from_secs(15);
    let after = loop {
        let after = (gateway.status("VmRSS"), gateway.status("Threads"));
        if after.1 <= before.1 + THREADS_SLACK || Instant::now() > until {
            break after;
        }
        thread::sleep(SAMPLE);
    };
    let outage = longest_outage(&samples.lock().unwrap(), chaos_begun, chaos_ended);

    // The end that no program can prepare for, and the one that it can, both under load.
    gateway.signal("KILL");
    drop(gateway.end());
    gateway = site.start();
    gateway.wait_says("database");
    thread::sleep(Duration::from_secs(1));
    gateway.signal("TERM");
    let (status, said) = gateway.end();
    assert_eq!(status.code(), Some(0), "{said}");
    gateway = site.start();
    run.draining.store(true, Relaxed);
    let acknowledged: Vec<(String, BTreeSet<i64>)> = devices
        .into_iter()
        .map(|(name, device)| (name, device.join().unwrap()))
        .collect();
    run.over.store(true, Relaxed);
    sampler.join().unwrap();

    let database =
        Connection::open_with_flags(site.database(), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let stored: i64 = database
        .query_row("SELECT count(*) FROM lines", [], |row| row.get(0))
        .unwrap();
    let mut lost = 0;
    for (name, numbers) in &acknowledged {
        let mut select = database
            .prepare("SELECT seq, value FROM lines WHERE device = ? ORDER BY id")
            .unwrap();
        let rows = select
            .query_map([name], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        let mut found = BTreeSet::new();
        for row in rows {
            let (seq, value): (i64, f64) = row.unwrap();
            assert!(found.insert(seq), "{name} {seq} is there twice");
            assert_eq!(value, Device::value(seq), "{name} {seq}");
        }
        lost += numbers.difference(&found).count();
    }
    let ok: usize = acknowledged.iter().map(|(_, numbers)| numbers.len()).sum();
    let sent = run.sent.load(Relaxed);
    let undisturbed = (undisturbed_before + undisturbed_after) / 2.0;
    let between = median(&between);
    let ratio = between / undisturbed;
    println!(
        "{sent} lines sent, {ok} acknowledged, {stored} stored, {lost} lost; {faults} faults in {seconds} s\n\
         longest outage {outage:.2?}\n\
         lines/s: {undisturbed:.0} undisturbed, {between:.0} between faults, ratio {ratio:.2}; \
         at full speed {full_speed_before:.0} before, {full_speed_after:.0} after\n\
         memory: {} kB before, {} kB after; threads: {} before, {} after",
        before.0, after.0, before.1, after.1
    );
    assert_eq!((lost, sent), (0, ok));
    assert_eq!(usize::try_from(stored).unwrap(), ok);
    assert!(ratio >= RATIO_MIN, "{ratio}");
    assert!(
        after.0 <= before.0 + MEMORY_SLACK_KB,
        "{before:?} {after:?}"
    );
    assert!(after.1 <= before.1 + THREADS_SLACK, "{before:?} {after:?}");

    // What is stored arrives.
    let everything = format!("{stored} lines of 11 devices");
    let mut arrived = String::new();
    while !arrived.contains(&everything) {
        let now = rig::ask_peer(site.peer.unwrap()).unwrap_or_default();
        assert_ne!(
            now,
            arrived,
            "not {everything}; the gateway: {}",
            gateway.said()
        );
        arrived = now;
        thread::sleep(Duration::from_secs(1));
    }
    gateway.signal("TERM");
    let (status, said) = gateway.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(peer.stop().is_empty());
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The longest time in which nothing at all was acknowledged.
fn longest_outage(samples: &[(Instant, usize)], from: Instant, to: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last = (from, 0);
    for (at, count) in samples.iter().filter(|(at, _)| (from..to).contains(at)) {
        if *count != last.1 {
            last = (*at, *count);
        }
        longest = longest.max(*at - last.0);
    }
    longest
}
