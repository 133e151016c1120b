//! Explicit answers: do not restart, terminate the tree.

use std::error::Error;
use std::fmt;
use std::thread;

use backstay::{BoxError, Context, ErrorKind, Exit, Service, State, Supervisor};

use crate::common::{
    Gate, Recorder, Tally, count_with_one_more, counted, ending, ms, obedient, take, wait_state,
};

/// Answers that at once.
fn answering(error: impl Fn() -> BoxError + Send + Sync + 'static) -> impl Service {
    move |_: &Context| Err(error())
}

#[test]
fn do_not_restart_ends_only_its_service() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    app.add("a", counted(&runs, answering(|| Exit::DoNotRestart.into())))
        .unwrap();
    app.add("b", obedient()).unwrap();
    app.start().unwrap();

    events.wait("app.a", "done");
    wait_state(&app, "app.a", State::Done);
    wait_state(&app, "app.b", State::Running);
    assert_eq!(app.report().find("app.b").unwrap().incarnation(), 1);
    assert_eq!(events.words("app.b"), ["added", "started"]);
    assert_eq!(count_with_one_more(&app), 1.0);
    app.stop();
    assert_eq!(runs.get(), 1);
    assert_eq!(events.count("app.a", "failed"), 0);
}

#[derive(Debug)]
struct Level(&'static str, BoxError);

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Level {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.1)
    }
}

#[test]
fn do_not_restart_is_found_in_a_source_chain() {
    let app = Supervisor::new("app");
    let mut events = Recorder::of(&app);
    let runs = Tally::new();
    let chain = || {
        let inner = Level("inner", Exit::DoNotRestart.into());
        let middle = Level("middle", inner.into());
        Level("outer", middle.into()).into()
    };
    app.add("a", counted(&runs, answering(chain))).unwrap();
    app.start().unwrap();
    events.wait("app.a", "done");
    app.stop();
    assert_eq!(runs.get(), 1);
    assert_eq!(events.count("app.a", "failed"), 0);
}

/// `app` holds `inner` and `b`; `inner` holds `a` and `c`. Once all run, `a` gives its answer.
struct Tree {
    app: Supervisor,
    runs: Tally,
    ends: Tally,
    go: Gate,
}

fn tree(inner: Supervisor, answer: impl Fn() -> BoxError + Send + Sync + 'static) -> Tree {
    let app = Supervisor::new("app");
    let (runs, ends, go) = (Tally::new(), Tally::new(), Gate::new());
    let watched = |service: Box<dyn Service>| counted(&runs, ending(&ends, service));
    let wait = go.clone();
    let a = move |_: &Context| {
        wait.wait();
        Err(answer())
    };
    inner.add("a", watched(Box::new(a))).unwrap();
    inner.add("c", watched(Box::new(obedient()))).unwrap();
    app.add("inner", inner).unwrap();
    app.add("b", watched(Box::new(obedient()))).unwrap();
    app.start().unwrap();
    runs.reach(3);
    Tree {
        app,
        runs,
        ends,
        go,
    }
}

#[test]
fn terminate_tree_ends_every_level() {
    let tree = tree(Supervisor::new("inner"), || Exit::TerminateTree.into());
    tree.go.open();
    let error = tree.app.wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("app.inner.a"), "{error}");
    assert_eq!((tree.runs.get(), tree.ends.get()), (3, 3));
}

#[test]
fn terminate_tree_carries_its_cause() {
    let because = || Exit::TerminateTree.because("key expired").into();
    let tree = tree(Supervisor::new("inner"), because);
    tree.go.open();
    let error = tree.app.wait().unwrap_err();
    let failure = error.failure().unwrap();
    assert_eq!(failure.path(), "app.inner.a");
    assert!(failure.to_string().contains("key expired"), "{failure}");
    assert!(error.to_string().contains("key expired"), "{error}");
    assert_eq!((tree.runs.get(), tree.ends.get()), (3, 3));
}

#[test]
fn dont_propagate_ends_only_the_subtree() {
    let inner = Supervisor::builder("inner")
        .dont_propagate_termination()
        .build()
        .unwrap();
    let tree = tree(inner, || Exit::TerminateTree.into());
    let mut events = Recorder::of(&tree.app);
    tree.go.open();
    tree.ends.reach(2);
    crate::common::wait_for("inner is over", || {
        tree.app
            .report()
            .find("app.inner")
            .is_some_and(|s| !s.state().is_alive())
    });

    let report = tree.app.report();
    assert_eq!(report.find("app.inner").unwrap().incarnation(), 1);
    let b = report.find("app.b").unwrap();
    assert_eq!((b.state(), b.incarnation()), (State::Running, 1));
    assert_eq!(count_with_one_more(&tree.app), 1.0);
    assert!(tree.app.wait_timeout(ms(50)).is_none());
    assert_eq!(events.count("app.inner", "started"), 0);
    assert_eq!(events.causes("app.b"), []);
    assert!(tree.app.stop().is_empty());
    assert_eq!((tree.runs.get(), tree.ends.get()), (3, 3));
}

#[test]
fn wait_answers_everybody_the_same() {
    let app = Supervisor::new("app");
    app.add(
        "a",
        answering(|| Exit::TerminateTree.because("key expired").into()),
    )
    .unwrap();
    app.start().unwrap();

    let told = |app: &Supervisor| {
        let error = app.wait().unwrap_err();
        let failure = error.failure().unwrap();
        (
            error.kind(),
            error.to_string(),
            failure.path().to_owned(),
            failure.incarnation(),
        )
    };
    let first = told(&app);
    assert_eq!((first.0, first.2.as_str()), (ErrorKind::Failed, "app.a"));
    assert_eq!(told(&app), first);
    let (tell, others) = crossbeam_channel::unbounded();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| tell.send(told(&app)));
        }
    });
    for _ in 0..4 {
        assert_eq!(take(&others), first);
    }
}
