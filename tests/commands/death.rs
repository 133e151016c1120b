//! What happens to a command when this process dies.

use std::process::{Child, Command as StdCommand, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backstay::services::Command;
use backstay::{Backoff, Context, Supervisor};

use crate::common::children::{Mark, living, own_children};
use crate::common::process::{in_own_process, role};
use crate::common::{HOUR, ms, pass, secs, timed, unlimited, wait_for};

const MARK: &str = "BACKSTAY_TEST_DEATH";

/// This test binary again, running the other half of `test`, with that mark.
fn again(test: &str, mark: &Mark) -> Child {
    StdCommand::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(MARK, mark.name())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The mark, in the process that [`again`] has started.
fn is_again() -> Option<Mark> {
    std::env::var(MARK).ok().map(|name| Mark::named(&name))
}

/// Runs for ever.
fn run(commands: Vec<Command>) -> ! {
    let app = unlimited("app");
    for (n, command) in commands.into_iter().enumerate() {
        app.add(n.to_string(), command).unwrap();
    }
    app.start().unwrap();
    loop {
        pass(HOUR);
    }
}

#[test]
fn killed_by_sigkill_takes_every_member_along() {
    if let Some(mark) = is_again() {
        run(vec![
            // Deaf, with children, and without any pipe of ours.
            mark.sh(
                "trap '' TERM HUP PIPE; exec >/dev/null 2>&1; sleep 60 & sleep 60 & wait; sleep 60",
            ),
            // In a group of its own.
            mark.command("timeout").args(["60", "sleep", "60"]),
        ]);
    }
    let mark = Mark::new();
    let mut child = again("death::killed_by_sigkill_takes_every_member_along", &mark);
    wait_for("all run", || {
        let living = mark.living();
        let (by_timeout, by_us) = (
            living.iter().filter(|p| p.arguments == "sleep 60 ").count(),
            living.len(),
        );
        by_timeout == 3 && by_us == 5
    });
    let guards: Vec<u32> = mark
        .living()
        .iter()
        .map(|process| process.group.unsigned_abs())
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    let ((), took) = timed(|| wait_for("nobody lives", || mark.living().is_empty()));
    assert!(took < secs(5), "{took:?}");
    wait_for("the guards are gone", || {
        guards.iter().all(|guard| living(*guard).is_none())
    });
}

/// From the first instruction on: the process dies at any moment while it starts commands.
#[test]
fn killed_at_any_moment_it_leaves_nobody() {
    if let Some(mark) = is_again() {
        let app = unlimited("app");
        for n in 0..3 {
            let command = mark.sh("sleep 60 & sleep 60").kill_after(Duration::ZERO);
            app.add(n.to_string(), command).unwrap();
        }
        app.start().unwrap();
        loop {
            for n in 0..3 {
                let id = app.id(&n.to_string()).unwrap();
                app.restart_service(id).unwrap();
            }
        }
    }
    let marks: Vec<Mark> = (0..40).map(|_| Mark::new()).collect();
    for (round, mark) in (0..).zip(&marks) {
        let mut child = again("death::killed_at_any_moment_it_leaves_nobody", mark);
        wait_for("it has begun", || !mark.living().is_empty());
        pass(Duration::from_micros(731 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for("nobody lives", || mark.living().is_empty());
    }
    // What was a copy of the dying process then has become the program since, and has been killed.
    pass(ms(500));
    for mark in &marks {
        mark.assert_nobody_lives();
    }
}

/// A guard that is killed does not hold up anything, and leaves nothing.
#[test]
fn a_dead_guard_is_not_missed_at_the_stop() {
    in_own_process("death::a_dead_guard_is_not_missed_at_the_stop", || {
        let mark = Mark::new();
        let app = unlimited("app");
        app.add(
            "child",
            mark.sh("trap '' TERM; sleep 60 & echo > $FILE; wait; sleep 60")
                .kill_after(ms(50)),
        )
        .unwrap();
        app.start().unwrap();
        mark.wait_file();
        let guard = mark.living()[0].group;
        let guard = rustix::process::Pid::from_raw(guard).unwrap();
        rustix::process::kill_process(guard, rustix::process::Signal::KILL).unwrap();
        assert!(app.stop().is_empty());
        mark.assert_nobody_lives();
        assert_eq!(own_children(), []);
    });
}

/// With SIGCHLD ignored the kernel reaps children by itself. The exit code is lost, nobody hangs,
/// and nobody is left.
#[test]
fn with_sigchld_ignored_it_fails_and_says_so() {
    const TEST: &str = "death::with_sigchld_ignored_it_fails_and_says_so";
    if role().is_some() {
        let mark = Mark::new();
        let app = Supervisor::builder("app")
            .backoff(Backoff::fixed(HOUR))
            .build()
            .unwrap();
        let seen = std::sync::Arc::new(AtomicU32::new(0));
        let count = seen.clone();
        app.start().unwrap();
        app.add("child", mark.sh("sleep 60 & echo > $FILE; exit 0"))
            .unwrap();
        app.add("watcher", move |ctx: &Context| {
            count.fetch_add(1, Ordering::SeqCst);
            ctx.wait_stop();
            Ok(())
        })
        .unwrap();
        wait_for("it has failed", || {
            let report = app.report();
            report.find("app.child").unwrap().failures() == 1
        });
        let report = app.report();
        let failure = report
            .find("app.child")
            .unwrap()
            .last_failure()
            .unwrap()
            .to_string();
        assert!(failure.contains("exit code is lost"), "{failure}");
        mark.assert_nobody_lives();
        assert!(app.stop().is_empty());
        println!("went through");
        return;
    }
    let output = StdCommand::new("env")
        .arg("--ignore-signal=CHLD")
        .arg(std::env::current_exe().unwrap())
        .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
        .env("BACKSTAY_TEST_ROLE", "body")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("went through"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
