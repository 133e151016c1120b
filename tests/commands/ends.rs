//! How a process ends, and who ends with it.

use std::process::Command as StdCommand;
use std::time::Duration;

use backstay::services::{Command, CommandError};
use backstay::{Context, End, FailureKind, Restart, Service, Spec, State, StopCause};
use rustix::process::{Pid, Signal, kill_process};

use crate::common::children::{Mark, living};
use crate::common::{
    Recorder, Tally, answer, failed, ms, secs, timed, unlimited, wait_for, wait_state,
};

/// Runs to its end and answers that.
fn end_of(command: impl Service, restart: Restart) -> End {
    let app = unlimited("app");
    app.start().unwrap();
    let id = app
        .add_spec(Spec::new("child", command).restart(restart))
        .unwrap();
    let end = app.wait_service(id, secs(30)).unwrap();
    assert!(app.stop().is_empty());
    end
}

#[track_caller]
fn failure_of(command: impl Service) -> backstay::Failure {
    match end_of(command, Restart::Never) {
        End::Removed {
            failure: Some(failure),
        } => failure,
        other => panic!("{other:?}"),
    }
}

/// A child may act before its id is known here.
#[track_caller]
fn pid_of(command: &Command) -> u32 {
    wait_for("it has a process id", || command.pid().is_some());
    command.pid().unwrap()
}

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn errors_say_what_happened() {
    let killed = failure_of(Command::new("sh").args(["-c", "kill -9 $$"]));
    assert_eq!(killed.message(), "sh: killed by signal 9");
    let error = killed.error().unwrap();
    let error = error.downcast_ref::<CommandError>().unwrap();
    assert_eq!((error.code(), error.signal()), (None, Some(9)));
    assert_eq!(error.program().to_str(), Some("sh"));

    // By itself, so it is no answer to a stop.
    let term = failure_of(Command::new("sh").args(["-c", "kill -15 $$"]));
    assert_eq!(term.message(), "sh: killed by signal 15");

    let nowhere = failure_of(Command::new("true").current_dir("/nonexistent/dir"));
    assert!(nowhere.message().contains("/nonexistent/dir"), "{nowhere}");
    assert!(nowhere.message().starts_with("true: "), "{nowhere}");
    let error = nowhere.error().unwrap();
    let error = error.downcast_ref::<CommandError>().unwrap();
    assert!(error.status().is_none());
    let kind = error.io_error().unwrap().kind();
    assert_eq!(kind, std::io::ErrorKind::NotFound);

    let no_program = failure_of(Command::new("/dev/null").unguarded());
    assert!(no_program.message().contains("Permission"), "{no_program}");
}

#[test]
fn builder_methods_reach_the_process() {
    let mark = Mark::new();
    let dir = std::fs::canonicalize("/usr").unwrap();
    let child = mark
        .sh("echo \"$1-$2-$A-$B-${HOME-none}-$(pwd)\" > $FILE")
        .args(["x", "1", "2"])
        .envs([("A", "a"), ("B", "b")])
        .env_remove("HOME")
        .current_dir(&dir);
    assert!(matches!(end_of(child, Restart::OnFailure), End::Done));
    let expected = format!("1-2-a-b-none-{}\n", dir.display());
    assert_eq!(mark.wait_file(), expected);

    // The same on top of a command of the standard library's.
    let file = mark.file();
    let child = Command::from_std(move || {
        let mut command = StdCommand::new("sh");
        command
            .args(["-c", "echo \"$0 $X\" > $FILE"])
            .env("FILE", &file);
        command
    });
    std::fs::remove_file(mark.file()).unwrap();
    let child = child.arg("arg").env("X", "x");
    assert!(matches!(end_of(child, Restart::OnFailure), End::Done));
    assert_eq!(mark.wait_file(), "arg x\n");
    let empty = Command::new("/usr/bin/env").env_clear().env("ONLY", "1");
    assert!(matches!(end_of(empty, Restart::OnFailure), End::Done));
}

#[test]
fn a_builder_method_makes_another_command_than_its_clones() {
    let mark = Mark::new();
    let original = mark.command("sleep").arg("60");
    let changed = original.clone().kill_after(ms(1));
    let app = unlimited("app");
    app.start().unwrap();
    app.add("changed", changed.clone()).unwrap();
    wait_for("it runs", || changed.pid().is_some());
    assert_eq!(original.pid(), None);
    let clone = changed.clone();
    assert_eq!(clone.pid(), changed.pid());
    assert!(app.stop().is_empty());
    assert_eq!(clone.pid(), None);
}

#[test]
fn a_panic_of_the_closure_is_a_failure_and_nothing_is_left() {
    let failure = failure_of(Command::from_std(|| panic!("no command today")));
    assert_eq!(failure.kind(), FailureKind::Panic);
    assert_eq!(failure.message(), "no command today");
}

#[test]
fn each_incarnation_has_a_process_of_its_own() {
    let mark = Mark::new();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    // Two at the same time would be seen by the second.
    let script = "mkdir $FILE.d || echo both >> $FILE; trap 'rmdir $FILE.d; exit 0' TERM; \
                  echo $$ >> $FILE; test $(wc -l < $FILE) = 3 && { rmdir $FILE.d; exit 7; }; \
                  while :; do sleep 0.01; done";
    let child = mark.sh(script);
    let id = app.add("child", child.clone()).unwrap();
    app.start().unwrap();
    for n in 1..=2 {
        wait_for("the next one runs", || {
            mark.wait_file().lines().count() == n
        });
        app.restart_service(id).unwrap();
    }
    let failure = failed(&events.wait("app.child", "failed")).failure;
    assert_eq!(failure.message(), "sh: exit code 7");
    wait_for("a fourth runs", || mark.wait_file().lines().count() == 4);
    assert!(app.stop().is_empty());
    let seen = mark.wait_file();
    assert!(!seen.contains("both"), "{seen}");
    mark.assert_nobody_lives();
}

#[test]
fn ready_when_it_runs() {
    let mark = Mark::new();
    let app = unlimited("app");
    let good = mark.command("sleep").arg("60");
    app.add_spec(Spec::new("good", good).ready_timeout(secs(20)))
        .unwrap();
    app.start().unwrap();
    app.wait_ready(secs(20)).unwrap();
    let report = app.report();
    let status = report.find("app.good").unwrap().status().unwrap();
    assert!(status.starts_with("process "), "{status}");
    assert!(app.stop().is_empty());
}

#[test]
fn a_stopped_process_is_woken_to_end() {
    let mark = Mark::new();
    let app = unlimited("app");
    let child = mark.sh("trap 'exit 0' TERM; echo > $FILE; while :; do sleep 0.01; done");
    app.add("child", child.clone()).unwrap();
    app.start().unwrap();
    mark.wait_file();
    kill(pid_of(&child), Signal::STOP);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!(took < secs(4), "{took:?}");
    mark.assert_nobody_lives();
}

/// Shell scripts do that at their end, to take their jobs along.
#[test]
fn a_child_that_signals_its_own_group_ends_as_it_likes() {
    let mark = Mark::new();
    let child = mark.sh("trap 'trap \"\" TERM; kill 0; exit 0' EXIT; sleep 60 & exit 0");
    assert!(matches!(end_of(child, Restart::OnFailure), End::Done));
    mark.assert_nobody_lives();
    let suicide = failure_of(mark.sh("sleep 60 & kill -9 0"));
    assert_eq!(suicide.message(), "sh: killed by signal 9");
    mark.assert_nobody_lives();
}

/// `timeout` makes itself the leader of a group of its own.
#[test]
fn a_child_that_leads_its_own_group_takes_it_along() {
    for script in ["sleep 60", "trap '' TERM; sleep 60; sleep 60"] {
        let mark = Mark::new();
        let app = unlimited("app");
        let child = mark.command("timeout").args(["60", "sh", "-c"]);
        let child = child
            .arg(format!("echo > $FILE; {script}"))
            .kill_after(ms(100));
        app.add("child", child.clone()).unwrap();
        app.start().unwrap();
        mark.wait_file();
        let leader = i32::try_from(pid_of(&child)).unwrap();
        wait_for("all are in its group", || {
            mark.living().iter().all(|process| process.group == leader)
        });
        assert!(app.stop().is_empty());
        mark.assert_nobody_lives();
    }
}

/// Many children that all ignore SIGTERM, and children of theirs.
#[test]
fn a_crowd_of_deaf_processes_is_killed() {
    let mark = Mark::new();
    let app = unlimited("app");
    let script = "trap '' TERM; for i in 1 2 3 4 5 6 7 8 9 10; do (for j in 1 2 3 4 5 6 7 8 9; do \
                  sleep 60 & done; wait) & done; echo > $FILE; wait";
    app.add("child", mark.sh(script).kill_after(ms(50)))
        .unwrap();
    app.start().unwrap();
    wait_for("all of them run", || mark.living().len() == 101);
    let report = app.stop();
    assert!(report.is_empty(), "{report}");
    mark.assert_nobody_lives();
}

/// What cannot be: the documentation says so. It must not hold up the end either.
#[test]
fn a_process_in_another_session_lives_on_and_holds_nobody_up() {
    let mark = Mark::new();
    let child = mark.sh("setsid sh -c 'echo $$ > $FILE; exec sleep 60' & \
                         while ! test -s $FILE; do sleep 0.01; done; exit 0");
    let (end, took) = timed(|| end_of(child, Restart::OnFailure));
    assert!(matches!(end, End::Done), "{end:?}");
    assert!(took < secs(20), "{took:?}");
    let daemon = mark.wait_file().trim().parse().unwrap();
    assert!(living(daemon).is_some());
    kill(daemon, Signal::KILL);
    wait_for("it is gone", || mark.living().is_empty());
}

#[test]
fn unguarded_it_leads_its_group_and_ends_as_well() {
    let mark = Mark::new();
    let app = unlimited("app");
    let child = mark.sh("trap '' TERM; sleep 60 & echo > $FILE; wait; sleep 60");
    let child = child.unguarded().kill_after(ms(100));
    app.add("child", child.clone()).unwrap();
    app.start().unwrap();
    mark.wait_file();
    let leader = i32::try_from(pid_of(&child)).unwrap();
    assert!(mark.living().iter().all(|process| process.group == leader));
    assert!(app.stop().is_empty());
    mark.assert_nobody_lives();
}

/// The supervisor does not wait for the grace, but the process is killed all the same.
#[test]
fn a_grace_beyond_the_stop_timeout_is_abandoned_and_ends_late() {
    let mark = Mark::new();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.start().unwrap();
    let child = mark.sh("trap '' TERM; echo > $FILE; while :; do sleep 0.01; done");
    let spec = Spec::new("child", child.kill_after(ms(600))).stop_timeout(ms(100));
    let id = app.add_spec(spec).unwrap();
    mark.wait_file();
    app.stop_service(id).unwrap();
    events.wait("app.child", "abandoned");
    wait_state(&app, "app.child", State::Stopped);
    mark.assert_nobody_lives();
    app.stop();
}

#[test]
fn a_stop_for_a_restart_and_one_by_shutdown_from_the_side_are_stops() {
    let mark = Mark::new();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    app.add("child", mark.sh("echo > $FILE; exec sleep 60"))
        .unwrap();
    let asks = Tally::new();
    let asked = asks.clone();
    app.add("asker", move |ctx: &Context| {
        asked.reach(1);
        ctx.shutdown();
        ctx.wait_stop();
        Ok(())
    })
    .unwrap();
    app.start().unwrap();
    mark.wait_file();
    asks.add();
    assert!(app.wait().is_ok());
    assert_eq!(events.causes("app.child"), [StopCause::Ordered]);
    assert!(answer(&events.wait("app.child", "stopped")).is_none());
    mark.assert_nobody_lives();
}

#[test]
fn killed_from_outside_it_is_a_failure_and_restarts() {
    let mark = Mark::new();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let child = mark.command("sleep").arg("60");
    app.add("child", child.clone()).unwrap();
    app.start().unwrap();
    kill(pid_of(&child), Signal::KILL);
    let failure = failed(&events.wait("app.child", "failed")).failure;
    assert_eq!(failure.message(), "sleep: killed by signal 9");
    events.wait_nth("app.child", "started", 2);
    wait_state(&app, "app.child", State::Ready);
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took < secs(5), "{report} {took:?}");
    mark.assert_nobody_lives();
}

/// Only the end of the world kills it then.
#[test]
fn without_a_limit_it_is_never_killed() {
    let mark = Mark::new();
    let app = unlimited("app");
    let script = "trap 'sleep 0.3; exit 0' TERM; echo > $FILE; while :; do sleep 0.01; done";
    app.add("child", mark.sh(script).kill_after(Duration::MAX))
        .unwrap();
    app.start().unwrap();
    mark.wait_file();
    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty() && took >= ms(300), "{report} {took:?}");
}
