//! Where devices come in: TCP, UDP and a serial line. Each line gets an answer: `ok DEVICE SEQUENCE`
//! when it is committed, `busy ..` if it shall be sent again, `err ..` with the reason if it is no good.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use backstay::services::{Listener, WorkerPool};
use backstay::{Context, Exit, Key, Service, ServiceResult};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::config::INTAKE;
use crate::faults::Faults;
use crate::line::{LINE_BYTES_MAX, Lines, Raw, Record, Refusal, parse, whole};
use crate::store::{Stored, Writes, insert};
use crate::terminal::Terminal;
use crate::trouble::{EXIT_ADDRESS, Trouble};

/// Where TCP devices connect to.
pub const TCP: Key<SocketAddr> = Key::new("tcp");
/// Where UDP devices send to.
pub const UDP: Key<SocketAddr> = Key::new("udp");
/// The other end of the serial line.
pub const SERIAL: Key<PathBuf> = Key::new("serial");

/// How long a TCP device may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// How long a device may take to read its answers, and a parser to parse.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much is read at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// How many datagrams are answered together.
const DATAGRAMS_MAX: usize = 128;

/// How many lines came to what end, since the process began.
#[derive(Default, Debug)]
pub struct Counters {
    pub stored: AtomicUsize,
    pub again: AtomicUsize,
    pub busy: AtomicUsize,
    pub malformed: AtomicUsize,
    pub oversize: AtomicUsize,
    pub not_utf8: AtomicUsize,
    pub too_old: AtomicUsize,
}

/// What every way in has in common: lines to the parsers, records to the writer, answers back.
pub struct Desk {
    pub parsers: WorkerPool,
    pub writes: Writes,
    pub counters: Counters,
    pub faults: Arc<Faults>,
}

impl Desk {
    /// An answer for each line, in the same order; each ends its line.
    fn answers(&self, ctx: &Context, lines: Vec<Raw>) -> Vec<String> {
        let wanted = lines.len();
        let faults = self.faults.clone();
        let job = move |_: &Context| {
            faults.strike("parsers")?;
            Ok(lines.iter().map(parse).collect::<Vec<_>>())
        };
        // Else too many wait already, or a parser takes too long or has failed.
        let job = self.parsers.submit_timeout(job, PATIENCE).ok();
        let Some(parsed) = job.and_then(|job| job.wait_timeout(PATIENCE).ok()) else {
            self.counters.busy.fetch_add(wanted, Relaxed);
            return vec!["busy\n".to_owned(); wanted];
        };
        let records: Arc<[Record]> = parsed.iter().flatten().cloned().collect();
        let mut fates = self.store(ctx, &records).into_iter();
        parsed
            .iter()
            .map(|line| self.answer(line, &mut fates))
            .collect()
    }

    /// What became of each; `None`: nobody knows, it is to come again.
    fn store(&self, ctx: &Context, records: &Arc<[Record]>) -> Vec<Option<Stored>> {
        if records.is_empty() {
            return Vec::new();
        }
        let written = records.clone();
        match self
            .writes
            .write(ctx, move |transaction| insert(transaction, &written))
        {
            Ok(stored) => stored.into_iter().map(Some).collect(),
            Err(_busy) => vec![None; records.len()],
        }
    }

    fn answer(
        &self,
        line: &Result<Record, Refusal>,
        fates: &mut impl Iterator<Item = Option<Stored>>,
    ) -> String {
        let c = &self.counters;
        let (counter, answer) = match line {
            Ok(Record { device, seq, .. }) => match fates.next().flatten() {
                Some(Stored::New) => (&c.stored, format!("ok {device} {seq}\n")),
                Some(Stored::Again) => (&c.again, format!("ok {device} {seq}\n")),
                Some(Stored::TooOld) => (
                    &c.too_old,
                    format!("err {device} {seq} older than what is kept\n"),
                ),
                None => (&c.busy, format!("busy {device} {seq}\n")),
            },
            Err(refusal) => {
                let counter = match refusal {
                    Refusal::Oversize => &c.oversize,
                    Refusal::NotUtf8 => &c.not_utf8,
                    Refusal::Malformed(_) => &c.malformed,
                };
                (counter, format!("err {refusal}\n"))
            }
        };
        counter.fetch_add(1, Relaxed);
        answer
    }
}

/// A thread for each device that connects.
pub fn tcp(desk: Arc<Desk>) -> impl Service {
    move |ctx: &Context| -> ServiceResult {
        let intake = ctx.get(&INTAKE)?;
        let desk = desk.clone();
        Listener::tcp(intake.tcp.to_string(), move |stream, ctx| {
            serve(&desk, stream, ctx)
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
}

/// One device, until it goes.
fn serve(desk: &Desk, mut stream: TcpStream, ctx: &Context) -> ServiceResult {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let other = stream.try_clone()?;
    let _unblock = ctx.on_stop(move || other.shutdown(Shutdown::Read));
    let mut lines = Lines::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        let done = stream.read(&mut chunk).and_then(|n| {
            let answers = desk.answers(ctx, lines.feed(&chunk[..n]));
            stream
                .write_all(answers.concat().as_bytes())
                .map(|()| n == 0)
        });
        // With an `Exit` the whole listener ends, not this connection alone.
        desk.faults
            .strike("tcp")
            .map_err(|e| Exit::Bounce.because(e))?;
        // Devices come and go, also in the middle of a line: that is no failure.
        if !matches!(done, Ok(false)) {
            return Ok(());
        }
    }
}

/// A line in each datagram, and a datagram for each answer.
pub fn udp(desk: Arc<Desk>) -> impl Service {
    move |ctx: &Context| -> ServiceResult {
        let address = ctx.get(&INTAKE)?.udp;
        let socket =
            UdpSocket::bind(address).map_err(|e| Trouble::new(EXIT_ADDRESS, address, e))?;
        socket.set_nonblocking(true)?;
        ctx.provide(&UDP, socket.local_addr()?)?;
        let mut datagram = [0; LINE_BYTES_MAX + 3];
        while readable(ctx, &socket)? {
            desk.faults.strike("udp")?;
            let (mut lines, mut devices) = (Vec::new(), Vec::new());
            while lines.len() < DATAGRAMS_MAX {
                match socket.recv_from(&mut datagram) {
                    Ok((n, device)) => {
                        if let Some(line) = whole(&datagram[..n]) {
                            lines.push(line);
                            devices.push(device);
                        }
                    }
                    Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                    // What the network has to say about an answer that did not arrive.
                    Err(e) if e.kind() == ErrorKind::ConnectionRefused => {}
                    Err(e) => return Err(e.into()),
                }
            }
            for (answer, device) in desk.answers(ctx, lines).iter().zip(devices) {
                // An answer that is lost makes the device send the line again.
                let _lost = socket.send_to(answer.as_bytes(), device);
            }
        }
        Ok(())
    }
}

/// One device at a serial line.
pub fn serial(desk: Arc<Desk>) -> impl Service {
    move |ctx: &Context| -> ServiceResult {
        let intake = ctx.get(&INTAKE)?;
        let Some(path) = &intake.serial else {
            ctx.provide(&SERIAL, PathBuf::from("none"))?;
            ctx.wait_stop();
            return Ok(());
        };
        let mut line =
            Terminal::open(path).map_err(|e| Trouble::new(EXIT_ADDRESS, path.display(), e))?;
        ctx.provide(&SERIAL, line.other_end().to_owned())?;
        let mut lines = Lines::default();
        let mut chunk = vec![0; CHUNK];
        while readable(ctx, line.file())? {
            desk.faults.strike("serial")?;
            let n = line.read(&mut chunk)?;
            line.write_all(
                desk.answers(ctx, lines.feed(&chunk[..n]))
                    .concat()
                    .as_bytes(),
            )?;
        }
        Ok(())
    }
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
