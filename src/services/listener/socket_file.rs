//! A unix socket and its file: made, replaced if it is a left-over, removed at the end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::socket::named;

/// Dropped, it removes its file first, so that nobody finds a file that nobody listens on; then it
/// closes.
#[derive(Debug)]
pub(super) struct UnixSocket {
    // Before the socket: fields are dropped in this order.
    file: SocketFile,
    listener: UnixListener,
}

impl UnixSocket {
    /// # Errors
    /// Names the path. Somebody listens there; or there is a file that is no socket, which is left
    /// as it is.
    pub(super) fn bind(path: &Arc<Path>) -> io::Result<UnixSocket> {
        let listener = match UnixListener::bind(path) {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path).map_err(named(path.display()))?;
                UnixListener::bind(path)
            }
            other => other,
        };
        let listener = listener.map_err(named(path.display()))?;
        let file = SocketFile::new(path).map_err(named(path.display()))?;
        Ok(UnixSocket { file, listener })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.file.path
    }
}

impl AsFd for UnixSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// Removes a socket file that nobody listens on. Whether somebody does is asked with a socket of another
/// type: its connect is refused in any case, for the type if there is somebody. So it can't block
/// behind a full backlog, and nobody sees a client that says nothing.
///
/// Two processes that do this at the same time on the same path can remove each other's file. There is
/// no call that removes a file only if it is still the one that was looked at.
fn remove_stale(path: &Path) -> io::Result<()> {
    let looked_at = std::fs::symlink_metadata(path)?;
    if !looked_at.file_type().is_socket() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "there is a file that is no socket",
        ));
    }
    match UnixDatagram::unbound()?.connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.raw_os_error() != Some(Errno::PROTOTYPE.raw_os_error()) => Err(e),
        Err(_) | Ok(()) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "the socket is in use",
        )),
    }
}

/// The file of a socket of ours, as it was made.
#[derive(Debug)]
struct SocketFile {
    path: Arc<Path>,
    device: u64,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Arc<Path>) -> io::Result<SocketFile> {
        let made = std::fs::symlink_metadata(path)?;
        Ok(SocketFile {
            path: path.clone(),
            device: made.dev(),
            inode: made.ino(),
        })
    }
}

impl Drop for SocketFile {
    /// Unless it is another one by now.
    fn drop(&mut self) {
        let is_ours = std::fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_ours {
            // An error: it may not be removed, or was just now.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
