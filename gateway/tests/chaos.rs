//! Everything that can go wrong, for a minute, under load; and afterwards every line that was
//! acknowledged is there exactly once. `GATEWAY_CHAOS_SECONDS` makes it longer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "chaos/crowd.rs"]
mod crowd;
#[path = "chaos/evil.rs"]
mod evil;
#[path = "chaos/figures.rs"]
mod figures;
mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use backstay::{Spec, Supervisor};
use gateway::demo::{devices::Device, peer, pty::Pty};
use gateway::upload::PEER;
use rusqlite::{Connection, OpenFlags};

use crowd::{Crowd, DEVICES};
use evil::Evil;
use figures::{Figures, median};
use rig::{Process, Site};

/// How long it runs without faults, before and after.
const UNDISTURBED: Duration = Duration::from_secs(3);

/// How long it runs as fast as it can, before and after.
const FULL_SPEED: Duration = Duration::from_secs(1);

/// How long before the next fault the throughput counts as undisturbed by the last one.
const BETWEEN: Duration = Duration::from_secs(1);

/// How much of the undisturbed throughput there has to be between faults.
const RATIO_MIN: f64 = 0.9;

/// The heap of a process that has seen all kinds of failure is not quite as it was.
const MEMORY_SLACK_KB: usize = 16 * 1024;
const THREADS_SLACK: usize = 2;

/// How long a thread that hung may take to end.
const LATE: Duration = Duration::from_secs(15);

/// Said also where the harness keeps what a test prints.
macro_rules! say {
    ($($part:tt)*) => {{
        let mut errors = std::io::stderr();
        writeln!(errors, $($part)*).unwrap();
    }};
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap())
}

#[test]
fn chaos() {
    let time = Duration::from_secs(variable("GATEWAY_CHAOS_SECONDS").unwrap_or(60));
    let seed = variable("GATEWAY_CHAOS_SEED").unwrap_or(std::process::id().into());
    say!("\n{time:?} of chaos, seed {seed}");
    let mut site = Site::new("chaos");
    let line = Pty::new().unwrap();
    site.serial = Some(line.device.clone());
    site.peer = Some(site.free_port());
    let peer = start_peer(&site);
    let gateway = site.start();
    gateway.wait_says("database");
    let crowd = Crowd::start(&site, line);

    wreak(time, seed, &site, &gateway, &crowd, &peer);

    // The end that no program can prepare for, and the one that it can, both under load.
    gateway.signal("KILL");
    drop(gateway.end());
    let gateway = site.start();
    gateway.wait_says("database");
    thread::sleep(Duration::from_secs(1));
    assert_stops(gateway);
    let gateway = site.start();
    let orders = crowd.orders.clone();
    let acknowledged = crowd.drain();

    let ok: usize = acknowledged.values().map(BTreeSet::len).sum();
    let (stored, lost) = compare(&site.database(), &acknowledged);
    let sent = orders.sent.load(Relaxed);
    say!("{sent} lines sent, {ok} acknowledged, {stored} stored, {lost} lost");
    assert_eq!((lost, stored, sent), (0, ok, ok));
    wait_arrived(&site, stored, &gateway);
    assert_stops(gateway);
    assert!(peer.stop().is_empty());
}

/// In this process: it is to keep what it has had when it is cut off.
fn start_peer(site: &Site) -> Supervisor {
    let app = Supervisor::new("peer");
    let address = format!("{}:{}", site.ip, site.peer.unwrap());
    let spec = Spec::new("http", peer::service(&address)).provides(&PEER);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    app
}

/// The minute, and what is measured before, in between and afterwards.
fn wreak(
    time: Duration,
    seed: u64,
    site: &Site,
    gateway: &Process,
    crowd: &Crowd,
    peer: &Supervisor,
) {
    let figures = Figures::of(&crowd.orders);
    let at_full_speed = || {
        crowd.orders.full_speed.store(true, Relaxed);
        let rate = figures.rate_of_next(FULL_SPEED);
        crowd.orders.full_speed.store(false, Relaxed);
        thread::sleep(Duration::from_secs(1));
        rate
    };
    let held = || (gateway.status("VmRSS"), gateway.status("Threads"));

    // Caches fill, and every thread that there will be is there.
    let fast_before = at_full_speed();
    let rate_before = figures.rate_of_next(UNDISTURBED);
    let before = held();
    let begun = Instant::now();
    let mut evil = Evil {
        site,
        gateway,
        orders: &crowd.orders,
        peer,
        seed,
        left: Vec::new(),
        done: 0,
    };
    let mut between = Vec::new();
    while begun.elapsed() < time {
        let second = begun.elapsed().as_secs_f64();
        let fault = evil.strike();
        let rate = figures.rate_of_last(BETWEEN);
        say!("{second:6.1} s {fault:?}: {rate:.0} lines/s afterwards");
        between.push(rate);
    }
    let faults = evil.done;
    let outage = figures.longest_outage_since(begun);
    let rate_after = figures.rate_of_next(UNDISTURBED);
    let fast_after = at_full_speed();
    let until = Instant::now() + LATE;
    let mut after = held();
    while after.1 > before.1 + THREADS_SLACK && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
        after = held();
    }

    let undisturbed = (rate_before + rate_after) / 2.0;
    let between = median(between);
    let ratio = between / undisturbed;
    say!("{faults} faults, longest outage {outage:.2?}");
    say!("lines/s: {undisturbed:.0} undisturbed, {between:.0} between faults, ratio {ratio:.2}");
    say!("lines/s at full speed: {fast_before:.0} before, {fast_after:.0} after");
    say!("memory: {} kB before, {} kB after", before.0, after.0);
    say!("threads: {} before, {} after", before.1, after.1);
    assert!(ratio >= RATIO_MIN, "{ratio}");
    assert!(after.0 <= before.0 + MEMORY_SLACK_KB);
    assert!(after.1 <= before.1 + THREADS_SLACK);
}

#[track_caller]
fn assert_stops(gateway: Process) {
    gateway.signal("TERM");
    let (status, said) = gateway.end();
    assert_eq!(status.code(), Some(0), "{said}");
}

/// How many lines are stored, each with what its device has measured; and how many are not that were
/// acknowledged.
fn compare(database: &Path, acknowledged: &BTreeMap<String, BTreeSet<i64>>) -> (usize, usize) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(database, flags).unwrap();
    let mut select = database
        .prepare("SELECT device, seq, value FROM lines ORDER BY id")
        .unwrap();
    let mut rows = select.query([]).unwrap();
    let mut stored = BTreeSet::new();
    while let Some(row) = rows.next().unwrap() {
        let (device, seq): (String, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
        assert_eq!(row.get::<_, f64>(2).unwrap(), Device::value(seq));
        assert!(acknowledged.contains_key(&device), "{device}");
        assert!(stored.insert((device, seq)), "{seq} is there twice");
    }
    let every = acknowledged.iter();
    let every = every.flat_map(|(name, numbers)| numbers.iter().map(|seq| (name.clone(), *seq)));
    (
        stored.len(),
        every.filter(|line| !stored.contains(line)).count(),
    )
}

/// What is stored arrives at the peer, as long as more comes.
fn wait_arrived(site: &Site, stored: usize, gateway: &Process) {
    let everything = format!("{stored} lines of {DEVICES} devices");
    let mut arrived = String::new();
    while !arrived.starts_with(&everything) {
        let now = site.ask_peer().unwrap();
        assert_ne!(now, arrived, "not {everything}: {}", gateway.said());
        arrived = now;
        thread::sleep(Duration::from_secs(1));
    }
    say!("the peer has {}", arrived.trim_end());
}
