//! A listener beside a bare loop that accepts and spawns a thread: the same handler, the same client,
//! in turns.
//!
//! `cargo bench --bench listener` prints one line per figure; with `BACKSTAY_BENCH_STRICT=1` a missed
//! target fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod load;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use backstay::Spec;
use backstay::services::Listener;

use load::rounds::{Rounds, Verdicts};
use load::{PATIENCE, unlimited};

const ROUNDS: usize = 15;

/// How many connections a client makes in a round, one after the other.
const IN_A_ROW: u64 = 2_000;

/// How many are open at the same time in a wave: fewer than the backlog that std asks for.
const WAVE: usize = 100;

fn main() -> ExitCode {
    let mut verdicts = Verdicts::default();
    let app = unlimited("app");
    let listener = Listener::tcp("127.0.0.1:0", |stream, _ctx| Ok(answer(stream)?));
    let spec = Spec::new("web", listener.clone()).ready_timeout(PATIENCE);
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    app.wait_ready(PATIENCE).unwrap();
    let own = listener.local_addr().unwrap();
    let bare = Bare::start();

    for clients in [1, 8] {
        let mut rounds = Rounds::default();
        for _ in 0..ROUNDS {
            let n = IN_A_ROW * clients;
            rounds.add_time("bare", in_a_row(bare.address, clients), n);
            rounds.add_time("own", in_a_row(own, clients), n);
        }
        let figures = (rounds.median("own"), rounds.median("bare"));
        verdicts.at_least(
            &format!("connections in a row, {clients} client(s): rate, to accept and spawn"),
            &format!("{:.1} us to {:.1} us each", figures.0, figures.1),
            rounds.ratio("bare", "own"),
            0.9,
        );
    }
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        rounds.add_time("bare", wave(bare.address), WAVE as u64);
        rounds.add_time("own", wave(own), WAVE as u64);
    }
    let figures = (rounds.median("own"), rounds.median("bare"));
    verdicts.say(
        &format!("{WAVE} connections open at once: time, to accept and spawn"),
        &format!(
            "{:.1} us to {:.1} us each ({:.2})",
            figures.0,
            figures.1,
            rounds.ratio("own", "bare")
        ),
    );
    let begun = Instant::now();
    assert!(app.stop().is_empty());
    verdicts.say("stop", &format!("{:.2?}", begun.elapsed()));
    bare.stop();
    verdicts.exit_code()
}

/// The handler: one byte for each byte.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"x").unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
}

fn in_a_row(address: SocketAddr, clients: u64) -> Duration {
    let begun = Instant::now();
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            thread::spawn(move || {
                for _ in 0..IN_A_ROW {
                    ask(&mut TcpStream::connect(address).unwrap());
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|c| c.join().unwrap());
    begun.elapsed()
}

/// All are open before the first closes.
fn wave(address: SocketAddr) -> Duration {
    let begun = Instant::now();
    let mut clients: Vec<_> = (0..WAVE)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    clients.iter_mut().for_each(ask);
    begun.elapsed()
}

/// What people write.
struct Bare {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Bare {
    fn start() -> Bare {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let stop = over.clone();
        let thread = thread::spawn(move || {
            loop {
                let (stream, _) = socket.accept().unwrap();
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                thread::spawn(move || answer(stream));
            }
        });
        Bare {
            address,
            over,
            thread,
        }
    }

    fn stop(self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        self.thread.join().unwrap();
    }
}
