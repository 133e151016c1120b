//! Answers a line over TCP. One client at a time, to be short; `backstay::services::Listener` is for
//! many.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use backstay::{Context, Key, ServiceResult, Spec};

use crate::cache::{CACHE, Cache};
use crate::config::CONFIG;

/// Where it listens.
pub const ADDRESS: Key<SocketAddr> = Key::new("address");

/// How long a client may take for its line.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

pub fn spec() -> Spec {
    Spec::new("api", run)
        .needs(&CONFIG)
        .needs(&CACHE)
        .provides(&ADDRESS)
}

fn run(ctx: &Context) -> ServiceResult {
    let (config, cache) = (ctx.get(&CONFIG)?, ctx.get(&CACHE)?);
    let socket = TcpListener::bind(&config.listen)?;
    let address = socket.local_addr()?;
    ctx.provide(&ADDRESS, address)?;
    // At a stop one more client comes, so that `accept` returns.
    let _unblock = ctx.on_stop(move || TcpStream::connect(address));
    loop {
        let (client, _) = socket.accept()?;
        if ctx.is_stopping() {
            return Ok(());
        }
        if let Err(e) = answer(&client, &cache) {
            ctx.log(format!("a client: {e}"));
        }
    }
}

fn answer(mut client: &TcpStream, cache: &Cache) -> std::io::Result<()> {
    client.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    let mut name = String::new();
    BufReader::new(client).read_line(&mut name)?;
    match cache.get(name.trim_end()) {
        Some(text) => writeln!(client, "{text}"),
        None => writeln!(client, "there is no such note"),
    }
}
