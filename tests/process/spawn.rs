//! No thread can be had for a service.

use std::process::Command;
use std::time::Duration;

use backstay::{Backoff, Context, EventKind, FailureKind, Next, Spec, State, Supervisor};

use crate::common_process::{DEADLINE, Process, again, is_child};

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn failed_spawn_is_a_failed_start() {
    cannot_start(1 << 60);
}

#[test]
fn failed_spawn_under_a_lowered_limit() {
    const NAME: &str = "process::spawn::failed_spawn_under_a_lowered_limit";
    const LIMIT_KIB: usize = 4 << 20;
    const STACK: usize = 8 << 30;
    if is_child(NAME) {
        return cannot_start(STACK);
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
