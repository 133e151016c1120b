//! What goes wrong.

use std::fs;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use backstay::Supervisor;

use crate::crowd::{Orders, TCP_DEVICES};
use crate::rig::{Process, Site, wait_for};

/// How long the peer is away, and the disk full.
const AWAY: Duration = Duration::from_millis(700);
const FULL: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A service does that.
    Service(&'static str, &'static str),
    /// Some devices lose their connections.
    Cut,
    /// The peer can't be reached.
    Peer,
    /// The disk is full.
    Disk,
    /// The configuration has changed.
    Reload,
    /// And has a mistake in it.
    BadReload,
}

const FAULTS: [Fault; 24] = [
    Fault::Service("writer", "panic"),
    Fault::Service("writer", "error"),
    Fault::Service("writer", "hang"),
    Fault::Service("parsers", "panic"),
    Fault::Service("parsers", "error"),
    Fault::Service("parsers", "hang"),
    Fault::Service("retention", "panic"),
    Fault::Service("retention", "error"),
    Fault::Service("upload-read", "panic"),
    Fault::Service("upload-read", "error"),
    Fault::Service("upload-send", "panic"),
    Fault::Service("upload-send", "hang"),
    Fault::Service("tcp", "panic"),
    Fault::Service("tcp", "error"),
    Fault::Service("udp", "panic"),
    Fault::Service("udp", "hang"),
    Fault::Service("serial", "error"),
    Fault::Service("config", "panic"),
    Fault::Cut,
    Fault::Cut,
    Fault::Peer,
    Fault::Disk,
    Fault::Reload,
    Fault::BadReload,
];

impl Fault {
    /// How long until it is over, and there was a second without one.
    fn time(self) -> Duration {
        Duration::from_millis(match self {
            Fault::Service("writer", "hang") => 5_500,
            Fault::Service("parsers", "hang") => 5_500,
            Fault::Service(_, "hang") => 3_000,
            Fault::Disk => 4_000,
            _ => 2_000,
        })
    }
}

/// Who has it all go wrong, in an order that comes out the same for the same seed.
pub struct Evil<'a> {
    pub site: &'a Site,
    pub gateway: &'a Process,
    pub orders: &'a Orders,
    pub peer: &'a Supervisor,
    pub seed: u64,
    pub left: Vec<Fault>,
    pub done: usize,
}

impl Evil<'_> {
    /// One fault, and time for it. Each comes once before any comes again.
    pub fn strike(&mut self) -> Fault {
        if self.left.is_empty() {
            self.left = FAULTS.to_vec();
        }
        let n = self.random(self.left.len());
        let fault = self.left.swap_remove(n);
        let at = Instant::now();
        self.commit(fault);
        self.done += 1;
        thread::sleep((at + fault.time()).saturating_duration_since(Instant::now()));
        fault
    }

    /// A number below `n`.
    fn random(&mut self, n: usize) -> usize {
        let times = self.seed.wrapping_mul(6_364_136_223_846_793_005);
        self.seed = times.wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % n
    }

    fn commit(&mut self, fault: Fault) {
        match fault {
            Fault::Service(name, what) => {
                self.site.fault(name, what);
                if name == "config" {
                    // It does nothing unless asked to.
                    self.gateway.signal("HUP");
                }
            }
            Fault::Cut => (0..3).for_each(|_| {
                let n = self.random(TCP_DEVICES);
                self.orders.cut[n].store(true, Relaxed);
            }),
            Fault::Peer => {
                let id = self.peer.id("http").unwrap();
                self.peer.stop_service(id).unwrap();
                thread::sleep(AWAY);
                self.peer.start_service(id).unwrap();
            }
            Fault::Disk => {
                self.gateway.limit_files(Some(4_096));
                thread::sleep(FULL);
                self.gateway.limit_files(None);
            }
            Fault::Reload => {
                let changed = format!("connections_max = {}", 65 + self.done);
                let text = self.site.text().replace("connections_max = 64", &changed);
                fs::write(self.site.config(), text).unwrap();
                self.gateway.signal("HUP");
            }
            Fault::BadReload => {
                let before = self.gateway.count("kept the configuration");
                fs::write(self.site.config(), "[data]\nfodler = 1\n").unwrap();
                self.gateway.signal("HUP");
                wait_for("it refuses", || {
                    self.gateway.count("kept the configuration") > before
                });
                fs::write(self.site.config(), self.site.text()).unwrap();
            }
        }
    }
}
