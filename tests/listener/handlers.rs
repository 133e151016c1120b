//! What handlers do, and what becomes of it.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

use backstay::services::{ConnectionError, Listener};
use backstay::{BoxError, Context, End, Exit, Failure, Restart, Spec};
use crossbeam_channel::unbounded;

use crate::common::watch::entry;
use crate::common::{
    Recorder, Tally, failed, ms, obedient, secs, take, timed, unlimited, wait_for,
};
use crate::{assert_closed, assert_echo, connect, echo, start};

/// Says what the client says it shall do.
fn obey(mut stream: TcpStream, ctx: &Context) -> Result<(), BoxError> {
    let mut word = [0];
    stream.read_exact(&mut word)?;
    match &word {
        b"e" => Err("an error".into()),
        b"p" => panic!("a panic"),
        b"d" => Err(Exit::DoNotRestart.because("enough").into()),
        b"t" => Err(Exit::TerminateTree.because("everybody out").into()),
        _ => echo(stream, ctx),
    }
}

fn command(address: std::net::SocketAddr, word: &str) -> TcpStream {
    let mut client = connect(address);
    client.write_all(word.as_bytes()).unwrap();
    client
}

#[test]
fn a_failing_handler_fails_alone_and_says_who() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let address = start(&app, &Listener::tcp("127.0.0.1:0", obey));
    let mut good = command(address, ".");
    let rounds = [("e", "an error", false), ("p", "a panic", true)];
    for n in 0..20 {
        let (word, text, is_panic) = rounds[n % 2];
        let mut client = command(address, word);
        let peer = client.local_addr().unwrap();
        assert_closed(&mut client);
        let mut found = None;
        wait_for("the failure is told", || {
            let told = events
                .all()
                .iter()
                .find(|e| e.word() == "failed" && e.to_string().contains(&peer.to_string()));
            found = told.cloned();
            found.is_some()
        });
        let event = found.unwrap();
        assert!(event.path().starts_with("app.web."), "{event}");
        let failure = failed(&event).failure;
        assert!(failure.message().contains(text), "{failure}");
        let error = failure.error().unwrap().downcast_ref::<ConnectionError>();
        let error = error.unwrap();
        assert_eq!((error.peer(), error.is_panic()), (Some(peer), is_panic));
        if is_panic {
            let panic = error.source().unwrap().downcast_ref::<Failure>().unwrap();
            assert!(panic.location().unwrap().contains("handlers.rs"));
        }
        assert_echo(&mut good, "still there");
    }
    let web = entry(&app, "app.web");
    assert_eq!((web.incarnation(), web.failures()), (1, 0));
    // Only the one that serves is left of the threads.
    wait_for("the others are gone", || {
        entry(&app, "app.web").services().len() == 1
    });
    assert!(app.stop().is_empty());
}

#[test]
fn an_exit_of_a_handler_ends_the_listener_with_it() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let listener = Listener::tcp("127.0.0.1:0", obey).linger(ms(50));
    let address = start(&app, &listener);
    let id = app.id("web").unwrap();
    let mut idle = command(address, ".");
    assert_echo(&mut idle, "x");
    let _asks = command(address, "d");
    assert!(matches!(app.wait_service(id, secs(30)), Ok(End::Done)));
    assert_closed(&mut idle);
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(events.count("app.web", "failed"), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn a_handler_can_take_the_tree_down() {
    let app = unlimited("app");
    app.add("other", obedient()).unwrap();
    let address = start(&app, &Listener::tcp("127.0.0.1:0", obey));
    let _asks = command(address, "t");
    let error = app.wait_timeout(secs(30)).unwrap().unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!(failure.path(), "app.web");
    assert!(failure.message().contains("everybody out"), "{failure}");
}

#[test]
fn an_exit_is_heard_while_there_is_no_room() {
    let app = unlimited("app");
    let listener = Listener::tcp("127.0.0.1:0", obey).max_connections(1);
    let address = start(&app, &listener.linger(ms(10)));
    let id = app.id("web").unwrap();
    let mut first = connect(address);
    // Waits in the backlog.
    let _second = connect(address);
    wait_for("the first is served", || {
        entry(&app, "app.web").services().len() == 1
    });
    first.write_all(b"d").unwrap();
    assert!(matches!(app.wait_service(id, secs(30)), Ok(End::Done)));
    app.stop();
}

#[test]
fn a_context_ends_with_its_handler() {
    let (tell, told) = unbounded();
    let listener = Listener::tcp("127.0.0.1:0", move |stream, ctx| {
        assert!(!ctx.is_stopping());
        tell.send(ctx.clone())?;
        echo(stream, ctx)
    });
    let app = unlimited("app");
    let address = start(&app, &listener);
    for _ in 0..3 {
        let mut client = connect(address);
        assert_echo(&mut client, "x");
        let ctx: Context = take(&told);
        assert!(ctx.path().starts_with("app.web."), "{}", ctx.path());
        assert!(!ctx.is_stopping());
        drop(client);
        wait_for("its handler has returned", || ctx.is_stopping());
    }
    assert!(app.stop().is_empty());
}

#[test]
fn a_context_stops_at_the_request_and_not_after_the_linger() {
    let seen = Tally::new();
    let see = seen.clone();
    let begun = Tally::new();
    let begin = begun.clone();
    let listener = Listener::tcp("127.0.0.1:0", move |mut stream, ctx| {
        begin.add();
        // As a server that sends something from time to time.
        let late = ctx.sleep(secs(60));
        see.add();
        stream.write_all(b"bye")?;
        Ok(late?)
    });
    let app = unlimited("app");
    let address = start(&app, &listener.linger(secs(60)));
    let mut client = connect(address);
    begun.reach(1);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < secs(5), "{took:?}");
    assert_eq!(seen.get(), 1);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
}

#[test]
fn a_connection_closes_when_its_handler_has_returned() {
    let listener = Listener::tcp("127.0.0.1:0", |mut stream, _ctx| {
        stream.write_all(b"bye")?;
        Ok(())
    });
    let app = unlimited("app");
    let address = start(&app, &listener);
    for _ in 0..100 {
        let mut text = String::new();
        connect(address).read_to_string(&mut text).unwrap();
        assert_eq!(text, "bye");
    }
    // One thread served them all, or two that took turns.
    assert!(entry(&app, "app.web").services().len() <= 2);
    assert!(app.stop().is_empty());
}

/// It comes back after a failure of its own, with its connections ended.
#[test]
fn a_listener_below_a_never_service_is_a_service_like_any_other() {
    let app = unlimited("app");
    app.start().unwrap();
    let spec = Spec::new("web", Listener::tcp("127.0.0.1:0", obey)).restart(Restart::Never);
    let id = app.add_spec(spec).unwrap();
    app.remove_and_wait(id, secs(30)).unwrap();
    assert_eq!(app.id("web"), None);
    app.stop();
}
