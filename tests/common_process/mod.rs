//! Child processes: what they print, line by line, with deadlines.

// Each test binary uses a part of it.
#![allow(dead_code)]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long anything may take that should not take long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The name of the test that a child process shall run the other half of.
const ROLE: &str = "BACKSTAY_TEST_ROLE";

/// Written by a child when it begins its half. [`Ended`] requires it: with a name that matches no
/// test a child would do nothing, and end well.
const BEGUN: &str = "the child has begun";

/// Whether this is the child process of `test`.
pub(crate) fn is_child(test: &str) -> bool {
    let is_child = std::env::var(ROLE).is_ok_and(|role| role == test);
    if is_child {
        println!("{BEGUN}");
    }
    is_child
}

/// This test binary once more, to run `test` alone, as the child.
pub(crate) fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([test, "--exact", "--nocapture"])
        .env(ROLE, test);
    command
}

/// Says something of a test that goes through: past the harness, which keeps its output to itself.
pub(crate) fn say(line: &str) {
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{line}").unwrap();
}

/// A process whose output, both streams, is read as it comes. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// It is this binary once more: see [`BEGUN`].
    is_again: bool,
    lines: Receiver<String>,
    seen: Vec<String>,
}

pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) lines: Vec<String>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Process {
        Process::start_until(command, usize::MAX)
    }

    /// Its stdout is closed after so many lines, as `| head` does.
    pub(crate) fn start_until(command: &mut Command, stdout_lines: usize) -> Process {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        read_lines(child.stdout.take().unwrap(), stdout_lines, send.clone());
        read_lines(child.stderr.take().unwrap(), usize::MAX, send);
        Process {
            child,
            is_again: command.get_envs().any(|(name, _)| name == ROLE),
            lines,
            seen: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that contains `text`.
    pub(crate) fn wait_line(&mut self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let Some(line) = self.next_line(until) else {
                self.fail(&format!("it ended without saying {text:?}"));
            };
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Lines that contain these texts, in any order.
    pub(crate) fn wait_lines(&mut self, texts: &[&str]) {
        for text in texts {
            if !self.seen.iter().any(|line| line.contains(text)) {
                self.wait_line(text);
            }
        }
    }

    /// `None`: it has closed its output.
    fn next_line(&mut self, until: Instant) -> Option<String> {
        let left = until.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => {
                self.seen.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => self.fail("nothing more came"),
        }
    }

    fn fail(&self, why: &str) -> ! {
        panic!("{why}; it said:\n{}", self.seen.join("\n"))
    }

    /// Sends a signal: "TERM".
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.id().to_string()])
            .status();
        assert!(status.unwrap().success());
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        self.end_within(DEADLINE)
    }

    #[track_caller]
    pub(crate) fn end_within(mut self, time: Duration) -> Ended {
        let until = Instant::now() + time;
        while self.next_line(until).is_some() {}
        // Both streams are closed, so that it is about to end.
        let status = self.child.wait().unwrap();
        let ended = Ended {
            status,
            lines: std::mem::take(&mut self.seen),
        };
        if self.is_again {
            ended.assert_said(BEGUN);
        }
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error: it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stream: impl Read + Send + 'static, lines_max: usize, send: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').take(lines_max) {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            if send.send(line).is_err() {
                return;
            }
        }
    });
}

impl Ended {
    pub(crate) fn count(&self, text: &str) -> usize {
        self.lines.iter().filter(|line| line.contains(text)).count()
    }

    #[track_caller]
    pub(crate) fn assert_said(&self, text: &str) {
        assert!(self.count(text) > 0, "no {text:?} in:\n{self}");
    }

    #[track_caller]
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.status.code(), Some(code), "{}:\n{self}", self.status);
    }

    /// The position of the first line that contains `text`.
    #[track_caller]
    pub(crate) fn position(&self, text: &str) -> usize {
        let found = self.lines.iter().position(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no {text:?} in:\n{self}"))
    }
}

impl std::fmt::Display for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

/// Looks again and again until `look` finds something.
#[track_caller]
pub(crate) fn poll<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
