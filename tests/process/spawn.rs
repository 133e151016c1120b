//! No thread can be had for a service.

use std::process::Command;
use std::time::Duration;

use backstay::{Backoff, Context, EventKind, FailureKind, Limit, Next, Spec, State, Supervisor};

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

fn idle(ctx: &Context) -> backstay::ServiceResult {
    ctx.wait_stop();
    Ok(())
}
