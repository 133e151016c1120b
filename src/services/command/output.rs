//! The child's output, line by line into the log.
//!
//! It goes to the `log` crate and not through [`Context::log`]: lines of a child are many and are no
//! events, and would push those out of the queues of whoever listens. A logger may block, so this has
//! a thread of its own, beside the one that sees to the child. While the logger blocks, the
//! child's writes do so, too, as in any pipe; nothing piles up in between.
//!
//! The end does not wait for the end of the pipes, which a process that left the group may hold. When
//! the group is gone, what is in the pipes is read, at most [`REST_BYTES_MAX`], and that is all.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStderr, ChildStdout};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::below::Below;
use super::lines::Lines;
use crate::services::clock;
use crate::services::poll;
use crate::{Context, Error, Failure, ServiceResult};

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 8 * 1024;

/// How much of each pipe is read when the group is gone: as much as a pipe can hold, unless it was made
/// larger by a privileged process.
const REST_BYTES_MAX: usize = 1024 * 1024;

/// A started thread that waits for the pipes.
#[derive(Debug)]
pub(super) struct Output {
    pipes: Sender<Pipes>,
}

#[derive(Debug)]
struct Pipes {
    streams: Vec<Stream>,
    /// Closed by the other side when the group is gone.
    gone: UnixStream,
}

/// Kept until the group is gone.
#[derive(Debug)]
pub(super) struct Reading {
    _gone: UnixStream,
}

impl Output {
    /// # Errors
    /// No thread is to be had, or the service is asked to stop.
    pub(super) fn new(below: &mut Below<'_>, ctx: &Context) -> Result<Output, Error> {
        let (pipes, given) = bounded(1);
        let (target, incarnation) = (ctx.path().to_owned(), ctx.incarnation());
        let kept = Mutex::new(None);
        below.add("output", move |ctx: &Context| {
            let quiet = ctx.incarnation() > 1;
            pump(&given, &kept, |line| {
                // The logger has panicked, which was told: from then on the output is only read.
                if !quiet {
                    log::info!(target: &target, "[{incarnation}] {line}");
                }
            })
        })?;
        Ok(Output { pipes })
    }

    /// # Errors
    /// No descriptors are left.
    pub(super) fn begin(
        self,
        stdout: Option<ChildStdout>,
        stderr: Option<ChildStderr>,
    ) -> io::Result<Reading> {
        let (ours, gone) = UnixStream::pair()?;
        let fds = [stdout.map(OwnedFd::from), stderr.map(OwnedFd::from)];
        let streams = fds.into_iter().flatten().map(Stream::new).collect();
        // It is there: it has been waited for.
        let _ = self.pipes.send(Pipes { streams, gone });
        Ok(Reading { _gone: ours })
    }
}

/// Reads until the pipes have ended or the group is gone. If `log` panics, everything is kept for the
/// next try.
fn pump(given: &Receiver<Pipes>, kept: &Mutex<Option<Pipes>>, log: impl Fn(&str)) -> ServiceResult {
    let Some(mut pipes) = kept.lock().take().or_else(|| given.recv().ok()) else {
        // There was no child.
        return Ok(());
    };
    let pumped = Failure::catch(|| pipes.pump(&log));
    match pumped {
        Ok(pumped) => Ok(pumped?),
        Err(panic) => {
            *kept.lock() = Some(pipes);
            Err(panic.into())
        }
    }
}

impl Pipes {
    fn pump(&mut self, log: &impl Fn(&str)) -> io::Result<()> {
        while !self.streams.is_empty() {
            let (ready, gone) = self.wait()?;
            if gone {
                break;
            }
            for (stream, _) in self
                .streams
                .iter_mut()
                .zip(ready)
                .filter(|(_, ready)| *ready)
            {
                stream.read(log)?;
            }
            self.streams.retain(|stream| !stream.ended);
        }
        for stream in &mut self.streams {
            stream.read_rest(log)?;
        }
        Ok(())
    }

    /// Which of the streams is ready, and whether the group is gone.
    fn wait(&self) -> io::Result<(Vec<bool>, bool)> {
        let mut fds = vec![poll::readable(&self.gone)];
        fds.extend(
            self.streams
                .iter()
                .map(|stream| poll::readable(&stream.pipe)),
        );
        poll::wait(&mut fds, None)?;
        let ready = fds[1..].iter().map(poll::is_ready).collect();
        Ok((ready, poll::is_ready(&fds[0])))
    }
}

/// One of the child's streams, and its last line as far as it has come.
#[derive(Debug)]
struct Stream {
    pipe: File,
    lines: Lines,
    ended: bool,
}

impl Stream {
    fn new(pipe: OwnedFd) -> Stream {
        Stream {
            pipe: pipe.into(),
            lines: Lines::default(),
            ended: false,
        }
    }

    /// Reads once, and answers how much that was. Blocks unless there is something.
    fn read(&mut self, log: &impl Fn(&str)) -> io::Result<usize> {
        let mut buffer = [0; READ_BYTES];
        match self.pipe.read(&mut buffer) {
            Ok(0) => {
                self.ended = true;
                self.lines.finish(log);
                Ok(0)
            }
            Ok(n) => {
                self.lines.push(&buffer[..n], log);
                Ok(n)
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(0),
            Err(e) => Err(e),
        }
    }

    fn read_rest(&mut self, log: &impl Fn(&str)) -> io::Result<()> {
        let mut left = REST_BYTES_MAX;
        while !self.ended && left > 0 {
            let now = Some(clock::now());
            if !poll::wait(&mut [poll::readable(&self.pipe)], now)? {
                break;
            }
            left = left.saturating_sub(self.read(log)?);
        }
        self.lines.finish(log);
        Ok(())
    }
}
