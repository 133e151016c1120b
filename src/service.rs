//! What a user implements.

use std::sync::Arc;

use crate::context::Context;
use crate::error::ServiceResult;
use crate::supervisor::Supervisor;

/// Blocking code that is kept alive: one thread, in [`run`](Service::run) until it is done or
/// asked to stop.
///
/// A closure `|ctx: &Context| -> ServiceResult` is a service, and so is a
/// [`Supervisor`](crate::Supervisor), hence trees. `run` takes `&self`: state that shall survive a
/// restart lives in the value, state that shall not is made in `run`.
///
/// ```
/// use backstay::{Context, Service, ServiceResult, Supervisor};
/// use std::io::Read;
/// use std::net::{Shutdown, TcpStream};
///
/// struct Reader {
///     socket: TcpStream,
/// }
///
/// impl Service for Reader {
///     fn run(&self, ctx: &Context) -> ServiceResult {
///         let mut buffer = [0; 1024];
///         while !ctx.is_stopping() {
///             let n = (&self.socket).read(&mut buffer)?;
///             ctx.set_status(format!("read {n} bytes"));
/// #           if n == 0 { ctx.wait_stop() }
///         }
///         Ok(())
///     }
///
///     // The read blocks; this ends it.
///     fn interrupt(&self) {
///         let _ = self.socket.shutdown(Shutdown::Both);
///     }
/// }
/// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// # let socket = TcpStream::connect(listener.local_addr()?)?;
/// # let app = Supervisor::new("app");
/// # app.add("reader", Reader { socket })?;
/// # app.start()?;
/// # assert!(app.stop().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Service: Send + Sync + 'static {
    /// Does the work; blocks until it is done or the context says stop.
    ///
    /// # Errors
    /// Any error; what it means is up to the service's [`Restart`](crate::Restart) and limits. An
    /// [`Exit`](crate::Exit) in it says explicitly what shall become of the service.
    fn run(&self, ctx: &Context) -> ServiceResult;

    /// The stop hook: unblocks `run`. Called exactly once for each incarnation that was asked to
    /// stop while in `run`, on a thread of its own, guarded by the stop timeout. The next
    /// incarnation starts after it has returned. For things that only exist once `run` has made
    /// them there is [`Context::on_stop`].
    ///
    /// In a tree at most [`STOP_THREADS_MAX`](crate::STOP_THREADS_MAX) hooks run at a time, without
    /// those that were given up. The others wait for one of them; the stop signal does not. A hook that is
    /// not called before the deadline for that reason is told by a [`Log`](crate::EventKind::Log) event
    /// and called later, so that what it unblocks can still end.
    fn interrupt(&self) {}

    /// Its supervisor lets go of it for good: it was removed, or the tree has ended. Not at a
    /// restart, and not if adding it was refused. Called once for each time it was added, just before
    /// the value is dropped, where that is dropped and within the same deadline; also if `run` was
    /// never entered.
    ///
    /// For services that others have a handle of, too: what a `Drop` of the last one would do comes
    /// too late then. A [`Broker`](crate::services::Broker) closes here.
    fn retire(&self) {}

    /// Whether `interrupt` is worth a thread. False only where it is known to do nothing.
    #[doc(hidden)]
    fn has_interrupt(&self) -> bool {
        true
    }

    /// The supervisor, if that is what this service is.
    #[doc(hidden)]
    fn as_supervisor(&self) -> Option<&Supervisor> {
        None
    }
}

impl<F: ?Sized> Service for F
where
    F: Fn(&Context) -> ServiceResult + Send + Sync + 'static,
{
    fn run(&self, ctx: &Context) -> ServiceResult {
        self(ctx)
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

/// Makes a closure a service without a type annotation on its parameter.
///
/// ```
/// let app = backstay::Supervisor::new("app");
/// app.add("idle", backstay::service_fn(|ctx| {
///     ctx.wait_stop();
///     Ok(())
/// }))?;
/// # Ok::<(), backstay::Error>(())
/// ```
pub fn service_fn<F>(f: F) -> F
where
    F: Fn(&Context) -> ServiceResult + Send + Sync + 'static,
{
    f
}

impl<S: Service + ?Sized> Service for Arc<S> {
    fn run(&self, ctx: &Context) -> ServiceResult {
        (**self).run(ctx)
    }

    fn interrupt(&self) {
        (**self).interrupt();
    }

    fn retire(&self) {
        (**self).retire();
    }

    fn has_interrupt(&self) -> bool {
        (**self).has_interrupt()
    }

    fn as_supervisor(&self) -> Option<&Supervisor> {
        (**self).as_supervisor()
    }
}

impl Service for Box<dyn Service> {
    fn run(&self, ctx: &Context) -> ServiceResult {
        (**self).run(ctx)
    }

    fn interrupt(&self) {
        (**self).interrupt();
    }

    fn retire(&self) {
        (**self).retire();
    }

    fn has_interrupt(&self) -> bool {
        (**self).has_interrupt()
    }

    fn as_supervisor(&self) -> Option<&Supervisor> {
        (**self).as_supervisor()
    }
}
