//! Eleven devices that send for as long as they are let.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gateway::demo::devices::{Device, Link, Way};
use gateway::demo::pty::Pty;
use gateway::terminal::Terminal;

use crate::rig::Site;

/// How many there are, and how many lines each sends before it waits for the answers.
pub const TCP_DEVICES: usize = 8;
const TCP_WINDOW: usize = 32;
const UDP_DEVICES: usize = 2;
const UDP_WINDOW: usize = 8;
const SERIAL_WINDOW: usize = 8;
pub const DEVICES: usize = TCP_DEVICES + UDP_DEVICES + 1;

/// How often each does so: 5,600 lines in a second. A machine that is busy with other things as well can do
/// that, so that what is measured is the gateway.
const PERIOD: Duration = Duration::from_millis(50);

/// How long a device rests that was told that the gateway is busy, or not there.
const REST: Duration = Duration::from_millis(20);

/// What they share with the driver.
#[derive(Default)]
pub struct Orders {
    pub sent: AtomicUsize,
    pub acknowledged: AtomicUsize,
    /// No new lines: only what is not acknowledged yet, and then the end.
    pub draining: AtomicBool,
    /// No pause between two exchanges.
    pub full_speed: AtomicBool,
    /// The TCP device of that number loses its connection.
    pub cut: [AtomicBool; TCP_DEVICES],
}

/// A device's numbers that were acknowledged.
type Acknowledged = BTreeSet<i64>;

pub struct Crowd {
    pub orders: Arc<Orders>,
    threads: Vec<(String, JoinHandle<Acknowledged>)>,
}

impl Crowd {
    pub fn start(site: &Site, line: Pty) -> Crowd {
        let mut crowd = Crowd {
            orders: Arc::default(),
            threads: Vec::new(),
        };
        for n in 0..TCP_DEVICES {
            let (way, orders) = (Way::Tcp((site.ip, site.tcp).into()), crowd.orders.clone());
            crowd.add(format!("tcp-{n}"), TCP_WINDOW, false, move || {
                let link = way.connect()?;
                let orders = orders.clone();
                Ok(Box::new(Fragile { link, orders, n }))
            });
        }
        for n in 0..UDP_DEVICES {
            let way = Way::Udp((site.ip, site.udp).into());
            crowd.add(format!("udp-{n}"), UDP_WINDOW, true, move || way.connect());
        }
        crowd.add("serial".to_owned(), SERIAL_WINDOW, false, move || {
            Ok(Box::new(Terminal::new(line.other_end.try_clone()?)?))
        });
        crowd
    }

    fn add(
        &mut self,
        name: String,
        window: usize,
        datagrams: bool,
        connect: impl Fn() -> io::Result<Box<dyn Link>> + Send + 'static,
    ) {
        let (device, orders) = (Device::new(&name, 0), self.orders.clone());
        let thread = thread::spawn(move || live(device, &orders, window, datagrams, connect));
        self.threads.push((name, thread));
    }

    /// Has them send what is not acknowledged yet, and nothing else.
    pub fn drain(self) -> BTreeMap<String, Acknowledged> {
        self.orders.draining.store(true, Relaxed);
        let ended = self.threads.into_iter();
        ended
            .map(|(name, thread)| (name, thread.join().unwrap()))
            .collect()
    }
}

fn live(
    mut device: Device,
    orders: &Orders,
    window: usize,
    datagrams: bool,
    connect: impl Fn() -> io::Result<Box<dyn Link>>,
) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    let mut link = None;
    let mut next = Instant::now();
    loop {
        if !orders.draining.load(Relaxed) {
            if !orders.full_speed.load(Relaxed) {
                thread::sleep(next.saturating_duration_since(Instant::now()));
                // What was missed is not caught up on.
                next = (next + PERIOD).max(Instant::now());
            }
            let missing = window.saturating_sub(device.pending());
            orders.sent.fetch_add(missing, Relaxed);
            device.measure(window);
        } else if device.pending() == 0 {
            return acknowledged;
        }
        let Some(open) = &mut link else {
            link = connect().ok();
            if link.is_none() {
                thread::sleep(REST);
            }
            continue;
        };
        let before = device.pending();
        let exchanged = device.exchange(open.as_mut(), datagrams, |seq| {
            assert!(acknowledged.insert(seq), "{seq} was acknowledged twice");
            orders.acknowledged.fetch_add(1, Relaxed);
        });
        match exchanged {
            Err(_) => link = None,
            Ok(()) if device.pending() == before => thread::sleep(REST),
            Ok(()) => {}
        }
    }
}

/// A connection that breaks when it is told to, with answers on their way.
struct Fragile {
    link: Box<dyn Link>,
    orders: Arc<Orders>,
    n: usize,
}

impl Read for Fragile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.orders.cut[self.n].swap(false, Relaxed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        self.link.read(bytes)
    }
}

impl Write for Fragile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.link.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
