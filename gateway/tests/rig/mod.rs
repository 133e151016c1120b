//! The gateway as a process, with all that is around it.

// Each test binary uses a part of it.
#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

/// How long anything may take that should not take long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition that nobody announces.
#[track_caller]
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A folder that is removed with the test.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Folder {
        let path = {
            static FOLDERS: AtomicUsize = AtomicUsize::new(0);
            let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
            let name = format!("gateway-test-{name}-{}-{number}", std::process::id());
            std::env::temp_dir().join(name)
        };
        let _old = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process, what it says, and its end.
pub struct Process {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    pub fn start(command: &mut Command) -> Process {
        let mut child = command
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = Arc::default();
        let readers = vec![
            reader(child.stdout.take().unwrap(), &said),
            reader(child.stderr.take().unwrap(), &said),
        ];
        Process {
            child,
            said,
            readers,
        }
    }

    /// The gateway with a configuration. A file that would grow beyond its limit is an error there, as
    /// on a full disk, not its death.
    pub fn gateway(config: &Path) -> Process {
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "trap '' XFSZ; exec \"$0\" --config \"$1\"",
                env!("CARGO_BIN_EXE_gateway"),
            ])
            .arg(config);
        Process::start(&mut command)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    /// How many lines contain this.
    pub fn count(&self, text: &str) -> usize {
        self.said
            .lock()
            .unwrap()
            .iter()
            .filter(|line| line.contains(text))
            .count()
    }

    #[track_caller]
    pub fn wait_says(&self, text: &str) -> String {
        let mut found = None;
        let until = Instant::now() + PATIENCE;
        while found.is_none() {
            assert!(
                Instant::now() < until,
                "it does not say {text:?}, but:\n{}",
                self.said()
            );
            found = self
                .said
                .lock()
                .unwrap()
                .iter()
                .find(|line| line.contains(text))
                .cloned();
            thread::sleep(Duration::from_millis(5));
        }
        found.unwrap()
    }

    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let status = Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end; everything it has said by then.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, String) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.said());
            thread::sleep(Duration::from_millis(5));
        };
        self.readers
            .drain(..)
            .for_each(|reader| reader.join().unwrap());
        (status, self.said())
    }

    /// To it the disk is full: no file may grow beyond that many bytes.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let limit = Rlimit {
            current: bytes,
            maximum: None,
        };
        let pid = Pid::from_raw(self.id().try_into().unwrap());
        prlimit(pid, Resource::Fsize, limit).unwrap();
    }

    /// A number of /proc/PID/status.
    pub fn status(&self, field: &str) -> usize {
        let text = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.trim_start_matches(':')
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error: it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn reader(
    from: impl Read + Send + 'static,
    said: &Arc<Mutex<Vec<String>>>,
) -> thread::JoinHandle<()> {
    let said = said.clone();
    let begun = Instant::now();
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            if std::env::var_os("GATEWAY_TEST_VERBOSE").is_some() {
                println!("{:.3} {line}", begun.elapsed().as_secs_f64());
            }
            said.lock().unwrap().push(line);
        }
    })
}

/// A gateway's configuration, and where everything is.
pub struct Site {
    pub folder: Folder,
    /// Of this test alone, so that nobody else takes its ports.
    pub ip: Ipv4Addr,
    pub tcp: u16,
    pub udp: u16,
    pub serial: Option<PathBuf>,
    pub peer: Option<u16>,
}

impl Site {
    pub fn new(name: &str) -> Site {
        static SITES: AtomicU8 = AtomicU8::new(1);
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, high | 0x80, low, SITES.fetch_add(1, Ordering::Relaxed));
        let mut site = Site {
            folder: Folder::new(name),
            ip,
            tcp: 0,
            udp: 0,
            serial: None,
            peer: None,
        };
        (site.tcp, site.udp) = (site.free_port(), site.free_port());
        site
    }

    /// A port that nobody uses now.
    pub fn free_port(&self) -> u16 {
        let listener = TcpListener::bind((self.ip, 0)).unwrap();
        listener.local_addr().unwrap().port()
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("gateway.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub fn database(&self) -> PathBuf {
        self.data().join("gateway.db")
    }

    /// The text of the configuration.
    pub fn text(&self) -> String {
        let line = |key: &str, value: Option<String>| {
            value.map_or(String::new(), |value| format!("{key} = {value:?}\n"))
        };
        let ip = self.ip;
        format!(
            "[data]\nfolder = {:?}\n\
             [intake]\ntcp = \"{ip}:{}\"\nudp = \"{ip}:{}\"\n{}connections_max = 64\n\
             [upload]\n{}batch_lines = 1000\nidle_ms = 50\n\
             [retention]\nkeep_hours = 1000\nlines_max = 100000000\nevery_s = 1\n\
             [limits]\nfailures_per_minute = 60\nfault_socket = {:?}\n",
            self.data(),
            self.tcp,
            self.udp,
            line(
                "serial",
                self.serial.as_ref().map(|path| path.display().to_string())
            ),
            line("peer", self.peer.map(|port| format!("{ip}:{port}"))),
            self.socket(),
        )
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("faults")
    }

    /// Writes the configuration and starts the gateway.
    pub fn start(&self) -> Process {
        fs::write(self.config(), self.text()).unwrap();
        self.start_again()
    }

    /// With the configuration that is there.
    pub fn start_again(&self) -> Process {
        Process::gateway(&self.config())
    }

    /// Orders a fault.
    pub fn fault(&self, service: &str, what: &str) {
        let mut socket = UnixStream::connect(self.socket()).unwrap();
        writeln!(socket, "{service} {what}").unwrap();
        socket.read_exact(&mut [0]).unwrap();
    }

    pub fn connect(&self) -> BufReader<TcpStream> {
        let mut found = None;
        wait_for("it accepts", || {
            found = TcpStream::connect((self.ip, self.tcp)).ok();
            found.is_some()
        });
        let stream = found.unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        BufReader::new(stream)
    }

    pub fn peer(&self) -> Process {
        let address = format!("{}:{}", self.ip, self.peer.unwrap());
        Process::start(Command::new(env!("CARGO_BIN_EXE_peer")).arg(address))
    }

    /// What the peer answers to a request.
    pub fn request(&self, request: &[u8]) -> Option<String> {
        let mut stream = TcpStream::connect((self.ip, self.peer?)).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.write_all(request).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// What it says it has.
    pub fn ask_peer(&self) -> Option<String> {
        let answer = self.request(b"GET / HTTP/1.1\r\n\r\n")?;
        Some(answer.split_once("\r\n\r\n")?.1.to_owned())
    }
}

/// Sends lines, and reads that many answers.
#[track_caller]
pub fn ask(device: &mut BufReader<TcpStream>, lines: &[u8], wanted: usize) -> Vec<String> {
    device.get_mut().write_all(lines).unwrap();
    let mut answers = Vec::new();
    while answers.len() < wanted {
        let mut answer = String::new();
        let n = device.read_line(&mut answer).unwrap();
        assert!(n > 0, "closed after {answers:?}");
        answers.push(answer.trim_end().to_owned());
    }
    answers
}
