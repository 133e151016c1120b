//! No thread can be had for a service.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use backstay::{
    Backoff, Context, ErrorKind, EventKind, FailureKind, Limit, Next, Spec, State, Supervisor,
};

use crate::common_process::{DEADLINE, Process, again, is_child, say};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn failed_spawn_is_a_failed_start() {
    cannot_start(IMPOSSIBLE_STACK);
}

#[test]
fn failed_spawn_under_a_lowered_limit() {
    const NAME: &str = "process::spawn::failed_spawn_under_a_lowered_limit";
    const LIMIT_KIB: usize = 2 << 20;
    /// The whole limit, of which the process uses some already.
    const STACK: usize = LIMIT_KIB * 1_024;
    if is_child(NAME) {
        return cannot_start(STACK);
    }
    // Refused for another reason, it would show nothing.
    let unlimited = std::thread::Builder::new().stack_size(STACK).spawn(|| {});
    if let Err(error) = unlimited.map(|thread| thread.join().unwrap()) {
        let why = format!("no such stack without the limit, either: {error}");
        return say(&format!("{NAME}: skipped: {why}"));
    }
    let child = again(NAME);
    let mut limited = Command::new("sh");
    limited
        .arg("-c")
        .arg(format!("ulimit -v {LIMIT_KIB}; exec \"$0\" \"$@\""))
        .arg(child.get_program())
        .args(child.get_args())
        .envs(
            child
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    Process::start(&mut limited).end().assert_code(0);
}

/// How often a case is tried whose outcome depends on who is faster.
const ROUNDS: usize = 50;

/// A stack that no machine has.
const IMPOSSIBLE_STACK: usize = 1 << 60;

#[test]
fn wait_ready_waits_for_threads_that_can_be_had() {
    const SERVICES: usize = 5;
    for _ in 0..ROUNDS {
        let app = Supervisor::builder("app")
            .limit(Limit::none())
            .build()
            .unwrap();
        let events = app.subscribe(1_000);
        for n in 0..SERVICES {
            let spec = Spec::new(format!("s{n}"), idle)
                .stack_size(IMPOSSIBLE_STACK)
                .backoff(Backoff::fixed(HOUR));
            app.add_spec(spec).unwrap();
        }
        app.start().unwrap();
        // Five failures, after each of which one might take the others for up.
        for _ in 0..SERVICES {
            let refused = app.wait_ready(Duration::from_millis(1)).unwrap_err();
            assert_eq!(refused.missing().len(), SERVICES, "{refused}");
        }
        let failed = std::iter::from_fn(|| events.recv_timeout(DEADLINE))
            .inspect(|e| assert_ne!(e.word(), "started", "{e}"))
            .filter(|e| e.word() == "failed")
            .take(SERVICES);
        assert_eq!(failed.count(), SERVICES);
        let report = app.report();
        assert!(report.iter().all(|s| (s.starts(), s.failures()) == (0, 1)));
        assert!(app.stop().is_empty());
    }
}

/// One service whose stack can't be had, and one that doesn't notice.
fn cannot_start(stack: usize) {
    let app = Supervisor::new("app");
    let events = app.subscribe(100);
    app.add_spec(
        Spec::new("a", idle)
            .stack_size(stack)
            .backoff(Backoff::fixed(HOUR)),
    )
    .unwrap();
    let b = app.add("b", idle).unwrap();
    app.start().unwrap();
    // `b` is started after `a`; with another restart everything of before is there.
    app.restart_service(b).unwrap();
    let seen: Vec<_> = std::iter::from_fn(|| events.recv_timeout(DEADLINE))
        .take_while(|e| !(e.path() == "app.b" && e.incarnation() == 2))
        .collect();

    let failed: Vec<_> = seen.iter().filter(|e| e.word() == "failed").collect();
    assert_eq!(failed.len(), 1, "{seen:?}");
    let EventKind::Failed { failure, next, .. } = failed[0].kind() else {
        unreachable!("its word is failed");
    };
    assert_eq!(failure.path(), "app.a");
    assert_eq!(failure.kind(), FailureKind::Spawn);
    assert!(failure.message().contains("thread"), "{failure}");
    assert_eq!(*next, Next::Restart { delay: HOUR });

    let report = app.report();
    assert_eq!(report.state(), State::Running);
    let a = report.find("app.a").unwrap();
    assert_eq!((a.state(), a.failures()), (State::Backoff, 1));
    assert!(a.next_start().unwrap() > HOUR - DEADLINE);
    assert_eq!(report.find("app.b").unwrap().state(), State::Running);
    assert!(app.stop().is_empty());
}

/// A process in which no thread can be had whose stack isn't set.
fn without_threads(test: &str) -> Process {
    let mut command = again(test);
    command
        .arg("--test-threads=1")
        .env("RUST_MIN_STACK", IMPOSSIBLE_STACK.to_string());
    Process::start(&mut command)
}

/// A stack for those threads that are had.
const STACK: usize = 1 << 20;

/// Runs the tree on a thread with a stack of its own while `f` looks.
fn while_served(app: &Supervisor, f: impl FnOnce()) {
    let served = app.clone();
    let thread = std::thread::Builder::new().stack_size(STACK);
    let serving = thread.spawn(move || served.serve()).unwrap();
    f();
    assert!(app.stop().is_empty());
    serving.join().unwrap().unwrap();
}

#[test]
fn supervisor_without_a_thread_can_be_used_afterwards() {
    const NAME: &str = "process::spawn::supervisor_without_a_thread_can_be_used_afterwards";
    if !is_child(NAME) {
        return without_threads(NAME).end().assert_code(0);
    }
    let app = Supervisor::new("app");
    let spec = |name: &str| Spec::new(name, idle).stack_size(STACK);
    app.add_spec(spec("a")).unwrap();
    for _ in 0..2 {
        let refused = app.start().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Spawn, "{refused}");
        assert!(refused.to_string().contains("app"), "{refused}");
        assert_eq!(app.wait().unwrap_err().kind(), ErrorKind::NotStarted);
    }
    #[cfg(feature = "signals")]
    {
        let refused = app.run().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Spawn, "{refused}");
        assert!(refused.to_string().contains("signals"), "{refused}");
    }
    app.add_spec(spec("b")).unwrap();
    while_served(&app, || {
        app.wait_ready(DEADLINE).unwrap();
        assert_eq!(app.report().services().len(), 2);
    });
}

#[test]
fn detach_without_a_thread_is_refused() {
    const NAME: &str = "process::spawn::detach_without_a_thread_is_refused";
    if !is_child(NAME) {
        return without_threads(NAME).end().assert_code(0);
    }
    let app = Supervisor::new("app");
    let (tell, told) = crossbeam_channel::bounded(1);
    let spec = Spec::new("a", move |ctx: &Context| {
        let kept = Arc::new(());
        let given = kept.clone();
        let refused = ctx.detach(move || drop(given)).unwrap_err();
        // What it was given is dropped.
        let _full = tell.try_send((refused, Arc::strong_count(&kept)));
        idle(ctx)
    });
    app.add_spec(spec.stack_size(STACK)).unwrap();
    while_served(&app, || {
        let (refused, references) = told.recv_timeout(DEADLINE).unwrap();
        assert_eq!(refused.kind(), ErrorKind::Spawn, "{refused}");
        assert!(refused.to_string().contains("app.a"), "{refused}");
        assert_eq!(references, 1);
    });
}

#[test]
fn log_says_once_that_there_is_no_thread_for_events() {
    const NAME: &str = "process::spawn::log_says_once_that_there_is_no_thread_for_events";
    if !is_child(NAME) {
        let ended = without_threads(NAME).end();
        ended.assert_code(0);
        let said = "ERROR app] no thread for events";
        assert_eq!(ended.count(said), 1, "{ended}");
        return;
    }
    env_logger::Builder::new()
        .filter_level(log::LevelFilter::Info)
        .init();
    let app = Supervisor::builder("app").on_event(|_| {}).build().unwrap();
    let events = app.subscribe(100);
    app.add_spec(Spec::new("a", idle).stack_size(STACK))
        .unwrap();
    while_served(&app, || app.wait_ready(DEADLINE).unwrap());
    assert_eq!(app.dropped_events(), events.count() as u64);
}

fn idle(ctx: &Context) -> backstay::ServiceResult {
    ctx.wait_stop();
    Ok(())
}
