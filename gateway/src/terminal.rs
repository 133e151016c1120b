//! A serial line: a terminal device with a device at its other end.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// How long the other end may take to send something, or to read it.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line that is open. Reads and writes wait for a while.
#[derive(Debug)]
pub struct Terminal {
    /// To wait for.
    pub file: File,
}

impl Terminal {
    /// Opens this device. It never becomes the controlling terminal of the process.
    ///
    /// # Errors
    /// There is none, or it is no terminal.
    pub fn open(path: &Path) -> io::Result<Terminal> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        Terminal::new(open(path, flags, Mode::empty())?.into())
    }

    /// Has it hand on bytes as they are.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn new(file: File) -> io::Result<Terminal> {
        let mut settings = tcgetattr(&file)?;
        settings.make_raw();
        tcsetattr(&file, OptionalActions::Now, &settings)?;
        fcntl_setfl(&file, fcntl_getfl(&file)? | OFlags::NONBLOCK)?;
        Ok(Terminal { file })
    }

    fn wait(&self, for_what: PollFlags) -> io::Result<()> {
        let time = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.file, for_what)], Some(&time))? {
            0 => Err(ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

impl Read for Terminal {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        self.file.read(bytes)
    }
}

impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
