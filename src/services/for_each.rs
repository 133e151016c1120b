//! `ForEach`: something done with every item of a source, by several threads.

mod ordered;
mod source;
mod window;

use std::fmt;
use std::sync::{Arc, OnceLock};

use crossbeam_channel::Receiver;

use self::source::{Feeder, MakeJob, Pulled, Source, of_iterator, of_receiver};
use self::window::{Permit, Window};
use super::job::Job;
use super::pool::{AtStop, Rules, Shared, Shift, check_workers, rules_methods};
use super::queue::Queue;
use crate::{BoxError, Context, Error, Exit, Failure, Service, ServiceResult};

/// Does something with every item of an iterator or a channel, on several supervised threads.
///
/// The service ends when the source is at its end and every item is done, so it is one for
/// [`Restart::OnFailure`](crate::Restart::OnFailure) or [`Restart::Never`](crate::Restart::Never).
/// Workers are threads below it, named by number: `app.import.1`. What they do gets the context of the
/// service.
///
/// ```
/// use backstay::services::ForEach;
/// use backstay::{Context, End, Restart, Spec, Supervisor};
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// let sum = Arc::new(AtomicU64::new(0));
/// let add = {
///     let sum = sum.clone();
///     ForEach::new(4, || 1..=100, move |_ctx: &Context, n: u64| {
///         sum.fetch_add(n, Ordering::Relaxed);
///         Ok(())
///     })
/// };
/// let app = Supervisor::new("app");
/// app.start()?;
/// let id = app.add_spec(Spec::new("add", add).restart(Restart::OnFailure))?;
/// assert!(matches!(app.wait_service(id, Duration::from_secs(30))?, End::Done));
/// assert_eq!(sum.load(Ordering::Relaxed), 5050);
/// # assert!(app.stop().is_empty());
/// # Ok::<(), backstay::Error>(())
/// ```
///
/// # Pulling
///
/// Each incarnation makes an iterator of its own, so one that starts again begins anew. It is made,
/// asked and dropped on the service's own thread, which need not be able to send it elsewhere, and asked
/// for the next item only when there is room in the [window](ForEach::window). While
/// that call blocks, a stop or an error has to wait for it: for what comes in now and then, take a
/// channel ([`from_receiver`](ForEach::from_receiver)). A panic in it fails the service, whatever it
/// shall go on after.
///
/// # Failures and stops
///
/// Items are jobs as in a [`WorkerPool`](super::WorkerPool), with the same rules: the first error that
/// it does not go on after ends the incarnation. What was pulled by then and not begun is dropped, if
/// it came from an iterator; from a channel it is the first to be done in the next incarnation.
///
/// A stop ends the pulling. What was pulled is done, also at a stop for a restart: with the window at
/// its default that is at most one more item for each worker.
#[must_use = "a service does nothing before it is added"]
pub struct ForEach<T> {
    workers: usize,
    window: usize,
    rules: Rules,
    /// What is left of one incarnation is for the next.
    keeps_left: bool,
    source: Arc<Source<T>>,
    jobs: Arc<Jobs<T>>,
    /// Made when it runs for the first time.
    shared: OnceLock<Result<Arc<Shared>, Error>>,
}

/// What makes jobs of the items of one incarnation.
type Jobs<T> = dyn Fn(&Arc<Shift>) -> Box<MakeJob<T>> + Send + Sync;

impl<T: Send + 'static> ForEach<T> {
    /// Calls `f` with each item of an iterator. Zero workers end the service with an error that names
    /// `workers`; it is not started again.
    pub fn new<I>(
        workers: usize,
        source: impl Fn() -> I + Send + Sync + 'static,
        f: impl Fn(&Context, T) -> ServiceResult + Send + Sync + 'static,
    ) -> ForEach<T>
    where
        I: IntoIterator<Item = T>,
    {
        let window = workers.saturating_mul(2);
        ForEach::with(workers, window, of_iterator(source), each(f))
    }

    /// Calls `f` with each item from a channel, until that is closed and empty. An item is taken when a
    /// worker is free for it; a stop leaves the others in the channel.
    ///
    /// ```
    /// use backstay::services::ForEach;
    /// use backstay::{crossbeam_channel::unbounded, Context, Supervisor};
    ///
    /// let (requests, inbox) = unbounded::<u32>();
    /// let (answers, answered) = unbounded();
    /// let app = Supervisor::new("app");
    /// app.add("square", ForEach::from_receiver(2, inbox, move |_ctx: &Context, n| {
    ///     answers.send(n * n)?;
    ///     Ok(())
    /// }))?;
    /// app.start()?;
    /// requests.send(12)?;
    /// assert_eq!(answered.recv()?, 144);
    /// assert!(app.stop().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_receiver(
        workers: usize,
        items: Receiver<T>,
        f: impl Fn(&Context, T) -> ServiceResult + Send + Sync + 'static,
    ) -> ForEach<T> {
        let mut for_each = ForEach::with(workers, workers, of_receiver(items), each(f));
        for_each.keeps_left = true;
        for_each
    }

    /// Calls `map` with each item, on several threads at a time, and `each` with what comes of them,
    /// one at a time and in the order of the items: as a loop would, only that the items ahead are
    /// worked on already. `each` is called by the workers.
    ///
    /// An item that is slow holds up those behind it, and when the [window](ForEach::window) is full
    /// of those, no more are pulled. An item that failed, and shall be gone on after, is left out. One
    /// that ends the incarnation does so when its turn comes: everything before it was handed on, and
    /// nothing behind it is. The same holds for one that a stop has cut short
    /// ([`Stopping`](crate::Stopping)).
    ///
    /// ```
    /// use backstay::services::ForEach;
    /// use backstay::{Context, Restart, Spec, Supervisor};
    ///
    /// let (page, pages) = backstay::crossbeam_channel::unbounded();
    /// let render = ForEach::map_ordered(
    ///     4,
    ///     || ["intro", "usage", "limits"],
    ///     |_ctx: &Context, name: &str| Ok(format!("<h1>{name}</h1>")),
    ///     move |_ctx: &Context, html: String| Ok(page.send(html)?),
    /// );
    /// let app = Supervisor::new("app");
    /// app.add_spec(Spec::new("render", render).restart(Restart::OnFailure))?;
    /// app.start()?;
    /// for expected in ["<h1>intro</h1>", "<h1>usage</h1>", "<h1>limits</h1>"] {
    ///     assert_eq!(pages.recv()?, expected);
    /// }
    /// assert!(app.stop().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map_ordered<I, R>(
        workers: usize,
        source: impl Fn() -> I + Send + Sync + 'static,
        map: impl Fn(&Context, T) -> Result<R, BoxError> + Send + Sync + 'static,
        each: impl Fn(&Context, R) -> ServiceResult + Send + Sync + 'static,
    ) -> ForEach<T>
    where
        I: IntoIterator<Item = T>,
        R: Send + 'static,
    {
        let (map, each) = (Arc::new(map), Arc::new(each));
        let window = workers.saturating_mul(2);
        let jobs: Arc<Jobs<T>> =
            Arc::new(move |shift| ordered::jobs(shift, map.clone(), each.clone()));
        ForEach::with(workers, window, of_iterator(source), jobs)
    }

    fn with(
        workers: usize,
        window: usize,
        source: Arc<Source<T>>,
        jobs: Arc<Jobs<T>>,
    ) -> ForEach<T> {
        ForEach {
            workers,
            window,
            rules: Rules::new(),
            keeps_left: false,
            source,
            jobs,
            shared: OnceLock::new(),
        }
    }

    fn shared(&self) -> Result<Arc<Shared>, Error> {
        let made = self.shared.get_or_init(|| {
            check_workers(self.workers)?;
            if self.window == 0 {
                return Err(Error::invalid("window", "no item could be pulled"));
            }
            // The window is its bound.
            let queue = Queue::new(usize::MAX)?;
            let keeps_left = self.keeps_left;
            let at_stop = AtStop::Items { keeps_left };
            Ok(Shared::new(
                self.workers,
                queue,
                at_stop,
                self.rules.clone(),
            ))
        });
        made.clone()
    }
}

/// One job for each item.
fn each<T: Send + 'static>(
    f: impl Fn(&Context, T) -> ServiceResult + Send + Sync + 'static,
) -> Arc<Jobs<T>> {
    let f = Arc::new(f);
    Arc::new(move |_: &Arc<Shift>| {
        let f = f.clone();
        Box::new(move |item, room: Permit| {
            let f = f.clone();
            Job::new(move |ctx: &Context| {
                let _room = room;
                f(ctx, item)
            })
        })
    })
}

impl<T> ForEach<T> {
    /// How many items may be pulled and not finished at any time: in work, waiting for a worker, or, in
    /// order, waiting for their turn. Unless set, twice the number of workers; for a channel as many
    /// as there are workers. With fewer some workers have nothing to do; zero ends the service with an
    /// error that names `window`, and it is not started again.
    pub fn window(mut self, items: usize) -> Self {
        self.window = items;
        self
    }

    rules_methods!();
}

impl<T: Send + 'static> Service for ForEach<T> {
    fn run(&self, ctx: &Context) -> ServiceResult {
        let shared = match self.shared() {
            Ok(shared) => shared,
            Err(error) => return Err(Exit::DoNotRestart.because(error).into()),
        };
        shared.run(ctx, |shift| {
            let mut feeder = Feeder {
                shift,
                window: Window::new(self.window),
                make_job: (self.jobs)(shift),
            };
            match Failure::catch(|| (self.source)(&mut feeder)) {
                Ok(Pulled::All) => shift.drain(None),
                Ok(Pulled::Interrupted) => {}
                Err(panic) => shift.abort(panic.into()),
            }
        })
    }

    fn retire(&self) {
        if let Some(Ok(shared)) = self.shared.get() {
            shared.close();
        }
    }

    fn has_interrupt(&self) -> bool {
        false
    }
}

impl<T> fmt::Debug for ForEach<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForEach")
            .field("workers", &self.workers)
            .field("window", &self.window)
            .finish_non_exhaustive()
    }
}
