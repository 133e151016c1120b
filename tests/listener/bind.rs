//! Where it listens, and what may be in its way.

use std::net::SocketAddr;

use backstay::services::Listener;
use backstay::{Backoff, End, Key, Restart, Spec};

use crate::common::{HOUR, Recorder, failed, ms, secs, timed, unlimited, wait_state};
use crate::{assert_echo, connect, echo, start};

#[test]
fn an_address_that_cannot_be_names_it() {
    for address in ["no port", "256.0.0.1:1", "192.0.2.1:80"] {
        let app = unlimited("app");
        app.start().unwrap();
        let spec = Spec::new("web", Listener::tcp(address, echo)).restart(Restart::Never);
        let id = app.add_spec(spec).unwrap();
        match app.wait_service(id, secs(60)).unwrap() {
            End::Removed {
                failure: Some(failure),
            } => assert!(failure.message().contains(address), "{failure}"),
            other => panic!("{other:?}"),
        }
        app.stop();
    }
}

#[test]
fn no_connections_at_all_are_refused() {
    let app = unlimited("app");
    app.start().unwrap();
    let listener = Listener::tcp("127.0.0.1:0", echo).max_connections(0);
    let id = app.add("web", listener.clone()).unwrap();
    assert!(matches!(app.wait_service(id, secs(30)), Ok(End::Done)));
    let report = app.report();
    let entry = report.find("app.web").unwrap();
    assert_eq!((entry.starts(), entry.failures()), (1, 0));
    assert_eq!(listener.local_addr(), None);
    app.stop();
}

#[test]
fn the_address_is_shown_while_it_is_bound_to_handles_of_it() {
    let original = Listener::tcp("127.0.0.1:0", echo);
    let listener = original.clone().linger(ms(1));
    let app = unlimited("app");
    let address = start(&app, &listener);
    assert_eq!(listener.clone().local_addr(), Some(address));
    // It is another one.
    assert_eq!(original.local_addr(), None);
    let report = app.report();
    let status = report.find("app.web").unwrap().status().unwrap().to_owned();
    assert_eq!(status, format!("listens at {address}"));
    assert!(app.stop().is_empty());
    assert_eq!(listener.local_addr(), None);
}

#[test]
fn restarted_it_binds_the_same_port_again() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let listener = Listener::tcp(address.to_string(), echo).linger(ms(20));
    start(&app, &listener);
    let id = app.id("web").unwrap();
    for n in 2..=5 {
        // One is open, and is ended.
        let mut client = connect(address);
        assert_echo(&mut client, "x");
        app.restart_service(id).unwrap();
        events.wait_nth("app.web", "ready", n);
        crate::assert_closed(&mut client);
    }
    assert_eq!(events.count("app.web", "failed"), 0);
    assert!(app.stop().is_empty());
}

#[test]
fn who_wants_to_know_is_told_the_address_before_it_is_ready() {
    const WEB: Key<SocketAddr> = Key::new("web");
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let listener = Listener::tcp("127.0.0.1:0", echo).on_bind(|ctx, address| {
        assert_eq!(ctx.path(), "app.web");
        ctx.log("bound");
        Ok(ctx.provide(&WEB, address.unwrap())?)
    });
    let spec = Spec::new("web", listener.clone()).provides(&WEB);
    let id = app.add_spec(spec).unwrap();
    app.start().unwrap();
    let address = app.get(&WEB, secs(30)).unwrap();
    assert_echo(&mut connect(*address), "x");
    assert_eq!(listener.local_addr(), Some(*address));

    // At each start.
    app.restart_service(id).unwrap();
    events.wait_nth("app.web", "ready", 2);
    assert_eq!(events.count("app.web", "log"), 2);
    assert!(app.stop().is_empty());
}

#[test]
fn who_is_told_the_address_may_refuse() {
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let listener = Listener::tcp("127.0.0.1:0", echo).on_bind(|ctx, _| match ctx.incarnation() {
        1 => Err("not as root".into()),
        2 => panic!("not at all"),
        _ => Ok(()),
    });
    app.add("web", listener.clone()).unwrap();
    app.start().unwrap();
    let first = failed(&events.wait("app.web", "failed")).failure;
    assert_eq!(first.message(), "not as root");
    let second = failed(&events.wait_nth("app.web", "failed", 2)).failure;
    assert_eq!(second.message(), "not at all");
    events.wait("app.web", "ready");
    let address = listener.local_addr().unwrap();
    assert_echo(&mut connect(address), "x");
    assert!(app.stop().is_empty());
}

#[cfg(unix)]
mod unix {
    use std::fs::{self, Permissions};
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::{Path, PathBuf};

    use backstay::{Context, ServiceResult};

    use super::*;

    fn answer(mut stream: UnixStream, _ctx: &Context) -> ServiceResult {
        stream.write_all(b"hello")?;
        Ok(())
    }

    /// Removed at the end, whatever it is by then.
    struct SocketPath(PathBuf);

    impl SocketPath {
        fn new(name: &str) -> SocketPath {
            let name = format!("{name}-{}", std::process::id());
            SocketPath(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name))
        }
    }

    impl Drop for SocketPath {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn read(path: &Path) -> String {
        let mut text = String::new();
        let mut stream = UnixStream::connect(path).unwrap();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn who_wants_to_know_finds_the_socket_file_bound() {
        let path = SocketPath::new("told");
        let file = path.0.clone();
        let listener = Listener::unix(&path.0, answer).on_bind(move |_ctx, address| {
            assert_eq!(address, None);
            Ok(fs::set_permissions(&file, Permissions::from_mode(0o600))?)
        });
        let app = unlimited("app");
        app.add_spec(Spec::new("web", listener).ready_timeout(secs(30)))
            .unwrap();
        app.start().unwrap();
        app.wait_ready(secs(30)).unwrap();
        let mode = fs::metadata(&path.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(read(&path.0), "hello");
        assert!(app.stop().is_empty());
    }

    /// A failure that names the path, in less time than a blocked connect would take.
    #[track_caller]
    fn assert_refused(path: &Path) {
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        let spec = Spec::new("web", Listener::unix(path, answer)).backoff(Backoff::fixed(HOUR));
        app.add_spec(spec).unwrap();
        app.start().unwrap();
        let failure = failed(&events.wait("app.web", "failed")).failure;
        let message = failure.message();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert!(app.stop().is_empty());
    }

    #[test]
    fn a_socket_in_use_is_left_alone_however_busy() {
        let path = SocketPath::new("busy");
        let other = UnixListener::bind(&path.0).unwrap();
        assert_refused(&path.0);
        // Nobody has connected to it.
        other.set_nonblocking(true).unwrap();
        assert!(other.accept().is_err());
        // Its backlog is full: another connect would block.
        let mut backlog = Vec::new();
        for _ in 0..5000 {
            let socket = path.0.clone();
            let (done, connected) = crossbeam_channel::bounded(1);
            std::thread::spawn(move || done.send(UnixStream::connect(socket).ok()));
            match connected.recv_timeout(ms(200)) {
                Ok(stream) => backlog.push(stream),
                Err(_) => break,
            }
        }
        let ((), took) = timed(|| assert_refused(&path.0));
        assert!(took < secs(5), "{took:?}");
        drop(other);
    }

    #[test]
    fn a_datagram_socket_in_use_is_left_alone() {
        let path = SocketPath::new("datagram");
        let _other = UnixDatagram::bind(&path.0).unwrap();
        assert_refused(&path.0);
        assert!(path.0.exists());
    }

    #[test]
    fn other_files_are_left_alone() {
        let path = SocketPath::new("link");
        std::os::unix::fs::symlink("/nonexistent", &path.0).unwrap();
        assert_refused(&path.0);
        assert!(path.0.is_symlink());
        assert_refused(Path::new(env!("CARGO_TARGET_TMPDIR")));
        assert_refused(Path::new("/nonexistent/directory/socket"));
    }

    #[test]
    fn it_is_not_removed_when_it_is_somebody_elses() {
        let path = SocketPath::new("replaced");
        let app = unlimited("app");
        let spec = Spec::new("web", Listener::unix(&path.0, answer)).ready_timeout(secs(20));
        app.add_spec(spec).unwrap();
        app.start().unwrap();
        app.wait_ready(secs(20)).unwrap();
        assert_eq!(read(&path.0), "hello");
        fs::remove_file(&path.0).unwrap();
        fs::write(&path.0, "mine").unwrap();
        assert!(app.stop().is_empty());
        assert_eq!(fs::read_to_string(&path.0).unwrap(), "mine");
    }

    #[test]
    fn killed_and_restarted_it_replaces_its_own_file() {
        let path = SocketPath::new("own");
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        app.add("web", Listener::unix(&path.0, answer)).unwrap();
        app.start().unwrap();
        let id = app.id("web").unwrap();
        for n in 1..=3 {
            events.wait_nth("app.web", "ready", n);
            assert_eq!(read(&path.0), "hello");
            app.restart_service(id).unwrap();
        }
        events.wait_nth("app.web", "ready", 4);
        wait_state(&app, "app.web", backstay::State::Ready);
        assert_eq!(events.count("app.web", "failed"), 0);
        assert!(app.stop().is_empty());
        assert!(!path.0.exists());
    }
}
