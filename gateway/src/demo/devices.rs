//! Devices to try the gateway with. What was not acknowledged they send again, as real ones do.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use backstay::{Backoff, BoxError, Context, Limit, Service, ServiceResult, StopOrder, Supervisor};

use crate::config::lock;
use crate::line::Lines;
use crate::terminal::Terminal;

/// How long a device waits for answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often one of the demonstration measures something.
const PAUSE: Duration = Duration::from_millis(100);

/// How a device reaches the gateway.
#[derive(Clone, Debug)]
pub enum Way {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    /// What it has as its standard input.
    Serial,
}

/// A connection to the gateway. A read that brings nothing in time is an error.
pub trait Link: Read + Write + Send {}

impl<T: Read + Write + Send> Link for T {}

struct Datagrams(UdpSocket);

impl Read for Datagrams {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.recv(bytes)
    }
}

impl Write for Datagrams {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Way {
    /// Connects.
    ///
    /// # Errors
    /// The gateway is not there.
    pub fn connect(&self) -> io::Result<Box<dyn Link>> {
        Ok(match self {
            Way::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, PATIENCE)?;
                stream.set_read_timeout(Some(2 * PATIENCE))?;
                stream.set_write_timeout(Some(2 * PATIENCE))?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Way::Udp(address) => {
                let socket = UdpSocket::bind("127.0.0.1:0")?;
                socket.connect(address)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                Box::new(Datagrams(socket))
            }
            Way::Serial => {
                let line = io::stdin().as_fd().try_clone_to_owned()?;
                Box::new(Terminal::new(line.into())?)
            }
        })
    }
}

/// A device with its memory.
#[derive(Debug)]
pub struct Device {
    name: String,
    next: i64,
    /// What was not acknowledged, by sequence number.
    pending: BTreeMap<i64, String>,
    answers: Lines,
}

impl Device {
    /// Numbers its lines from `first` on.
    pub fn new(name: impl Into<String>, first: i64) -> Device {
        Device {
            name: name.into(),
            next: first,
            pending: BTreeMap::new(),
            answers: Lines::default(),
        }
    }

    /// How many lines are not acknowledged.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// What a device measures under a sequence number.
    pub fn value(seq: i64) -> f64 {
        f64::from((seq % 1_000) as i32) / 8.0
    }

    /// Measures until that many lines are to be sent.
    pub fn measure(&mut self, lines: usize) {
        while self.pending.len() < lines {
            let line = format!(
                "{} {} temperature {}\n",
                self.name,
                self.next,
                Device::value(self.next)
            );
            self.pending.insert(self.next, line);
            self.next += 1;
        }
    }

    /// Sends what is to be sent, and reads an answer for each. Those that were acknowledged it calls `ok`
    /// with, those that were refused for good it forgets, the others it keeps.
    ///
    /// # Errors
    /// The link is of no use any more.
    pub fn exchange(
        &mut self,
        link: &mut dyn Link,
        datagrams: bool,
        mut ok: impl FnMut(i64),
    ) -> io::Result<()> {
        let mut lines = self.pending.values();
        if datagrams {
            lines.try_for_each(|line| link.write_all(line.as_bytes()))?;
        } else {
            link.write_all(lines.map(String::as_str).collect::<String>().as_bytes())?;
        }
        let mut missing = self.pending.len();
        let mut chunk = [0; 4_096];
        while missing > 0 {
            let n = link.read(&mut chunk)?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for answer in self.answers.feed(&chunk[..n]).into_iter().flatten() {
                missing = missing.saturating_sub(1);
                let answer = String::from_utf8_lossy(&answer).into_owned();
                let mut words = answer.split(' ');
                let (word, name, seq) = (words.next(), words.next(), words.next());
                let Some(seq) = seq
                    .and_then(|seq| seq.parse().ok())
                    .filter(|_| name == Some(&self.name))
                else {
                    continue;
                };
                if word != Some("busy") && self.pending.remove(&seq).is_some() && word == Some("ok")
                {
                    ok(seq);
                }
            }
        }
        Ok(())
    }
}

/// A process full of devices, until it is told to stop. Its standard input is a serial line.
///
/// # Errors
/// These are no addresses; and as [`Supervisor::run`].
pub fn run(tcp: &str, udp: &str) -> Result<(), BoxError> {
    let (tcp, udp) = (tcp.parse()?, udp.parse()?);
    // A device without memory begins with the time.
    let first = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    let first = i64::try_from(first).unwrap_or_default();
    let app = Supervisor::builder("devices")
        .limit(Limit::none())
        .backoff(Backoff::exponential(
            Duration::from_millis(100),
            Duration::from_secs(2),
        ))
        .stop_order(StopOrder::Parallel)
        .build()?;
    for n in 1..=6 {
        app.add(
            format!("pump-{n}"),
            device(Device::new(format!("pump-{n}"), first), Way::Tcp(tcp)),
        )?;
    }
    for n in 1..=2 {
        app.add(
            format!("valve-{n}"),
            device(Device::new(format!("valve-{n}"), first), Way::Udp(udp)),
        )?;
    }
    app.add("boiler", device(Device::new("boiler", first), Way::Serial))?;
    Ok(app.run()?)
}

/// One device. Its memory outlives its connections.
fn device(device: Device, way: Way) -> impl Service {
    let device = Mutex::new(device);
    move |ctx: &Context| -> ServiceResult {
        let mut link = way.connect()?;
        loop {
            ctx.sleep(PAUSE)?;
            let mut device = lock(&device);
            let waiting = device.pending();
            device.measure(waiting + 1);
            device.exchange(&mut *link, matches!(way, Way::Udp(_)), |_| {})?;
        }
    }
}
