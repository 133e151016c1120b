//! What a service does with its context: waits that wake, closures at a stop.

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::Instant;

use backstay::{Context, ServiceResult, Stopping, Supervisor};
use crossbeam_channel::{select, unbounded};
use rustix::event::{PollFd, PollFlags, poll};

use crate::common::{HOUR, Recorder, Tally, add_running, answer, counted, ms, secs, take, timed};

#[test]
fn on_stop_unblocks_io() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let (told, threads) = unbounded();
    let service = move |ctx: &Context| {
        let mut socket = TcpStream::connect(address)?;
        let other = socket.try_clone()?;
        let tell = told.clone();
        let _guard = ctx.on_stop(move || {
            tell.send(("closure", thread::current().id())).unwrap();
            other.shutdown(Shutdown::Both)
        });
        told.send(("service", thread::current().id()))?;
        // Nobody ever writes.
        let read = socket.read(&mut [0; 16])?;
        assert_eq!(read, 0);
        Ok(())
    };
    let id = app.add("a", service).unwrap();
    let (tell, supervisor) = unbounded();
    let serving = thread::spawn({
        let app = app.clone();
        move || {
            tell.send(thread::current().id()).unwrap();
            app.serve()
        }
    });
    let supervisor = take(&supervisor);
    let (_, service) = take(&threads);
    let (_peer, _) = listener.accept().unwrap();

    let (stopped, took) = timed(|| {
        app.stop_service(id).unwrap();
        events.wait("app.a", "stopped")
    });
    assert!(took < secs(1), "{took:?}");
    assert!(answer(&stopped).is_none(), "{stopped}");
    let (who, closure) = take(&threads);
    assert_eq!(who, "closure");
    assert!(closure != service && closure != supervisor);
    app.stop();
    serving.join().unwrap().unwrap();
    assert!(threads.try_recv().is_err(), "called once");
}

#[test]
fn on_stop_after_the_request_runs_at_once() {
    let app = Supervisor::new("app");
    let (told, calls) = unbounded();
    let service = move |ctx: &Context| {
        ctx.wait_stop();
        crate::common::pass(ms(100));
        let (called, call) = unbounded();
        let registered = Instant::now();
        let guard = ctx.on_stop(move || called.send(registered.elapsed()));
        // Not at its drop.
        told.send(call.recv_timeout(secs(10)))?;
        drop(guard);
        told.send(call.recv_timeout(ms(0)))?;
        Ok(())
    };
    app.start().unwrap();
    add_running(&app, "a", service);
    app.stop();
    let took = take(&calls).expect("called");
    assert!(took < ms(100), "{took:?}");
    take(&calls).expect_err("called once");
}

#[test]
fn on_stop_dropped_is_withdrawn() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let called = Tally::new();
    let (keep, kept) = unbounded();
    let service = {
        let called = called.clone();
        move |ctx: &Context| {
            let count = called.clone();
            let guard = ctx.on_stop(move || count.add());
            if ctx.incarnation() == 1 {
                // Lives on, although its incarnation doesn't.
                keep.send(guard)?;
                return Err("once".into());
            }
            drop(guard);
            ctx.wait_stop();
            Ok(())
        }
    };
    app.add("a", service).unwrap();
    app.start().unwrap();
    let guard = take(&kept);
    events.wait_nth("app.a", "started", 2);
    assert!(app.stop().is_empty());
    assert_eq!(called.get(), 0);
    drop(guard);
    assert_eq!(called.get(), 0);
}

type Wait = fn(&Context) -> ServiceResult;

/// The four ways to wait for a stop. Each returns at the stop, none before.
const WAITS: [(&str, Wait); 4] = [
    ("poll", wait_by_poll),
    ("select", wait_by_select),
    ("sleep", wait_by_sleep),
    ("wait", wait_by_wait),
];

fn wait_by_poll(ctx: &Context) -> ServiceResult {
    let fd = ctx.stop_fd()?;
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    while poll(&mut fds, None)? == 0 {}
    Ok(())
}

fn wait_by_select(ctx: &Context) -> ServiceResult {
    let (_keep, never) = unbounded::<()>();
    select! {
        recv(ctx.stop_signal()) -> _ => Ok(()),
        recv(never) -> _ => Err("not this one".into()),
    }
}

fn wait_by_sleep(ctx: &Context) -> ServiceResult {
    ctx.sleep(HOUR)?;
    Err("the hour is over".into())
}

fn wait_by_wait(ctx: &Context) -> ServiceResult {
    ctx.wait_stop();
    Ok(())
}

#[test]
fn every_wait_wakes_at_a_stop() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    app.start().unwrap();
    let ids = WAITS.map(|(name, wait)| app.add(name, counted(&runs, wait)).unwrap());
    runs.reach(WAITS.len() as u64);
    let ((), took) = timed(|| {
        for id in ids {
            app.restart_service(id).unwrap();
        }
        // A wait that were not fresh would return, and that would be a failure.
        runs.reach(2 * WAITS.len() as u64);
    });
    assert!(took < secs(1), "{took:?}");

    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < secs(1), "{took:?}");
    for (name, _) in WAITS {
        let words = events.words(&format!("app.{name}"));
        let once = ["started", "stopping", "stopped"];
        assert_eq!(words, [&["added"], &once[..], &once[..]].concat(), "{name}");
    }
}

#[test]
fn helpers_wake_when_their_incarnation_ends() {
    let app = Supervisor::new("app");
    let awake = Tally::new();
    let (told, ended) = unbounded();
    let service = {
        let awake = awake.clone();
        move |ctx: &Context| {
            if ctx.incarnation() > 1 {
                ctx.wait_stop();
                return Ok(());
            }
            let waiting = Tally::new();
            for (name, wait) in WAITS {
                let (ctx, waiting, awake) = (ctx.clone(), waiting.clone(), awake.clone());
                thread::spawn(move || {
                    waiting.add();
                    let back = wait(&ctx);
                    if name == "sleep" {
                        assert!(back.is_err_and(|e| e.is::<Stopping>()));
                    }
                    awake.add();
                });
            }
            waiting.reach(WAITS.len() as u64);
            assert_eq!(awake.get(), 0, "nobody wakes before");
            told.send(Instant::now())?;
            Err("by itself".into())
        }
    };
    app.add("a", service).unwrap();
    app.start().unwrap();
    let ended = take(&ended);
    awake.reach(WAITS.len() as u64);
    assert!(ended.elapsed() < secs(1), "{:?}", ended.elapsed());
    app.stop();
}
