//! What the machine allows: threads, channels and panics without a supervisor.

use std::hint::black_box;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backstay::crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};

use super::crowd::Muster;

/// As many frames as the library keeps.
const FRAMES_MAX: usize = backstay::TRACE_FRAMES_MAX;

/// Installs a hook that does the least there is to a panic's record: its text, its place, and its
/// stack as addresses. Call it before any supervisor starts: theirs chains to it, and leaves threads
/// that aren't supervised to it alone.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = info.payload().downcast_ref::<&str>().map(|s| s.to_string());
            let place = info.location().map(|l| l.to_string());
            let mut addresses = Vec::with_capacity(FRAMES_MAX);
            backtrace::trace(|frame| {
                addresses.push(frame.ip() as usize);
                addresses.len() < FRAMES_MAX
            });
            black_box((text, place, addresses));
        }));
    });
}

/// `panic!`, hook with an unresolved trace, `catch_unwind`; `n` times on one thread of its own.
pub fn panics(n: u64) -> Duration {
    install_hook();
    on_a_thread(move || {
        let begun = Instant::now();
        for _ in 0..n {
            let caught = catch_unwind(|| panic!("a service panics"));
            drop(black_box(caught));
        }
        begun.elapsed()
    })
}

/// A message to a thread that waits in `select!` as a supervisor does, and one back; `n` times.
pub fn round_trips(n: u64) -> Duration {
    let (facts, facts_inbox) = unbounded::<u64>();
    let (_commands, commands_inbox) = bounded::<u64>(64);
    let (orders, orders_inbox) = bounded::<u64>(1);
    let other = thread::spawn(move || echo(&facts_inbox, &commands_inbox, &orders));
    let time = on_a_thread(move || {
        let begun = Instant::now();
        for i in 0..n {
            facts.send(i).unwrap();
            black_box(orders_inbox.recv().unwrap());
        }
        begun.elapsed()
    });
    other.join().unwrap();
    time
}

fn echo(facts: &Receiver<u64>, commands: &Receiver<u64>, orders: &Sender<u64>) {
    loop {
        let time = never::<Instant>();
        select! {
            recv(facts) -> fact => match fact {
                Ok(fact) => orders.send(fact).unwrap(),
                Err(_) => return,
            },
            recv(commands) -> command => {
                black_box(command).unwrap();
            }
            recv(time) -> _ => return,
        }
    }
}

/// Threads spawned and joined one after the other by each of `clients` threads, `n` in all.
pub fn spawn_joins(n: u64, clients: u64) -> Duration {
    if clients == 1 {
        return spawn_and_join(n);
    }
    let barrier = Arc::new(Barrier::new(clients as usize + 1));
    let threads: Vec<JoinHandle<Duration>> = (0..clients)
        .map(|_| {
            let barrier = barrier.clone();
            thread::spawn(move || {
                barrier.wait();
                spawn_and_join(n / clients)
            })
        })
        .collect();
    barrier.wait();
    let begun = Instant::now();
    for t in threads {
        t.join().unwrap();
    }
    begun.elapsed()
}

fn spawn_and_join(n: u64) -> Duration {
    let begun = Instant::now();
    for i in 0..n {
        let thread = thread::spawn(move || black_box(i));
        black_box(thread.join().unwrap());
    }
    begun.elapsed()
}

/// Threads that wait for one signal.
pub struct Idle {
    gate: Arc<(Mutex<bool>, Condvar)>,
    threads: Vec<JoinHandle<()>>,
}

impl Idle {
    /// Returns when all have begun.
    pub fn start(n: usize) -> Idle {
        let muster = Muster::new(n);
        let gate = Arc::new((Mutex::new(false), Condvar::new()));
        let threads = (0..n)
            .map(|_| {
                let (gate, muster) = (gate.clone(), muster.clone());
                thread::spawn(move || {
                    muster.begun();
                    let mut open = gate.0.lock().unwrap();
                    while !*open {
                        open = gate.1.wait(open).unwrap();
                    }
                })
            })
            .collect();
        muster.wait();
        Idle { gate, threads }
    }

    pub fn stop(self) {
        *self.gate.0.lock().unwrap() = true;
        self.gate.1.notify_all();
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// Threads that each sleep by themselves, as services do: not all at one place, as those of [`Idle`].
pub struct Parked {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Parked {
    /// Returns when all have begun.
    pub fn start(n: usize) -> Parked {
        let muster = Muster::new(n);
        let over = Arc::new(AtomicBool::new(false));
        let threads = (0..n)
            .map(|_| {
                let (over, muster) = (over.clone(), muster.clone());
                thread::spawn(move || {
                    muster.begun();
                    while !over.load(Ordering::Acquire) {
                        thread::park();
                    }
                })
            })
            .collect();
        muster.wait();
        Parked { over, threads }
    }

    pub fn stop(self) {
        self.over.store(true, Ordering::Release);
        for thread in self.threads {
            thread.thread().unpark();
            thread.join().unwrap();
        }
    }
}

/// The time `f` takes by its own measure, on a thread with nothing else on its stack.
fn on_a_thread(f: impl FnOnce() -> Duration + Send + 'static) -> Duration {
    thread::spawn(f).join().unwrap()
}
