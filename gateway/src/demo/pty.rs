//! A pseudo-terminal: what looks like a serial device, and its other end.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::terminal::Terminal;

/// Both ends.
#[derive(Debug)]
pub struct Pty {
    device: PathBuf,
    other_end: File,
    /// As long as somebody has the device open, the other end doesn't see those go who open it, too.
    _kept: Terminal,
}

impl Pty {
    /// A new one.
    ///
    /// # Errors
    /// The system has none left.
    pub fn new() -> io::Result<Pty> {
        let other_end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&other_end)?;
        unlockpt(&other_end)?;
        let name = ptsname(&other_end, Vec::new())?;
        let device = PathBuf::from(OsStr::from_bytes(name.as_bytes()));
        Ok(Pty {
            _kept: Terminal::open(&device)?,
            device,
            other_end: other_end.into(),
        })
    }

    /// What the gateway opens.
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// Where a simulated device is connected.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn other_end(&self) -> io::Result<File> {
        self.other_end.try_clone()
    }
}
