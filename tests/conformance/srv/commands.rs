//! A child process as a service. What goes beyond the rows is in `tests/commands.rs`.

use std::time::Duration;

use backstay::services::Command;
use backstay::{End, Restart, Spec};

use crate::common::children::Mark;
use crate::common::process::in_own_process;
use crate::common::watch::failures;
use crate::common::{Recorder, answer, ms, secs, timed, unlimited, wait_for};

#[test]
fn command_outcome_follows_the_exit_code() {
    let app = unlimited("app");
    app.start().unwrap();
    let good = Spec::new("good", Command::new("true")).restart(Restart::OnFailure);
    let good = app.add_spec(good).unwrap();
    let end = app.wait_service(good, secs(30)).unwrap();
    assert!(matches!(end, End::Done), "{end:?}");
    assert_eq!(failures(&app), 0);

    let bad = [
        (
            "code",
            Command::new("sh").arg("-c").arg("exit 3"),
            ["sh", "3"],
        ),
        (
            "nothing",
            Command::new("/nonexistent/x"),
            ["/nonexistent/x", "No such file"],
        ),
    ];
    for (name, command, words) in bad {
        let id = app
            .add_spec(Spec::new(name, command).restart(Restart::Never))
            .unwrap();
        match app.wait_service(id, secs(30)).unwrap() {
            End::Removed {
                failure: Some(failure),
            } => {
                let message = failure.message();
                assert!(words.iter().all(|word| message.contains(word)), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    app.stop();
}

#[test]
fn command_stop_returns_with_the_child() {
    let mark = Mark::new();
    let app = unlimited("app");
    let mut events = Recorder::of(&app);
    let child =
        mark.sh("trap 'sleep 0.1; exit 0' TERM; echo ready > $FILE; while :; do sleep 0.01; done");
    app.add("child", child.kill_after(secs(5))).unwrap();
    app.start().unwrap();
    mark.wait_file();

    let (report, took) = timed(|| app.stop());
    assert!(report.is_empty(), "{report}");
    assert!((ms(100)..secs(3)).contains(&took), "{took:?}");
    assert!(answer(&events.wait("app.child", "stopped")).is_none());
    mark.assert_nobody_lives();
}

#[test]
fn command_kills_after_the_grace() {
    for grace in [ms(200), Duration::ZERO] {
        let mark = Mark::new();
        let app = unlimited("app");
        let mut events = Recorder::of(&app);
        // Deaf, but it would say so if it heard.
        let child = mark.sh(
            "trap 'echo heard >> $FILE' TERM; echo ready >> $FILE; while :; do sleep 0.01; done",
        );
        let child = child.kill_after(grace);
        app.add("child", child.clone()).unwrap();
        app.start().unwrap();
        mark.wait_file();
        wait_for("it has a process id", || child.pid().is_some());
        let pid = child.pid().unwrap();

        let (report, took) = timed(|| app.stop());
        assert!(report.is_empty(), "{report}");
        assert!((grace..secs(3)).contains(&took), "{took:?}");
        let answer = answer(&events.wait("app.child", "stopped")).unwrap();
        assert!(answer.message().contains("killed by signal 9"), "{answer}");
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        mark.assert_nobody_lives();
        let heard = mark.wait_file().contains("heard");
        assert_eq!(heard, !grace.is_zero());
    }
}

#[test]
fn command_signals_the_whole_group() {
    let mark = Mark::new();
    let app = unlimited("app");
    app.add("child", mark.sh("sleep 60 & wait")).unwrap();
    app.start().unwrap();
    wait_for("both run", || {
        let living = mark.living();
        living.len() == 2 && living.iter().any(|p| p.arguments.starts_with("sleep"))
    });
    assert!(app.stop().is_empty());
    mark.assert_nobody_lives();
}

#[test]
fn command_leaves_nobody_behind_when_it_exits_itself() {
    let mark = Mark::new();
    let app = unlimited("app");
    app.start().unwrap();
    let child = mark.sh("sleep 60 & exit 0");
    let id = app
        .add_spec(Spec::new("child", child).restart(Restart::OnFailure))
        .unwrap();
    let end = app.wait_service(id, secs(30)).unwrap();
    assert!(matches!(end, End::Done), "{end:?}");
    mark.assert_nobody_lives();
    app.stop();
}

/// In a process of its own, whose children can be counted.
#[test]
fn command_stopped_while_it_spawns() {
    in_own_process("commands::command_stopped_while_it_spawns", || {
        let mark = Mark::new();
        let app = unlimited("app");
        app.start().unwrap();
        for _ in 0..100 {
            let id = app.add("child", mark.command("sleep").arg("60")).unwrap();
            app.stop_service(id).unwrap();
            let end = app.wait_service(id, secs(30)).unwrap();
            assert!(matches!(end, End::Stopped), "{end:?}");
            mark.assert_nobody_lives();
            assert_eq!(crate::common::children::own_children(), []);
            app.remove_and_wait(id, secs(30)).unwrap();
        }
        app.stop();
    });
}
