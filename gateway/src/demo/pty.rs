//! A pseudo-terminal: what looks like a serial device, and its other end.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::terminal::Terminal;

/// Both ends.
#[derive(Debug)]
pub struct Pty {
    /// What the gateway opens.
    pub device: PathBuf,
    /// Where a simulated device is connected.
    pub other_end: Arc<File>,
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
            other_end: Arc::new(other_end.into()),
        })
    }
}
