//! Child processes as `/proc` shows them.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use backstay::services::Command;

use super::wait_for;

/// The variable of the environment that marks a command and all its children.
const MARK: &str = "BACKSTAY_TEST_MARK";

/// What one test calls its processes and its file by.
pub(crate) struct Mark {
    name: String,
}

/// A process with the mark.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) group: i32,
    pub(crate) arguments: String,
}

impl Mark {
    /// Not used by any other test, nor by another process that runs tests.
    pub(crate) fn new() -> Mark {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        Mark {
            name: format!("mark-{}-{number}", std::process::id()),
        }
    }

    /// The same in another process.
    pub(crate) fn named(name: &str) -> Mark {
        Mark {
            name: name.to_owned(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A shell with the mark. `$FILE` is the file of the mark.
    pub(crate) fn sh(&self, script: &str) -> Command {
        self.command("sh").args(["-c", script])
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        Command::new(program)
            .env(MARK, &self.name)
            .env("FILE", self.file())
    }

    pub(crate) fn file(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&self.name)
    }

    /// What was written to the file, when there is something.
    #[track_caller]
    pub(crate) fn wait_file(&self) -> String {
        let mut text = String::new();
        wait_for("the child has written its file", || {
            text = std::fs::read_to_string(self.file()).unwrap_or_default();
            text.ends_with('\n')
        });
        text
    }

    /// Who lives of the command and its children, zombies left out.
    pub(crate) fn living(&self) -> Vec<Process> {
        let wanted = format!("{MARK}={}", self.name);
        processes()
            .filter(|pid| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environment
                    .split(|byte| *byte == 0)
                    .any(|variable| variable == wanted.as_bytes())
            })
            .filter_map(living)
            .collect()
    }

    #[track_caller]
    pub(crate) fn assert_nobody_lives(&self) {
        let living = self.living();
        assert!(living.is_empty(), "{living:?}");
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        // Not every test has written it.
        let _ = std::fs::remove_file(self.file());
    }
}

fn processes() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// `None`: it is gone, or a zombie.
pub(crate) fn living(pid: u32) -> Option<Process> {
    let stat = stat(pid)?;
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    (stat.state != "Z" && stat.state != "X").then(|| Process {
        pid,
        group: stat.group,
        arguments: String::from_utf8_lossy(&arguments).replace('\0', " "),
    })
}

struct Stat {
    state: String,
    parent: u32,
    group: i32,
}

fn stat(pid: u32) -> Option<Stat> {
    let stat = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = String::from_utf8_lossy(&stat).into_owned();
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields[0].to_owned(),
        parent: fields[1].parse().ok()?,
        group: fields[2].parse().ok()?,
    })
}

/// The children of this process, zombies too: process id and state.
pub(crate) fn own_children() -> Vec<(u32, String)> {
    processes()
        .filter_map(|pid| {
            let stat = stat(pid)?;
            (stat.parent == std::process::id()).then_some((pid, stat.state))
        })
        .collect()
}
