//! `Interruptible`: a blocking call, and how to end it.

use std::fmt;

use crate::{Context, Service, ServiceResult};

/// A service of two closures: one that blocks, and one that makes it return, as fun/srv wraps servers.
///
/// `interrupt` is [`Service::interrupt`]: called exactly once for each incarnation that is asked to stop
/// while in `execute`, on a thread of its own, and never for one that ends by itself. It may come
/// before `execute` blocks, so it has to leave something behind that the blocking call finds: a
/// message, a shut-down socket, a flag with a notification.
///
/// That makes a service of any server with a blocking loop and a way to end it, for example an HTTP
/// server of another crate:
///
/// ```
/// use backstay::services::Interruptible;
/// use backstay::{Context, Supervisor};
/// use std::sync::Arc;
///
/// # mod http {
/// #     // The outline of a usual HTTP crate: a server with a queue of requests.
/// #     use std::io::{Error, ErrorKind, Read, Result, Write};
/// #     use std::net::{TcpListener, TcpStream};
/// #     use std::sync::atomic::{AtomicBool, Ordering};
/// #     pub struct Server { listener: TcpListener, unblocked: AtomicBool }
/// #     pub struct Request(TcpStream);
/// #     impl Server {
/// #         pub fn http(addr: &str) -> Result<Server> {
/// #             Ok(Server { listener: TcpListener::bind(addr)?, unblocked: AtomicBool::new(false) })
/// #         }
/// #         pub fn addr(&self) -> std::net::SocketAddr { self.listener.local_addr().unwrap() }
/// #         pub fn recv(&self) -> Result<Request> {
/// #             let (stream, _) = self.listener.accept()?;
/// #             if self.unblocked.swap(false, Ordering::SeqCst) {
/// #                 return Err(Error::new(ErrorKind::Interrupted, "unblocked"));
/// #             }
/// #             Ok(Request(stream))
/// #         }
/// #         pub fn unblock(&self) {
/// #             self.unblocked.store(true, Ordering::SeqCst);
/// #             drop(TcpStream::connect(self.addr()));
/// #         }
/// #     }
/// #     impl Request {
/// #         pub fn respond(mut self, body: &str) -> Result<()> {
/// #             let _ = self.0.read(&mut [0; 512])?;
/// #             write!(self.0, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
/// #         }
/// #     }
/// # }
/// # fn get(addr: std::net::SocketAddr) -> std::io::Result<String> {
/// #     use std::io::{Read, Write};
/// #     let mut stream = std::net::TcpStream::connect(addr)?;
/// #     write!(stream, "GET / HTTP/1.0\r\n\r\n")?;
/// #     let mut answer = String::new();
/// #     stream.read_to_string(&mut answer)?;
/// #     Ok(answer)
/// # }
/// let server = Arc::new(http::Server::http("127.0.0.1:0")?);
/// let addr = server.addr();
/// let handle = server.clone();
/// let web = Interruptible::new(
///     move |ctx: &Context| {
///         while !ctx.is_stopping() {
///             let request = server.recv()?; // blocks
///             request.respond("hello")?;
///         }
///         Ok(())
///     },
///     move || handle.unblock(), // makes `recv` answer an error
/// );
/// let app = Supervisor::new("app");
/// app.add("web", web)?;
/// app.start()?;
/// assert!(get(addr)?.ends_with("hello"));
/// assert!(app.stop().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// For what only exists once the service runs there is [`Context::on_stop`], and for further steps at
/// a stop [`Staged`](super::Staged).
#[must_use = "a service does nothing before it is added"]
pub struct Interruptible {
    execute: Box<dyn Fn(&Context) -> ServiceResult + Send + Sync>,
    interrupt: Box<dyn Fn() + Send + Sync>,
}

impl Interruptible {
    /// What to run, and what ends it. A panic in `execute` is the service's; one in `interrupt` is told
    /// as an event and goes no further.
    pub fn new(
        execute: impl Fn(&Context) -> ServiceResult + Send + Sync + 'static,
        interrupt: impl Fn() + Send + Sync + 'static,
    ) -> Interruptible {
        Interruptible {
            execute: Box::new(execute),
            interrupt: Box::new(interrupt),
        }
    }
}

impl Service for Interruptible {
    fn run(&self, ctx: &Context) -> ServiceResult {
        (self.execute)(ctx)
    }

    fn interrupt(&self) {
        (self.interrupt)();
    }
}

impl fmt::Debug for Interruptible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interruptible").finish_non_exhaustive()
    }
}
