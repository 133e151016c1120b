//! Listeners in trouble.
#![cfg(feature = "net")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

#[path = "listener/bind.rs"]
mod bind;
#[path = "listener/handlers.rs"]
mod handlers;
#[path = "listener/resources.rs"]
mod resources;
#[path = "listener/stops.rs"]
mod stops;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use backstay::services::Listener;
use backstay::{Context, ServiceResult, Spec, Supervisor};

use common::{PATIENCE, secs};

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

/// The other side has closed, one way or the other.
#[track_caller]
fn assert_closed(client: &mut TcpStream) {
    match client.read(&mut [0; 16]) {
        Ok(0) => {}
        Ok(n) => panic!("{n} bytes"),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
    }
}

/// Starts it as `app.web` and answers its address.
#[track_caller]
fn start(app: &Supervisor, listener: &Listener) -> SocketAddr {
    let spec = Spec::new("web", listener.clone()).ready_timeout(secs(20));
    app.add_spec(spec).unwrap();
    app.start().unwrap();
    app.wait_ready(secs(20)).unwrap();
    listener.local_addr().unwrap()
}
