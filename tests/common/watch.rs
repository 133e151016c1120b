//! What restarts of several services are watched with: services that do as they are told, the
//! order of events, who runs beside whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use backstay::{
    Context, Error, Exit, Limit, NotReady, Service, ServiceReport, ServiceResult, Supervisor,
    SupervisorBuilder,
};
use crossbeam_channel::{Sender, select, unbounded};

use super::{Recorder, Tally, ms, wait_for};

/// Settled: no event for this long.
const QUIET: Duration = ms(50);

/// What the rows call under one or two seconds: at once, but on a machine that may be busy with other
/// tests. Whatever would be waited for in vain takes longer.
pub(crate) const SOON: Duration = Duration::from_secs(4);

/// A root without a limit that keeps its panics to itself, to be configured further.
pub(crate) fn quiet(name: &str) -> SupervisorBuilder {
    Supervisor::builder(name)
        .limit(Limit::none())
        .quiet_panics()
}

enum Act {
    Answer(ServiceResult),
    Panic(&'static str),
}

/// Makes a [`puppet`] do something: the incarnation that runs, or else the next one.
#[derive(Clone)]
pub(crate) struct Strings(Sender<Act>);

impl Strings {
    pub(crate) fn ok(&self) {
        self.0.send(Act::Answer(Ok(()))).unwrap();
    }

    pub(crate) fn fail(&self, text: &str) {
        self.0.send(Act::Answer(Err(text.into()))).unwrap();
    }

    pub(crate) fn exit(&self, exit: Exit) {
        self.0.send(Act::Answer(Err(exit.into()))).unwrap();
    }

    pub(crate) fn panic(&self, text: &'static str) {
        self.0.send(Act::Panic(text)).unwrap();
    }
}

/// A service that runs until it is asked to stop, or does what the test makes it do.
pub(crate) fn puppet() -> (Strings, impl Service) {
    let (pull, acts) = unbounded();
    let strings = Strings(pull);
    // The service keeps its own strings, so that the channel stays open.
    let kept = strings.clone();
    let service = move |ctx: &Context| {
        let _kept = &kept;
        select! {
            recv(ctx.stop_signal()) -> _ => Ok(()),
            recv(acts) -> act => match act? {
                Act::Answer(result) => result,
                Act::Panic(text) => panic!("{text}"),
            },
        }
    };
    (strings, service)
}

/// Waits for its stop, and has a hook that counts.
pub(crate) fn hooked(calls: &Tally) -> Hooked {
    Hooked {
        calls: calls.clone(),
        panics: false,
    }
}

pub(crate) struct Hooked {
    calls: Tally,
    pub(crate) panics: bool,
}

impl Service for Hooked {
    fn run(&self, ctx: &Context) -> ServiceResult {
        ctx.wait_stop();
        Ok(())
    }

    fn interrupt(&self) {
        self.calls.add();
        assert!(!self.panics, "the hook panics");
    }
}

/// How many are inside at the same time.
#[derive(Clone, Default)]
pub(crate) struct Crowd(Arc<(AtomicU64, AtomicU64)>);

impl Crowd {
    pub(crate) fn new() -> Crowd {
        Crowd::default()
    }

    pub(crate) fn enter(&self) -> Inside {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Inside(self.clone())
    }

    pub(crate) fn now(&self) -> u64 {
        self.0.0.load(Ordering::SeqCst)
    }

    /// The most that there were.
    pub(crate) fn most(&self) -> u64 {
        self.0.1.load(Ordering::SeqCst)
    }
}

pub(crate) struct Inside(Crowd);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Is in the crowd while it runs. Without a hook.
pub(crate) fn crowded(crowd: &Crowd, inner: impl Service) -> impl Service {
    let crowd = crowd.clone();
    move |ctx: &Context| {
        let _inside = crowd.enter();
        inner.run(ctx)
    }
}

impl Recorder {
    /// Waits until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        while let Some(event) = self.events.recv_timeout(QUIET) {
            self.seen.push(event);
        }
    }

    /// Begins anew: what there has been up to now is forgotten.
    pub(crate) fn forget(&mut self) {
        self.all();
        self.seen.clear();
    }

    /// What happened up to now, as "path word", of those words, in order.
    pub(crate) fn story(&mut self, words: &[&str]) -> Vec<String> {
        let told = self.all().iter().filter(|e| words.contains(&e.word()));
        told.map(|e| format!("{} {}", e.path(), e.word())).collect()
    }

    /// To whom this happened up to now, in order.
    pub(crate) fn who(&mut self, word: &str) -> Vec<String> {
        let told = self.all().iter().filter(|e| e.word() == word);
        told.map(|e| e.path().to_owned()).collect()
    }
}

/// The report's entry of one path.
#[track_caller]
pub(crate) fn entry(supervisor: &Supervisor, path: &str) -> ServiceReport {
    let report = supervisor.report();
    match report.find(path) {
        Some(entry) => entry.clone(),
        None => panic!("no {path} in\n{report}"),
    }
}

/// The incarnations of services of this supervisor.
#[track_caller]
pub(crate) fn incarnations<const N: usize>(supervisor: &Supervisor, names: [&str; N]) -> [u64; N] {
    let path = supervisor.path();
    names.map(|name| entry(supervisor, &format!("{path}.{name}")).incarnation())
}

/// Whether the report lists that path.
pub(crate) fn is_listed(supervisor: &Supervisor, path: &str) -> bool {
    supervisor.report().find(path).is_some()
}

#[track_caller]
pub(crate) fn wait_gone(supervisor: &Supervisor, path: &str) {
    wait_for(&format!("{path} is gone"), || !is_listed(supervisor, path));
}

/// All failures in a report.
pub(crate) fn failures(supervisor: &Supervisor) -> u32 {
    supervisor
        .report()
        .iter()
        .map(ServiceReport::failures)
        .sum()
}

/// Whether the tree goes on.
#[track_caller]
pub(crate) fn assert_lives(supervisor: &Supervisor) {
    if let Some(end) = supervisor.wait_timeout(Duration::ZERO) {
        panic!("{supervisor} has ended: {end:?}");
    }
}

/// The paths that somebody waits for.
pub(crate) fn missing(not_ready: &NotReady) -> Vec<&str> {
    not_ready
        .missing()
        .iter()
        .map(|(path, _)| &**path)
        .collect()
}

/// Whose failure an error is, and its text.
#[track_caller]
pub(crate) fn blame(error: &Error) -> (&str, &str) {
    match error.failure() {
        Some(failure) => (failure.path(), failure.message()),
        None => panic!("{error} has no failure"),
    }
}
