//! A serial line: a terminal device, or for trying things out a pseudo-terminal that looks like one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

/// How long a device may take to read its answers.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line that is open.
#[derive(Debug)]
pub struct Terminal {
    file: File,
    path: PathBuf,
    /// As long as somebody has a pseudo-terminal open, those who come and go are not its end.
    _kept: Option<File>,
}

impl Terminal {
    /// Opens this device, raw; or makes a pseudo-terminal if it is called "pty".
    ///
    /// # Errors
    /// There is none, or it is no terminal.
    pub fn open(path: &Path) -> io::Result<Terminal> {
        if path != Path::new("pty") {
            return Ok(Terminal {
                file: open_raw(path)?,
                path: path.to_owned(),
                _kept: None,
            });
        }
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let path = PathBuf::from(OsStr::from_bytes(ptsname(&ours, Vec::new())?.as_bytes()));
        let kept = open_raw(&path)?;
        rustix::fs::fcntl_setfl(&ours, OFlags::RDWR | OFlags::NONBLOCK)?;
        Ok(Terminal {
            file: ours.into(),
            path,
            _kept: Some(kept),
        })
    }

    /// What a device opens to speak to a pseudo-terminal.
    pub fn other_end(&self) -> &Path {
        &self.path
    }

    /// To wait for.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn wait(&self, for_what: PollFlags) -> io::Result<()> {
        let time = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.file, for_what)], Some(&time))? {
            0 => Err(ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

/// Bytes as they are, and never the controlling terminal of the process.
fn open_raw(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::empty())?;
    let mut settings = tcgetattr(&file)?;
    settings.make_raw();
    tcsetattr(&file, OptionalActions::Now, &settings)?;
    Ok(file.into())
}

/// Waits for a while.
impl Read for Terminal {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::IN)?;
        self.file.read(bytes)
    }
}

/// Waits for a while.
impl Write for Terminal {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait(PollFlags::OUT)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
