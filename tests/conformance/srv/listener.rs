//! A socket as a service. What goes beyond the rows is in `tests/listener.rs`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use backstay::services::Listener;
use backstay::{Backoff, Context, ServiceResult, Spec, Supervisor};

use crate::common::watch::{Crowd, SOON, entry};
use crate::common::{
    Gate, PATIENCE, Recorder, Tally, failed, ms, obedient, pass, secs, timed, unlimited, wait_for,
};

fn echo(mut stream: TcpStream, _ctx: &Context) -> ServiceResult {
    let mut copy = stream.try_clone()?;
    std::io::copy(&mut stream, &mut copy)?;
    Ok(())
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn assert_echo(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; text.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, text.as_bytes());
}

/// Starts it as `app.web` and answers its address.
#[track_caller]
fn start(app: &Supervisor, listener: &Listener) -> SocketAddr {
    let spec = Spec::new("web", listener.clone()).ready_timeout(secs(5));
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    app.wait_ready(secs(5)).unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn listener_is_ready_once_bound() {
    let app = unlimited("app");
    let listener = Listener::tcp("127.0.0.1:0", echo);
    let address = start(&app, &listener);
    assert_ne!(address.port(), 0);
    for n in 0..10 {
        assert_echo(&mut connect(address), &format!("hello {n}"));
    }
    assert!(app.stop().is_empty());
}

#[test]
fn listener_port_in_use_is_a_failure_that_heals() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let spec = Spec::new("web", Listener::tcp(&address, echo))
        .ready_timeout(secs(5))
        .backoff(Backoff::fixed(ms(100)));
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.web", "failed")).failure;
    assert!(failure.message().contains(&address), "{failure}");

    pass(ms(350));
    let failures = events.count("app.web", "failed");
    assert!((2..=5).contains(&failures), "{failures}");
    drop(taken);
    let ((), took) = timed(|| app.wait_ready(PATIENCE).unwrap());
    assert!(took < SOON, "{took:?}");
    assert!(app.stop().is_empty());
}

#[test]
fn listener_stop_ends_open_connections() {
    let crowd = Crowd::new();
    let inside = crowd.clone();
    let listener = Listener::tcp("127.0.0.1:0", move |mut stream, _ctx| {
        let _inside = inside.enter();
        let _n = stream.read(&mut [0; 16])?;
        Ok(())
    });
    let app = unlimited("app");
    let address = start(&app, &listener.linger(ms(100)));
    let clients: Vec<_> = (0..3).map(|_| connect(address)).collect();
    wait_for("all are served", || crowd.now() == 3);

    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!((ms(100)..SOON).contains(&took), "{took:?}");
    assert_eq!(crowd.now(), 0);
    for mut client in clients {
        assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    }
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn listener_lets_a_running_request_finish() {
    let asked = Tally::new();
    let heard = asked.clone();
    let listener = Listener::tcp("127.0.0.1:0", move |mut stream, _ctx| {
        let mut request = BufReader::new(stream.try_clone()?).lines();
        while !request.next().transpose()?.unwrap_or_default().is_empty() {}
        heard.add();
        pass(ms(200));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        Ok(())
    });
    // Added before the listener, so it ends after it.
    let ends = Tally::new();
    let (ended, served) = (ends.clone(), listener.clone());
    let app = unlimited("app");
    app.add("before", move |ctx: &Context| {
        ctx.wait_stop();
        assert_eq!(served.local_addr(), None);
        ended.add();
        Ok(())
    })
    .unwrap();
    let address = start(&app, &listener);
    let mut client = connect(address);
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    asked.reach(1);

    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < SOON, "{took:?}");
    assert_eq!(ends.get(), 1);
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

#[test]
fn listener_contains_a_panicking_connection() {
    let listener = Listener::tcp("127.0.0.1:0", |mut stream, ctx| {
        let mut first = [0];
        stream.read_exact(&mut first)?;
        assert_ne!(&first, b"!", "a bad word");
        stream.write_all(&first)?;
        echo(stream, ctx)
    });
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let address = start(&app, &listener);
    let [mut one, mut two, mut three] = [0; 3].map(|_| connect(address));
    let bad = two.local_addr().unwrap().to_string();
    assert_echo(&mut one, "1");
    two.write_all(b"!").unwrap();
    assert_eq!(two.read(&mut [0; 16]).unwrap(), 0);
    assert_echo(&mut three, "3");
    assert_echo(&mut one, "still there");

    wait_for("the failure is told", || {
        events.all().iter().any(|e| e.to_string().contains(&bad))
    });
    assert_eq!(entry(&app, "app.web").incarnation(), 1);
    assert!(app.stop().is_empty());
    let named: Vec<_> = events
        .all()
        .iter()
        .filter(|e| e.to_string().contains(&bad))
        .collect();
    let [event] = named[..] else {
        panic!("{named:?}")
    };
    assert_eq!(event.word(), "failed");
    assert!(event.to_string().contains("a bad word"), "{event}");
    assert_eq!(events.count("app.web", "failed"), 0);
}

#[test]
fn listener_limits_connections() {
    let (begun, gate) = (Tally::new(), Gate::new());
    let (begin, hold, number) = (begun.clone(), gate.clone(), AtomicU64::new(0));
    let listener = Listener::tcp("127.0.0.1:0", move |mut stream, _ctx| {
        let first = number.fetch_add(1, Ordering::SeqCst) == 0;
        begin.add();
        // The first one ends when its client says so.
        if !first {
            hold.wait();
        }
        let _n = stream.read(&mut [0; 16])?;
        Ok(())
    });
    let app = unlimited("app");
    let address = start(&app, &listener.max_connections(2));
    let mut clients: Vec<_> = (0..3)
        .map(|n| {
            let client = connect(address);
            if n < 2 {
                begun.reach(n + 1);
            }
            client
        })
        .collect();
    // The third has connected, and waits.
    pass(ms(200));
    assert_eq!(begun.get(), 2);
    let since = Instant::now();
    clients[0].write_all(b"bye").unwrap();
    begun.reach(3);
    assert!(since.elapsed() < SOON);
    gate.open();
    drop(clients);
    assert!(app.stop().is_empty());
}

#[cfg(unix)]
#[test]
fn listener_unix_socket_file_is_managed() {
    use std::os::unix::net::{UnixListener, UnixStream};

    let directory = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.join(format!("socket-{}", std::process::id()));
    // Bound and closed: the file stays.
    drop(UnixListener::bind(&path).unwrap());
    assert!(UnixStream::connect(&path).is_err());

    let echo = |mut stream: UnixStream, _ctx: &Context| {
        let mut copy = stream.try_clone()?;
        std::io::copy(&mut stream, &mut copy)?;
        Ok(())
    };
    let app = unlimited("app");
    let spec = Spec::new("web", Listener::unix(&path, echo)).ready_timeout(secs(5));
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    app.wait_ready(secs(5)).unwrap();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
    drop(client);
    assert!(app.stop().is_empty());
    assert!(!path.exists());

    std::fs::write(&path, "mine").unwrap();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let spec = Spec::new("web", Listener::unix(&path, echo)).backoff(Backoff::fixed(secs(60)));
    app.add_spec(spec).unwrap();
    app.add("other", obedient()).unwrap();
    app.start().unwrap();
    let failure = failed(&events.wait("app.web", "failed")).failure;
    let name = path.display().to_string();
    assert!(failure.message().contains(&name), "{failure}");
    assert!(app.stop().is_empty());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    std::fs::remove_file(&path).unwrap();
}
