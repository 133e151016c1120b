//! Stops, at bad moments.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use backstay::services::Listener;
use backstay::{End, Spec, Supervisor};

use crate::common::{Gate, Tally, ms, secs, timed, unlimited, wait_state};
use crate::{assert_closed, assert_echo, connect, echo, start};

#[test]
fn without_linger_connections_end_at_once() {
    let app = unlimited("app");
    let listener = Listener::tcp("127.0.0.1:0", echo).linger(Duration::ZERO);
    let address = start(&app, &listener);
    let mut clients: Vec<_> = (0..5).map(|_| connect(address)).collect();
    for client in &mut clients {
        assert_echo(client, "x");
    }
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < secs(4), "{report} {took:?}");
    clients.iter_mut().for_each(assert_closed);
}

#[test]
fn without_connections_nobody_lingers() {
    let app = unlimited("app");
    let listener = Listener::tcp("127.0.0.1:0", echo).linger(secs(60));
    let address = start(&app, &listener);
    assert_echo(&mut connect(address), "x");
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < secs(5), "{report} {took:?}");
}

#[test]
fn a_stop_is_heard_while_there_is_no_room() {
    let app = unlimited("app");
    let listener = Listener::tcp("127.0.0.1:0", echo).max_connections(1);
    let address = start(&app, &listener.linger(ms(10)));
    let mut first = connect(address);
    assert_echo(&mut first, "x");
    let mut second = connect(address);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < secs(5), "{report} {took:?}");
    assert_closed(&mut first);
    assert_closed(&mut second);
}

/// The one that is stuck is named, with its thread; the others have ended.
#[test]
fn a_handler_that_never_returns_is_abandoned_and_named() {
    let (release, stuck) = (Gate::new(), Tally::new());
    let (hold, begin) = (release.clone(), stuck.clone());
    let listener = Listener::tcp("127.0.0.1:0", move |mut stream, _ctx| {
        let mut word = [0];
        stream.read_exact(&mut word)?;
        if &word == b"!" {
            begin.add();
            hold.wait();
        }
        Ok(())
    });
    let app = Supervisor::builder("app")
        .service_stop_timeout(ms(500))
        .build()
        .unwrap();
    let address = start(&app, &listener.linger(ms(50)));
    let mut clients = [connect(address), connect(address)];
    clients[0].write_all(b"!").unwrap();
    stuck.reach(1);
    let (report, took) = timed(|| app.stop());
    assert!(took < secs(5), "{took:?}");
    let [unstopped] = report.unstopped() else {
        panic!("{report}")
    };
    assert!(unstopped.path().starts_with("app.web."), "{report}");
    assert_closed(&mut clients[1]);
    release.open();
}

/// A client that is just being accepted when the stop comes has its connection closed, soon. It says
/// something first: Linux forgets a connection whose handshake was under way when its socket was
/// closed, and answers with a reset only then.
#[test]
fn a_stop_in_the_middle_of_an_accept_leaves_no_connection_open() {
    for _ in 0..200 {
        let app = unlimited("app");
        let listener = Listener::tcp("127.0.0.1:0", echo).linger(Duration::ZERO);
        let address = start(&app, &listener);
        let client = std::thread::spawn(move || {
            // Refused, or accepted and closed.
            if let Ok(mut stream) = TcpStream::connect(address) {
                stream.set_read_timeout(Some(secs(30))).unwrap();
                let answer = stream
                    .write_all(b"x")
                    .and_then(|()| stream.read_to_end(&mut Vec::new()));
                match answer {
                    Ok(n) => assert!(n <= 1, "{n} bytes"),
                    Err(e) => assert_ne!(e.kind(), ErrorKind::WouldBlock, "{e}"),
                }
            }
        });
        let (report, took) = timed(|| app.stop());
        assert!(report.is_empty() && took < secs(4), "{report} {took:?}");
        client.join().unwrap();
    }
}

/// A connection whose thread is just being started counts as open, but nobody lingers for it.
#[test]
fn a_connection_that_no_handler_has_begun_holds_nobody_up() {
    for round in 0..200 {
        let app = unlimited("app");
        let listener = Listener::tcp("127.0.0.1:0", |_stream, ctx| {
            ctx.wait_stop();
            Ok(())
        });
        let address = start(&app, &listener.linger(secs(60)));
        let clients: Vec<_> = (0..1 + round % 4).map(|_| connect(address)).collect();
        let (report, took) = timed(|| app.stop());
        assert!(report.is_empty() && took < secs(5), "{report} {took:?}");
        drop(clients);
    }
}

#[test]
fn stopped_while_it_starts_it_leaves_nothing() {
    let app = unlimited("app");
    app.start().unwrap();
    for _ in 0..200 {
        let listener = Listener::tcp("127.0.0.1:0", echo);
        let id = app.add_spec(Spec::new("web", listener.clone())).unwrap();
        app.stop_service(id).unwrap();
        assert!(matches!(app.wait_service(id, secs(30)), Ok(End::Stopped)));
        assert_eq!(listener.local_addr(), None);
        app.remove_and_wait(id, secs(30)).unwrap();
    }
    app.stop();
}

#[test]
fn a_stop_for_a_restart_ends_connections_too() {
    let app = unlimited("app");
    let listener = Listener::tcp("127.0.0.1:0", echo).linger(Duration::ZERO);
    let address = start(&app, &listener);
    let mut client = connect(address);
    assert_echo(&mut client, "x");
    app.restart_service(app.id("web").unwrap()).unwrap();
    let mut rest = Vec::new();
    // The end, not a timeout.
    client.read_to_end(&mut rest).unwrap();
    wait_state(&app, "app.web", backstay::State::Ready);
    assert!(app.stop().is_empty());
}
