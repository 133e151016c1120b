//! Many clients at once, some of whose handlers fail or panic, and a stop in the middle.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use backstay::services::Listener;
use backstay::{BoxError, Event, EventKind, Spec};

use crate::common::watch::{Crowd, entry};
use crate::common::{PATIENCE, Recorder, ms, pass, secs, timed, unlimited, wait_for};

const CLIENTS: u32 = 12;
const CONNECTIONS_MAX: usize = 8;

/// What a connection is for: its number, modulo this.
const KINDS: u32 = 7;
const FAILS: u32 = 1;
const PANICS: u32 = 2;
/// Asks for nothing and waits for the end of the stream.
const IDLES: u32 = 3;

/// What handlers have done, by the numbers of connections.
#[derive(Default)]
struct Seen {
    entered: BTreeSet<u32>,
    failed: BTreeSet<u32>,
}

#[derive(Clone, Default)]
struct Server {
    seen: Arc<Mutex<Seen>>,
    crowd: Crowd,
}

impl Server {
    fn handle(&self, mut stream: TcpStream) -> Result<(), BoxError> {
        let _inside = self.crowd.enter();
        let mut number = [0; 4];
        // The stop may come before the client has said anything.
        if stream.read_exact(&mut number).is_err() {
            return Ok(());
        }
        let number = u32::from_be_bytes(number);
        self.seen.lock().unwrap().entered.insert(number);
        match number % KINDS {
            FAILS => {
                self.seen.lock().unwrap().failed.insert(number);
                return Err(format!("number {number} fails").into());
            }
            PANICS => {
                self.seen.lock().unwrap().failed.insert(number);
                panic!("number {number} panics");
            }
            IDLES => drop(stream.read(&mut [0])),
            // The client may have been sent away by the stop.
            _ => drop(stream.write_all(&number.to_be_bytes())),
        }
        Ok(())
    }
}

/// What one client has got for its numbers.
#[derive(Default)]
struct Got {
    answered: BTreeSet<u32>,
    /// The connection closed without an answer.
    closed: BTreeSet<u32>,
    refused: u32,
}

/// One connection after the other, until they are refused.
fn client(address: SocketAddr, next: &AtomicU32) -> Got {
    let mut got = Got::default();
    while got.refused == 0 {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let Ok(mut stream) = TcpStream::connect(address) else {
            got.refused += 1;
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        if number % KINDS == IDLES {
            // Long enough to be in the way of others, not for ever.
            stream.set_read_timeout(Some(ms(2))).unwrap();
        }
        let mut answer = [0; 4];
        let asked = stream.write_all(&number.to_be_bytes());
        match asked.and_then(|()| stream.read_exact(&mut answer)) {
            Ok(()) => {
                assert_eq!(u32::from_be_bytes(answer), number);
                got.answered.insert(number);
            }
            Err(e) => {
                let waited = e.kind() == std::io::ErrorKind::WouldBlock;
                assert!(!waited || number % KINDS == IDLES, "{number}: {e}");
                got.closed.insert(number);
            }
        }
    }
    got
}

/// The number in the text of a failure or of an answer to a stop.
fn number_of(event: &Event) -> Option<u32> {
    let failure = match event.kind() {
        EventKind::Failed { failure, .. } => failure,
        EventKind::Stopped {
            answer: Some(failure),
        } => failure,
        _ => return None,
    };
    assert!(failure.message().starts_with("connection from 127.0.0.1:"));
    let (_, rest) = failure.message().split_once("number ")?;
    rest.split(' ').next()?.parse().ok()
}

#[test]
fn every_connection_is_accounted_for() {
    for round in 0..3 {
        let server = Server::default();
        let served = server.clone();
        let listener = Listener::tcp("127.0.0.1:0", move |stream, _ctx| served.handle(stream));
        let listener = listener.max_connections(CONNECTIONS_MAX).linger(ms(20));
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let spec = Spec::new("web", listener.clone()).ready_timeout(secs(20));
        app.add_spec(spec).unwrap();
        app.start().unwrap();
        app.wait_ready(secs(20)).unwrap();
        let address = listener.local_addr().unwrap();

        let next = Arc::new(AtomicU32::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let next = next.clone();
                thread::spawn(move || client(address, &next))
            })
            .collect();
        wait_for("they are busy", || {
            // As long as the recorder has room for: it is emptied here.
            events.all();
            next.load(Ordering::SeqCst) > 1500
        });
        pass(ms(round));
        assert_eq!(entry(&app, "app.web").incarnation(), 1);
        let (report, took) = timed(|| app.stop());
        assert!(report.is_empty(), "{report}");
        assert!(took < secs(5), "{took:?}");
        assert_eq!(server.crowd.now(), 0);
        assert!(server.crowd.most() <= CONNECTIONS_MAX as u64);

        let mut got = Got::default();
        for client in clients {
            let one = client.join().unwrap();
            got.answered.extend(one.answered);
            got.closed.extend(one.closed);
            got.refused += one.refused;
        }
        assert_eq!(got.refused, CLIENTS);
        let seen = server.seen.lock().unwrap();
        // Who was answered was served; who was served and not answered was to get none, or was ended by
        // the stop with one of the last connections.
        assert!(got.answered.is_subset(&seen.entered));
        let unanswered = seen.entered.difference(&got.answered);
        let cut_off = unanswered.filter(|n| !matches!(**n % KINDS, FAILS | PANICS | IDLES));
        assert!(cut_off.count() <= CONNECTIONS_MAX);
        // Each failure was told, once, and nothing else.
        let told: Vec<u32> = events.all().iter().filter_map(number_of).collect();
        let told_once: BTreeSet<u32> = told.iter().copied().collect();
        assert_eq!(told.len(), told_once.len());
        assert_eq!(told_once, seen.failed);
        assert!(seen.failed.len() > 300);
        assert_eq!(events.count("app.web", "failed"), 0);
    }
}
