//! `Context::detach`: a thread of a service that nobody waits for.

use crossbeam_channel::{Receiver, bounded};

use super::discard::discard;
use super::limits;
use super::mark::{self, Mark};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::failure::Failure;

impl Context {
    /// Runs `f` on a thread that nobody waits for: for a call that may never return, which the service
    /// wants to be able to give up. What runs as long as the service belongs under
    /// [`supervise`](Context::supervise) instead.
    ///
    /// The incarnation ends without the thread, the next one may start beside it, and no report
    /// names it; what it still holds stays in use until `f` returns. How many there are is for the
    /// caller to bound. Otherwise it is a thread of the service: it has its name, room for it is
    /// checked first, a panic is captured, and a call that would wait for the service's own end is
    /// refused.
    ///
    /// What `f` has answered, or its panic, comes over the channel; without a receiver it is dropped.
    ///
    /// ```
    /// use backstay::{Context, Supervisor};
    /// use std::time::Duration;
    /// # use std::net::ToSocketAddrs;
    ///
    /// # let app = Supervisor::new("app");
    /// # let (tell, told) = backstay::crossbeam_channel::bounded(1);
    /// app.add("resolver", move |ctx: &Context| {
    ///     // A look-up cannot be interrupted; after 5 s the service goes on without it.
    ///     let lookup = ctx.detach(|| "127.0.0.1:80".to_socket_addrs().map(Iterator::count))?;
    ///     let found = lookup.recv_timeout(Duration::from_secs(5))???;
    ///     assert_eq!(found, 1);
    /// #   let _ = tell.send(found);
    ///     ctx.wait_stop();
    ///     Ok(())
    /// })?;
    /// # app.start()?;
    /// # assert_eq!(told.recv_timeout(Duration::from_secs(30)), Ok(1));
    /// # assert!(app.stop().is_empty());
    /// # Ok::<(), backstay::Error>(())
    /// ```
    ///
    /// # Errors
    /// The incarnation has ended, or no thread is to be had: names the limit. `f` is dropped then.
    pub fn detach<R, F>(&self, f: F) -> Result<Receiver<Result<R, Failure>>, Error>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        let home = &self.incarnation.home;
        if self.life().is_over() {
            return Err(Error::new(
                ErrorKind::Stopping,
                format!("{}: the incarnation has ended", home.path),
            ));
        }
        limits::take_room()?;
        let (tell, answer) = bounded(1);
        let incarnation = self.incarnation.clone();
        std::thread::Builder::new()
            .name(home.thread_name.to_string())
            .spawn(move || {
                let home = incarnation.home.clone();
                let _marked = mark::enter(Mark {
                    incarnation: Some(incarnation),
                    ..Mark::default()
                });
                let unheard = tell.send(Failure::catch(f)).err();
                discard(&home.path, home.quiet, unheard);
            })
            .map_err(|e| {
                let text = format!("{}: could not start the thread: {e}", home.path);
                Error::new(ErrorKind::Spawn, text)
            })?;
        Ok(answer)
    }
}
