//! Where devices come in: TCP, UDP and a serial line. Each line gets an answer: `ok DEVICE SEQUENCE`
//! when it is committed, `busy ..` if it shall be sent again, `err ..` with the reason if it is no good.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use backstay::services::Listener;
use backstay::{Context, Exit, Key, Service, ServiceResult};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::config::INTAKE;
use crate::line::{Fate, LINE_BYTES_MAX, Lines, Raw, Record, Refusal, parse, whole};
use crate::store::insert;
use crate::terminal::Terminal;
use crate::tree::Shared;
use crate::trouble::{EXIT_ADDRESS, Trouble};

/// Where TCP devices connect to.
pub const TCP: Key<SocketAddr> = Key::new("tcp");
/// Where UDP devices send to.
pub const UDP: Key<SocketAddr> = Key::new("udp");
/// The serial line.
pub const SERIAL: Key<PathBuf> = Key::new("serial");

/// How long a TCP device may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// How long a device may take to read its answers, and a parser to parse.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much is read at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// How many datagrams are answered together.
const DATAGRAMS_MAX: usize = 128;

/// An answer for each line, in the same order; each ends its line.
fn answers(gateway: &Shared, ctx: &Context, lines: Vec<Raw>) -> Vec<String> {
    let wanted = lines.len();
    let shared = gateway.clone();
    let job = move |_: &Context| {
        shared.faults.strike("parsers")?;
        Ok(lines.iter().map(parse).collect::<Vec<_>>())
    };
    // Else too many wait already, or a parser takes too long or has failed.
    let job = gateway.parsers.submit_timeout(job, PATIENCE).ok();
    let Some(parsed) = job.and_then(|job| job.wait_timeout(PATIENCE).ok()) else {
        gateway.count(Fate::Busy, wanted);
        return vec!["busy\n".to_owned(); wanted];
    };
    let records: Vec<Record> = parsed.iter().flatten().cloned().collect();
    let fates = match records.is_empty() {
        true => Ok(Vec::new()),
        false => gateway.write(ctx, move |transaction| insert(transaction, &records)),
    };
    let mut fates = fates.unwrap_or_default().into_iter();
    let answer = |line: &Result<Record, Refusal>| {
        let (fate, answer) = match line {
            Ok(record) => answer(record, fates.next().unwrap_or(Fate::Busy)),
            Err((fate, why)) => (*fate, format!("err {why}\n")),
        };
        gateway.count(fate, 1);
        answer
    };
    parsed.iter().map(answer).collect()
}

fn answer(Record { device, seq, .. }: &Record, fate: Fate) -> (Fate, String) {
    let answer = match fate {
        Fate::Stored | Fate::Again => format!("ok {device} {seq}\n"),
        Fate::TooOld => format!("err {device} {seq} older than what is kept\n"),
        _ => format!("busy {device} {seq}\n"),
    };
    (fate, answer)
}

/// A thread for each device that connects.
pub fn tcp(gateway: &Shared, ctx: &Context) -> ServiceResult {
    let intake = ctx.get(&INTAKE)?;
    let shared = gateway.clone();
    Listener::tcp(intake.tcp.to_string(), move |stream, ctx| {
        serve(&shared, stream, ctx)
    })
    .max_connections(intake.connections_max.get())
    .on_bind(|ctx, address| match address {
        Some(address) => Ok(ctx.provide(&TCP, address)?),
        None => Ok(()),
    })
    .run(ctx)
    .map_err(|e| match Exit::find(&*e) {
        Some(_) => e,
        None => Trouble::new(EXIT_ADDRESS, intake.tcp, e).into(),
    })
}

/// One device, until it goes.
fn serve(gateway: &Shared, mut stream: TcpStream, ctx: &Context) -> ServiceResult {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let other = stream.try_clone()?;
    let _unblock = ctx.on_stop(move || other.shutdown(Shutdown::Read));
    let mut lines = Lines::default();
    let mut chunk = vec![0; CHUNK];
    // Devices come and go, also in the middle of a line: that is no failure.
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        // With an `Exit` the whole listener ends, not this connection alone.
        let fault = gateway.faults.strike("tcp");
        fault.map_err(|e| Exit::Bounce.because(e))?;
        let answers = answers(gateway, ctx, lines.feed(&chunk[..n])).concat();
        if stream.write_all(answers.as_bytes()).is_err() {
            break;
        }
    }
    Ok(())
}

/// A line in each datagram, and a datagram for each answer.
pub fn udp(gateway: &Shared, ctx: &Context) -> ServiceResult {
    let address = ctx.get(&INTAKE)?.udp;
    let named = |e| Trouble::new(EXIT_ADDRESS, address, e);
    let socket = UdpSocket::bind(address).map_err(named)?;
    socket.set_nonblocking(true)?;
    ctx.provide(&UDP, socket.local_addr()?)?;
    let mut datagram = [0; LINE_BYTES_MAX + 3];
    while readable(ctx, &socket)? {
        gateway.faults.strike("udp")?;
        let (mut lines, mut devices) = (Vec::new(), Vec::new());
        while lines.len() < DATAGRAMS_MAX {
            match socket.recv_from(&mut datagram) {
                Ok((n, device)) => {
                    let line = whole(&datagram[..n]);
                    devices.extend(line.is_some().then_some(device));
                    lines.extend(line);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                // What the network has to say about an answer that did not arrive.
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                Err(e) => return Err(e.into()),
            }
        }
        for (answer, device) in answers(gateway, ctx, lines).iter().zip(devices) {
            // An answer that is lost makes the device send the line again.
            let _lost = socket.send_to(answer.as_bytes(), device);
        }
    }
    Ok(())
}

/// One device at a serial line.
pub fn serial(gateway: &Shared, ctx: &Context) -> ServiceResult {
    let intake = ctx.get(&INTAKE)?;
    let Some(path) = &intake.serial else {
        ctx.provide(&SERIAL, PathBuf::from("none"))?;
        ctx.wait_stop();
        return Ok(());
    };
    let named = |e| Trouble::new(EXIT_ADDRESS, path.display(), e);
    let mut line = Terminal::open(path).map_err(named)?;
    ctx.provide(&SERIAL, path.clone())?;
    let mut lines = Lines::default();
    let mut chunk = vec![0; CHUNK];
    while readable(ctx, &line.file)? {
        gateway.faults.strike("serial")?;
        let n = line.read(&mut chunk)?;
        if n == 0 {
            return Err("the other end has hung up".into());
        }
        let answers = answers(gateway, ctx, lines.feed(&chunk[..n])).concat();
        line.write_all(answers.as_bytes())?;
    }
    Ok(())
}

/// Waits until there is something to read. False: it shall stop.
fn readable(ctx: &Context, from: &impl AsFd) -> std::io::Result<bool> {
    let stop = ctx.stop_fd()?;
    let mut either = [
        PollFd::new(from, PollFlags::IN),
        PollFd::new(&stop, PollFlags::IN),
    ];
    while let Err(e) = poll(&mut either, None) {
        if e != Errno::INTR {
            return Err(e.into());
        }
    }
    Ok(!ctx.is_stopping())
}
