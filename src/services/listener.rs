//! A socket that accepts connections, as a service.

mod accept;
#[cfg(any(not(unix), test))]
mod by_connect;
#[cfg(unix)]
mod by_poll;
mod connections;
mod error;
mod socket;
#[cfg(unix)]
mod socket_file;

use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{Context, Error, Exit, Service, ServiceResult};
#[cfg(not(unix))]
use by_connect as entrance;
#[cfg(unix)]
use by_poll as entrance;
use connections::Handler;
use socket::named;

pub use error::ConnectionError;

/// How many connections a [`Listener`] serves at a time, unless set.
pub const DEFAULT_MAX_CONNECTIONS: usize = 256;

/// How long connections may go on after a stop, unless set.
pub const DEFAULT_LINGER: Duration = Duration::from_secs(1);

/// Accepts connections and serves each on a thread of its own.
///
/// ```
/// use backstay::services::Listener;
/// use backstay::Supervisor;
/// use std::io::{BufRead, BufReader, Write};
/// use std::net::TcpStream;
/// use std::time::Duration;
///
/// let shout = Listener::tcp("127.0.0.1:0", |mut stream, _ctx| {
///     let mut lines = BufReader::new(stream.try_clone()?).lines();
///     while let Some(line) = lines.next().transpose()? {
///         writeln!(stream, "{}", line.to_uppercase())?;
///     }
///     Ok(()) // the client has closed
/// });
/// let app = Supervisor::new("app");
/// app.add("shout", shout.clone())?;
/// app.start()?;
/// # while shout.local_addr().is_none() { std::thread::yield_now() }
///
/// let address = shout.local_addr().expect("it is bound");
/// let mut client = TcpStream::connect(address)?;
/// client.write_all(b"hello\n")?;
/// let mut answer = String::new();
/// BufReader::new(client.try_clone()?).read_line(&mut answer)?;
/// assert_eq!(answer, "HELLO\n");
///
/// assert!(app.stop().is_empty()); // although the client is still there
/// assert!(TcpStream::connect(address).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Start
///
/// It binds at each start, resolves names anew, and is [ready](Context::ready) from then on. An
/// address that can't be bound is a failure whose text names it; with a
/// [backoff](crate::Spec::backoff) that heals by itself. The socket file of a unix socket is removed at
/// the end. One that is left over from a crash is replaced, if nobody listens on it; any other
/// file in its place is a failure, and stays.
///
/// # Connections
///
/// Each handler runs on a supervised thread below the service, seen in the report. Its [`Context`] ends
/// with the handler, stops when the listener is asked to stop, and its
/// [`supervisor`](Context::supervisor) is that of these threads. Threads are kept for the
/// next connection (a few dozen at most), so thread-local variables are, too. The connection is closed
/// when the handler has returned; to end it before, call `shutdown` on the stream: dropping it is
/// not enough.
///
/// A handler that answers an error or panics fails alone: one failed event of its thread, with a
/// [`ConnectionError`] that names the peer. The listener and all other connections go on. A
/// handler that answers an [`Exit`] ends the listener with it, as its own answer.
///
/// While as many are open as [`max_connections`](Listener::max_connections) says, no more are accepted:
/// they wait in the system's backlog. So they do when the system is out of descriptors, memory or
/// threads; that is told once by [`Context::log`], and accepting goes on when there are
/// some again.
///
/// # Stop
///
/// New connects are refused at once. Handlers are asked to stop through their contexts, and have
/// [`linger`](Listener::linger) to end by themselves: time to finish an answer. Then the connections
/// that are left are shut down both ways, so that whoever is blocked in a read or write returns. A
/// handler that still doesn't return is abandoned at the listener's stop timeout, and named.
/// `linger` ought to be shorter than that.
///
/// A method of the builder makes another listener than its clones; a clone of a finished one is a
/// handle of it.
#[derive(Clone)]
pub struct Listener {
    serve: Arc<Serve>,
    settings: Settings,
    address: Arc<Mutex<Option<SocketAddr>>>,
}

/// Binds and serves. The slot has the address as long as it is bound.
type Serve = dyn Fn(&Context, &Settings, &Mutex<Option<SocketAddr>>) -> ServiceResult + Send + Sync;

type OnBind = dyn Fn(&Context, Option<SocketAddr>) -> ServiceResult + Send + Sync;

#[derive(Clone)]
struct Settings {
    max_connections: usize,
    linger: Duration,
    on_bind: Option<Arc<OnBind>>,
}

impl Listener {
    /// Listens at a TCP address such as `127.0.0.1:80`, `[::]:80` or `localhost:0`; port 0 is one that
    /// the system chooses.
    pub fn tcp(
        addr: impl Into<String>,
        handler: impl Fn(TcpStream, &Context) -> ServiceResult + Send + Sync + 'static,
    ) -> Listener {
        let addr = addr.into();
        let handler: Arc<Handler<TcpStream>> = Arc::new(handler);
        Listener::new(move |ctx, settings, slot| {
            let socket = TcpListener::bind(&addr).map_err(named(&addr))?;
            let bound = socket.local_addr()?;
            let shown = Some(Shown::new(slot, bound));
            let about = bound.to_string();
            accept::serve(ctx, settings, socket, &about, shown, handler.clone())
        })
    }

    /// Listens at a unix socket of this path.
    #[cfg(unix)]
    pub fn unix(
        path: impl Into<std::path::PathBuf>,
        handler: impl Fn(std::os::unix::net::UnixStream, &Context) -> ServiceResult
        + Send
        + Sync
        + 'static,
    ) -> Listener {
        let path: Arc<std::path::Path> = Arc::from(path.into());
        let handler: Arc<Handler<std::os::unix::net::UnixStream>> = Arc::new(handler);
        Listener::new(move |ctx, settings, _slot| {
            let socket = socket_file::UnixSocket::bind(&path)?;
            let about = path.display().to_string();
            accept::serve(ctx, settings, socket, &about, None, handler.clone())
        })
    }

    fn new<F>(serve: F) -> Listener
    where
        F: Fn(&Context, &Settings, &Mutex<Option<SocketAddr>>) -> ServiceResult
            + Send
            + Sync
            + 'static,
    {
        Listener {
            serve: Arc::new(serve),
            settings: Settings {
                max_connections: DEFAULT_MAX_CONNECTIONS,
                linger: DEFAULT_LINGER,
                on_bind: None,
            },
            address: Arc::default(),
        }
    }

    /// How many connections are open at a time; [`DEFAULT_MAX_CONNECTIONS`], 256, unless set. The
    /// others wait in the system's backlog. With zero the service answers an error that names the
    /// field, and is done.
    #[must_use]
    pub fn max_connections(self, n: usize) -> Listener {
        self.set(|settings| settings.max_connections = n)
    }

    /// How long connections may go on by themselves after a stop; [`DEFAULT_LINGER`], 1 s, unless set.
    /// With zero they are ended at once; with [`Duration::MAX`] never.
    #[must_use]
    pub fn linger(self, d: Duration) -> Listener {
        self.set(|settings| settings.linger = d)
    }

    /// Calls `f` at each start when it is bound, before it accepts and is ready; with the address it is
    /// bound to, `None` for a unix socket. To provide the address under a key, say, or to give up
    /// privileges. The context is that of the service. An error or a panic is its failure. Set again, the
    /// last one holds.
    ///
    /// ```
    /// use backstay::services::Listener;
    /// use backstay::{Key, Spec, Supervisor};
    /// use std::net::SocketAddr;
    /// use std::time::Duration;
    ///
    /// const WEB: Key<SocketAddr> = Key::new("web");
    ///
    /// let web = Listener::tcp("127.0.0.1:0", |_stream, _ctx| Ok(())).on_bind(|ctx, address| {
    ///     if let Some(address) = address {
    ///         ctx.provide(&WEB, address)?;
    ///     }
    ///     Ok(())
    /// });
    /// let app = Supervisor::new("app");
    /// app.add_spec(Spec::new("web", web.clone()).provides(&WEB))?;
    /// app.start()?;
    /// let address = app.get(&WEB, Duration::from_secs(5))?;
    /// assert_eq!(Some(*address), web.local_addr());
    /// assert!(app.stop().is_empty());
    /// # Ok::<(), backstay::Error>(())
    /// ```
    #[must_use]
    pub fn on_bind(
        self,
        f: impl Fn(&Context, Option<SocketAddr>) -> ServiceResult + Send + Sync + 'static,
    ) -> Listener {
        self.set(|settings| settings.on_bind = Some(Arc::new(f)))
    }

    /// The address it is bound to now, of whichever clone; the port is the real one. `None` while it is
    /// not bound, and for a unix socket.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        *self.address.lock()
    }

    fn set(mut self, set: impl FnOnce(&mut Settings)) -> Listener {
        set(&mut self.settings);
        if Arc::get_mut(&mut self.address).is_none() {
            // Another listener than its clones from here on.
            self.address = Arc::default();
        }
        self
    }
}

impl Service for Listener {
    fn run(&self, ctx: &Context) -> ServiceResult {
        if self.settings.max_connections == 0 {
            let none = Error::invalid("max_connections", "zero connections cannot be served");
            return Err(Exit::DoNotRestart.because(none).into());
        }
        (self.serve)(ctx, &self.settings, &self.address)
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener")
            .field("max_connections", &self.settings.max_connections)
            .field("linger", &self.settings.linger)
            .field("local_addr", &self.local_addr())
            .finish_non_exhaustive()
    }
}

/// The address, where the handle finds it, as long as it is bound.
struct Shown<'a> {
    slot: &'a Mutex<Option<SocketAddr>>,
    address: SocketAddr,
}

impl Shown<'_> {
    fn new(slot: &Mutex<Option<SocketAddr>>, address: SocketAddr) -> Shown<'_> {
        *slot.lock() = Some(address);
        Shown { slot, address }
    }
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut slot = self.slot.lock();
        if *slot == Some(self.address) {
            *slot = None;
        }
    }
}
