//! A read that blocks for ever is no obstacle to a stop: `on_stop` shuts the socket down, the read
//! returns, and everything has ended long before the stop timeout.
//!
//! `cargo run --example blocking_read`

use std::io::Read;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use backstay::{Context, Spec, Supervisor};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A peer that never says anything.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;

    let app = Supervisor::new("app");
    app.add_spec(
        Spec::new("reader", move |ctx: &Context| {
            let mut socket = TcpStream::connect(address)?;
            let other = socket.try_clone()?;
            // Withdrawn when `run` returns: it belongs to this socket, not to the next one.
            let _unblock = ctx.on_stop(move || other.shutdown(Shutdown::Both));
            ctx.ready();
            let n = socket.read(&mut [0; 1024])?; // blocks
            println!("{}: the read ended with {n} bytes", ctx.path());
            Ok(())
        })
        .ready_timeout(Duration::from_secs(5)),
    )?;
    app.start()?;
    app.wait_ready(Duration::from_secs(5))?;
    println!("{}", app.report());

    let asked = Instant::now();
    let report = app.stop();
    println!("{report}, {:?} after the request", asked.elapsed());
    assert!(report.is_empty());
    Ok(())
}
